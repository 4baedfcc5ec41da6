"""Scans along one dimension on the device: rows, columns and chunks of them, against NumPy and PyTorch."""

import numpy as np
import pytest
from peers import torch

import ferrox as fx
from ferrox._core.door.backend import run_kernel

INTEGERS = ("uint8", "int8", "int16", "int32", "int64")
FLOATS = ("float16", "bfloat16", "float32", "float64")
# Rows for a part of a warp, a warp, a block; cut rows; columns; cut columns.
SHAPES = [(), (1,), (5,), (0,), (3, 0, 2), (4, 9), (3, 130), (2, 1100), (9001,), (2, 3, 4), (200, 3), (5, 40, 2),
          (1, 300)]  # fmt: skip
LIMIT = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 3e-7, "float64": 1e-12}


class OnDevice:
    """A device tensor as run_kernel wants its arrays."""

    def __init__(self, tensor):
        self.tensor = tensor
        size = tensor.element_size()
        self.__array_interface__ = {
            "shape": tuple(tensor.shape), "typestr": np.dtype(tensor.dtype.name).str, "version": 3,
            "data": (tensor.data_ptr(), False), "strides": tuple(step * size for step in tensor.stride()),
        }  # fmt: skip


def exact(t):
    t = t.detach().cpu()
    return (t.to(fx.float64) if t.dtype.is_floating_point else t).numpy()


def dims_of(shape):
    return range(len(shape)) if shape else (0,)


def run(call, *args, **keywords):
    """NumPy's scans, also of numbers without dimensions."""
    args = (np.atleast_1d(args[0]), *args[1:])
    return call(*args, **keywords)


@pytest.mark.parametrize("dtype", ["bool", *INTEGERS])
def test_integers(dtype):
    rng = np.random.default_rng(1)
    for shape in SHAPES:
        v = rng.integers(0 if dtype in ("uint8", "bool") else -3, 2 if dtype == "bool" else 4, shape)
        x = fx.tensor(np.asarray(v, dtype=dtype)).cuda()
        for dim in dims_of(shape):
            for name in ("cumsum", "cumprod"):
                got = getattr(fx, name)(x, dim)
                assert got.dtype == fx.int64
                np.testing.assert_array_equal(exact(got), run(getattr(np, name), v, dim, dtype="i8").reshape(shape))
            if dtype != "bool":
                got = fx.cumsum(x, dim, dtype=getattr(fx, dtype))
                np.testing.assert_array_equal(exact(got), run(np.cumsum, v, dim, dtype=dtype).reshape(shape))
            for name in ("cummax", "cummin"):
                values, indices = getattr(fx, name)(x, dim)
                right = getattr(torch, name)(torch.from_numpy(exact(x)), dim)
                np.testing.assert_array_equal(exact(values), right.values.numpy())
                np.testing.assert_array_equal(exact(indices), right.indices.numpy())


@pytest.mark.parametrize("dtype", FLOATS)
def test_sums_and_products(dtype):
    rng = np.random.default_rng(2)
    for shape in SHAPES:
        x = fx.tensor(rng.standard_normal(shape)).to(getattr(fx, dtype))
        near = fx.tensor(1 + rng.standard_normal(shape) / 50).to(getattr(fx, dtype))
        for dim in dims_of(shape):
            expected = run(np.cumsum, exact(x), dim).reshape(shape)
            np.testing.assert_allclose(exact(fx.cumsum(x.cuda(), dim)), expected, rtol=LIMIT[dtype], atol=LIMIT[dtype])
            expected = run(np.cumprod, exact(near), dim).reshape(shape)
            np.testing.assert_allclose(exact(fx.cumprod(near.cuda(), dim)), expected, rtol=LIMIT[dtype])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["cummax", "cummin"])
def test_extremes_with_ties_and_nan(name, dtype):
    rng = np.random.default_rng(3)
    for shape in SHAPES:
        for nan in (0.0, 0.02):
            v = rng.integers(-40, 40, shape) / 4
            x = fx.tensor(np.where(rng.random(shape) < nan, np.nan, v)).to(getattr(fx, dtype))
            for dim in dims_of(shape):
                values, indices = getattr(fx, name)(x.cuda(), dim)
                right = getattr(torch, name)(torch.from_numpy(exact(x)), dim)
                np.testing.assert_array_equal(exact(values), right.values.numpy())
                np.testing.assert_array_equal(exact(indices), right.indices.numpy())


