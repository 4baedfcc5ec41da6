"""CPU kernels that index: against NumPy and PyTorch, on random shapes and strides."""
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import torch

import ferrox._core.cpu.index_kernels  # noqa: F401  (registers the kernels)
from ferrox._core.cpu.strided import set_grain
from ferrox._core.door.backend import run_kernel
from ferrox._core.door.threads import set_num_threads

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
NUMPY = {d: np.dtype(ml_dtypes.bfloat16 if d == "bfloat16" else d) for d in DTYPES}
seeds = st.integers(0, 2**32 - 1)
many = settings(max_examples=60, deadline=None)


@pytest.fixture(params=[1, 3], autouse=True, scope="module")
def threads(request):
    """On one thread, and on three however small the work."""
    set_num_threads(request.param)
    before = set_grain(1)
    yield request.param
    set_num_threads(1)
    set_grain(before)


def laid_out(rng, a):
    """The same values in memory with random order of dims, gaps and directions."""
    order = rng.permutation(a.ndim)
    steps = rng.choice([1, 1, 2, -1, -3], a.ndim)
    store = np.zeros([a.shape[d] * abs(int(steps[d])) for d in order], a.dtype)
    view = store[(*(slice(None, None, int(steps[d])) for d in order), ...)]
    view = view.transpose(np.argsort(order))[(*(slice(0, n) for n in a.shape), ...)]
    view[...] = a
    return view


