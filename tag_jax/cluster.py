"""Executors for searches on several processes or machines.

`grouping.group_tasks` and `comparison.compare_groupings` take any `concurrent.futures.Executor`:
these two, `dask.distributed.Client(...).get_executor()`, `mpi4py.futures.MPIPoolExecutor`.
"""

import contextlib
import multiprocessing
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from typing import Any

RAY, PROCESSES = 'ray', 'processes'

# Jobs of workers that die are tried again so often.
_RETRIES = 10
# What is as long as this goes into Ray's object store, once for all jobs.
_LONG = 2**16


class RayExecutor(futures.Executor):
    """Jobs as tasks of Ray (https://docs.ray.io), to which this process is connected.

    The job of a worker that dies is tried again, on another one.

    Args:
      **options: of each task, see `ray.remote`: `num_cpus`, `num_gpus`, `resources`, `max_retries`.

    Raises:
      ImportError: if Ray is not installed.
    """

    def __init__(self, **options: Any):
        self._ray = _imported_ray()
        self._options = {'max_retries': _RETRIES, **options}
        self._tasks, self._stored = [], {}

    def submit(self, fn: Callable, /, *args: Any, **kwargs: Any) -> futures.Future:
        """Begins a task, see `concurrent.futures.Executor.submit`.

        Args:
          fn: the function of the task.
          *args, **kwargs: what it is called with; long bytes are stored once for all tasks.

        Returns:
          The future of its answer.
        """
        task = self._ray.remote(fn).options(**self._options)
        args = [self._put(one) for one in args]
        self._tasks.append(task.remote(*args, **kwargs))
        return self._tasks[-1].future()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the executor, see `concurrent.futures.Executor.shutdown`.

        Args:
          wait: whether to wait for tasks that were begun.
          cancel_futures: whether these are ended.
        """
        if cancel_futures:
            for task in self._tasks:
                self._ray.cancel(task, force=True)
        elif wait and self._tasks:
            self._ray.wait(self._tasks, num_returns=len(self._tasks))
        self._tasks, self._stored = [], {}

    def _put(self, value):
        """A long value in the object store: the data of a search go there once for all tasks."""
        if not isinstance(value, bytes) or len(value) < _LONG:
            return value
        if id(value) not in self._stored:
            self._stored[id(value)] = value, self._ray.put(value)
        return self._stored[id(value)][1]


def check(where: str) -> None:
    """Raises ValueError unless there is an executor of that name, ImportError without its package.

    Args:
      where: see `executor`.
    """
    name, _, rest = where.partition(':')
    if where == RAY or (name == RAY and rest.startswith('//')):
        _imported_ray()
    elif name != PROCESSES or not rest.isdecimal() or not int(rest):
        raise ValueError(
            f'there is no cluster {where!r}: choose ray, ray://host:port or processes:N'
        )


@contextlib.contextmanager
def executor(where: str, options: Mapping[str, Any] | None = None) -> Iterator[futures.Executor]:
    """An executor by its name; an error or an interrupt cancels the jobs that have not begun.

    Args:
      where: 'ray' for a cluster that Ray finds or starts here; 'ray://host:port' for one that runs;
        'processes:N' for N processes on this machine.
      options: of each task of Ray, see `RayExecutor`.

    Raises:
      ValueError: if there is no such executor.
      ImportError: if Ray is not installed.
    """
    check(where)
    name, _, rest = where.partition(':')
    if name == RAY:
        ray = _imported_ray()
        ours = not ray.is_initialized()
        if ours:
            with warnings.catch_warnings():
                # (Ray forks to start programs of its own, which hold nothing of JAX.)
                warnings.filterwarnings('ignore', r'os\.fork')
                ray.init(address=where if rest else None, log_to_driver=False)
        made, end = RayExecutor(**(options or {})), ray.shutdown if ours else lambda: None
    else:
        context = multiprocessing.get_context('spawn')  # JAX has threads, which do not fork.
        made, end = futures.ProcessPoolExecutor(int(rest), context), lambda: None
    try:
        yield made
    except BaseException:
        made.shutdown(wait=False, cancel_futures=True)
        raise
    else:
        made.shutdown()
    finally:
        end()


def _imported_ray():
    try:
        import ray
    except ImportError as error:
        raise ImportError("Ray is not installed: pip install 'tag-jax[cluster]'") from error
    return ray
