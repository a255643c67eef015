"""Everything that the documents promise of GPUs and TPUs, measured on one of them.

    python -m experiments.benchmarks.accelerator [--out=accelerator.json] [--seconds=450]

One process, data of noise, nothing to download; jax, flax, optax, numpy and three small packages
(filelock, platformdirs, tqdm) are enough. Sections, in the order in which they are measured
(--sections chooses):

- affinities: a plain step and exact affinities, for 2 to 40 tasks, on the encoders of
  `benchmarks.encoders`; beside them, where torch is installed, the loop of PyTorch on the same
  device. Convolutions see batches of 64 pictures, the dense layers 256 examples.
- weightings: a plain step, MGDA-UB and MGDA, for 2, 9 and 40 tasks, on two convolutions.
- resnet18: the same on ResNet-18 with 40 heads and pictures of 64 x 64 pixels, in float32 and in
  bfloat16. (Sener & Koltun 2018, Table 2: 429.9 hours against 16.1.)
- authors: the network of the TAG authors for CelebA with nine tasks at a batch of 256: a plain step
  and each kind of affinity. Measured at every tenth step, one costs a tenth of its ratio.
- networks: many small networks side by side, and one after another.

Each row is a median over rounds, in milliseconds; its ratio is to the first row of its group,
round by round (`benchmarks.timing`). TFLOP/s are those that XLA counts in the compiled program,
divided by the time. Nothing is begun after --seconds: what is left out is named. Rows are written
to --out as they are measured.
"""

import functools
import importlib
import importlib.util
import json
import pathlib
import subprocess
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments.benchmarks import encoders, steps, timing
from tag_jax import affinity, models, objectives, training, weighting
from tag_jax.data import Split
from tag_jax.launchers import launch
from tag_jax.problem import Batch, from_nnx

flags.DEFINE_string('out', 'accelerator.json', 'File of the rows.')
flags.DEFINE_float('seconds', 450, 'Nothing new is begun after so many seconds.')
flags.DEFINE_list('sections', [], 'Sections to measure; all if empty.')
flags.DEFINE_list('encoders', ['mlp', 'small', 'celeba'], 'Encoders of affinities.')
flags.DEFINE_list('tasks', ['2', '5', '9', '20', '40'], 'Numbers of tasks of affinities.')
flags.DEFINE_integer('heads', 40, 'Heads of ResNet-18, and most tasks of weightings.')
flags.DEFINE_integer('pixels', 64, 'Of the pictures of ResNet-18 and the TAG authors.')
flags.DEFINE_integer('batch_size', 256, 'Of ResNet-18 and the TAG authors.')
flags.DEFINE_integer('networks', 64, 'Networks side by side.')
flags.DEFINE_integer('steps', 500, 'Of each network.')
flags.DEFINE_integer('rounds', 11, 'Times that each is timed.')

FLAGS = flags.FLAGS

WEIGHTED = {'MGDA-UB': weighting.mgda_ub, 'MGDA': weighting.mgda}
VERSIONS = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'torch')


class Row(NamedTuple):
    """One thing that was timed.

    Attributes:
      group: what it stands beside.
      what: its name.
      milliseconds: the median over rounds.
      ratio: the median over rounds of its time over that of the first row of its group.
      teraflops: a second, by XLA's count; None where XLA did not compile it.
      compiling: seconds of tracing and compiling; None likewise.
    """

    group: str
    what: str
    milliseconds: float
    ratio: float
    teraflops: float | None = None
    compiling: float | None = None


def main():
    began = time.perf_counter()
    names = FLAGS.sections or list(SECTIONS)
    sections = [launch.choose('section', name, SECTIONS) for name in names]
    out = pathlib.Path(FLAGS.out)
    if not out.parent.is_dir():
        raise ValueError(f'the folder of --out does not exist: {out.parent}')
    machine = describe_machine()
    print('\n'.join(f'{name}: {value}' for name, value in machine.items()))
    rows, left_out = [], []
    for section in sections:
        for group, measure in section():
            if time.perf_counter() - began > FLAGS.seconds:
                left_out.append(group)
                continue
            new = [Row(group, *rest) for rest in measure()]
            print_rows(new)
            rows += new
            write(out, machine, rows, left_out, began)
    if left_out:
        print(f'\nleft out after {FLAGS.seconds:g} s: {"; ".join(left_out)}')
    write(out, machine, rows, left_out, began)
    print(f'\n{out}: {len(rows)} rows in {time.perf_counter() - began:.0f} s')


