"""Commands in forks of a process that has imported what all of them import.

Importing JAX, Flax and the rest takes several seconds of each command, and the tests run a hundred
of them. The process that forks has started no device and no thread of JAX.
"""

import atexit
import functools
import json
import subprocess
import sys
import tempfile

_SERVER = """
import atexit, json, os, runpy, signal, sys, traceback, types
import absl.app, flax.linen, flax.nnx, grain, jax, matplotlib.figure, optax, orbax.checkpoint
import pyarrow, scipy.optimize, sklearn.cluster, sklearn.datasets, sklearn.metrics
from tag_jax import comparison, data, grouping, models, multi_objective, report, studies


def run(asked):
    signal.alarm(asked['seconds'])
    for place, name in enumerate(('said', 'out', 'err')):
        flags = os.O_RDONLY if not place else os.O_WRONLY | os.O_TRUNC
        os.dup2(os.open(asked[name], flags), place)
    sys.stdin = open(0, closefd=False)
    os.chdir(asked['cwd'])
    kind, what, *arguments = asked['arguments']
    sys.path.insert(0, asked['cwd'])
    try:
        if kind == '-m':
            sys.argv = [what, *arguments]
            runpy.run_module(what, run_name='__main__', alter_sys=True)
        else:
            sys.argv = ['-c', *arguments]
            main = sys.modules['__main__'] = types.ModuleType('__main__')
            exec(compile(what, '<string>', 'exec'), main.__dict__)
        code = 0
    except SystemExit as exit:
        code = exit.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
        code = code if isinstance(code, int) else int(code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


print('ready', flush=True)
for line in sys.stdin:
    child = os.fork()
    if not child:
        run(json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@functools.cache
def _server(warnings, environment):
    process = subprocess.Popen(
        [sys.executable, *warnings, '-c', _SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=dict(environment),
        text=True,
    )
    atexit.register(_end, process)
    assert process.stdout.readline() == 'ready\n'
    return process


def _end(process):
    process.stdin.close()
    process.stdout.close()
    process.wait(60)  # It takes a while to end where the machine is busy.


def run(arguments, warnings, environment, cwd, said=None, seconds=300):
    """Runs `python -m module ...` or `python -c code ...`, as `subprocess.run` does.

    Args:
      arguments: '-m' or '-c', the module or the code, and what follows.
      warnings: -W options of Python.
      environment: `{name: value}`, the same in all calls.
      cwd: the folder that it is called in.
      said: on its standard input.
      seconds: after which it is ended.
    """
    server = _server(tuple(warnings), tuple(environment.items()))
    with (
        tempfile.NamedTemporaryFile('w') as given,
        tempfile.NamedTemporaryFile('r') as out,
        tempfile.NamedTemporaryFile('r') as err,
    ):
        given.write(said or '')
        given.flush()
        asked = {
            'arguments': list(map(str, arguments)),
            'cwd': str(cwd),
            'said': given.name,
            'out': out.name,
            'err': err.name,
            'seconds': seconds,
        }
        server.stdin.write(json.dumps(asked) + '\n')
        server.stdin.flush()
        code = int(server.stdout.readline())
        return subprocess.CompletedProcess(list(arguments), code, out.read(), err.read())
