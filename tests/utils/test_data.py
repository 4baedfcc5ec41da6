"""Data sets, samplers, collation and the loader."""

import collections
import gc
import threading
import time

import pytest

import ferrox as fx
from ferrox.utils import data as D


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("ferrox-loader")]


def assert_threads_end():
    deadline = time.monotonic() + 5
    while loader_threads() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert loader_threads() == []


class Squares(D.Dataset):
    """Not a TensorDataset, so that it is read sample by sample."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if not 0 <= i < self.n:
            raise IndexError(i)
        return fx.tensor([float(i), float(i * i)]), i


def as_lists(batches):
    return [[part.tolist() for part in batch] for batch in batches]


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("n", [0, 1, 4, 10])
def test_batches_in_order(workers, drop_last, n):
    loader = D.DataLoader(Squares(n), batch_size=4, drop_last=drop_last, num_workers=workers)
    batches = as_lists(loader)
    stop = n - n % 4 if drop_last else n
    expected = [list(range(start, min(start + 4, stop))) for start in range(0, stop, 4)]
    assert [batch[1] for batch in batches] == expected
    assert [batch[0] for batch in batches] == [[[float(i), float(i * i)] for i in ids] for ids in expected]
    assert len(loader) == len(batches)
    assert_threads_end()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("options", [{"shuffle": True}, {}, {"shuffle": True, "drop_last": True}])
def test_tensor_fast_path_is_the_slow_path(workers, options):
    x, y = fx.arange(46.0).reshape(23, 2), fx.arange(23)
    fast_set = D.TensorDataset(x, y)

    def collate(batch):  # not the default, so the slow path
        return D.default_collate(batch)

    for dataset in (fast_set, D.Subset(fast_set, list(range(22, 2, -2)))):
        seen = []
        for function in (None, collate):
            generator = fx.Generator()
            generator.manual_seed(5)
            loader = D.DataLoader(
                dataset, batch_size=4, collate_fn=function, generator=generator, num_workers=workers, **options
            )
            seen.append(as_lists(loader) + as_lists(loader))
            assert all(isinstance(batch, list) for batch in loader)
        assert seen[0] == seen[1]
    samplers = (D.WeightedRandomSampler([1.0] * 23, 9), D.SubsetRandomSampler([5, 3, 1]), [4, 4, 0])
    for sampler in samplers:
        batches = as_lists(D.DataLoader(fast_set, batch_size=4, sampler=sampler, num_workers=workers))
        for rows, ids in batches:
            assert rows == [[2.0 * i, 2.0 * i + 1] for i in ids]
        assert sum(len(ids) for _, ids in batches) == len(sampler)


def test_fast_path_batches_do_not_alias_the_data():
    x = fx.zeros(4)
    for (batch,) in D.DataLoader(D.TensorDataset(x), batch_size=2):
        batch.add_(1)
    assert x.tolist() == [0.0] * 4


def test_shuffle():
    dataset = list(range(100))
    fx.manual_seed(3)
    loader = D.DataLoader(dataset, batch_size=None, shuffle=True)
    first, second = list(loader), list(loader)
    assert sorted(first) == sorted(second) == dataset
    assert first != second
    assert first != dataset
    fx.manual_seed(3)
    assert list(loader) == first


def test_samplers():
    assert list(D.SequentialSampler(range(3))) == [0, 1, 2]
    assert sorted(D.RandomSampler(range(9))) == list(range(9))
    assert len(list(D.RandomSampler(range(3), num_samples=8))) == 8
    draws = list(D.RandomSampler(range(3), replacement=True, num_samples=500))
    assert len(draws) == 500
    assert set(draws) == {0, 1, 2}
    weighted = collections.Counter(D.WeightedRandomSampler([0.0, 1.0, 3.0], 4000))
    assert weighted[0] == 0
    assert 2.4 < weighted[2] / weighted[1] < 3.7
    assert sorted(D.WeightedRandomSampler([1.0, 2.0, 3.0], 3, replacement=False)) == [0, 1, 2]
    assert list(D.BatchSampler([3, 1, 2], 2, True)) == [[3, 1]]
    assert len(D.BatchSampler(range(5), 2, True)) == 2
    assert len(D.BatchSampler(range(5), 2, False)) == 3
    with pytest.raises(ValueError, match="batch_size should be a positive integer"):
        D.BatchSampler(range(3), 0, False)
    with pytest.raises(ValueError, match="num_samples should be a positive integer"):
        D.WeightedRandomSampler([1.0], 0)


def test_datasets():
    a, b = D.TensorDataset(fx.arange(3)), D.TensorDataset(fx.arange(3, 5))
    both = a + b
    assert [both[i][0].item() for i in (0, 2, 3, -1, -5)] == [0, 2, 3, 4, 0]
    with pytest.raises(IndexError):
        both[5]
    with pytest.raises(ValueError, match="absolute value of index"):
        both[-6]
    assert [value[0].item() for value in D.Subset(both, [4, 1])] == [4, 1]
    with pytest.raises(AssertionError, match="Size mismatch"):
        D.TensorDataset(fx.zeros(2), fx.zeros(3))
    stacked = D.StackDataset(x=[1, 2], y=[3, 4])
    assert stacked[1] == {"x": 2, "y": 4}


def test_random_split():
    parts = D.random_split(range(10), [3, 7])
    assert [len(part) for part in parts] == [3, 7]
    assert sorted(part[i] for part in parts for i in range(len(part))) == list(range(10))
    assert [len(part) for part in D.random_split(range(10), [0.34, 0.33, 0.33])] == [4, 3, 3]
    with pytest.raises(ValueError, match="Sum of input lengths"):
        D.random_split(range(10), [3, 3])
    splits = []
    for _ in range(2):
        generator = fx.Generator()
        generator.manual_seed(1)
        splits.append(D.random_split(range(10), [5, 5], generator=generator)[0].indices)
    assert splits[0] == splits[1]


def test_collate():
    Point = collections.namedtuple("Point", "x y")
    batch = D.default_collate([Point(1, {"a": [1.5, "s"]}), Point(2, {"a": [2.5, "t"]})])
    assert isinstance(batch, Point)
    assert batch.x.tolist() == [1, 2]
    assert batch.x.dtype == fx.int64
    assert batch.y["a"][0].dtype == fx.float64
    assert batch.y["a"][1] == ["s", "t"] or batch.y["a"][1] == ("s", "t")
    numpy = pytest.importorskip("numpy")
    stacked = D.default_collate([numpy.ones(2, dtype="float32"), numpy.zeros(2, dtype="float32")])
    assert stacked.tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert D.default_collate([numpy.int64(3), numpy.int64(4)]).tolist() == [3, 4]
    with pytest.raises(TypeError, match="found <class 'object'>"):
        D.default_collate([object()])
    with pytest.raises(RuntimeError, match="equal size"):
        D.default_collate([[1], [1, 2]])


class Stream(D.IterableDataset):
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        info = D.get_worker_info()
        yield from range(self.n) if info is None else range(info.id, self.n, info.num_workers)


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("drop_last", [False, True])
def test_iterable(workers, drop_last):
    loader = D.DataLoader(Stream(10), batch_size=2, num_workers=workers, drop_last=drop_last)
    seen = sorted(i for batch in loader for i in batch.tolist())
    # Three workers have 4, 3 and 3 samples of their own.
    assert len(seen) == (8 if drop_last and workers == 3 else 10)
    assert len(set(seen)) == len(seen)
    assert D.get_worker_info() is None
    assert sorted(D.DataLoader(Stream(5), batch_size=None, num_workers=workers)) == list(range(5))
    assert_threads_end()


class Faulty(Squares):
    def __getitem__(self, i):
        if i == 5:
            raise KeyError("sample 5 is broken")
        return super().__getitem__(i)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_errors_reach_the_loop(workers):
    seen = 0
    with pytest.raises(KeyError, match="sample 5 is broken") as caught:
        for _ in D.DataLoader(Faulty(12), batch_size=2, num_workers=workers):
            seen += 1
    assert seen == 2
    assert "__getitem__" in [entry.name for entry in caught.traceback]
    del caught
    assert_threads_end()


def test_early_exit_leaves_no_thread():
    for _ in D.DataLoader(Squares(1000), num_workers=3):
        break
    gc.collect()
    assert_threads_end()
    iterator = iter(D.DataLoader(Squares(1000), num_workers=3))
    next(iterator)
    assert len(loader_threads()) == 3
    del iterator
    assert_threads_end()


def test_workers_load_ahead_in_parallel_and_bounded():
    barrier = threading.Barrier(2, timeout=10)
    started = []

    class Slow(D.Dataset):
        def __len__(self):
            return 100

        def __getitem__(self, i):
            started.append(i)
            if i < 2:
                barrier.wait()  # passes only if two workers are here at once
            return i

    iterator = iter(D.DataLoader(Slow(), batch_size=1, num_workers=2, prefetch_factor=3))
    assert next(iterator).tolist() == [0]
    time.sleep(0.05)
    assert len(started) <= 7
    assert [batch.item() for batch in iterator] == list(range(1, 100))


def test_worker_init_and_timeout():
    started = []
    list(D.DataLoader(Squares(4), num_workers=2, worker_init_fn=started.append))
    assert sorted(started) == [0, 1]

    def fail(number):
        raise OSError(f"worker {number} cannot start")

    with pytest.raises(OSError, match="cannot start"):
        list(D.DataLoader(Squares(4), num_workers=2, worker_init_fn=fail))
    release = threading.Event()

    class Stuck(Squares):
        def __getitem__(self, i):
            release.wait(10)
            return i

    with pytest.raises(RuntimeError, match=r"timed out after 0\.05 seconds"):
        list(D.DataLoader(Stuck(4), num_workers=1, timeout=0.05))
    release.set()
    assert_threads_end()


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"num_workers": -1},
        {"timeout": -1},
        {"shuffle": True, "sampler": [0]},
        {"batch_sampler": [[0]], "batch_size": 2},
        {"batch_size": None, "drop_last": True},
        {"prefetch_factor": 2},
        {"persistent_workers": True},
    ],
)
def test_bad_options(options):
    with pytest.raises(ValueError, match=r"batch|num_workers|timeout|sampler|workers|prefetch"):
        D.DataLoader(Squares(3), **options)