def write(out, machine, rows, left_out, began):
    """Writes what is known so far to the file of --out."""
    record = {
        'machine': machine,
        'rows': [row._asdict() for row in rows],
        'left_out': left_out,
        'seconds': time.perf_counter() - began,
    }
    out.write_text(json.dumps(record, indent=1))


def print_rows(rows):
    """Prints one group of rows."""
    print(f'\n{rows[0].group}')
    print(f'{"":28} {"ms":>9} {"time":>7} {"TFLOP/s":>8} {"compile, s":>10}')
    for row in rows:
        line = f'{row.what:28} {row.milliseconds:9.2f} {row.ratio:7.2f}'
        if row.compiling is not None:
            line += f' {row.teraflops:8.2f} {row.compiling:10.1f}'
        print(line, flush=True)


def describe_machine():
    """The device, its clocks where a driver tells them, and versions: `{name: text}`."""
    device = jax.devices()[0]
    found = {'device': device.device_kind, 'backend': jax.default_backend()}
    found |= {name: str(module.__version__) for name in VERSIONS if (module := _optional(name))}
    if device.platform == 'gpu':
        query = 'driver_version,clocks.sm,clocks.max.sm,clocks.mem,power.limit,memory.total'
        command = ['nvidia-smi', f'--query-gpu={query}', '--format=csv,noheader']
        try:
            answer = subprocess.run(command, capture_output=True, text=True, check=True)
            found[query] = answer.stdout.splitlines()[0]
        except (OSError, subprocess.CalledProcessError):
            found[query] = 'unknown: nvidia-smi does not answer'
    return found


def _optional(name):
    return importlib.import_module(name) if importlib.util.find_spec(name) else None


def compiled_rows(functions):
    """Times compiled functions side by side.

    Args:
      functions: `{name: (function, its arguments)}`; the first is what ratios are to.

    Returns:
      `(what, milliseconds, ratio, teraflops, compiling)` of each.
    """
    compiled, compiling = {}, {}
    for name, (function, arguments) in functions.items():
        compiled[name], compiling[name] = timing.compile_timed(function, *arguments)
    calls = {name: functools.partial(compiled[name], *functions[name][1]) for name in functions}
    flops = {name: (one.cost_analysis() or {}).get('flops', 0) for name, one in compiled.items()}
    return [
        (what, milliseconds, ratio, flops[what] / milliseconds / 1e9, compiling[what])
        for what, milliseconds, ratio in called_rows(calls)
    ]


def called_rows(calls):
    """The same of functions without arguments: `(what, milliseconds, ratio)` of each."""
    seconds = timing.side_by_side(calls, FLAGS.rounds)
    first = next(iter(seconds.values()))
    return [
        (name, 1e3 * float(np.median(taken)), float(np.median(taken / first)))
        for name, taken in seconds.items()
    ]


def affinity_groups():
    """Exact affinities for each encoder and number of tasks."""
    for name in FLAGS.encoders:
        encoder, shape = launch.choose('encoder', name, encoders.ENCODERS)
        for size in map(int, FLAGS.tasks):
            yield (
                f'affinities, {name}, {size} tasks',
                functools.partial(_affinities, name, encoder, shape, size),
            )


def _affinities(name, encoder, shape, size):
    problem, batch = encoders.make_problem(encoder, shape, size)
    rows = compiled_rows(_with_affinities(problem, batch, ('exact',)))
    if _optional('torch') is None:
        return rows
    torch_affinity = importlib.import_module('experiments.benchmarks.torch_affinity')
    calls = torch_affinity.calls(name, batch, torch_affinity.device_of(jax.default_backend()))
    return [*rows, *called_rows(calls)]


def _with_affinities(problem, batch, kinds):
    """A plain step, and measuring each of some kinds of affinity, for `compiled_rows`."""
    params, state = problem.init(jax.random.key(0))
    adam, plain = steps.plain_step(problem, state)
    functions = {'plain step': (plain, (params, adam.init(params), batch))}
    for kind in kinds:
        measured = functools.partial(affinity.inter_task_affinities, problem, kinds=(kind,))
        call = lambda params, batch, measured=measured: measured(
            params, state, batch, learning_rate=1e-3
        )
        functions[f'affinities, {kind}'] = call, (params, batch)
    return functions


