"""CPU kernels of masks, counts, runs and searches: against NumPy and PyTorch."""
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import torch

import ferrox._core.cpu.search
import ferrox._core.cpu.select
import ferrox._core.cpu.sort  # noqa: F401  (the imports register the kernels)
from ferrox._core.cpu.strided import set_grain
from ferrox._core.door.backend import run_kernel
from ferrox._core.door.threads import set_num_threads

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
NUMPY = {d: np.dtype(ml_dtypes.bfloat16 if d == "bfloat16" else d) for d in DTYPES}
seeds = st.integers(0, 2**32 - 1)
many = settings(max_examples=60, deadline=None)


@pytest.fixture(params=[1, 3], autouse=True, scope="module")
def threads(request):
    set_num_threads(request.param)
    before = set_grain(1)
    yield request.param
    set_num_threads(1)
    set_grain(before)


def values(rng, dtype, shape):
    """Small numbers with many ties and zeros; for floats also the special values."""
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype in ("float16", "bfloat16", "float32", "float64"):
        x = rng.integers(-6, 6, shape) * 0.5
        special = rng.choice([np.nan, np.inf, -np.inf, 0.0, -0.0], shape)
        return np.where(rng.random(shape) < 0.2, special, x).astype(NUMPY[dtype])
    return rng.integers(0 if dtype == "uint8" else -4, 5, shape).astype(dtype)


def strided(rng, a):
    """The same values as a view: reversed, with gaps, transposed, or as they are."""
    choice = rng.integers(4)
    if choice == 0 or a.ndim == 0:
        return a
    if choice == 1:
        return a[..., ::-1].copy()[..., ::-1]
    if choice == 2:
        store = np.zeros((*a.shape[:-1], a.shape[-1] * 3), a.dtype)
        store[..., ::3] = a
        return store[..., ::3]
    return np.asfortranarray(a)


def some_shape(rng):
    return tuple(int(n) for n in rng.integers(0 if rng.random() < 0.1 else 1, 12, rng.integers(0, 4)))


def as_torch(a):
    a = np.array(a, order="C")
    if a.dtype == NUMPY["bfloat16"]:
        return torch.from_numpy(a.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(a)


def as_numpy(t):
    return t.view(torch.int16).numpy().view(NUMPY["bfloat16"]) if t.dtype == torch.bfloat16 else t.numpy()


def bits(a):
    a = np.array(a, order="C")
    return a.view({1: np.int8, 2: np.int16, 4: np.int32, 8: np.int64}[a.itemsize])


@pytest.mark.parametrize("dtype", DTYPES)
@many
@given(seed=seeds)
def test_masks(dtype, seed):
    rng = np.random.default_rng(seed)
    shape = some_shape(rng)
    x = strided(rng, values(rng, dtype, shape))
    count = np.zeros((), np.int64)
    run_kernel("count_true", [count, x], 1)
    where = np.argwhere(x != 0)
    assert count == len(where)
    out = np.empty(where.shape, np.int64)
    run_kernel("nonzero", [out, x], 1)
    assert np.array_equal(out, where)

    mask = rng.random(shape) < rng.choice([0, 0.05, 0.5, 1])
    mask = np.broadcast_to(mask[:1], shape) if shape and rng.random() < 0.4 else strided(rng, mask)
    run_kernel("count_true", [count, mask], 1)
    assert count == mask.sum()
    out = np.empty(int(mask.sum()), x.dtype)
    run_kernel("masked_select", [out, x, mask], 1)
    assert np.array_equal(bits(out), bits(x[mask]))

    src = strided(rng, values(rng, dtype, int(mask.sum()) + int(rng.integers(3))))
    y = strided(rng, x.copy())
    expected = y.copy()
    expected[mask] = src[:mask.sum()]
    run_kernel("masked_scatter", [y, mask, src], 1)
    assert np.array_equal(bits(y), bits(expected))
    if mask.any():
        with pytest.raises(ValueError, match="src has only"):
            run_kernel("masked_scatter", [y, mask, src[:mask.sum() - 1]], 1)
        assert np.array_equal(bits(y), bits(expected))


def test_masked_scatter_with_a_broadcast_mask():
    y = np.zeros((3, 4), np.float32)
    run_kernel("masked_scatter", [y, np.array([True, False, True, False]), np.arange(6, dtype=np.float32)], 1)
    assert y.tolist() == [[0, 0, 1, 0], [2, 0, 3, 0], [4, 0, 5, 0]]


@many
@given(seed=seeds)
def test_one_hot_and_bincount(seed):
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(1, 7))
    index = strided(rng, rng.integers(0, classes, some_shape(rng)))
    out = np.empty((*index.shape, classes), np.int64)
    run_kernel("one_hot", [out, index], 1)
    assert np.array_equal(out, np.eye(classes, dtype=np.int64)[index])

    x = strided(rng, rng.integers(0, classes, int(rng.integers(0, 50))))
    out = np.full(classes + 2, 7, np.int64)
    run_kernel("bincount", [out, x], 1)
    assert np.array_equal(out, np.bincount(x, minlength=classes + 2))
    for dtype in ("float32", "float64", "int64"):
        weights = strided(rng, np.where(rng.random(x.size) < 0.5, rng.integers(-9, 9, x.size), 3).astype(dtype))
        out = np.full(classes + 2, 7, dtype)
        run_kernel("bincount", [out, x, weights], 1)
        assert np.array_equal(out, np.bincount(x, weights, classes + 2).astype(dtype))


