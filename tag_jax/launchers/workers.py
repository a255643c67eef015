"""The flag --cluster: workers that train the networks of searches."""

import contextlib
import os

from absl import flags

from tag_jax import cluster

flags.DEFINE_string(
    'cluster',
    None,
    'Workers that train the networks of searches: processes:N on this machine, ray (which starts '
    'here, or finds its cluster) or ray://host:port; by default threads of this process.',
)

FLAGS = flags.FLAGS


def check():
    """Raises ValueError unless there is the executor that --cluster names."""
    try:
        if FLAGS.cluster is not None:
            cluster.check(FLAGS.cluster)
    except ImportError as error:
        raise ValueError(f'--cluster={FLAGS.cluster}: {error}') from error


def executor():
    """A context manager of the executor that --cluster names, or of None."""
    if FLAGS.cluster is None:
        return contextlib.nullcontext()
    import jax  # Slow to import.

    for name in ('jax_compilation_cache_dir', 'jax_persistent_cache_min_compile_time_secs'):
        if getattr(jax.config, name) is not None:  # Workers on this machine compile nothing again.
            os.environ.setdefault(name.upper(), str(getattr(jax.config, name)))
    return cluster.executor(FLAGS.cluster)
