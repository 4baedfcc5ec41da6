"""The loader's promises: what is loaded depends on the seed alone, no error is lost, nothing is left behind."""

import collections
import dataclasses
import gc
import pickle
import random
import subprocess
import sys
import threading
import time
import types
import weakref

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


class Of(D.Dataset):
    """The samples that a function of the index gives."""

    def __init__(self, n, function):
        self.n = n
        self.function = function

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if not 0 <= i < self.n:
            raise IndexError(i)
        return self.function(i)


def jitter():
    time.sleep(random.random() * 0.002)


def drawn(i):
    jitter()
    first = fx.rand(2)
    jitter()
    return i, first, fx.randn(1), fx.randperm(5)


def seen(loader):
    return [[part.tolist() for part in batch] for batch in loader]


# ---- the same again


@pytest.mark.parametrize("workers", [0, 1, 2, 5])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_what_samples_draw_is_the_same_again(workers, batch_size):
    runs = []
    for _ in range(3):
        fx.manual_seed(11)
        loader = D.DataLoader(Of(20, drawn), batch_size=batch_size, shuffle=True, num_workers=workers)
        runs.append([seen(loader), seen(loader), fx.rand(2).tolist()])
    assert runs[0] == runs[1] == runs[2]
    assert runs[0][0] != runs[0][1]
    values = [value for batch in runs[0][0] + runs[0][1] for row in batch[1] for value in row]
    assert len(set(values)) == len(values)  # no two workers draw the same


class Stream(D.IterableDataset):
    def __iter__(self):
        info = D.get_worker_info()
        for i in range(7 + info.id):
            yield drawn(i)


def test_what_streams_draw_is_the_same_again():
    runs = []
    for _ in range(2):
        fx.manual_seed(3)
        runs.append(seen(D.DataLoader(Stream(), batch_size=2, num_workers=3)))
    assert runs[0] == runs[1]


def test_the_order_does_not_depend_on_the_workers():
    orders = {False: [], True: []}
    for options in ({}, {"num_workers": 1}, {"num_workers": 3}, {"num_workers": 2, "prefetch_factor": 7}):
        for generator in (None, fx.Generator()):
            fx.manual_seed(5)
            if generator is not None:
                generator.manual_seed(5)
            loader = D.DataLoader(Of(30, int), batch_size=4, shuffle=True, generator=generator, **options)
            orders[generator is None].append([[batch.tolist() for batch in [*loader, *loader]], fx.rand(1).item()])
    for same in orders.values():
        assert all(order == same[0] for order in same)


def test_a_generator_of_ones_own_leaves_the_global_stream_alone():
    fx.manual_seed(1)
    expected = fx.rand(3).tolist()
    fx.manual_seed(1)
    generator = fx.Generator().manual_seed(9)
    first = seen(D.DataLoader(Of(9, drawn), shuffle=True, num_workers=2, generator=generator))
    assert fx.rand(3).tolist() == expected
    fx.manual_seed(2)
    generator.manual_seed(9)
    assert seen(D.DataLoader(Of(9, drawn), shuffle=True, num_workers=2, generator=generator)) == first


def test_workers_have_streams_of_their_own():
    def sample(i):
        info = D.get_worker_info()
        assert fx.initial_seed() == info.seed
        return fx.initial_seed()

    fx.manual_seed(1)
    before = fx.get_rng_state().tolist()
    seeds = [batch.item() for batch in D.DataLoader(Of(4, sample), num_workers=2)]
    assert seeds[0] + 1 == seeds[1]
    assert seeds[:2] == seeds[2:]
    assert fx.initial_seed() == 1
    assert fx.get_rng_state().tolist() != before

    def seeding(i):
        fx.manual_seed(i)
        return fx.rand(1).item()

    expected = []
    for i in range(4):
        fx.manual_seed(i)
        expected.append(fx.rand(1).item())
    fx.manual_seed(1)
    assert [b.item() for b in D.DataLoader(Of(4, seeding), num_workers=2)] == expected
    assert fx.initial_seed() == 1


def test_random_and_numpy_by_the_workers_seed():
    numpy = pytest.importorskip("numpy")
    own = threading.local()

    def begin(number):
        seed = D.get_worker_info().seed
        own.random, own.numpy = random.Random(seed), numpy.random.default_rng(seed)
        fx.manual_seed(number)

    def sample(i):
        jitter()
        return own.random.random(), float(own.numpy.random()), fx.rand(1).item()

    runs = []
    for persistent in (False, True, False):
        fx.manual_seed(4)
        loader = D.DataLoader(Of(8, sample), num_workers=2, worker_init_fn=begin, persistent_workers=persistent)
        runs.append(seen(loader))
    assert runs[0] == runs[1] == runs[2]
    fx.manual_seed(1)
    assert runs[0][1][2] == [fx.rand(1).item()]  # the stream that worker_init_fn began


