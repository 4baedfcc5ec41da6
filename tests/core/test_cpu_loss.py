"""Cross-entropy and negative log-likelihood per sample, against float64 formulae and PyTorch."""
import numpy as np
import pytest

import ferrox._core.cpu  # noqa: F401
from ferrox._core.door import threads
from ferrox._core.door.backend import run_kernel

IGNORED = -100
TOLERANCE = {"float32": {"rtol": 1e-5, "atol": 2e-6}, "float64": {"rtol": 1e-13, "atol": 1e-13},
             "float16": {"rtol": 2e-3, "atol": 2e-3}}
SHAPES = [(1, 1), (3, 10), (257, 10), (5, 33), (2, 3000), (4, 7, 5), (3, 10, 9), (2, 5, 8, 17), (6,)]


def sample(shape, dtype, weighted, seed=0):
    rng = np.random.default_rng(seed)
    x = (3 * rng.standard_normal(shape)).astype(dtype)
    classes = shape[1] if len(shape) > 1 else shape[0]
    rest = shape[:1] + shape[2:] if len(shape) > 1 else ()
    target = np.array(rng.integers(0, classes, rest), dtype=np.int64)
    if target.size > 2:
        target.reshape(-1)[::3] = IGNORED
    weight = (rng.random(classes) + 0.1).astype("float64" if dtype == "float64" else "float32") if weighted else None
    return x, target, weight, classes


def reference(x, target, weight, smoothing):
    """Loss, lse, sample weight, gradient of the sum; classes last."""
    x = x.astype(np.float64)
    x = np.moveaxis(x, 1, -1) if x.ndim > 1 else x
    top = x.max(-1, keepdims=True)
    lse = top + np.log(np.exp(x - top).sum(-1, keepdims=True))
    w = np.ones(x.shape[-1]) if weight is None else weight.astype(np.float64)
    kept = target != IGNORED
    k = np.where(kept, target, 0)[..., None]
    hot = np.arange(x.shape[-1]) == k
    wt = w[k[..., 0]] * kept
    share = smoothing / x.shape[-1]
    loss = (1 - smoothing) * wt * (lse - x)[hot].reshape(target.shape) + share * kept * (w * (lse - x)).sum(-1)
    p = np.exp(x - lse)
    dx = ((1 - smoothing) * wt)[..., None] * (p - hot) + share * kept[..., None] * (p * w.sum() - w)
    return loss, lse[..., 0], wt, dx


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.15])
@pytest.mark.parametrize("shape", SHAPES)
def test_cross_entropy(shape, smoothing, weighted, dtype):
    x, target, weight, _ = sample(shape, dtype, weighted)
    stats = "float64" if dtype == "float64" else "float32"
    loss, lse, wt = (np.full(target.shape, 7, stats) for _ in range(3))
    run_kernel("cross_entropy", [loss, lse, wt, x, target, weight], 3, [IGNORED, smoothing], dtype)
    expected = reference(x, target, weight, smoothing)
    for got, right in zip((loss, lse, wt), expected[:3], strict=True):
        np.testing.assert_allclose(got, right, **TOLERANCE[stats])
    g = np.random.default_rng(1).standard_normal(target.shape).astype(stats)
    dx = np.full_like(x, 7)
    run_kernel("cross_entropy_backward", [dx, g, x, target, lse, weight], 1, [IGNORED, smoothing], dtype)
    right = expected[3] * g[..., None]
    np.testing.assert_allclose(np.moveaxis(dx, 1, -1) if x.ndim > 1 else dx, right, **TOLERANCE[dtype])
    two = [np.empty_like(loss), np.empty_like(lse)]
    run_kernel("cross_entropy", [*two, x, target, weight], 2, [IGNORED, smoothing], dtype)
    np.testing.assert_array_equal(two[0], loss)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_nll(shape, weighted):
    logp, target, weight, classes = sample(shape, "float32", weighted)
    loss, wt = np.empty(target.shape, "float32"), np.empty(target.shape, "float32")
    run_kernel("nll", [loss, wt, logp, target, weight], 2, [IGNORED])
    last = np.moveaxis(logp, 1, -1) if logp.ndim > 1 else logp
    w = np.ones(classes, "float32") if weight is None else weight
    expected, expected_w, slope = np.zeros(target.shape), np.zeros(target.shape), np.zeros(last.shape)
    g = np.random.default_rng(1).standard_normal(target.shape).astype("float32")
    for i in np.ndindex(target.shape):
        if target[i] != IGNORED:
            k = (*i, target[i])
            expected[i], expected_w[i], slope[k] = -last[k] * w[target[i]], w[target[i]], -g[i] * w[target[i]]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    np.testing.assert_allclose(wt, expected_w, rtol=1e-6)
    dx = np.full_like(logp, 7)
    run_kernel("nll_backward", [dx, g, target, weight], 1, [classes, IGNORED])
    np.testing.assert_allclose(np.moveaxis(dx, 1, -1) if logp.ndim > 1 else dx, slope, rtol=1e-6)


