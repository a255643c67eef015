"""Settings and fixtures that the tests share."""

import ctypes
import gc
import os
import pathlib
import zlib

import hypothesis
import jax
import numpy as np
import pytest
from small import (
    TASKS,
    ConvolutionalEncoder,
    LinenConvolutionalEncoder,
    LinenNormalisedEncoder,
    NormalisedEncoder,
    make_problem,
    make_split,
)

from tag_jax.data import Dataset
from tag_jax.problem import Batch, from_linen, from_nnx

EXAMPLE = np.zeros((4, 3), np.float32)
# Files that follow each other share programs up to here, which is some 1.5 GB of them.
MOST_MAPS = 12_000

# Most of the time goes into compiling. Less optimisation saves a sixth of it. The older emitters of
# fused loops set up no MLIR context for every program, which saves a quarter. (An XLA that does not
# know a flag ends the process, so a version that has not been tried goes without them.)
XLA_FLAGS = ['--xla_backend_optimization_level=0']
if jax.__version_info__[:2] in ((0, 10), (0, 11)):
    XLA_FLAGS.append('--xla_cpu_use_fusion_emitters=false')
os.environ['XLA_FLAGS'] = ' '.join([os.environ.get('XLA_FLAGS', ''), *XLA_FLAGS])
jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_num_cpu_devices', 8)
# What was compiled is kept for the other processes: launchers, workers, the next run. (JAX warns
# where it reads what another is writing, and compiles it: see filterwarnings in setup.cfg.)
for name, value in (
    (
        'jax_compilation_cache_dir',
        str(pathlib.Path(__file__).parent.parent / '.pytest_cache/compiled'),
    ),
    ('jax_persistent_cache_min_compile_time_secs', 0.0),
):
    jax.config.update(name, value)
    os.environ[name.upper()] = str(value)
# A user's own style would change pictures; and where the home folder cannot be written to,
# matplotlib says so in every process.
os.environ.setdefault(
    'MPLCONFIGDIR', str(pathlib.Path(__file__).parent.parent / '.pytest_cache/matplotlib')
)
# Examples of a property, unless it says how many: the second is that of the long sweeps.
for name, count in (('short', 30), ('long', 100)):
    hypothesis.settings.register_profile(name, deadline=None, derandomize=True, max_examples=count)


def pytest_addoption(parser):
    parser.addoption('--all', action='store_true', help='run the long sweeps as well')


def pytest_configure(config):
    hypothesis.settings.load_profile('long' if config.getoption('all') else 'short')


def pytest_collection_modifyitems(config, items):
    """Leaves out sweeps, and variants beyond those that always run, unless all are wanted."""
    if config.getoption('all'):
        return
    families = {}
    for item in items:
        if not item.get_closest_marker('sweep'):
            families.setdefault((item.path, item.originalname), []).append(item)
    kept = {item for variants in families.values() for item in _short_form(variants)}
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


def _short_form(variants):
    """As many variants of a test as it says always run, spread evenly over all of them.

    The name of the test says where they begin: tests with the same parameters, one for each
    weighting, say, run with different ones of them.
    """
    marker = variants[0].get_closest_marker('variants')
    if marker is None:
        return variants
    size = len(variants)
    count = min(*marker.args, size)
    begin = zlib.crc32(variants[0].originalname.encode())
    return [variants[(begin + n * size // count) % size] for n in range(count)]


@pytest.fixture(scope='module', autouse=True)
def compiled_programs_are_dropped_in_time():
    """Each maps some memory, and a process may have no more than 65,530 maps on Linux.

    What they held is free then, and goes back to the system where the allocator can be told.
    """
    yield
    maps = pathlib.Path('/proc/self/maps')
    if maps.exists() and maps.read_bytes().count(b'\n') < MOST_MAPS:
        return
    jax.clear_caches()
    gc.collect()
    if os.name == 'posix' and (trim := getattr(ctypes.CDLL(None), 'malloc_trim', None)):
        trim(0)


@pytest.fixture(scope='session')
def problem():
    return make_problem()


@pytest.fixture(scope='session')
def dataset():
    return Dataset('points', TASKS, make_split(512), make_split(200, 1), make_split(200, 2))


@pytest.fixture
def batch():
    return Batch(*make_split(32))


@pytest.fixture
def point(problem):
    """(params, model_state) of the small problem."""
    return problem.init(jax.random.key(0))


@pytest.fixture(params=[pytest.param('nnx', marks=pytest.mark.sweep), 'linen'], scope='session')
def noisy_problem(request):
    """A problem with BatchNorm and dropout in the encoder; its short form is that of Linen."""
    if request.param == 'nnx':
        return _with_nnx(NormalisedEncoder)
    return _with_linen(LinenNormalisedEncoder())


@pytest.fixture(scope='session')
def normalised_problem():
    """A problem with BatchNorm and dropout in the encoder, in NNX."""
    return _with_nnx(NormalisedEncoder)


@pytest.fixture(scope='session')
def convolutional_problem():
    """A problem with a convolution in the encoder, in Linen."""
    return _with_linen(LinenConvolutionalEncoder())


@pytest.fixture(scope='session')
def nnx_convolutional_problem():
    """The same in NNX."""
    return _with_nnx(ConvolutionalEncoder)


def _with_nnx(make_encoder):
    return from_nnx(make_encoder, TASKS, EXAMPLE)


def _with_linen(encoder):
    return from_linen(encoder, TASKS, EXAMPLE)