# ---- persistent workers


def test_persistent_workers_stay():
    begun = []
    dataset = Of(12, lambda i: (i, threading.get_ident()))
    loader = D.DataLoader(dataset, num_workers=2, persistent_workers=True, worker_init_fn=begun.append)
    idents = set()
    for _ in range(4):
        batches = seen(loader)
        assert [batch[0] for batch in batches] == [[i] for i in range(12)]
        idents |= {batch[1][0] for batch in batches}
    assert len(idents) == 2
    assert sorted(begun) == [0, 1]
    for batch, _ in loader:  # left early, and again while that pass is under way
        assert batch.item() == 0
        break
    one = iter(loader)
    assert next(one)[0].item() == 0
    two = iter(loader)
    assert next(two)[0].item() == 0
    assert list(one) == []
    assert [batch[0].item() for batch in two] == list(range(1, 12))
    assert len(loader_threads()) == 2
    del loader, one, two, batch
    gc.collect()
    assert_threads_end()


def test_persistent_streams_begin_anew():
    loader = D.DataLoader(Stream(), batch_size=None, num_workers=2, persistent_workers=True)
    runs = []
    for _ in range(2):
        fx.manual_seed(3)
        runs.append([[part if isinstance(part, int) else part.tolist() for part in sample] for sample in loader])
    assert runs[0] == runs[1]
    assert len(runs[0]) == 15
    del loader
    assert_threads_end()


# ---- errors


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    text: str


def fails(error):
    def sample(i):
        if i == 3:
            raise error
        return i

    return sample


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("error", [KeyError("k"), Frozen("f"), StopIteration(), KeyboardInterrupt(), SystemExit(3),
                                   MemoryError(), GeneratorExit()], ids=lambda error: type(error).__name__)  # fmt: skip
def test_every_kind_of_error_reaches_the_loop(workers, error):
    got = []
    wanted = RuntimeError if isinstance(error, StopIteration) else type(error)
    with pytest.raises(wanted):
        for batch in D.DataLoader(Of(6, fails(error)), num_workers=workers, timeout=10 if workers else 0):
            got.append(batch.item())
    assert got == [0, 1, 2]
    assert_threads_end()


def test_errors_name_worker_and_index():
    with pytest.raises(KeyError) as caught:
        list(D.DataLoader(Of(6, fails(KeyError("k"))), batch_size=2, num_workers=2))
    assert caught.value.__notes__ == ["raised in DataLoader worker thread 1, loading index [2, 3]"]

    def bad(number):
        raise OSError("no disk")

    with pytest.raises(OSError, match="no disk") as caught:
        list(D.DataLoader(Of(6, int), num_workers=1, worker_init_fn=bad))
    assert caught.value.__notes__ == ["raised in DataLoader worker thread 0, in worker_init_fn"]


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_of_samplers_and_collation(workers):
    def order():
        yield from (0, 1, 2)
        raise LookupError("the sampler is broken")

    class Sampler(D.Sampler):
        def __iter__(self):
            return order()

    with pytest.raises(LookupError, match="the sampler is broken"):
        list(D.DataLoader(Of(6, int), sampler=Sampler(), num_workers=workers))

    def collate(batch):
        raise StopIteration

    for dataset in (Of(6, int), D.ChainDataset([])):
        loader = D.DataLoader(dataset, collate_fn=collate, num_workers=workers)
        if len(dataset):
            with pytest.raises(RuntimeError, match="StopIteration"):
                list(loader)
        else:
            assert list(loader) == []
    assert_threads_end()


# ---- nothing is left


@pytest.mark.parametrize("options", [{}, {"num_workers": 2}, {"num_workers": 2, "persistent_workers": True}])
def test_nothing_keeps_batches_and_data_alive(options):
    dataset = Of(50, lambda i: fx.full((4,), float(i)))
    loader = D.DataLoader(dataset, **options)
    batches = [weakref.ref(batch) for batch in loader]
    gc.collect()
    assert [ref() for ref in batches if ref() is not None] == []
    for batch in loader:
        kept = weakref.ref(batch)
        break
    iterator = iter(loader)
    next(iterator)
    gone = [weakref.ref(each) for each in (dataset, loader)]
    del dataset, loader, iterator, batch
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and any(ref() is not None for ref in [*gone, kept]):
        gc.collect()
        time.sleep(0.01)
    assert [ref() for ref in [*gone, kept]] == [None] * 3
    assert_threads_end()


