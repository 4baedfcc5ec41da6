"""Loading batches, in the calling thread or ahead of it in worker threads."""

import collections
import queue
import threading
import warnings
import weakref
from typing import NamedTuple

import ferrox as fx
from ferrox.utils.data.dataset import IterableDataset, collates_itself
from ferrox.utils.data.sampler import BatchSampler, RandomSampler, SequentialSampler

__all__ = ["DataLoader", "default_collate", "default_convert", "get_worker_info"]


def default_convert(data):
    """Return `data` with NumPy arrays turned into tensors, as a loader without batches gives it out."""
    if isinstance(data, fx.Tensor):
        return data
    if type(data).__module__ == "numpy" and hasattr(data, "dtype"):
        return data if data.dtype.kind in "SUO" else fx.as_tensor(data)
    if isinstance(data, collections.abc.Mapping):
        return type(data)({key: default_convert(value) for key, value in data.items()})
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*map(default_convert, data))
    if isinstance(data, (tuple, list)):
        return [default_convert(value) for value in data]
    return data


def default_collate(batch):
    """Join a list of samples into one batch: tensors, arrays and numbers are stacked, containers entered.

    Examples
    --------
    >>> import ferrox as fx
    >>> batch = fx.utils.data.default_collate([{"x": 1.0, "y": 2}, {"x": 3.0, "y": 4}])
    >>> batch["y"].tolist()
    [2, 4]
    """
    first = batch[0]
    if isinstance(first, fx.Tensor):
        return fx.stack(list(batch), 0)
    if type(first).__module__ == "numpy" and hasattr(first, "dtype"):
        if first.dtype.kind in "SUO":
            raise TypeError(
                f"default_collate: batch must contain tensors, numbers, dicts or lists; found {first.dtype}"
            )
        return fx.stack([fx.as_tensor(value) for value in batch], 0)
    if isinstance(first, float):
        return fx.tensor(batch, dtype=fx.float64)
    if isinstance(first, int):
        return fx.tensor(batch)
    if isinstance(first, (str, bytes)):
        return batch
    if isinstance(first, collections.abc.Mapping):
        return type(first)({key: default_collate([sample[key] for sample in batch]) for key in first})
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*(default_collate(samples) for samples in zip(*batch, strict=True)))
    if isinstance(first, collections.abc.Sequence):
        if any(len(sample) != len(first) for sample in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        # Tuples become lists, so that batches may be changed in place.
        return [default_collate(samples) for samples in zip(*batch, strict=True)]
    raise TypeError(
        f"default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {type(first)}"
    )


class WorkerInfo(NamedTuple):
    """What `get_worker_info` returns."""

    id: int
    num_workers: int
    seed: int
    dataset: object


_worker = threading.local()


def get_worker_info():
    """Return the number (`id`), `num_workers`, `seed` and `dataset` of the worker thread, or None outside of one."""
    return getattr(_worker, "info", None)


class DataLoader:
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
        The source of the random order.
    prefetch_factor : int, optional
        Batches loaded ahead by each worker; default 2.

    Notes
    -----
    Workers are threads: they share the data set, and what they call runs in parallel where it releases the interpreter
    lock, as file reading, decoding and Ferrox's own operators do.  An error in a worker is raised in the loop.

    Examples
    --------
    >>> import ferrox as fx
    >>> data = fx.utils.data.TensorDataset(fx.arange(5))
    >>> [batch.tolist() for batch, in fx.utils.data.DataLoader(data, batch_size=2)]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        dataset,
        batch_size=1,
        shuffle=None,
        sampler=None,
        batch_sampler=None,
        num_workers=0,
        collate_fn=None,
        pin_memory=False,
        drop_last=False,
        timeout=0,
        worker_init_fn=None,
        multiprocessing_context=None,
        generator=None,
        *,
        prefetch_factor=None,
        persistent_workers=False,
        pin_memory_device="",
        in_order=True,
    ) -> None:
        if num_workers < 0:
            raise ValueError("num_workers option should be non-negative; use num_workers=0 to disable multiprocessing.")
        if timeout < 0:
            raise ValueError("timeout option should be non-negative")
        if num_workers == 0 and prefetch_factor is not None:
            raise ValueError("prefetch_factor option could only be specified with num_workers > 0.")
        if num_workers > 0 and prefetch_factor is not None and prefetch_factor < 1:
            raise ValueError("prefetch_factor option should be positive")
        if persistent_workers and num_workers == 0:
            raise ValueError("persistent_workers option needs num_workers > 0")
        if multiprocessing_context is not None:
            raise ValueError("multiprocessing_context must be None: workers are threads")
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

    def __len__(self):
        if self._iterable:
            size = len(self.dataset)
            if self.batch_size is None:
                return size
            return size // self.batch_size if self.drop_last else -(-size // self.batch_size)
        return len(self.batch_sampler if self._batched else self.sampler)

    def __iter__(self):
        if self.num_workers:
            return _ThreadedIterator(self)
        if self._iterable:
            batches = _stream(self.dataset, self.batch_size, self.drop_last, self.collate_fn)
        else:
            indices, fetch = self._plan()
            batches = map(fetch, indices)
        return map(_pin, batches) if self._pins else batches

    @property
    def _pins(self):
        return self.pin_memory and fx.cuda.is_available()

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