@pytest.mark.parametrize("bad", [-1, 3])
def test_counting_out_of_range(bad):
    for name, out in (("one_hot", np.zeros((2, 3), np.int64)), ("bincount", np.zeros(3, np.int64))):
        with pytest.raises(IndexError, match=f"index {bad} is out of bounds for dimension [01] with size 3"):
            run_kernel(name, [out, np.array([0, bad])], 1)
        assert not out.any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@many
@given(seed=seeds)
def test_histc(dtype, seed):
    rng = np.random.default_rng(seed)
    x = strided(rng, values(rng, dtype, some_shape(rng)))
    if rng.random() < 0.5:
        x = x + rng.standard_normal(x.shape).astype(dtype)
    bins = int(rng.integers(1, 20))
    low = float(rng.integers(-4, 2))
    high = low + float(rng.integers(1, 5))
    out = np.empty(bins, dtype)
    run_kernel("histc", [out, x], 1, [low, high])
    assert np.array_equal(out, torch.histc(as_torch(x), bins, low, high).numpy())


@pytest.mark.parametrize("dtype", DTYPES)
@many
@given(seed=seeds)
def test_unique(dtype, seed):
    rng = np.random.default_rng(seed)
    x = strided(rng, values(rng, dtype, int(rng.integers(0, 40))))
    v, j = np.empty(x.shape, x.dtype), np.empty(x.shape, np.int64)
    run_kernel("sort", [v, j, x], 2, [0, 0, 1])
    for sequence, order in ((v, j), (x, None)):
        count = np.zeros((), np.int64)
        run_kernel("unique_count", [count, sequence], 1)
        out, counts = np.empty(int(count), x.dtype), np.empty(int(count), np.int64)
        inverse = np.empty(x.shape, np.int64)
        run_kernel("unique", [out, inverse, counts, sequence, order], 3)
        function = torch.unique if order is not None else torch.unique_consecutive
        reference = [as_numpy(t) for t in function(as_torch(x), return_inverse=True, return_counts=True)]
        assert np.array_equal(np.nan_to_num(out.astype(np.float64), nan=99),
                              np.nan_to_num(reference[0].astype(np.float64), nan=99))
        # Every NaN is a value of its own; PyTorch leaves open which is which, here they keep their order.
        nan = x != x
        assert np.array_equal(inverse[~nan], reference[1][~nan])
        assert np.array_equal(inverse[nan], np.sort(reference[1][nan]))
        assert np.array_equal(counts, reference[2])
        run_kernel("unique", [out, None, None, sequence], 3)
        assert np.array_equal(counts.sum(), x.size)


@pytest.mark.parametrize("right", [0, 1])
@pytest.mark.parametrize("dtype", DTYPES[1:])
@many
@given(seed=seeds)
def test_searchsorted(dtype, right, seed):
    rng = np.random.default_rng(seed)
    lead = some_shape(rng)[:2]
    length = int(rng.integers(0, 30))
    one = rng.random() < 0.4
    sequence = values(rng, dtype, (length,) if one else (*lead, length))
    sequence = strided(rng, as_numpy(torch.sort(as_torch(sequence), -1).values))
    v = strided(rng, values(rng, dtype, (*lead, int(rng.integers(0, 9)))))
    out = np.empty(v.shape, np.int64)
    run_kernel("searchsorted", [out, sequence, v], 1, [right])
    assert np.array_equal(out, torch.searchsorted(as_torch(sequence), as_torch(v), right=bool(right)).numpy())
