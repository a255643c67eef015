"""How every launcher begins and ends: the folder of the run, and what is said of bad input."""

import contextlib
import gc
import inspect
import itertools
import os
import pathlib
import shlex
import signal
import sys

from absl import app, flags, logging

from tag_jax.launchers import compiled, help
from tag_jax.runs import storage, workdir

flags.DEFINE_string('workdir', None, 'Folder of the run; by default a new one under runs/.')

FLAGS = flags.FLAGS

_ALARM = getattr(signal, 'SIGALRM', None)  # Not on Windows.
# How `tag_jax.launchers.command` is called: sys.argv[0] is one of these with a launcher behind it.
TAG_JAX = ('tag-jax', 'python -m tag_jax')
STOPPING = b'stopping when the networks in training are saved; once more ends at once\n'


def launch(main):
    """Runs `main`; what is wrong with its input ends it with one sentence and exit status 2.

    Args:
      main: a function, of the arguments that are no flags if it takes any: `main(*runs)`.
    """
    takes_arguments = bool(inspect.signature(main).parameters)
    launcher = sys.modules[main.__module__]

    def run(command):
        _, *arguments = command
        if arguments and not takes_arguments:
            return _fail(_no_argument(arguments, sys.argv))
        try:
            check_flags(launcher)
            if 'compilation_cache' in flags_of(launcher):
                compiled.keep()
            main(*arguments)
        except KeyboardInterrupt:
            _fail('interrupted')
            return 128 + signal.SIGINT
        except (ValueError, OSError, FloatingPointError) as error:
            logging.debug('the error came from here', exc_info=True)
            return _fail(_sentence(error))
        return 0

    if {'--help', '-h', '-help'} & set(sys.argv[1:]):
        with contextlib.suppress(BrokenPipeError):  # Who looks at its first lines only.
            print(help.text(launcher, program()), flush=True)
            sys.exit(0)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    logging.set_verbosity(logging.WARNING)
    app.run(run, flags_parser=_parsed)


def _parsed(arguments):
    """The arguments that are no flags; ends the program with one sentence at what absl refuses.

    Flags in files take the place of --flagfile: the file may be edited while a run is at work, and
    `command` is to repeat the run.
    """
    try:
        refuse_repeated(arguments[1:])
        sys.argv[1:] = FLAGS.read_flags_from_files(arguments[1:])
        return FLAGS([arguments[0], *sys.argv[1:]])
    except flags.Error as error:
        sys.exit(_fail(f'{str(error).splitlines()[0].rstrip(" ?")} (--help lists the flags)'))
    except ValueError as error:
        sys.exit(_fail(str(error)))


def refuse_repeated(arguments, files=()):
    """Raises ValueError at a list flag that is given twice, since only the last one would count.

    A flag in a --flagfile may be given again outside, or in another file, which then counts.

    Args:
      arguments: flags, as in a command; a list of text.
      files: the --flagfile that they stand in, behind those that name it; none for the command.
    """
    seen, rest = set(), iter(arguments)
    for argument in rest:
        name, equals, value = argument.lstrip('-').partition('=')
        if argument == '--':
            return
        if not argument.startswith('-'):
            continue
        if name == 'flagfile':
            _refuse_repeated_in(value if equals else next(rest, ''), files)
        elif name in FLAGS:
            if _takes_list(name) and name in seen:
                where = f' in {files[-1]}' if files else ''
                raise ValueError(
                    f'--{name} is given twice{where}: join the values with a comma, as in '
                    f'--{name}=a,b'
                )
            seen.add(name)
            if not equals and not FLAGS[name].boolean:
                next(rest, None)


def _refuse_repeated_in(path, files):
    """The same of the flags in a file; one that cannot be read is left to absl."""
    if path in files:
        return
    try:
        text = pathlib.Path(path).expanduser().read_text()
    except (OSError, UnicodeDecodeError):
        return
    lines = [line.strip() for line in text.splitlines() if not line.startswith(('#', '//'))]
    refuse_repeated([line for line in lines if line], (*files, path))


def _takes_list(name):
    return isinstance(FLAGS[name].parser, flags.BaseListParser)


