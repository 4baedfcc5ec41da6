"""The threads that load ahead, and the iterator that hands their batches out.

Note [Workers]: a worker is a thread with one queue of tasks.  It knows nothing of loaders and iterators, so that
dropping either ends it.  A task names the run it belongs to, one pass over the data: the run says how to fetch, takes
the results, and says when nobody wants them any more.  Batches go to the workers in turn, and each run gives each
worker a random stream of its own (Note [Streams of threads] in _core/tensor/generator.pyx): what is loaded depends on
the seed alone, not on which thread is faster.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ferrox._core.tensor.generator import own_streams
from ferrox.utils.data.collate import pinned

__all__ = ["WorkerInfo", "get_worker_info"]

END = object()  # a stream is exhausted


class WorkerInfo(NamedTuple):
    """What `get_worker_info` returns."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


_here = threading.local()


def get_worker_info() -> WorkerInfo | None:
    """Return the number (`id`), `num_workers`, `seed` and `dataset` of the worker thread, or None outside of one."""
    return getattr(_here, "info", None)


class _Failure(NamedTuple):
    error: BaseException


class Results:
    """What came out of a run, and whether anybody still wants it; it knows nothing of the data."""

    def __init__(self, count: int) -> None:
        self.stopped = False
        self.queues: list[queue.SimpleQueue[Any]] = [queue.SimpleQueue() for _ in range(count)]


class Run:
    """One pass over the data.

    `make_fetch` is called in each worker and returns the function that fetches what a task says; `init` is the
    worker_init_fn where it is still to be called; `reseed` says whether the workers' streams begin anew.
    """

    def __init__(self, make_fetch: Callable[[], Callable[..., Any]], dataset: Any, seed: int, count: int, pin: bool,
                 init: Callable[[int], Any] | None, reseed: bool) -> None:
        self.make_fetch = make_fetch
        self.dataset = dataset
        self.seed = seed
        self.pin = pin
        self.init = init
        self.reseed = reseed
        self.results = Results(count)
        self.fetches: list[Callable[..., Any] | None] = [None] * count


class Worker:
    """A thread and its queue of tasks, pairs of a run and arguments of its fetch (None: begin the run)."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.thread = threading.Thread(
            target=_work, args=(self.tasks, number), daemon=True, name=f"ferrox-loader-{number}"
        )
        _threads.add(self.thread)
        self.thread.start()


def _work(tasks, number):
    failure, seed = None, 0
    try:
        while (task := tasks.get()) is not None:
            run, given = task
            if not run.results.stopped:
                if given is None and run.reseed:
                    seed = run.seed + number
                    own_streams(seed)
                _here.info = WorkerInfo(number, len(run.fetches), seed, run.dataset)
                if given is None:
                    failure = _failure_of_init(run, number) or failure
                else:
                    result = failure or _fetched(run, number, given)
                    if not run.results.stopped:
                        run.results.queues[number].put(result)
            # A waiting worker keeps neither batch nor data alive.
            task = run = given = result = _here.info = None
    finally:
        own_streams(None)


def _failure_of_init(run, number):
    if run.init is not None:
        try:
            run.init(number)
        except BaseException as error:
            return _Failure(_noted(error, number, ", in worker_init_fn"))
    return None


def _fetched(run, number, given):
    where = ""
    try:
        fetch = run.fetches[number]
        if fetch is None:
            fetch = run.fetches[number] = run.make_fetch()
        where = f", loading {_shown(given)}" if given else ""
        result = fetch(*given)
        return pinned(result) if run.pin and result is not END else result
    except BaseException as error:
        return _Failure(_noted(error, number, where))


def _noted(error, number, what):
    # What cannot take a note (a frozen exception) is raised without one: a thread that died of it would be waited for.
    with contextlib.suppress(Exception):
        error.add_note(f"raised in DataLoader worker thread {number}{what}")
    return error


def _shown(given):
    text = repr(given[0])
    return f"index {text}" if len(text) <= 200 else f"index {text[:200]}..."


def stop(workers: list[Worker]) -> None:
    """Tell threads to end after what they are at."""
    for worker in workers:
        worker.tasks.put(None)


def _end_run(results, workers, keep):
    results.stopped = True
    for each in results.queues:
        with contextlib.suppress(queue.Empty):
            while True:
                each.get_nowait()
    if not keep:
        stop(workers)


# Threads that still compute while the interpreter is taken down would do so in memory that is gone.
_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
_LONGEST_WAIT = 5.0


def _wait_for_threads():
    deadline = time.monotonic() + _LONGEST_WAIT
    for thread in list(_threads):
        thread.join(max(0.0, deadline - time.monotonic()))


# Registered before the first finalizer is made, hence called after all of them have told their threads to end.
atexit.register(_wait_for_threads)


class ThreadedIterator:
    """Hands batch after batch to the workers in turn, a bounded number ahead, and their results out in that order."""

    def __init__(self, workers: list[Worker], run: Run, tasks: Iterator[Any], ahead: int, timeout: float,
                 keep_workers: bool) -> None:
        self._run = run
        self._tasks = tasks
        self._timeout = timeout or None
        self._process = os.getpid()
        # The finalizer holds neither iterator nor data, which may hold each other: dropping them ends the threads.
        self._finalizer = weakref.finalize(self, _end_run, run.results, workers, keep_workers)
        self._turns: collections.deque[Worker] = collections.deque()  # the worker of each batch in flight
        self._rotation = collections.deque(workers)
        for worker in workers:
            worker.tasks.put((run, None))
        for _ in range(ahead):
            self._submit()

    def _submit(self):
        if not self._rotation:
            return
        try:
            task = next(self._tasks, END)
        except BaseException:
            self.close()
            raise
        if task is END:
            self._rotation.clear()
            return
        worker = self._rotation[0]
        self._rotation.rotate(-1)
        worker.tasks.put((self._run, task))
        self._turns.append(worker)

    def __iter__(self) -> ThreadedIterator:
        return self

    def __next__(self) -> Any:
        while self._turns:
            if os.getpid() != self._process:
                raise RuntimeError("[DataLoader] this iterator was made before a fork: its threads are in the parent")
            worker = self._turns.popleft()
            try:
                result = self._run.results.queues[worker.number].get(timeout=self._timeout)
            except queue.Empty:
                self.close()
                raise RuntimeError(f"DataLoader timed out after {self._timeout} seconds") from None
            if result is END:
                # This worker's stream is done; the others go on.
                if worker in self._rotation:
                    self._rotation.remove(worker)
                continue
            if isinstance(result, _Failure):
                self.close()
                if isinstance(result.error, StopIteration):  # must not pass for the end of the data
                    raise RuntimeError("DataLoader worker thread raised StopIteration") from result.error
                raise result.error
            self._submit()
            return result
        self.close()
        raise StopIteration

    def close(self) -> None:
        """Let the worker threads go; they finish what they are at."""
        self._turns.clear()
        self._rotation.clear()
        self._finalizer()
