"""How every launcher begins and ends: the folder of the run, and what is said of bad input."""

import contextlib
import os
import pathlib
import shlex
import signal
import sys

from absl import app, flags, logging

flags.DEFINE_string('workdir', None, 'Folder of the run; by default a new one under runs/.')

FLAGS = flags.FLAGS


def launch(main):
    """Runs `main()`; what is wrong with its input ends it with one sentence and exit status 2."""

    def run(arguments):
        if len(arguments) > 1:
            return _fail(f'there is no argument {arguments[1]!r}: flags begin with --')
        try:
            _check_flags()
            main()
        except (ValueError, OSError, FloatingPointError) as error:
            logging.debug('the error came from here', exc_info=True)
            return _fail(str(error))
        return 0

    logging.set_verbosity(logging.WARNING)
    app.run(run)


def _check_flags():
    """Raises ValueError at a flag that some launcher has, but not this one."""
    of_launcher = {flag.name for flag in FLAGS.get_key_flags_for_module(sys.argv[0])}
    for name in FLAGS:
        module = FLAGS.find_module_defining_flag(name) or ''
        if module.startswith('experiments.') and FLAGS[name].present and name not in of_launcher:
            raise ValueError(f'--{name} is of no use to this command: --help lists what is')


def choose(kind, name, choices):
    """The entry of a dict of choices. Raises ValueError if there is none of that name."""
    if name not in choices:
        raise ValueError(f'there is no {kind} called {name!r}: choose {" or ".join(choices)}')
    return choices[name]


def numbers(flag, texts):
    """The numbers in a list flag. Raises ValueError at anything else."""
    found = []
    for text in texts:
        try:
            found.append(float(text))
        except ValueError:
            raise ValueError(f'--{flag} needs numbers, not {text!r}') from None
    return found


def run_folder(name):
    """The folder that --workdir names, or a new one under runs/."""
    if FLAGS.workdir == '':
        raise ValueError('--workdir is empty: name a folder, or leave it out')
    if FLAGS.workdir is not None:
        return pathlib.Path(FLAGS.workdir)
    folders = (pathlib.Path('runs') / f'{name}_{n:03}' for n in range(1, sys.maxsize))
    return next(folder for folder in folders if not os.path.lexists(folder))


@contextlib.contextmanager
def resumable(folder):
    """Ends a run that is interrupted or terminated with the command that goes on with it.

    Networks in training are written to their checkpoints before (see `training.train_networks`).
    The exit status is 128 and the number of the signal. A second signal ends the run at once.
    """
    arrived = []

    def stop(number, frame):
        del frame
        if arrived:
            os._exit(128 + number)
        arrived.append(number)
        os.write(2, b'stopping when the networks in training are saved; once more ends at once\n')
        raise KeyboardInterrupt

    heeded = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heeded}
    try:
        yield
    except KeyboardInterrupt:
        _fail(f'interrupted: {_command(folder)} goes on')
        sys.exit(128 + (arrived or [signal.SIGINT])[0])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _command(folder):
    """The command that goes on with this run."""
    module = '.'.join(pathlib.Path(sys.argv[0]).with_suffix('').parts[-2:])
    flags_given = [flag for flag in sys.argv[1:] if not flag.startswith(('--workdir', '--resume'))]
    return shlex.join(['python', '-m', module, *flags_given, f'--workdir={folder}', '--resume'])


def _fail(sentence):
    print(f'error: {sentence}', file=sys.stderr)
    return 2