def _no_argument(arguments, command):
    """The sentence about arguments that are no flags."""
    sentence = f'there is no argument {arguments[0]!r}: flags begin with --'
    if arguments[0] not in command[1:]:  # (A --flagfile has it.)
        return sentence
    place = command.index(arguments[0], 1)
    flag, equals, value = command[place - 1].partition('=')
    name = flag.lstrip('-')
    if not (
        equals and name in FLAGS and (_takes_list(name) or FLAGS[name].flag_type() == 'string')
    ):
        return sentence
    rest = itertools.takewhile(lambda text: not text.startswith('-'), command[place:])
    whole = shlex.quote(' '.join([value, *rest]))
    return f'{sentence}; a value with spaces stands in quotes, as in --{name}={whole}'


def check_flags(launcher):
    """Raises ValueError at a flag that some launcher has, but not this one, or that is empty."""
    of_launcher = flags_of(launcher)
    for name in FLAGS:
        module = FLAGS.find_module_defining_flag(name) or ''
        ours = module.startswith(('experiments.', 'tag_jax.'))
        if ours and FLAGS[name].present and name not in of_launcher:
            raise ValueError(f'--{name} is of no use to this command: --help lists what is')
        if name in of_launcher and FLAGS[name].present and FLAGS[name].value in ('', []):
            raise ValueError(f'--{name} is empty: give it a value, or leave it out')


def flags_of(launcher):
    """The flags that a launcher has, `{name: flag}`.

    Args:
      launcher: the module of its `main`.
    """
    return {flag.name: flag for flag in FLAGS.get_key_flags_for_module(launcher)}


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
    if FLAGS.workdir is not None:
        return pathlib.Path(FLAGS.workdir)
    folders = (pathlib.Path('runs') / f'{name}_{n:03}' for n in range(1, sys.maxsize))
    return next(folder for folder in folders if not os.path.lexists(folder))


def record_command(folder):
    """Writes what repeats the run into config.json of its folder, for its report."""
    path = pathlib.Path(folder) / workdir.CONFIG
    storage.write_json(path, {**storage.read_json(path), 'command': command()})


def command():
    """The command that is running, without the flags that belong to one folder only."""
    kept, arguments = [], iter(sys.argv[1:])
    for argument in arguments:
        name, equals, _ = argument.lstrip('-').partition('=')
        if name == 'workdir' and not equals:
            next(arguments, None)
        elif name not in ('workdir', 'resume', 'noresume'):
            kept.append(argument)
    return shlex.join([*program(), *kept])


def program():
    """The words of the command that is running, before its flags, as a list."""
    if sys.argv[0].startswith(tuple(f'{name} ' for name in TAG_JAX)):
        return sys.argv[0].split()
    module = sys.modules['__main__'].__spec__
    return ['python', sys.argv[0]] if module is None else ['python', '-m', module.name]


@contextlib.contextmanager
def resumable(folder):
    """Ends a run that is interrupted or terminated with the command that goes on with it.

    Networks in training are written to their checkpoints before (see `training.train_networks`).
    The exit status is 128 and the number of the signal. A second signal ends the run at once.
    """
    arrived = []

    def stop(number, frame):
        if number != _ALARM:
            if arrived:
                os._exit(128 + number)
            arrived.append(number)
            os.write(2, STOPPING)
        if _ALARM and _in_garbage_collection(frame):  # Python drops what is raised there.
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            return
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, *([_ALARM] if _ALARM else []))
    heeded = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heeded}
    try:
        yield
    except KeyboardInterrupt:
        going_on = f'{command()} --workdir={shlex.quote(str(folder))} --resume'
        _fail(f'interrupted: {going_on} goes on')
        sys.exit(128 + (arrived or [signal.SIGINT])[0])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _sentence(error):
    """The text of an error; an error of the system names its file."""
    if isinstance(error, OSError) and error.filename is not None:
        return f'cannot read or write {error.filename} ({error.strerror}): choose another one'
    return str(error)


def _in_garbage_collection(frame):
    """Whether a frame is that of a callback of the garbage collector, or called by one."""
    callbacks = {getattr(callback, '__code__', None) for callback in gc.callbacks}
    while frame is not None:
        if frame.f_code in callbacks:
            return True
        frame = frame.f_back
    return False


def _fail(sentence):
    print(f'error: {" ".join(sentence.splitlines())}', file=sys.stderr)
    return 2
