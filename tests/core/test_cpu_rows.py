"""softmax, log_softmax and their gradients against float64 formulae and PyTorch."""
import ml_dtypes
import numpy as np
import pytest

import ferrox._core.cpu  # noqa: F401
from ferrox._core.door import threads
from ferrox._core.door.backend import run_kernel

RTOL = {"float32": 3e-6, "float64": 2e-14, "float16": 2e-3}
SHAPES = [
    ((1,), 0), ((7,), 0), ((8,), 0), ((100,), 0), ((5, 1), 1), ((3, 10), 1), ((3, 31), 1), ((2, 33), 1), ((4, 5000), 1),
    ((13, 4), 0), ((6, 8), 0), ((9, 70), 0), ((2, 5, 130), 1), ((2, 3, 4, 5), 1), ((2, 3, 4, 5), -2), ((0, 4), 1),
        ((4, 0), 1),
]


def reference(x, dim):
    x = np.asarray(x, dtype=np.float64)
    shifted = x - x.max(dim, keepdims=True, initial=-np.inf)
    log_y = shifted - np.log(np.exp(shifted).sum(dim, keepdims=True))
    return np.exp(log_y), log_y


def tolerance(dtype, scale=1.0):
    return {"rtol": RTOL[dtype], "atol": {"float32": 1e-6, "float64": 4e-15, "float16": 4e-3}[dtype] * scale}


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize(("shape", "dim"), SHAPES)
def test_forward(shape, dim, dtype):
    x = (4 * np.random.default_rng(0).standard_normal(shape)).astype(dtype)
    y, log_y = np.full_like(x, 7), np.full_like(x, 7)
    run_kernel("softmax", [y, x], 1, [dim], dtype)
    run_kernel("log_softmax", [log_y, x], 1, [dim], dtype)
    if x.size:
        expected, log_expected = reference(x, dim)
        np.testing.assert_allclose(y, expected, rtol=2 * RTOL[dtype], atol=0 if dtype != "float16" else 1e-7)
        np.testing.assert_allclose(log_y, log_expected, **tolerance(dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize(("shape", "dim"), SHAPES)
def test_backward(shape, dim, dtype):
    rng = np.random.default_rng(1)
    x, g = (2 * rng.standard_normal((2, *shape))).astype(dtype)
    if not x.size:
        run_kernel("softmax_backward", [x.copy(), g, x], 1, [dim], dtype)
        return
    y, log_y = (v.astype(dtype) for v in reference(x, dim))
    dx, log_dx = np.empty_like(x), np.empty_like(x)
    run_kernel("softmax_backward", [dx, g, y], 1, [dim], dtype)
    run_kernel("log_softmax_backward", [log_dx, g, log_y], 1, [dim], dtype)
    g, y, log_y = (v.astype(np.float64) for v in (g, y, log_y))
    np.testing.assert_allclose(dx, y * (g - (g * y).sum(dim, keepdims=True)), **tolerance(dtype))
    scale = abs(g).sum(dim).max() + 1
    np.testing.assert_allclose(log_dx, g - np.exp(log_y) * g.sum(dim, keepdims=True), **tolerance(dtype, scale))


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_strided(dim):
    base = np.random.default_rng(2).standard_normal((9, 24, 14)).astype("float32")
    for x in (base[::2, ::-3, 1::2], base.transpose(2, 0, 1), base[:, ::2].swapaxes(0, 2),
              np.broadcast_to(base[:1], (3, 24, 14))):
        y = np.empty(x.shape, "float32")
        run_kernel("softmax", [y, x], 1, [dim])
        np.testing.assert_allclose(y, reference(x, dim)[0], rtol=6e-6)
        dx = np.empty(x.shape, "float32")
        run_kernel("log_softmax_backward", [dx, x, np.log(y)], 1, [dim])
        expected = x - y.astype(np.float64) * x.sum(dim, keepdims=True, dtype=np.float64)
        np.testing.assert_allclose(dx, expected, rtol=1e-5, atol=2e-5)


def test_half_output_of_float_input_and_scalar():
    x = np.random.default_rng(3).standard_normal((4, 37)).astype("float16")
    y = np.empty((4, 37), "float32")
    run_kernel("softmax", [y, x], 1, [1])
    np.testing.assert_allclose(y, reference(x, 1)[0], rtol=1e-6)
    y = np.zeros((), "float32")
    run_kernel("softmax", [y, np.float32(5).reshape(())], 1, [0])
    assert y == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [3, 11, 40])
@pytest.mark.parametrize("dim", [0, 1])
def test_special_values_as_pytorch(dtype, n, dim):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(4)
    x = rng.standard_normal((10, n)).astype(dtype)
    x[1, :] = -np.inf
    x[2, 0] = -np.inf
    x[3, n // 2] = np.nan
    x[4, -1] = np.inf
    x[5, :2] = np.inf
    x[6] = 1e30
    x[7, 0] = -1e30
    x[8] *= 60
    x = x if dim == 1 else np.ascontiguousarray(x.T)
    for name in ("softmax", "log_softmax"):
        y = np.empty_like(x)
        run_kernel(name, [y, x], 1, [dim], dtype)
        expected = getattr(torch, name)(torch.from_numpy(x), dim).numpy()
        tiny = np.finfo(dtype).tiny  # results below the smallest normal number are 0
        np.testing.assert_allclose(y, expected, rtol=RTOL[dtype] * 10, atol=4 * tiny if name == "softmax" else 1e-6)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_streamed_output_equals_the_plain_one(name):
    x = np.random.default_rng(5).standard_normal((4201, 1003)).astype("float32")
    y, part = np.empty_like(x), np.empty_like(x[:50])
    assert y.nbytes >= 1 << 24
    run_kernel(name, [y, x], 1, [1])
    run_kernel(name, [part, x[-50:]], 1, [1])
    np.testing.assert_array_equal(y[-50:], part)
    dx, part_dx = np.empty_like(x), np.empty_like(part)
    run_kernel(name + "_backward", [dx, x, y], 1, [1])
    run_kernel(name + "_backward", [part_dx, x[-50:], part], 1, [1])
    np.testing.assert_array_equal(dx[-50:], part_dx)


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("n", [5, 40, 700])
def test_bit_equal_at_any_thread_count(dim, n):
    x = np.random.default_rng(6).standard_normal((200_000 // n, n)).astype("float32")
    results = []
    before = threads.get_num_threads()
    try:
        for count in (1, 2, 7):
            threads.set_num_threads(count)
            y, log_y, dx = (np.empty_like(x) for _ in range(3))
            run_kernel("softmax", [y, x], 1, [dim])
            run_kernel("log_softmax", [log_y, x], 1, [dim])
            run_kernel("softmax_backward", [dx, x, y], 1, [dim])
            results.append((y, log_y, dx))
    finally:
        threads.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_bfloat16():
    bfloat16 = ml_dtypes.bfloat16
    x = np.random.default_rng(8).standard_normal((20, 50)).astype(bfloat16)
    y = np.empty_like(x)
    run_kernel("softmax", [y, x], 1, [1], "bfloat16")
    np.testing.assert_array_equal(y, reference(x, 1)[0].astype("float32").astype(bfloat16))
