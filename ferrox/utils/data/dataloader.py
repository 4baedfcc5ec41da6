"""Loading batches, in the calling thread or ahead of it in worker threads."""

from __future__ import annotations

import itertools
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import ferrox as fx
from ferrox.utils.data.collate import default_collate, default_convert, pinned
from ferrox.utils.data.dataset import Dataset, IterableDataset, collates_itself
from ferrox.utils.data.sampler import BatchSampler, RandomSampler, SequentialSampler
from ferrox.utils.data.workers import END, Run, ThreadedIterator, Worker, get_worker_info, stop

__all__ = ["DataLoader", "default_collate", "default_convert", "get_worker_info"]

_T_co = TypeVar("_T_co", covariant=True)


class DataLoader(Generic[_T_co]):
    """An iterable over the batches of a data set.

    Parameters
    ----------
    dataset : Dataset
        Where the samples come from; anything with ``[]`` and `len` does.
    batch_size : int or None, default 1
        None for single samples.
    shuffle : bool, default False
        Read in a new random order in each pass.
    sampler, batch_sampler : iterable, optional
        The order of one's own: of indices, or of lists of indices.
    num_workers : int, default 0
        The number of threads that load ahead; 0 loads in the calling thread.
    collate_fn : callable, optional
        Makes a batch of a list of samples; default: `default_collate`.
    pin_memory : bool, default False
        Put the batches into page-locked memory, so that ``batch.to("cuda", non_blocking=True)`` overlaps with the work
        of the GPU; with workers they do it, ahead of time.  A warning, and no more, where there is no GPU.
    drop_last : bool, default False
        Leave out a last batch that is not full.
    timeout : float, default 0
        Seconds to wait for a worker; 0 for ever.
    worker_init_fn : callable, optional
        Called in each worker with its number.
    generator : Generator, optional
        The source of the random order and of the workers' seeds.
    prefetch_factor : int, optional
        Batches loaded ahead by each worker; default 2.
    persistent_workers : bool, default False
        Keep the threads from one pass to the next; `worker_init_fn` is called once.  A new pass ends one that is still
        under way.

    Notes
    -----
    Workers are threads: they share the data set, and what they call runs in parallel where it releases the interpreter
    lock, as file reading, decoding and Ferrox's own operators do.  An error in a worker is raised in the loop.

    The order depends on the seed alone (`manual_seed`, or that of `generator`), whatever the number of workers. Each
    worker draws from a random stream of its own, begun anew in each pass (with `worker_init_fn`, which may seed it,
    once): what Ferrox's random functions give there is the same again in every run. The global streams of `random` and
    `numpy.random` are shared between threads, which come to draw in any order: use a generator per worker, such as
    ``random.Random(get_worker_info().seed)`` or ``numpy.random.default_rng(get_worker_info().seed)``.

    Examples
    --------
    >>> import ferrox as fx
    >>> data = fx.utils.data.TensorDataset(fx.arange(5))
    >>> [batch.tolist() for batch, in fx.utils.data.DataLoader(data, batch_size=2)]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        dataset: Dataset[_T_co] | Sequence[_T_co],
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[Any] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[_T_co]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], Any] | None = None,
        multiprocessing_context: None = None,
        generator: fx.Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        if num_workers < 0:
            raise ValueError(
                f"num_workers option should be non-negative, got {num_workers}; use num_workers=0 to load in the "
                "calling thread."
            )
        if timeout < 0:
            raise ValueError(f"timeout option should be non-negative, got {timeout}")
        if num_workers == 0 and prefetch_factor is not None:
            raise ValueError("prefetch_factor option could only be specified with num_workers > 0.")
        if num_workers > 0 and prefetch_factor is not None and prefetch_factor < 1:
            raise ValueError(f"prefetch_factor option should be positive, got {prefetch_factor}")
        if persistent_workers and num_workers == 0:
            raise ValueError("persistent_workers option needs num_workers > 0")
        if multiprocessing_context is not None:
            raise ValueError(
                f"multiprocessing_context must be None, since workers are threads; got {multiprocessing_context!r}"
            )
        self._iterable = isinstance(dataset, IterableDataset)
        if self._iterable:
            if shuffle:
                raise ValueError(
                    f"DataLoader with IterableDataset: expected unspecified shuffle option, but got shuffle={shuffle}"
                )
            if sampler is not None or batch_sampler is not None:
                raise ValueError("DataLoader with IterableDataset: expected unspecified sampler and batch_sampler")
        if sampler is not None and shuffle:
            raise ValueError("sampler option is mutually exclusive with shuffle")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError(
                    "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last"
                )
            batch_size = None
        elif batch_size is None and drop_last:
            raise ValueError("batch_size=None option disables auto-batching and is mutually exclusive with drop_last")
        if sampler is None and not self._iterable:
            sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        if batch_size is not None:
            if not isinstance(batch_size, int) or batch_size <= 0:
                raise ValueError(f"batch_size should be a positive integer value, but got batch_size={batch_size}")
            if not self._iterable:
                batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self._batched = batch_size is not None or batch_sampler is not None
        if collate_fn is None:
            collate_fn = default_collate if self._batched else default_convert
        self.dataset = dataset
        self.batch_size = batch_size
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.num_workers = num_workers
        self.collate_fn = collate_fn
        if pin_memory and not fx.cuda.is_available():
            warnings.warn("'pin_memory' argument is set as true but no accelerator is found, then device pinned memory "
                          "won't be used.", stacklevel=2)
        self.pin_memory = pin_memory
        self.drop_last = drop_last
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.generator = generator
        self.prefetch_factor = 2 if prefetch_factor is None and num_workers else prefetch_factor
        self.persistent_workers = persistent_workers
        self.in_order = in_order
        self._workers: list[Worker] | None = None  # those kept between passes
        self._current: weakref.ref[ThreadedIterator] | None = None

    def __len__(self) -> int:
        if self._iterable:
            size = len(self.dataset)
            if self.batch_size is None:
                return size
            return size // self.batch_size if self.drop_last else -(-size // self.batch_size)
        return len(self.batch_sampler if self._batched else self.sampler)

    def __iter__(self) -> Iterator[Any]:
        # Drawn whatever the number of workers: the random order after it must not depend on that.
        seed = int(fx.randint(0, 2**62, (1,), generator=self.generator).item())
        if self.num_workers:
            return self._threaded(seed)
        if self._iterable:
            return _each(pinned, self._stream()) if self._pins else self._stream()
        indices, fetch = self._plan()
        batches = _each(fetch, indices)
        return _each(pinned, batches) if self._pins else batches

    def _threaded(self, seed):
        count = self.num_workers
        if self._iterable:
            options = (self.dataset, self.batch_size, self.drop_last, self.collate_fn)
            tasks = itertools.repeat(())

            def make_fetch():
                stream = _stream(*options)
                return lambda: next(stream, END)
        else:
            indices, fetch = self._plan()
            tasks = ((index,) for index in indices)

            def make_fetch():
                return fetch

        previous = self._current() if self._current is not None else None
        if self.persistent_workers and previous is not None:
            previous.close()
        workers, init = self._workers, None
        if workers is None:
            workers, init = [Worker(number) for number in range(count)], self.worker_init_fn
        # Streams that worker_init_fn may have seeded go on.
        reseed = self._workers is None or self.worker_init_fn is None
        run = Run(make_fetch, self.dataset, seed, count, self._pins, init, reseed)
        iterator = ThreadedIterator(
            workers, run, tasks, self.prefetch_factor * count, self.timeout, self.persistent_workers
        )
        if self.persistent_workers:
            if self._workers is None:
                self._workers = workers
                weakref.finalize(self, stop, workers)
            self._current = weakref.ref(iterator)
        return iterator

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_workers": None, "_current": None}

    @property
    def _pins(self):
        return self.pin_memory and fx.cuda.is_available()

    def _stream(self):
        return _stream(self.dataset, self.batch_size, self.drop_last, self.collate_fn)

    def _plan(self):
        """Return an iterator over index batches and the function that fetches one."""
        dataset, collate = self.dataset, self.collate_fn
        if not self._batched:
            return iter(self.sampler), lambda index: collate(dataset[index])
        if collate is default_collate and collates_itself(dataset):
            batches = None
            if type(self.batch_sampler) is BatchSampler:
                batches = self.batch_sampler._without_lists()
            return (iter(self.batch_sampler) if batches is None else batches), dataset._collated
        fetch_all = getattr(dataset, "__getitems__", None)
        if callable(fetch_all):
            return iter(self.batch_sampler), lambda indices: collate(fetch_all(indices))
        return iter(self.batch_sampler), lambda indices: collate([dataset[i] for i in indices])


def _each(function, items):
    # Not `map`, which takes a StopIteration of the function for the end of the data.
    for item in items:
        yield function(item)


def _stream(dataset, batch_size, drop_last, collate):
    if batch_size is None:
        for sample in dataset:
            yield collate(sample)
        return
    batch = []
    for sample in dataset:
        batch.append(sample)
        if len(batch) == batch_size:
            yield collate(batch)
            batch = []
    if batch and not drop_last:
        yield collate(batch)
