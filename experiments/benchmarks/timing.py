"""How benchmarks take time: side by side in one process, each call after one of its own kind."""

import time

import jax
import numpy as np
from absl import flags

CLOCKS = {'wall': time.perf_counter, 'cpu': time.process_time}
flags.DEFINE_enum(
    'clock', 'wall', list(CLOCKS), 'Time that passes, or processor time of the process.'
)


def clock():
    """The function that --clock names."""
    return CLOCKS[flags.FLAGS.clock]


def compile_timed(function, *arguments):
    """A compiled function, and the seconds that tracing and compiling it took."""
    began = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    return compiled, time.perf_counter() - began


def compiled_call(function, *arguments):
    """A function without arguments: the compiled function on these."""
    compiled, _ = compile_timed(function, *arguments)
    return lambda: compiled(*arguments)


def side_by_side(calls, rounds, now=time.perf_counter):
    """Seconds of each of several calls, round by round.

    In every round each is called twice in turn, and the second call timed: the first one finds
    memory and caches as the call before left them.

    Args:
      calls: `{name: function without arguments}`.
      rounds: how many rounds.
      now: the clock, of CLOCKS.

    Returns:
      `{name: seconds [rounds]}`.
    """
    seconds = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            for _ in range(2):
                began = now()
                jax.block_until_ready(call())
                last = now() - began
            seconds[name].append(last)
    return {name: np.array(found) for name, found in seconds.items()}


def row(name, seconds, plain):
    """The start of a line of a table: a name, median milliseconds, median ratio to `plain`."""
    return f'{name:24} {1e3 * np.median(seconds):8.1f} {np.median(seconds / plain):6.2f}'
