"""Launchers through their real commands."""

import importlib
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
from typing import NamedTuple

import forking
from absl import flags as absl_flags

ROOT = pathlib.Path(__file__).parent.parent
ENVIRONMENT = os.environ | {'PYTHONPATH': str(ROOT)}

# Warnings are errors, but for that of JAX where it reads what another process is writing.
WARNINGS = ('-W', 'error', '-W', 'ignore:Error reading persistent compilation cache entry')

# Every command in turn in one process, which has loaded what they need once.
_ANSWERS = """
import contextlib, importlib, io, json, sys
from absl import flags
from tag_jax.launchers import launch

name, commands = sys.argv[1], json.load(sys.stdin)
sys.argv = [name]
launcher = importlib.import_module(name)
if isinstance(commands, dict):
    commands = [
        [*commands['given'], f'--{flag.name}={value}']
        for flag in launch.flags_of(sys.modules[launcher.main.__module__]).values()
        for kind, values in commands['values'].items()
        if kind in flag.flag_type()
        for value in values
    ]
answers = []
for command in commands:
    sys.argv = [name, *command]
    out, err, code = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            launch.launch(launcher.main)
        except SystemExit as exit:
            code = exit.code
    answers.append([code, out.getvalue(), err.getvalue(), command[-1] if command else None])
    flags.FLAGS.unparse_flags()
    for flag in flags.FLAGS:
        flags.FLAGS[flag].unparse()
json.dump(answers, sys.stdout)
"""

# What the console script that pip writes does, from a file of its name.
_SCRIPT = 'import sys; sys.argv[0] = "/bin/tag-jax"; '
_SCRIPT += 'from tag_jax.launchers import command; command.main()'


class Answer(NamedTuple):
    """What a command came to."""

    returncode: int
    stdout: str
    stderr: str
    last_flag: str | None = None


def launch(launcher, *flags, cwd=ROOT):
    """Runs `python -m experiments.<launcher>` in a fork; warnings are errors."""
    return forking.run(['-m', f'experiments.{launcher}', *flags], WARNINGS, ENVIRONMENT, cwd)


def tag_jax(*arguments, cwd):
    """Runs `tag-jax` with arguments in a fork; warnings are errors."""
    return forking.run(['-c', _SCRIPT, *arguments], WARNINGS, ENVIRONMENT, cwd)


def launch_afresh(launcher, *flags, cwd=ROOT):
    """Runs `python -m experiments.<launcher>` in a process of its own, as users do."""
    return subprocess.run(
        [sys.executable, *WARNINGS, '-m', f'experiments.{launcher}', *flags],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def loaded(launcher):
    """The module of a launcher, whose flags take the place of others of their names."""
    while True:
        try:
            return importlib.import_module(f'experiments.{launcher}')
        except absl_flags.DuplicateFlagError as error:
            delattr(absl_flags.FLAGS, re.search(r"The flag '(\w+)'", str(error))[1])


def answers(launcher, commands, cwd) -> list[Answer]:
    """What a launcher says to each of some lists of flags."""
    return _answers(launcher, [list(flags) for flags in commands], cwd)


def answers_to_all_flags(launcher, given, values, cwd) -> list[Answer]:
    """What a launcher says to each of its flags with values that go by the type of the flag.

    Args:
      launcher: its name.
      given: flags that come before.
      values: `{a part of the name of a type of absl: values}`.
      cwd: the folder that it is called in.
    """
    return _answers(launcher, {'given': given, 'values': values}, cwd)


def _answers(launcher, asked, cwd):
    asked = json.dumps(asked)
    command = ['-c', _ANSWERS, f'experiments.{launcher}']
    done = forking.run(command, WARNINGS, ENVIRONMENT, cwd, said=asked)
    assert done.returncode == 0, done.stderr
    return [Answer(*answer) for answer in json.loads(done.stdout)]


def free_port():
    """A port at which processes can meet."""
    with socket.socket() as one:
        one.bind(('localhost', 0))
        return one.getsockname()[1]


def run_two_processes(script, folder, *more, seconds=600):
    """Runs a script as two processes of two devices each: `script port number file ...`.

    Args:
      script: its path.
      folder: each process is given the file 0 or 1 in it.
      *more: what else both are given.
      seconds: after which both are ended.

    Returns:
      The processes, and what they said on stderr.
    """
    port = free_port()
    processes = [
        subprocess.Popen(
            [sys.executable, script, str(port), str(n), folder / str(n), *more],
            env=ENVIRONMENT | {'JAX_NUM_CPU_DEVICES': '2'},
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(2)
    ]
    try:
        return processes, [process.communicate(timeout=seconds)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()


def files(folder):
    """All files and folders in a folder."""
    return sorted(str(path) for path in pathlib.Path(folder).rglob('*'))


def check_sentences(launcher, cases, cwd):
    """Bad input ends with exit status 2 and one sentence, and leaves no file behind.

    Args:
      launcher: its name.
      cases: (flags, a part of the sentence).
      cwd: the folder that it is called in.
    """
    before = files(cwd)
    found = answers(launcher, [flags for flags, _ in cases], cwd)
    for (flags, sentence), answer in zip(cases, found, strict=True):
        assert answer.returncode == 2, (flags, answer)
        assert answer.stdout == '', flags
        assert answer.stderr.startswith('error: '), (flags, answer.stderr)
        assert sentence in answer.stderr, (flags, answer.stderr)
        assert answer.stderr.count('\n') == 1, (flags, answer.stderr)
    assert files(cwd) == before
