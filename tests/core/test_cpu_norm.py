"""Layer, RMS and batch normalisation against float64 formulae and PyTorch."""
import numpy as np
import pytest

import ferrox._core.cpu  # noqa: F401
from ferrox._core.door import threads
from ferrox._core.door.backend import run_kernel

EPS = 1e-5
TOLERANCE = {"float32": {"rtol": 2e-5, "atol": 2e-5}, "float64": {"rtol": 1e-12, "atol": 1e-12},
             "float16": {"rtol": 4e-3, "atol": 1e-2}}


def close(got, expected, dtype, scale=1.0):
    tolerance = dict(TOLERANCE[dtype])
    tolerance["atol"] *= scale
    np.testing.assert_allclose(got, expected, **tolerance)


def rows_reference(x, g, w, b, n, centred):
    x, g = (v.astype(np.float64).reshape(-1, n) for v in (x, g))
    w = 1.0 if w is None else w.astype(np.float64).reshape(n)
    b = 0.0 if b is None else b.astype(np.float64).reshape(n)
    mean = x.mean(1, keepdims=True) if centred else np.zeros((len(x), 1))
    rstd = 1 / np.sqrt(((x - mean) ** 2).mean(1, keepdims=True) + EPS)
    hat = (x - mean) * rstd
    gw = g * w
    dx = rstd * (gw - hat * (gw * hat).mean(1, keepdims=True))
    if centred:
        dx = dx - rstd * gw.mean(1, keepdims=True)
    return hat * w + b, mean[:, 0], rstd[:, 0], dx, (g * hat).sum(0), g.sum(0)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("affine", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize(("rows", "shape"), [
    (1, (1,)), (5, (7,)), (3, (8,)), (70, (33,)), (4, (3, 11)), (300, (64,)), (2, (9000,))])
def test_rows(rows, shape, affine, dtype):
    rng = np.random.default_rng(0)
    n = int(np.prod(shape))
    x, g = (rng.standard_normal((2, rows, *shape)) * 3 + 1).astype(dtype)
    w = (rng.standard_normal(shape) + 2).astype(dtype) if affine[0] else None
    b = rng.standard_normal(shape).astype(dtype) if affine[1] else None
    stats = "float64" if dtype == "float64" else "float32"
    y, dx = np.empty_like(x), np.empty_like(x)
    mean, rstd = np.empty(rows, stats), np.empty(rows, stats)
    dw, db = np.empty(shape, dtype), np.empty(shape, dtype)
    wide = float(np.sqrt(rows)) * 3
    for centred in (True, False):
        if centred:
            run_kernel("layer_norm", [y, mean, rstd, x, w, b], 3, [n, EPS], dtype)
            run_kernel("layer_norm_backward", [dx, dw, db, g, x, mean, rstd, w], 3, [n], dtype)
        else:
            run_kernel("rms_norm", [y, rstd, x, w], 2, [n, EPS], dtype)
            run_kernel("rms_norm_backward", [dx, dw, g, x, rstd, w], 2, [n], dtype)
        expected = rows_reference(x, g, w, b if centred else None, n, centred)
        # A row of one element has no variance: rounding is magnified by rstd, 1 / sqrt(eps).
        scale = (10 if n > 1 else EPS**-0.5) if dtype != "float16" else 3
        close(y.reshape(-1, n), expected[0], dtype, scale if n == 1 else 1)
        if centred:
            close(mean, expected[1], stats)
        close(rstd, expected[2], stats)
        close(dx.reshape(-1, n), expected[3], dtype, scale if n == 1 else 3)
        close(dw.reshape(n), expected[4], dtype, wide * (scale if n == 1 else 1))
        if centred:
            close(db.reshape(n), expected[5], dtype, wide)


def test_rows_strided_and_absent_outputs():
    rng = np.random.default_rng(1)
    base = rng.standard_normal((12, 20, 6)).astype("float32")
    w = rng.standard_normal(40).astype("float32")[::2]
    x = base.transpose(2, 0, 1)[::2]
    g = base[:3, :12].transpose(0, 1, 2)[:, ::1].repeat(4, 2)[..., :20]
    y, dx = np.empty(x.shape, "float32"), np.empty(x.shape, "float32")
    mean, rstd = np.empty(36, "float32"), np.empty(36, "float32")
    run_kernel("layer_norm", [y, mean, rstd, x, w, None], 3, [20, EPS])
    expected = rows_reference(x, g, w, None, 20, True)
    close(y.reshape(-1, 20), expected[0], "float32")
    run_kernel("layer_norm_backward", [dx, None, None, g, x, mean, rstd, w], 3, [20])
    close(dx.reshape(-1, 20), expected[3], "float32", 3)
    dw = np.empty(20, "float32")
    run_kernel("layer_norm_backward", [None, dw, None, g, x, mean, rstd, w], 3, [20])
    close(dw, expected[4], "float32", 10)
    y2 = np.empty_like(y)
    run_kernel("layer_norm", [y2, None, None, x, w, None], 3, [20, EPS])
    np.testing.assert_array_equal(y, y2)


def test_rows_far_from_zero_and_empty():
    x = (np.random.default_rng(2).standard_normal((4, 999)) + 1000).astype("float32")
    y = np.empty_like(x)
    run_kernel("layer_norm", [y, None, None, x, None, None], 3, [999, EPS])
    np.testing.assert_allclose(y, rows_reference(x, x, None, None, 999, True)[0], atol=2e-4)
    dw = np.full(5, 9, "float32")
    none = np.empty((0, 5), "float32")
    run_kernel("layer_norm_backward", [none, dw, dw.copy(), none, none, none[:, 0], none[:, 0], None], 3, [5])
    assert not dw.any()


def test_streamed_layer_norm_equals_the_plain_one():
    x = np.random.default_rng(3).standard_normal((4201, 1003)).astype("float32")
    y, part = np.empty_like(x), np.empty_like(x[:7])
    run_kernel("layer_norm", [y, None, None, x, x[0], x[1]], 3, [1003, EPS])
    run_kernel("layer_norm", [part, None, None, x[-7:], x[0], x[1]], 3, [1003, EPS])
    np.testing.assert_array_equal(y[-7:], part)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("shape", [(5, 3), (130, 70), (4, 6, 9), (3, 5, 4, 7), (200, 2, 3), (2, 1, 50, 50)])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm(shape, affine, dtype):
    rng = np.random.default_rng(4)
    c = shape[1]
    x, g = (rng.standard_normal((2, *shape)) * 2 + 1).astype(dtype)
    stats = "float64" if dtype == "float64" else "float32"
    w, b = (rng.standard_normal((2, c)) + 2).astype(stats) if affine else (None, None)
    running_mean, running_var = rng.standard_normal(c).astype(stats), rng.random(c).astype(stats) + 1
    axes = tuple(d for d in range(x.ndim) if d != 1)
    along = (1, c) + (1,) * (x.ndim - 2)
    count = x.size // c

    x64, g64 = x.astype(np.float64), g.astype(np.float64)
    mean, var = x64.mean(axes), x64.var(axes)
    w64 = np.ones(c) if w is None else w.astype(np.float64)
    b64 = np.zeros(c) if b is None else b.astype(np.float64)

    def applied(m, v):
        return (x64 - m.reshape(along)) / np.sqrt(v.reshape(along) + EPS) * w64.reshape(along) + b64.reshape(along)

    y, dx = np.empty_like(x), np.empty_like(x)
    run_kernel("batch_norm_eval", [y, x, w, b, running_mean, running_var], 1, [EPS], dtype)
    close(y, applied(running_mean.astype(np.float64), running_var.astype(np.float64)), dtype, 3)

    new_mean, new_var = 0.7 * running_mean + 0.3 * mean, 0.7 * running_var + 0.3 * var * count / (count - 1)
    m, r = np.empty(c, stats), np.empty(c, stats)
    run_kernel("batch_norm_train", [y, m, r, running_mean, running_var, x, w, b], 5, [EPS, 0.3], dtype)
    close(y, applied(mean, var), dtype, 3)
    close(m, mean, stats)
    close(r, 1 / np.sqrt(var + EPS), stats)
    close(running_mean, new_mean, stats)
    close(running_var, new_var, stats)

    hat = (x64 - mean.reshape(along)) / np.sqrt(var + EPS).reshape(along)
    dw, db = np.empty(c, stats), np.empty(c, stats)
    run_kernel("batch_norm_backward", [dx, dw, db, g, x, m, r, w], 3, [1], dtype)
    scale = (w64 / np.sqrt(var + EPS)).reshape(along)
    expected = scale * (g64 - g64.mean(axes, keepdims=True) - hat * (g64 * hat).mean(axes, keepdims=True))
    close(dx, expected, dtype, 3)
    close(dw, (g64 * hat).sum(axes), stats, np.sqrt(count))
    close(db, g64.sum(axes), stats, np.sqrt(count))
    run_kernel("batch_norm_backward", [dx, None, None, g, x, m, r, w], 3, [0], dtype)
    close(dx, scale * g64, dtype, 3)


def test_batch_norm_strided():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((4, 6, 5, 3)).astype("float32").transpose(0, 3, 1, 2)  # channels last in memory
    whole = np.ascontiguousarray(x)
    results = []
    for v in (x, whole):
        y, m, r = np.empty_like(whole), np.empty(3, "float32"), np.empty(3, "float32")
        running = np.zeros((2, 6), "float32")[:, ::2]
        run_kernel("batch_norm_train", [y, m, r, running[0], running[1], v, m, None], 5, [EPS, 0.1])
        results.append((y, m, r, running.copy()))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_as_pytorch():
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    rng = np.random.default_rng(6)
    x = rng.standard_normal((6, 10, 4)).astype("float32")
    w, b = rng.standard_normal((2, 10)).astype("float32")
    y = np.empty_like(x)
    running = np.zeros(10, "float32"), np.ones(10, "float32")
    t_running = torch.zeros(10), torch.ones(10)
    expected = f.batch_norm(torch.from_numpy(x), *t_running, torch.from_numpy(w), torch.from_numpy(b), True, 0.1, EPS)
    run_kernel("batch_norm_train", [y, None, None, *running, x, w, b], 5, [EPS, 0.1])
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    for mine, theirs in zip(running, t_running, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)
    x = x.transpose(0, 2, 1).copy()
    y = np.empty_like(x)
    run_kernel("rms_norm", [y, None, x, w], 2, [10, EPS])
    np.testing.assert_allclose(y, f.rms_norm(torch.from_numpy(x), (10,), torch.from_numpy(w), EPS), rtol=1e-5,
                               atol=1e-6)
    run_kernel("layer_norm", [y, None, None, x, w, b], 3, [10, EPS])
    np.testing.assert_allclose(y, f.layer_norm(torch.from_numpy(x), (10,), torch.from_numpy(w),
                                               torch.from_numpy(b), EPS),
                               rtol=1e-5, atol=1e-5)


def at_thread_counts(compute):
    """Results of compute() at 1, 2 and 7 threads, as lists of arrays."""
    before = threads.get_num_threads()
    results = []
    try:
        for count in (1, 2, 7):
            threads.set_num_threads(count)
            results.append(compute())
    finally:
        threads.set_num_threads(before)
    return results


def assert_bit_equal(results):
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("shape", [(3000, 70), (40, 5, 400)])
def test_bit_equal_at_any_thread_count(shape):
    x, g = np.random.default_rng(7).standard_normal((2, *shape)).astype("float32")

    def compute():
        n, c = shape[-1], shape[1]
        rows = x.size // n
        y, dx, mean, rstd, dw, db = (np.empty(s, "float32") for s in (shape, shape, rows, rows, n, n))
        run_kernel("layer_norm", [y, mean, rstd, x, None, None], 3, [n, EPS])
        run_kernel("layer_norm_backward", [dx, dw, db, g, x, mean, rstd, None], 3, [n])
        y2, dx2, mean2, rstd2, dw2, db2 = (np.empty(s, "float32") for s in (shape, shape, c, c, c, c))
        run_kernel("batch_norm_train", [y2, mean2, rstd2, None, None, x, None, None], 5, [EPS, 0.1])
        run_kernel("batch_norm_backward", [dx2, dw2, db2, g, x, mean2, rstd2, None], 3, [1])
        return [y, dx, dw, db, y2, dx2, dw2, db2]

    assert_bit_equal(at_thread_counts(compute))