def values(rng, dtype, shape):
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype in ("float16", "bfloat16", "float32", "float64"):
        return rng.standard_normal(shape).astype(NUMPY[dtype])
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def as_torch(a):
    a = np.array(a, order="C")
    if a.dtype == NUMPY["bfloat16"]:
        return torch.from_numpy(a.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(a)


def same(a, t):
    if t.dtype == torch.bfloat16:
        return np.array_equal(np.array(a, order="C").view(np.int16), t.contiguous().view(torch.int16).numpy())
    return np.array_equal(a, t.numpy(), equal_nan=a.dtype.kind == "f")


def some_shape(rng, least=1, most=4, longest=7):
    return tuple(int(n) for n in rng.integers(0 if rng.random() < 0.1 else 1, longest, rng.integers(least, most + 1)))


def index_like(rng, shape, size):
    """Indices of a shape, int64, sometimes broadcast along a dim."""
    index = rng.integers(0, max(size, 1), shape)
    if index.ndim and rng.random() < 0.3:
        d = rng.integers(index.ndim)
        index = np.broadcast_to(index.take([0] if shape[d] else [], d), shape)
        return index
    return laid_out(rng, index)


@pytest.mark.parametrize("dtype", DTYPES)
@many
@given(seed=seeds)
def test_gather(dtype, seed):
    rng = np.random.default_rng(seed)
    shape = some_shape(rng)
    dim = int(rng.integers(len(shape)))
    x = laid_out(rng, values(rng, dtype, shape))
    ishape = [int(rng.integers(0, n + 1)) for n in shape]
    ishape[dim] = int(rng.integers(0, 9)) if shape[dim] else 0
    index = index_like(rng, tuple(ishape), shape[dim])
    out = np.empty(ishape, x.dtype)
    run_kernel("gather", [out, x, index], 1, [dim], dtype)
    assert same(out, torch.gather(as_torch(x), dim, as_torch(index)))


def scatter_case(rng, dtype):
    shape = some_shape(rng)
    dim = int(rng.integers(len(shape)))
    x = laid_out(rng, values(rng, dtype, shape))
    ishape = [int(rng.integers(0, n + 1)) for n in shape]
    ishape[dim] = int(rng.integers(0, 9)) if shape[dim] else 0
    index = index_like(rng, tuple(ishape), shape[dim])
    src = laid_out(rng, values(rng, dtype, [n + int(rng.integers(0, 2)) for n in ishape]))
    return x, dim, index, src


@pytest.mark.parametrize("dtype", DTYPES)
@many
@given(seed=seeds)
def test_scatter(dtype, seed):
    rng = np.random.default_rng(seed)
    x, dim, index, src = scatter_case(rng, dtype)
    expected = as_torch(x)
    sub = np.ascontiguousarray(src[tuple(slice(0, n) for n in index.shape)])
    for at in np.ndindex(index.shape):  # PyTorch leaves the order of equal indices open; here the last one wins
        to = list(at)
        to[dim] = int(index[at])
        expected[tuple(to)] = as_torch(sub[at].reshape(1))[0]
    run_kernel("scatter", [x, index, src], 1, [dim], dtype)
    assert same(x, expected)
    scalar = values(rng, dtype, ())
    run_kernel("scatter", [x, index, np.asarray(scalar)], 1, [dim], dtype, scalars=[2])
    assert same(x, expected.scatter_(dim, as_torch(index), as_torch(np.asarray(scalar).reshape(1))[0].item()))


def in_float32(f, x, *sources):
    """What PyTorch gives when float16 and bfloat16 are accumulated in float32."""
    if x.dtype in (torch.float16, torch.bfloat16):
        return f(x.float(), *(s.float() for s in sources)).to(x.dtype)
    return f(x, *sources)


@pytest.mark.parametrize("dtype", DTYPES)
@many
@given(seed=seeds)
def test_scatter_add(dtype, seed):
    rng = np.random.default_rng(seed)
    x, dim, index, src = scatter_case(rng, dtype)
    t, i, s = as_torch(x), as_torch(index), as_torch(src)
    expected = in_float32(lambda t, s: t.scatter_add(dim, i, s), t, s)
    run_kernel("scatter_add", [x, index, src], 1, [dim], dtype)
    assert same(x, expected)


@pytest.mark.parametrize("include_self", [False, True])
@pytest.mark.parametrize("mode", ["sum", "prod", "mean", "amax", "amin"])
@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_scatter_reduce(dtype, mode, include_self, seed):
    rng = np.random.default_rng(seed)
    x, dim, index, src = scatter_case(rng, dtype)
    params = [dim, ["sum", "prod", "mean", "amax", "amin"].index(mode), int(include_self)]
    if dtype == "bool":
        if mode == "mean":
            with pytest.raises(TypeError, match="mean of bool"):
                run_kernel("scatter_reduce", [x, index, src], 1, params, dtype)
            return
        expected = as_torch(x).to(torch.uint8)
        name = {"sum": "amax", "prod": "amin"}.get(mode, mode)
        expected = expected.scatter_reduce(dim, as_torch(index), as_torch(src).to(torch.uint8), name,
                                           include_self=include_self).bool()
    else:
        if x.dtype.kind == "f" and x.size and src.size:
            src.flat[rng.integers(src.size)] = np.nan
        expected = in_float32(
            lambda t, s: t.scatter_reduce(dim, as_torch(index), s, mode, include_self=include_self),
            as_torch(x), as_torch(src))
    run_kernel("scatter_reduce", [x, index, src], 1, params, dtype)
    assert same(x, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@many
@given(seed=seeds)
def test_index_select_add_copy_fill(dtype, seed):
    rng = np.random.default_rng(seed)
    shape = some_shape(rng)
    dim = int(rng.integers(len(shape)))
    x = laid_out(rng, values(rng, dtype, shape))
    n = int(rng.integers(0, 9)) if shape[dim] else 0
    index = index_like(rng, (n,), shape[dim])
    i, t = as_torch(index), as_torch(x)
    rshape = (*shape[:dim], n, *shape[dim + 1:])
    out = np.empty(rshape, x.dtype)
    run_kernel("index_select", [out, x, index], 1, [dim], dtype)
    assert same(out, t.index_select(dim, i))

    src = laid_out(rng, values(rng, dtype, rshape))
    s = as_torch(src)
    y = laid_out(rng, x)
    alpha = 1 if dtype == "bool" else 3 if x.dtype.kind in "iu" else 3.0
    run_kernel("index_add", [y, index, src], 1, [dim, alpha], dtype)
    if dtype == "bool":
        expected = t.to(torch.int32).index_add(dim, i, s.to(torch.int32)).bool()
    elif x.dtype.kind in "iu":
        expected = t.index_add(dim, i, s, alpha=3)
    else:
        expected = in_float32(lambda t, s: t.index_add(dim, i, s * alpha), t, s)
    assert same(y, expected)

    y = laid_out(rng, x)
    run_kernel("index_copy", [y, index, src], 1, [dim], dtype)
    expected = t.clone()
    for p in range(n):
        expected.select(dim, int(index[p])).copy_(s.select(dim, p))
    assert same(y, expected)

    y = laid_out(rng, x)
    value = np.asarray(values(rng, dtype, ()))
    wrapped = index - shape[dim] * rng.integers(0, 2, index.shape)
    run_kernel("index_fill", [y, wrapped, value], 1, [dim], dtype, scalars=[2])
    assert same(y, t.index_fill(dim, i, as_torch(value.reshape(1))[0].item()))


def advanced_case(rng, dtype):
    """A random advanced index: (x, index arrays, tags, at, NumPy index, result shape)."""
    shape = some_shape(rng, 1, 4, 6)
    k = int(rng.integers(1, len(shape) + 1))
    dims = sorted(rng.permutation(len(shape))[:k].tolist())
    ishape = some_shape(rng, 0, 3, 4)
    if any(shape[d] == 0 for d in dims):
        ishape = (0, *ishape[1:])
    arrays = []
    key = [slice(None)] * len(shape)
    tags = [-1] * len(shape)
    for j, d in enumerate(dims):
        index = index_like(rng, ishape, shape[d])
        if rng.random() < 0.5:
            index = index - shape[d] * rng.integers(0, 2, ishape)
        arrays.append(np.asarray(index, np.int64))
        key[d] = arrays[-1]
        tags[d] = j
    adjacent = dims == list(range(dims[0], dims[0] + k))
    at = dims[0] if adjacent else 0
    x = laid_out(rng, values(rng, dtype, shape))
    return x, arrays, tags, at, tuple(key)


@pytest.mark.parametrize("dtype", DTYPES)
@many
@given(seed=seeds)
def test_index_get_and_put(dtype, seed):
    rng = np.random.default_rng(seed)
    x, arrays, tags, at, key = advanced_case(rng, dtype)
    expected = x[key]
    out = np.empty(expected.shape, x.dtype)
    run_kernel("index_get", [out, x, *arrays], 1, [len(arrays), at, *tags], dtype)
    assert same(out, as_torch(expected).reshape(expected.shape))

    v = values(rng, dtype, tuple(n if rng.random() < 0.7 else 1 for n in expected.shape))
    v = np.broadcast_to(laid_out(rng, v), expected.shape)
    y = laid_out(rng, x)
    reference = x.copy(order="C")
    places = np.arange(x.size).reshape(x.shape)[key].ravel()
    for place, value in zip(places.tolist(), v.ravel(), strict=True):
        reference.reshape(-1)[place] = value  # of equal indices the last one wins
    run_kernel("index_put", [y, v, *arrays], 1, [len(arrays), at, 0, *tags], dtype)
    assert same(y, as_torch(reference))

    y = laid_out(rng, x)
    wide = dtype in ("float16", "bfloat16")
    reference = x.astype("float32") if wide else x.copy()
    np.add.at(reference, key, v.astype("float32") if wide else v)
    run_kernel("index_put", [y, v, *arrays], 1, [len(arrays), at, 1, *tags], dtype)
    assert same(y, as_torch(reference.astype(x.dtype)))


@pytest.mark.parametrize("name", ["gather", "scatter", "scatter_add", "scatter_reduce", "index_select", "index_add",
                                  "index_copy", "index_fill", "index_get", "index_put"])
@pytest.mark.parametrize("bad", [5, -6, -1, 2**62, -2**63])
def test_index_out_of_range(name, bad):
    wraps = name in ("index_fill", "index_get", "index_put")
    if bad == -1 and wraps:
        bad = -7
    x = np.arange(15.0, dtype=np.float32).reshape(3, 5)
    before = x.copy()
    index = np.array([[0, 1, bad], [1, 2, 3], [4, 0, 0]])
    src = np.ones((3, 3), np.float32)
    line = np.ascontiguousarray(index[0])
    arrays, n_params = {
        "gather": ([np.zeros((3, 3), np.float32), x, index], [1]),
        "scatter": ([x, index, src], [1]),
        "scatter_add": ([x, index, src], [1]),
        "scatter_reduce": ([x, index, src], [1, 0, 0]),
        "index_select": ([np.zeros((3, 3), np.float32), x, line], [1]),
        "index_add": ([x, line, src], [1, 1.0]),
        "index_copy": ([x, line, src], [1]),
        "index_fill": ([x, line, np.float32(2)], [1]),
        "index_get": ([np.zeros((3, 3), np.float32), x, line], [1, 1, -1, 0]),
        "index_put": ([x, src, line], [1, 1, 1, -1, 0]),
    }[name]
    with pytest.raises(IndexError, match=f"index {bad} is out of bounds for dimension 1 with size 5"):
        run_kernel(name, arrays, 1, n_params)
    assert np.array_equal(x, before)


def test_scalars_and_zero_dims():
    x = np.array(3.0, np.float32)
    out = np.zeros((), np.float32)
    run_kernel("gather", [out, x, np.array(0)], 1, [0])
    assert out == 3
    out = np.zeros((1,), np.float32)
    run_kernel("index_select", [out, x, np.array([0])], 1, [0])
    assert out[0] == 3
    run_kernel("scatter_add", [x, np.array(0), np.array(2.0, np.float32)], 1, [0])
    assert x == 5
    y = np.arange(4, dtype=np.float32)
    run_kernel("index_add", [y, np.array(2), np.ones(1, np.float32)], 1, [0, 1.0])
    assert y.tolist() == [0, 1, 3, 3]


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64"])
def test_large_is_the_same_on_any_number_of_threads(dtype):
    rng = np.random.default_rng(3)
    x = values(rng, dtype, (300, 64))
    index = rng.integers(0, 300, 5000)
    src = values(rng, dtype, (5000, 64))
    results = []
    for n in (1, 2, 3, 7):
        set_num_threads(n)
        y = x.copy()
        run_kernel("index_add", [y, index, src], 1, [0, 1 if dtype == "int64" else 1.0], dtype)
        z = x.copy()
        run_kernel("scatter_add", [z, np.broadcast_to(index[:, None], (5000, 64)), src], 1, [0], dtype)
        out = np.empty((5000, 64), x.dtype)
        run_kernel("index_select", [out, x, index], 1, [0], dtype)
        assert np.array_equal(out, x[index])
        results.append((y, z))
    for y, z in results:
        assert np.array_equal(y, results[0][0])
        assert np.array_equal(z, results[0][0])
    expected = x.astype("float32" if dtype == "float16" else dtype)
    np.add.at(expected, index, src.astype(expected.dtype))
    assert np.array_equal(results[0][0], expected.astype(x.dtype))
