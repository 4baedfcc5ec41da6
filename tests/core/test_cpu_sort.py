"""CPU kernels that order: against PyTorch's stable sort, on random shapes and strides."""
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import torch

import ferrox._core.cpu.sort  # noqa: F401  (registers the kernels)
from ferrox._core.cpu.strided import set_grain
from ferrox._core.door.backend import run_kernel
from ferrox._core.door.threads import set_num_threads

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
NUMPY = {d: np.dtype(ml_dtypes.bfloat16 if d == "bfloat16" else d) for d in DTYPES}
SIZES = [0, 1, 2, 3, 31, 48, 49, 64, 65, 200, 300, 1000, 6001, 20000]
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(params=[1, 3], autouse=True, scope="module")
def threads(request):
    set_num_threads(request.param)
    before = set_grain(1)
    yield request.param
    set_num_threads(1)
    set_grain(before)


def values(rng, dtype, shape):
    """Wide or narrow ranges, many or few ties, the special values of floats."""
    narrow = rng.random() < 0.5
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype in ("float16", "bfloat16", "float32", "float64"):
        x = rng.integers(-3, 3, shape) * 0.5 if narrow else rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 4)
        x = np.asarray(x, np.float64)
        special = rng.choice([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0], shape)
        return np.where(rng.random(shape) < rng.choice([0, 0.1, 0.9]), special, x).astype(NUMPY[dtype])
    info = np.iinfo(dtype)
    if narrow:
        return rng.integers(max(info.min, -5), 5, shape).astype(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def as_torch(a):
    a = np.array(a, order="C")
    if a.dtype == NUMPY["bfloat16"]:
        return torch.from_numpy(a.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(a)


def bits(a):
    a = np.array(a, order="C")
    return a.view({1: np.int8, 2: np.int16, 4: np.int32, 8: np.int64}[a.itemsize])


def case(rng, dtype):
    shape = [int(n) for n in rng.integers(1, 5, rng.integers(1, 4))]
    dim = int(rng.integers(len(shape)))
    shape[dim] = int(rng.choice(SIZES))
    store = values(rng, dtype, [n * 2 for n in shape])
    if rng.random() < 0.5:
        x = store[tuple(slice(None, None, 2) for _ in shape)]
    else:
        x = store[tuple(slice(n - 1, None, -1) if n else slice(0, 0) for n in shape)]
    if rng.random() < 0.5:
        x = np.ascontiguousarray(x)
    return x, dim


def stable_order(x, dim, descending):
    """Indices by PyTorch; its order of NaN is that of any NaN."""
    return torch.sort(as_torch(x), dim=dim, descending=bool(descending), stable=True).indices.numpy()


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=60, deadline=None)
@given(seed=seeds)
def test_sort(dtype, seed):
    rng = np.random.default_rng(seed)
    x, dim = case(rng, dtype)
    descending = int(rng.integers(2))
    order = stable_order(x, dim, descending)
    v, j, only = np.empty(x.shape, x.dtype), np.empty(x.shape, np.int64), np.empty(x.shape, np.int64)
    run_kernel("sort", [v, j, x], 2, [dim, descending, 1], dtype)
    run_kernel("argsort", [only, x], 1, [dim, descending, 1], dtype)
    assert np.array_equal(j, order)
    assert np.array_equal(only, order)
    assert np.array_equal(bits(v), bits(np.take_along_axis(x, order, dim)))
    v[...] = 0
    run_kernel("sort", [v, None, x], 2, [dim, descending, 1], dtype)
    assert np.array_equal(bits(v), bits(np.take_along_axis(x, order, dim)))


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=60, deadline=None)
@given(seed=seeds)
def test_topk_and_kthvalue(dtype, seed):
    rng = np.random.default_rng(seed)
    x, dim = case(rng, dtype)
    n = x.shape[dim]
    k = int(rng.integers(0, n + 1)) if rng.random() < 0.5 else min(n, int(rng.choice([0, 1, 5, 32, 33, 100])))
    largest = int(rng.integers(2))
    order = np.take(stable_order(x, dim, largest), range(k), dim)
    v, j = np.empty(order.shape, x.dtype), np.empty(order.shape, np.int64)
    run_kernel("topk", [v, j, x], 2, [k, dim, largest, 1], dtype)
    assert np.array_equal(j, order)
    assert np.array_equal(bits(v), bits(np.take_along_axis(x, order, dim)))
    if n == 0:
        return
    k = int(rng.integers(1, n + 1))
    order = np.take(stable_order(x, dim, 0), [k - 1], dim)
    v, j = np.empty(order.shape, x.dtype), np.empty(order.shape, np.int64)
    run_kernel("kthvalue", [v, j, x], 2, [k, dim], dtype)
    assert np.array_equal(j, order)
    assert np.array_equal(bits(v), bits(np.take_along_axis(x, order, dim)))


@pytest.mark.parametrize("pattern", ["ascending", "descending", "equal", "high bits agree", "long runs"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32"])
def test_patterns(dtype, pattern):
    n = 30000
    x = {
        "ascending": np.arange(n),
        "descending": -np.arange(n),
        "equal": np.zeros(n),
        "high bits agree": (2**40 + np.arange(n) * 7919 % n) if dtype in ("int64", "float64") else np.arange(n) % 77,
        "long runs": (np.arange(n) % 3) * 2**29 + np.arange(n) * 7919 % 1000,
    }[pattern].astype(dtype)
    v, j = np.empty_like(x), np.empty(n, np.int64)
    run_kernel("sort", [v, j, x], 2, [0, 0, 1], dtype)
    order = np.argsort(x, kind="stable")
    assert np.array_equal(j, order)
    assert np.array_equal(v, x[order])
    for largest in (0, 1):
        order = stable_order(x, 0, largest)
        for k in (1, 10, 40, 500):
            v, j = np.empty(k, x.dtype), np.empty(k, np.int64)
            run_kernel("topk", [v, j, x], 2, [k, 0, largest, 1], dtype)
            assert np.array_equal(j, order[:k])


def test_zero_dims_and_k_out_of_range():
    x = np.array(3.0, np.float32)
    v, j = np.zeros((), np.float32), np.ones((), np.int64)
    run_kernel("sort", [v, j, x], 2, [0, 0, 1])
    assert v == 3 and j == 0
    x = np.zeros((2, 5), np.float32)
    for name, k in (("topk", 6), ("topk", -1), ("kthvalue", 0), ("kthvalue", 6)):
        params = [k, 1, 1, 1] if name == "topk" else [k, 1]
        with pytest.raises(ValueError, match=f"k is {k}, but dimension 1 has size 5"):
            run_kernel(name, [np.zeros((2, 1), np.float32), np.zeros((2, 1), np.int64), x], 2, params)