def weighting_groups():
    """MGDA-UB and MGDA on two convolutions."""
    for size in sorted({2, min(9, FLAGS.heads), FLAGS.heads}):
        problem, batch = encoders.make_problem(*encoders.ENCODERS['small'], size, num_classes=10)
        yield (
            f'weightings, small, {size} tasks',
            functools.partial(_weightings, problem, batch),
        )


def _weightings(problem, batch):
    params, state = problem.init(jax.random.key(0))
    ways = {'plain step': steps.plain_step(problem, state)}
    ways |= {name: steps.weighted_step(problem, state, make()) for name, make in WEIGHTED.items()}
    return compiled_rows(
        {
            name: (step, (params, transform.init(params), batch))
            for name, (transform, step) in ways.items()
        }
    )


def resnet_groups():
    """MGDA-UB and MGDA on ResNet-18 with many heads, in float32 and bfloat16."""
    shape = FLAGS.batch_size, FLAGS.pixels, FLAGS.pixels, 3
    for dtype in (jnp.float32, jnp.bfloat16):
        encoder = functools.partial(models.CelebAResNet18, dtype=dtype)
        yield (
            f'ResNet-18, {FLAGS.heads} heads, {jnp.dtype(dtype).name}',
            lambda encoder=encoder: _weightings(*_pictures(encoder, shape, FLAGS.heads)),
        )


def _pictures(make_encoder, shape, size):
    """A problem of binary tasks on an NNX encoder, and a batch of noise."""
    rng = np.random.default_rng(0)
    tasks = {f'task_{n:02}': objectives.classification(2) for n in range(size)}
    inputs = rng.normal(size=shape).astype(np.float32)
    targets = {name: rng.integers(2, size=shape[0]).astype(np.int32) for name in tasks}
    problem = from_nnx(lambda rngs: make_encoder(rngs=rngs), tasks, inputs[:1])
    return problem, Batch(jnp.asarray(inputs), jax.tree.map(jnp.asarray, targets))


def author_groups():
    """Every kind of affinity on the network of the TAG authors."""
    encoder, (_, *_, channels) = encoders.ENCODERS['celeba']
    shape = FLAGS.batch_size, FLAGS.pixels, FLAGS.pixels, channels
    size = min(9, FLAGS.heads)

    def measure():
        problem, batch = encoders.make_problem(encoder, shape, size)
        return compiled_rows(_with_affinities(problem, batch, affinity.KINDS))

    yield f'network of the TAG authors, {size} tasks, batches of {FLAGS.batch_size}', measure


def network_groups():
    """Networks of two dense layers side by side and one after another: time a network-step."""
    yield f'{FLAGS.networks} networks, time a network-step', _networks


def _networks():
    rng = np.random.default_rng(0)
    tasks = {f'task_{n}': objectives.classification(2) for n in range(8)}

    def draw(size):
        targets = {name: rng.integers(2, size=size).astype(np.int32) for name in tasks}
        return Split(rng.normal(size=(size, 144)).astype(np.float32), targets)

    train, validation = draw(4096), draw(512)
    problem = from_nnx(lambda rngs: models.MLP(144, (128, 32), rngs=rngs), tasks, train.inputs[:1])
    config = training.TrainingConfig(steps=FLAGS.steps, patience=0)
    few = max(1, FLAGS.networks // 16)
    ways = {
        'one after another': (few, training.TrainingConfig(FLAGS.steps, patience=0, slots=1)),
        'side by side': (FLAGS.networks, config),
    }
    seconds = {name: [] for name in ways}
    for round_ in range(4):
        for name, (count, settings) in ways.items():
            plans = [
                training.NetworkPlan(str(n), tuple(tasks), n, settings.learning_rate)
                for n in range(count)
            ]
            began = time.perf_counter()
            training.train_networks(problem, train, validation, plans, settings, progress_bar=False)
            if round_:  # The first round compiles.
                seconds[name].append((time.perf_counter() - began) / count / FLAGS.steps)
    first = np.array(seconds['one after another'])
    return [
        (name, 1e3 * float(np.median(taken)), float(np.median(np.array(taken) / first)))
        for name, taken in seconds.items()
    ]


SECTIONS = {
    'affinities': affinity_groups,
    'weightings': weighting_groups,
    'resnet18': resnet_groups,
    'authors': author_groups,
    'networks': network_groups,
}


if __name__ == '__main__':
    launch.launch(main)