@pytest.mark.parametrize("persistent", [False, True])
def test_data_that_holds_its_loader_is_collected(persistent):
    data = Of(100, int)
    data.loader = D.DataLoader(data, num_workers=2, persistent_workers=persistent)
    data.iterator = iter(data.loader)
    assert next(data.iterator).item() == 0
    gone = [weakref.ref(each) for each in (data, data.loader, data.iterator)]
    del data
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and any(ref() is not None for ref in gone):
        gc.collect()
        time.sleep(0.01)
    assert [ref() for ref in gone] == [None] * 3
    assert_threads_end()


EXITS = {
    "while loading": "iterator = iter(loader); next(iterator)",
    "in a cycle": "iterator = iter(loader); next(iterator); cycle = [iterator]; cycle.append(cycle)",
    "in a thread": "import threading; threading.Thread(target=lambda: list(loader)).start()",
    "persistent": "loader = D.DataLoader(Slow(), num_workers=2, persistent_workers=True)\nfor x in loader: break",
    "by an error": "iterator = iter(loader); next(iterator); raise SystemExit(0)",
}


@pytest.mark.parametrize("how", EXITS)
def test_the_interpreter_ends(how):
    script = f"""
import time
import ferrox as fx
from ferrox.utils import data as D

class Slow(D.Dataset):
    def __len__(self):
        return 60
    def __getitem__(self, i):
        time.sleep(0.005)
        return (fx.rand(300, 300) @ fx.rand(300, 300)).sum()

loader = D.DataLoader(Slow(), num_workers=2)
{EXITS[how]}
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_stopping_early_is_quick():
    begun = []

    def slow(i):
        begun.append(i)
        time.sleep(0.05)
        return i

    for _ in D.DataLoader(Of(1000, slow), num_workers=2, prefetch_factor=50):
        break
    gc.collect()
    assert_threads_end()
    assert len(begun) <= 6  # what was waiting is not loaded any more


def test_loaders_are_pickled():
    loader = D.DataLoader(D.TensorDataset(fx.arange(4)), num_workers=1, persistent_workers=True)
    list(loader)
    again = pickle.loads(pickle.dumps(loader))
    assert [batch.tolist() for batch, in again] == [[0], [1], [2], [3]]


def test_pin_memory_is_accepted():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loader = D.DataLoader(Of(3, int), pin_memory=True, num_workers=1)
    assert [batch.item() for batch in loader] == [0, 1, 2]


# ---- collation


def test_containers_of_other_classes():
    class Bag(collections.UserDict):
        pass

    factory = collections.defaultdict(list, a=1)
    back = D.default_collate([factory, factory])
    assert type(back) is collections.defaultdict
    assert back["a"].tolist() == [1, 1]
    assert back["absent"] == []
    ordered = D.default_collate([collections.OrderedDict(b=1, a=2.0)] * 2)
    assert (type(ordered), list(ordered)) == (collections.OrderedDict, ["b", "a"])
    assert type(D.default_collate([Bag(a=1), Bag(a=2)])) is Bag
    frozen = D.default_collate([types.MappingProxyType({"a": 1})] * 2)
    assert dict(frozen)["a"].tolist() == [1, 1]
    assert factory["a"] == 1
    converted = D.default_convert(collections.defaultdict(list, a=(1, "x")))
    assert converted["a"] == [1, "x"]
    with pytest.raises(TypeError, match="found <class 'NoneType'>: give the loader a collate_fn"):
        D.default_collate([None, None])


def test_what_makes_no_data_set_is_named():
    with pytest.raises(TypeError, match=r"\[TensorDataset\] expected tensors, got list"):
        D.TensorDataset([1, 2])
    with pytest.raises(ValueError, match="with a first dimension"):
        D.TensorDataset(fx.tensor(1.0))
    with pytest.raises(AssertionError, match=r"their first dimensions are \[2, 3\]"):
        D.TensorDataset(fx.ones(2), fx.ones(3))


def test_fractions_that_sum_to_a_little_more_than_one():
    fractions = [0.1] * 3 + [0.7 + 2e-16]
    assert sum(fractions) > 1
    assert [len(part) for part in D.random_split(range(100), fractions)] == [10, 10, 10, 70]
    assert [len(part) for part in D.random_split(range(7), [1 / 3] * 3)] == [3, 2, 2]
