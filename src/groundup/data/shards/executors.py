"""Who carries a function out over many tasks: this process, a pool of processes on this machine, or a Ray cluster.

A task is a function that can be found by its name and arguments that name files. It writes whole files or nothing and
gives little back, so doing one twice, or again after its worker was killed, does no harm. Results come in the order of
the tasks, so that nothing depends on who was quicker.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

from groundup.core.errors import DataError, GroundupError, MissingExtraError
from groundup.data.shards.memory import Room, Runner

Task = Sequence[Any]
"""The arguments of one call."""

MOST_RESTARTS = 5
"""How often in a row a task's worker may die before the task is given up."""

LOOKED_AFTER_S = 5.0
"""Time after which a pool that gave nothing is looked after."""


class Executor(Protocol):
    """Carries a function out over tasks."""

    def each(self, function: Callable[..., Any], tasks: Iterable[Task]) -> Iterator[Any]:
        """``function(*task)`` of each task, in order; a few are begun ahead of what is asked for."""
        ...

    def close(self) -> None:
        """End what was started."""
        ...


def executor(runner: Runner, room: Room) -> Executor:
    """The one that a recipe names, with as many workers as the memory allows."""
    if runner == "processes":
        return Processes(room.num_processes, max(1, room.num_cores // room.num_processes))
    if runner == "ray":
        return RayCluster(room)
    return Local(room.num_threads)


@dataclasses.dataclass(frozen=True)
class Local:
    """This process, by threads: what takes the time is polars and numpy, which let other threads run."""

    num_threads: int = 1

    def each(self, function: Callable[..., Any], tasks: Iterable[Task]) -> Iterator[Any]:
        """``function(*task)`` of each task, in order."""
        if self.num_threads == 1:
            for task in tasks:
                yield function(*task)
            return
        pool = futures.ThreadPoolExecutor(self.num_threads)
        try:
            # One more than there are threads, so that none waits while the oldest result is not yet there.
            yield from _ahead(lambda task: pool.submit(function, *task), tasks, self.num_threads + 1)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def close(self) -> None:
        """Nothing was started."""


def _ahead(submit: Callable[[Task], futures.Future[Any]], tasks: Iterable[Task], count: int) -> Iterator[Any]:
    """Results in order, with no more than ``count`` tasks begun whose result was not yet taken."""
    waiting: collections.deque[futures.Future[Any]] = collections.deque()
    for task in tasks:
        if len(waiting) >= count:
            yield waiting.popleft().result()
        waiting.append(submit(task))
    while waiting:
        yield waiting.popleft().result()


@dataclasses.dataclass(frozen=True)
class Processes:
    """A pool of fresh processes on this machine; one that dies is replaced, and its task done again.

    Steps and functions travel to the workers by name and value, so a step must live in a module that can be imported.
    The pool is started when it is first needed, and ends with ``close``.
    """

    num_workers: int
    num_threads: int = 1
    """Threads of each worker."""
    pools: list[futures.ProcessPoolExecutor] = dataclasses.field(default_factory=list, compare=False, repr=False)
    """The pool, where it is running."""

    def each(self, function: Callable[..., Any], tasks: Iterable[Task]) -> Iterator[Any]:
        """``function(*task)`` of each task, in order. Raises DataError for a task whose worker dies again and again."""
        remaining = iter(tasks)
        begun: collections.deque[Task] = collections.deque()
        restarts = 0
        while True:
            try:
                for result in self._until_broken(function, begun, remaining):
                    restarts = 0
                    yield result
                return
            except BrokenProcessPool as broken:
                self.close()
                restarts += 1
                if restarts > MOST_RESTARTS:
                    raise DataError(
                        f"a worker process died {restarts} times over the same rows: out of memory, or started by a "
                        "script without `if __name__ == '__main__'`. Lower recipe.data.memory, so that shards are "
                        "smaller, or take runner = 'local'."
                    ) from broken

    def close(self) -> None:
        """End the workers; they begin anew when they are next needed."""
        while self.pools:
            self.pools.pop().shutdown(wait=True, cancel_futures=True)

    def _until_broken(
        self, function: Callable[..., Any], begun: collections.deque[Task], remaining: Iterator[Task]
    ) -> Iterator[Any]:
        """Results until all are there or a worker dies; ``begun`` keeps the tasks whose results were not yet given."""
        pool = self._pool()
        waiting = collections.deque(pool.submit(function, *task) for task in begun)
        try:
            while True:
                while len(waiting) < self.num_workers + 1 and (task := next(remaining, None)) is not None:
                    begun.append(task)
                    waiting.append(pool.submit(function, *task))
                if not waiting:
                    return
                result = _result(pool, waiting.popleft())
                begun.popleft()
                yield result
        finally:
            for future in waiting:  # of a caller who has seen enough, or after an error
                future.cancel()

    def _pool(self) -> futures.ProcessPoolExecutor:
        """The pool, whose workers have all begun, each with its share of threads."""
        if not self.pools:
            spawn = multiprocessing.get_context("spawn")  # a fork would copy locks that threads of polars hold
            pool = futures.ProcessPoolExecutor(self.num_workers, spawn, _begin_worker, (os.getpid(),))
            self.pools.append(pool)
            with _environment(self.num_threads):
                for begun in [pool.submit(os.getpid) for _ in range(self.num_workers)]:
                    _result(pool, begun)
        return self.pools[0]


def _result(pool: futures.ProcessPoolExecutor, future: futures.Future[Any]) -> Any:
    """What a task gave. Raises BrokenProcessPool when a worker has died."""
    while True:
        try:
            return future.result(timeout=LOOKED_AFTER_S)
        except TimeoutError:
            if future.done():  # the task's own
                raise
            pool.submit(os.getpid)  # makes the pool look for workers that died before it knew them
        except (AttributeError, TypeError, ImportError) as error:  # by which pickling tells what it cannot do
            if "pickle" in str(error) or "__main__" in str(error) or "local object" in str(error):
                raise DataError(
                    f"a step cannot be handed to another process: {error}. Define it at the top of a module that can "
                    "be imported, or take runner = 'local'."
                ) from error
            raise


_THREADS = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")


@contextlib.contextmanager
def _environment(num_threads: int) -> Iterator[None]:
    """Processes started inside use so many threads each; libraries read this when they are first imported."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, str(num_threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _begin_worker(parent: int) -> None:
    """A worker ends with its parent, even one that was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@dataclasses.dataclass(frozen=True)
class RayCluster:
    """A Ray cluster: the one that is there (``RAY_ADDRESS``), or one of this machine's cores for the time being.

    Tasks name files, so their folder must be seen under the same path from every machine. A task whose worker or
    machine is lost is done again elsewhere. Ray's usage report is switched off.
    """

    room: Room

    def each(self, function: Callable[..., Any], tasks: Iterable[Task]) -> Iterator[Any]:
        """``function(*task)`` of each task, in order. Raises MissingExtraError without ray."""
        ray = _import_ray()
        if not ray.is_initialized():
            _connect(ray, self.room)
        call = ray.remote(num_cpus=1, max_retries=MOST_RESTARTS)(_call)
        ahead = max(2, int(ray.cluster_resources().get("CPU", 1)) + 1)
        waiting: collections.deque[Any] = collections.deque()
        for task in tasks:
            if len(waiting) >= ahead:
                yield _got(ray, waiting.popleft())
            waiting.append(call.remote(function, *task))
        while waiting:
            yield _got(ray, waiting.popleft())

    def close(self) -> None:
        """Leave the cluster; one that was started for the time being ends."""
        ray = _import_ray()
        if ray.is_initialized():
            ray.shutdown()


def _call(function: Callable[..., Any], *task: Any) -> Any:
    """What a Ray worker carries out; ray itself takes no built-in function."""
    return function(*task)


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when ray is imported: nothing is reported to anyone
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingExtraError(
            f"recipe.data.runner: 'ray' needs the library ray ({error}): pip install 'groundup[ray]'."
        ) from error
    return ray


def _connect(ray: Any, room: Room) -> None:
    """Join the cluster; its workers find code where this process finds it, and use one thread each."""
    installed = (sys.prefix, sys.base_prefix)
    found = [os.path.abspath(path) for path in sys.path]
    variables = dict.fromkeys(_THREADS, "1")
    variables["PYTHONPATH"] = os.pathsep.join(path for path in found if not path.startswith(installed))
    quiet = {"log_to_driver": False, "logging_level": "error", "runtime_env": {"env_vars": variables}}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**quiet)
        return
    store = max(80_000_000, room.memory_bytes // 10)
    ray.init(num_cpus=room.num_processes, object_store_memory=store, include_dashboard=False, **quiet)


def _got(ray: Any, reference: Any) -> Any:
    """A result, or the error that the task raised, as it would have been raised here."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, GroundupError):
            raise cause from error
        raise
    except ray.exceptions.RayError as error:
        raise DataError(
            f"ray: a task was lost {MOST_RESTARTS + 1} times with its worker: {error}. Lower recipe.data.memory, so "
            "that shards are smaller, or see ray's own logs."
        ) from error
