"""Several processes that train together: one for each machine, as SLURM or a TPU pod starts them.

All of them run the same command, see the same --workdir, and take one share of the devices each:

    tag-jax group --workdir=/shared/run --mesh=batch:2 \\
        --coordinator=host0:1234 --num_processes=2 --process_id=0    # and =1 on the other host
"""

import contextlib
import os
import sys
import threading

from absl import flags

flags.DEFINE_string(
    'coordinator',
    None,
    'Address of the first of several processes, host:port; auto where SLURM or a TPU pod says all '
    'of this.',
)
flags.DEFINE_integer('num_processes', None, 'Number of processes.')
flags.DEFINE_integer('process_id', None, 'Which of them this is, from 0.')

FLAGS = flags.FLAGS

# How long a process may say nothing before the others give it up, in seconds.
HEARTBEAT, JOINING = 20, 120
# How long one that is interrupted waits for the others to end too.
LEAVING = 3


def join():
    """Meets the other processes, if there are any. Nothing may have used a device before.

    Raises:
      ValueError: if the flags do not say which process this is. (If the others do not come, JAX
        ends the process.)
    """
    if FLAGS.coordinator is None:
        for name in ('num_processes', 'process_id'):
            if FLAGS[name].present:
                raise ValueError(f'--{name} needs --coordinator, the address of the first process')
        return
    if FLAGS.workdir is None:
        raise ValueError('several processes need --workdir, a folder that all of them see')
    import jax  # Slow to import, as below.

    options = {}
    if FLAGS.coordinator != 'auto':
        count, this = FLAGS.num_processes, FLAGS.process_id
        if count is None or this is None or not 0 <= this < count:
            raise ValueError(
                '--coordinator needs --num_processes and --process_id, from 0 to one below it'
            )
        options = {
            'coordinator_address': FLAGS.coordinator,
            'num_processes': count,
            'process_id': this,
        }
    # JAX ends a process that waits in vain with a crash, to which this is the explanation.
    print(
        f'waiting for the other processes at {FLAGS.coordinator}, {JOINING} seconds at most',
        file=sys.stderr,
        flush=True,
    )
    try:
        jax.distributed.initialize(
            **options, initialization_timeout=JOINING, heartbeat_timeout_seconds=HEARTBEAT
        )
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f'the processes did not come together at {FLAGS.coordinator}: '
            f'{str(error).splitlines()[0]}'
        ) from error


@contextlib.contextmanager
def together():
    """Ends this process with one sentence at an error, and does not wait for the others then.

    They may wait for this one, or be the ones that are lost: with its end theirs comes. A process
    that is interrupted waits a moment, in which those that are interrupted too can take their
    leave in good order.
    """
    import jax

    try:
        yield
    except SystemExit as leaving:
        if jax.process_count() > 1:
            last = threading.Timer(LEAVING, os._exit, [leaving.code])
            last.daemon = True
            last.start()
        raise
    except Exception as error:
        if jax.process_count() == 1:
            raise
        sentence = str(error)
        if isinstance(error, jax.errors.JaxRuntimeError):
            sentence = (
                f'another process is lost ({sentence.splitlines()[0][:200]}): start all of them '
                f'again with --workdir={FLAGS.workdir} --resume'
            )
        print(f'error: {sentence}', file=sys.stderr, flush=True)
        os._exit(2)
