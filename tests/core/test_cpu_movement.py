"""CPU kernels that move data: against NumPy and PyTorch."""
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ferrox._core.cpu.movement  # noqa: F401  (registers the kernels)
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
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype in ("float16", "bfloat16", "float32", "float64"):
        return rng.standard_normal(shape).astype(NUMPY[dtype])
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def strided(rng, a):
    choice = rng.integers(4)
    if choice == 0:
        return a
    if choice == 1:
        return a[..., ::-1].copy()[..., ::-1]
    if choice == 2:
        return np.asfortranarray(a)
    return np.repeat(a, 2, 0)[::2]


def bits(a):
    a = np.array(a, order="C")
    return a.view({1: np.int8, 2: np.int16, 4: np.int32, 8: np.int64}[a.itemsize])


@pytest.mark.parametrize("dtype", DTYPES)
@many
@given(seed=seeds)
def test_cat(dtype, seed):
    rng = np.random.default_rng(seed)
    shape = [int(n) for n in rng.integers(0 if rng.random() < 0.1 else 1, 20, rng.integers(1, 4))]
    dim = int(rng.integers(len(shape)))
    inputs = []
    for _ in range(int(rng.integers(1, 6))):
        shape[dim] = int(rng.integers(0, 5))
        inputs.append(strided(rng, values(rng, dtype, shape)))
    expected = np.concatenate(inputs, dim)
    out = np.empty(expected.shape, expected.dtype)
    run_kernel("cat", [out, *inputs, np.empty(0, out.dtype)], 1, [dim], dtype)
    assert np.array_equal(bits(out), bits(expected))


def test_cat_of_many():
    inputs = [np.full((3, n % 4), n, np.int32) for n in range(3000)]
    expected = np.concatenate(inputs, 1)
    out = np.empty_like(expected)
    run_kernel("cat", [out, *inputs], 1, [1], "int32")
    assert np.array_equal(out, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@many
@given(seed=seeds)
def test_triangles(dtype, seed):
    rng = np.random.default_rng(seed)
    shape = [int(n) for n in rng.integers(0 if rng.random() < 0.1 else 1, 9, rng.integers(2, 5))]
    x = strided(rng, values(rng, dtype, shape))
    k = int(rng.choice([rng.integers(-10, 10), 2**62, -2**62]))
    near = max(-20, min(20, k))
    for name, function in (("tril", np.tril), ("triu", np.triu)):
        out = np.empty(shape, x.dtype)
        run_kernel(name, [out, x], 1, [k], dtype)
        assert np.array_equal(bits(out), bits(function(x, near)))


@pytest.mark.parametrize("dtype", DTYPES)
@many
@given(seed=seeds)
def test_strided_add(dtype, seed):
    rng = np.random.default_rng(seed)
    shape = [int(n) for n in rng.integers(0 if rng.random() < 0.05 else 1, 6, rng.integers(0, 4))]
    steps = [int(s) for s in rng.choice([0, 1, 2, 3, 7, -1, 40], len(shape))]
    low = sum(min(0, (n - 1) * s) for n, s in zip(shape, steps, strict=True))
    high = sum(max(0, (n - 1) * s) for n, s in zip(shape, steps, strict=True))
    base = values(rng, dtype, high - low + 5)
    size = base.itemsize
    expected = base.copy()
    if dtype in ("float16", "bfloat16"):
        expected = expected.astype(np.float32)
    x = values(rng, dtype, shape)
    for at in np.ndindex(*shape):
        p = 2 - low + sum(i * s for i, s in zip(at, steps, strict=True))
        expected[p] = expected[p] | x[at] if dtype == "bool" else expected[p] + x[at].astype(expected.dtype)
    x = strided(rng, x) if x.ndim else x
    view = np.lib.stride_tricks.as_strided(base[2 - low:], shape, [s * size for s in steps])
    run_kernel("strided_add", [view, x], 1, [], dtype)
    assert np.array_equal(bits(base), bits(expected.astype(base.dtype)))


def test_unfold_gradient_is_the_same_on_any_number_of_threads():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 200, 7)).astype(np.float32)
    results = []
    for n in (1, 2, 5):
        set_num_threads(n)
        base = np.zeros((64, 206), np.float32)
        view = np.lib.stride_tricks.sliding_window_view(base, 7, 1, writeable=True)
        run_kernel("strided_add", [view, x], 1)
        results.append(base)
    expected = np.zeros((64, 206))
    for j in range(7):
        expected[:, j:200 + j] += x[:, :, j]
    assert np.allclose(results[0], expected, rtol=1e-5, atol=1e-5)
    assert all(np.array_equal(r, results[0]) for r in results)