@pytest.mark.parametrize("dtype", FLOATS)
def test_log_sums(dtype):
    rng = np.random.default_rng(4)
    for shape in SHAPES:
        x = fx.tensor(rng.standard_normal(shape) * 10).to(getattr(fx, dtype))
        for dim in dims_of(shape):
            right = torch.logcumsumexp(torch.from_numpy(exact(x)), dim).numpy()
            limit = max(LIMIT[dtype], 1e-6 if dtype == "float32" else 0)
            np.testing.assert_allclose(exact(fx.logcumsumexp(x.cuda(), dim)), right, rtol=limit, atol=limit)
    x = np.array([[-np.inf, -np.inf, 1.0, 2.0], [0.0, np.inf, 1.0, -np.inf], [1.0, np.nan, 2.0, 3.0], [1e3, 1e3, 0, 0]])
    right = torch.logcumsumexp(torch.from_numpy(x), 1).numpy()
    np.testing.assert_allclose(exact(fx.logcumsumexp(fx.tensor(x).cuda(), 1)), right, rtol=1e-14)
    np.testing.assert_allclose(exact(fx.logcumsumexp(fx.tensor(x.T.copy()).cuda(), 0)), right.T, rtol=1e-14)


def test_integers_have_no_logarithm():
    x = OnDevice(fx.ones(3, dtype=fx.int32, device="cuda"))
    with pytest.raises(TypeError, match="not defined for integers"):
        run_kernel("logcumsumexp", [x, x], 1, (0, 0), "int32", device_type=1)


def recur(a, b, dim, reverse):
    a, b = np.moveaxis(a, dim, 0), np.moveaxis(b, dim, 0)
    h, state = np.zeros_like(b), 0
    for t in range(len(b) - 1, -1, -1) if reverse else range(len(b)):
        first = t == (len(b) - 1 if reverse else 0)
        state = h[t] = b[t] if first else a[t] * state + b[t]
    return np.moveaxis(h, 0, dim)


@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_linear_recurrence(dtype, reverse):
    rng = np.random.default_rng(5)
    for shape in [s for s in SHAPES if s and 0 not in s]:
        for dim in range(len(shape)):
            a, b = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
            a *= rng.random(shape) < 0.9  # zeros start anew
            out = fx.zeros(shape, dtype=getattr(fx, dtype), device="cuda")
            arrays = [OnDevice(out), *(OnDevice(fx.tensor(v).cuda()) for v in (a, b))]
            run_kernel("linear_scan", arrays, 1, (dim, reverse), dtype, device_type=1)
            expected = recur(a.astype("f8"), b.astype("f8"), dim, reverse)
            np.testing.assert_allclose(exact(out), expected, rtol=LIMIT[dtype], atol=LIMIT[dtype])


def test_recurrence_does_not_overflow_on_the_way():
    """Products of factors may overflow where the values they meet are zero."""
    a, b = np.full((2, 1200), 10.0), np.zeros((2, 1200))
    b[1, 1190] = 1
    expected = recur(a, b, 1, 0)
    for x, y, dim in ((a, b, 1), (a.T.copy(), b.T.copy(), 0)):
        out = fx.zeros(x.shape, dtype=fx.float64, device="cuda")
        arrays = [OnDevice(out), OnDevice(fx.tensor(x).cuda()), OnDevice(fx.tensor(y).cuda())]
        run_kernel("linear_scan", arrays, 1, (dim, 0), "float64", device_type=1)
        np.testing.assert_allclose(exact(out), expected if dim else expected.T, rtol=1e-13)


@pytest.mark.parametrize("shape, dim", [((7,), 0), ((3, 5), 1), ((5, 3), 0), ((300,), 0)])
def test_reversed_and_gradients(shape, dim):
    values = np.random.default_rng(6).standard_normal(shape)
    values.reshape(-1)[2] = 0
    for name in ("cumsum", "cumprod", "logcumsumexp"):
        grads = []
        for device in ("cpu", "cuda"):
            x = fx.tensor(values, device=device, requires_grad=True)
            y = getattr(fx, name)(x, dim)
            (y * fx.arange(1.0, y.numel() + 1, dtype=fx.float64).reshape(shape).to(device)).sum().backward()
            grads.append(exact(x.grad))
        np.testing.assert_allclose(grads[1], grads[0], rtol=1e-11, atol=1e-11)


def test_layouts():
    x = np.random.default_rng(7).standard_normal((4, 6, 5)).astype("f4")
    there = fx.tensor(x).cuda()
    for dim in range(3):
        expected = x.transpose(2, 0, 1)[1:, :, ::2].cumsum(dim, dtype="f8")
        got = there.permute(2, 0, 1)[1:, :, ::2].cumsum(dim)
        np.testing.assert_allclose(exact(got), expected, rtol=1e-6, atol=1e-6)