@pytest.mark.parametrize("wrong", [11, -1, 10, 2**40])
@pytest.mark.parametrize("name", ["cross_entropy", "cross_entropy_backward", "nll", "nll_backward"])
def test_target_out_of_bounds_writes_nothing(name, wrong):
    x = np.zeros((3, 10), "float32")
    target = np.array([1, wrong, IGNORED])
    a, b = np.full(3, 7, "float32"), np.full(3, 7, "float32")
    o = np.full_like(x, 7)
    arrays, n_out, params = {
        "cross_entropy": ([a, b, x, target, None], 2, [IGNORED, 0.0]),
        "cross_entropy_backward": ([o, a, x, target, b, None], 1, [IGNORED, 0.0]),
        "nll": ([a, b, x, target, None], 2, [IGNORED]),
        "nll_backward": ([o, a, target, None], 1, [10, IGNORED]),
    }[name]
    with pytest.raises(IndexError, match=f"target {wrong} is out of bounds for 10 classes"):
        run_kernel(name, arrays, n_out, params)
    assert (a == 7).all() and (b == 7).all() and (o == 7).all()


def test_ignored_index_may_be_a_class_and_nan_stays_inside_its_sample():
    x = np.random.default_rng(0).standard_normal((4, 5)).astype("float32")
    x[1] = np.nan
    target = np.array([0, 3, 3, 1])
    loss, lse, dx = np.empty(4, "float32"), np.empty(4, "float32"), np.empty_like(x)
    run_kernel("cross_entropy", [loss, lse, x, target, None], 2, [3, 0.0])
    assert loss[1] == 0 and loss[2] == 0 and np.isnan(lse[1]) and (loss[[0, 3]] > 0).all()
    run_kernel("cross_entropy_backward", [dx, np.ones(4, "float32"), x, target, lse, None], 1, [3, 0.0])
    assert not dx[1:3].any() and np.isfinite(dx).all()


def test_strided_operands():
    rng = np.random.default_rng(2)
    base = rng.standard_normal((8, 6, 10, 12)).astype("float32")
    x = base.transpose(0, 3, 1, 2)[::2, ::2]  # (4, 6, 6, 10)
    target = rng.integers(0, 6, (4, 10, 6)).swapaxes(1, 2)
    weight = rng.random(12).astype("float32")[::2]
    loss, lse = np.empty(target.shape, "float32"), np.empty(target.shape, "float32")
    run_kernel("cross_entropy", [loss, lse, x, target, weight], 2, [IGNORED, 0.1])
    expected = reference(x, target, weight, 0.1)
    np.testing.assert_allclose(loss, expected[0], rtol=1e-5)
    g = np.broadcast_to(np.float32(0.5), target.shape)
    dx = np.empty(x.shape, "float32")
    run_kernel("cross_entropy_backward", [dx, g, x, target, lse, weight], 1, [IGNORED, 0.1])
    np.testing.assert_allclose(np.moveaxis(dx, 1, -1), 0.5 * expected[3], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("shape", [(7, 5), (3, 4, 6, 5)])
def test_as_pytorch(shape, smoothing):
    torch = pytest.importorskip("torch")
    x, target, weight, _ = sample(shape, "float32", True, 3)
    t = torch.from_numpy(x).requires_grad_()
    expected = torch.nn.functional.cross_entropy(t, torch.from_numpy(target), torch.from_numpy(weight),
                                                 reduction="none",
                                                 label_smoothing=smoothing)
    expected.sum().backward()
    loss, lse, dx = np.empty(target.shape, "float32"), np.empty(target.shape, "float32"), np.empty_like(x)
    run_kernel("cross_entropy", [loss, lse, x, target, weight], 2, [IGNORED, smoothing])
    np.testing.assert_allclose(loss, expected.detach(), rtol=1e-5, atol=1e-6)
    run_kernel("cross_entropy_backward", [dx, np.ones_like(loss), x, target, lse, weight], 1, [IGNORED, smoothing])
    np.testing.assert_allclose(dx, t.grad, rtol=1e-5, atol=1e-6)


def test_rows_of_infinities_as_pytorch():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(4).standard_normal((6, 12)).astype("float32")
    x[0] = -np.inf
    x[1, 3] = -np.inf
    x[2, 3] = np.inf
    x[3] = 1e38
    x[4, 0] = -1e38
    target = np.array([3, 3, 3, 1, 0, 2])
    loss, lse = np.empty(6, "float32"), np.empty(6, "float32")
    run_kernel("cross_entropy", [loss, lse, x, target, None], 2, [IGNORED, 0.0])
    expected = torch.nn.functional.cross_entropy(torch.from_numpy(x), torch.from_numpy(target), reduction="none")
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


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


@pytest.mark.parametrize("shape", [(9000, 10), (500, 300), (20, 10, 900)])
def test_bit_equal_at_any_thread_count(shape):
    x, target, weight, _ = sample(shape, "float32", True)

    def compute():
        loss, lse, wt, dx = (np.empty(s, "float32") for s in (target.shape, target.shape, target.shape, shape))
        run_kernel("cross_entropy", [loss, lse, wt, x, target, weight], 3, [IGNORED, 0.1])
        run_kernel("cross_entropy_backward", [dx, wt, x, target, lse, weight], 1, [IGNORED, 0.1])
        return [loss, lse, wt, dx]

    assert_bit_equal(at_thread_counts(compute))