def _pin(data):
    if hasattr(data, "pin_memory"):
        return data.pin_memory()
    if isinstance(data, collections.abc.Mapping):
        return type(data)({key: _pin(value) for key, value in data.items()})
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*map(_pin, data))
    if isinstance(data, (tuple, list)):
        return type(data)(map(_pin, data))
    return data


_END = object()  # a worker's stream is exhausted


class _Failure(NamedTuple):
    error: BaseException


class _Worker:
    """One thread with its queue of tasks and its queue of results; it knows nothing of the iterator it serves."""

    def __init__(self, number, make_fetch, init, info, pin) -> None:
        self.tasks = queue.SimpleQueue()
        self.results = queue.SimpleQueue()
        self.thread = threading.Thread(
            target=_work, args=(self.tasks, self.results, make_fetch, init, info, pin), daemon=True,
            name=f"ferrox-loader-{number}",
        )  # fmt: skip
        self.thread.start()


def _work(tasks, results, make_fetch, init, info, pin):
    _worker.info = info
    try:
        if init is not None:
            init(info.id)
        fetch = make_fetch()
    except BaseException as error:
        failure = _Failure(error)
        fetch = None
    while (task := tasks.get()) is not None:
        if fetch is None:
            results.put(failure)
            continue
        try:
            result = fetch(*task)
            results.put(_pin(result) if pin and result is not _END else result)
        except BaseException as error:
            error.add_note(f"raised in DataLoader worker thread {info.id}")
            results.put(_Failure(error))


def _stop(workers):
    for worker in workers:
        worker.tasks.put(None)


class _ThreadedIterator:
    """Hands batch after batch to the workers in turn, a bounded number ahead, and their results out in that order."""

    def __init__(self, loader) -> None:
        count = loader.num_workers
        self._iterable = loader._iterable
        self._timeout = loader.timeout or None
        if self._iterable:
            options = (loader.dataset, loader.batch_size, loader.drop_last, loader.collate_fn)
            self._indices = None

            def make_fetch():
                stream = _stream(*options)
                return lambda: next(stream, _END)
        else:
            self._indices, fetch = loader._plan()

            def make_fetch():
                return fetch

        seed = int(fx.randint(0, 2**62, (1,)).item())
        self._workers = []
        # The finalizer holds the list of workers, never the iterator: dropping it half-way ends the threads.
        self._finalizer = weakref.finalize(self, _stop, self._workers)
        for number in range(count):
            info = WorkerInfo(number, count, seed + number, loader.dataset)
            self._workers.append(_Worker(number, make_fetch, loader.worker_init_fn, info, loader._pins))
        self._turns = collections.deque()  # the worker of each batch in flight
        self._rotation = collections.deque(self._workers)
        for _ in range(loader.prefetch_factor * count):
            self._submit()

    def _submit(self):
        if not self._rotation:
            return
        if self._iterable:
            task = ()
        else:
            index = next(self._indices, _END)
            if index is _END:
                self._rotation.clear()
                return
            task = (index,)
        worker = self._rotation[0]
        self._rotation.rotate(-1)
        worker.tasks.put(task)
        self._turns.append(worker)

    def __iter__(self):
        return self

    def __next__(self):
        while self._turns:
            worker = self._turns.popleft()
            try:
                result = worker.results.get(timeout=self._timeout)
            except queue.Empty:
                self.close()
                raise RuntimeError(f"DataLoader timed out after {self._timeout} seconds") from None
            if result is _END:
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

    def close(self):
        """End the worker threads; they finish what they are at."""
        self._turns.clear()
        self._rotation.clear()
        self._finalizer()
