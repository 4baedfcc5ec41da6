"""Layer, RMS and batch normalisation on the device, against PyTorch's on the CPU in float64."""

import numpy as np
import pytest
from peers import torch, torch_functional

import ferrox as fx

F = fx.nn.functional
T = torch_functional
FLOATS = ("float16", "bfloat16", "float32", "float64")
# For float32 a few roundings in sums over a row; for halves the rounding of the result itself.
LIMIT = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 4e-6, "float64": 1e-13}
ROWS = [(1, 2), (3, 7), (5, 32), (70, 4), (3, 130), (2, 1025), (2, 4096), (2, 5001), (2, 33_001), (2, 3, 6)]


def tensors(rng, shape, dtype, offset=0.0):
    x = fx.tensor(rng.standard_normal(shape) + offset).to(getattr(fx, dtype))
    return x.cuda().requires_grad_(), torch.from_numpy(x.to(fx.float64).numpy()).requires_grad_()


def close(got, expected, dtype, times=1.0):
    assert tuple(got.shape) == tuple(expected.shape)
    got, expected = got.detach().cpu().to(fx.float64).numpy(), expected.detach().numpy()
    scale = max(1.0, np.abs(expected).max()) if expected.size else 1
    np.testing.assert_allclose(got, expected, rtol=LIMIT[dtype] * times, atol=LIMIT[dtype] * times * scale)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("affine", [(), ("weight",), ("weight", "bias")])
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_rows(name, affine, dtype):
    if name == "rms_norm" and "bias" in affine:
        return
    rng = np.random.default_rng(1)
    for shape in ROWS:
        x, t = tensors(rng, shape, dtype, 0.5)
        pairs = [tensors(rng, shape[-1:], dtype, 1.0) for _ in affine]
        mine, its = [p[0] for p in pairs], [p[1] for p in pairs]
        got = getattr(F, name)(x, shape[-1:], *mine, eps=1e-5)
        right = getattr(T, name)(t, shape[-1:], *its, eps=1e-5)
        assert got.dtype == x.dtype
        close(got, right, dtype, 2)
        g, tg = tensors(rng, shape, dtype)
        got.backward(g.detach())
        right.backward(tg.detach())
        close(x.grad, t.grad, dtype, 4)
        for a, b in pairs:
            close(a.grad, b.grad, dtype, 2)


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_weight_gradients_of_many_rows(name):
    """Chunks of rows, merged in a second stage."""
    rng = np.random.default_rng(2)
    for shape in [(700, 5), (130, 40)]:
        x, t = tensors(rng, shape, "float32")
        w, tw = tensors(rng, shape[-1:], "float32")
        getattr(F, name)(x, shape[-1:], w).sum().backward()
        getattr(T, name)(t, shape[-1:], tw, eps=1e-5 if name == "layer_norm" else 2.0**-23).sum().backward()
        close(w.grad, tw.grad, "float32", 4)
        first = w.grad.tolist()
        w.grad = None
        getattr(F, name)(x, shape[-1:], w).sum().backward()
        assert w.grad.tolist() == first


def test_weights_of_another_dtype_and_no_rows():
    rng = np.random.default_rng(3)
    x, t = tensors(rng, (4, 6), "float16")
    w, tw = tensors(rng, (6,), "float32")
    close(F.layer_norm(x, (6,), w), T.layer_norm(t, (6,), tw), "float16", 2)
    x = fx.zeros(0, 3, device="cuda", requires_grad=True)
    w = fx.ones(3, device="cuda", requires_grad=True)
    F.layer_norm(x, (3,), w).sum().backward()
    assert w.grad.tolist() == [0, 0, 0]


def test_far_from_zero():
    x = np.random.default_rng(4).standard_normal((3, 5000)) + 1e6
    for n in (300, 5000):
        got = F.layer_norm(fx.tensor(x[:, :n]).cuda(), (n,))
        right = T.layer_norm(torch.from_numpy(x[:, :n].copy()), (n,))
        np.testing.assert_allclose(got.cpu().numpy(), right, rtol=1e-8, atol=1e-8)


def test_strided():
    rng = np.random.default_rng(5)
    x, t = tensors(rng, (6, 4, 10), "float32")
    w, tw = tensors(rng, (20,), "float32")
    with fx.no_grad(), torch.no_grad():
        got = F.layer_norm(x.transpose(0, 1)[:, 1:], (10,), w[::2])
        right = T.layer_norm(t.transpose(0, 1)[:, 1:], (10,), tw[::2])
    close(got, right, "float32")
    w, tw = tensors(rng, (6,), "float32")
    got = F.layer_norm(x.transpose(0, 2), (6,), w)
    right = T.layer_norm(t.transpose(0, 2), (6,), tw)
    close(got, right, "float32")
    (got * got).sum().backward()
    (right * right).sum().backward()
    close(x.grad, t.grad, "float32", 8)
    close(w.grad, tw.grad, "float32", 4)


BATCHES = [(4, 3), (70, 5), (300, 40), (2, 3, 7), (3, 2, 4, 5), (2, 3, 5000), (5, 4, 1), (40, 3, 130), (2, 1, 3)]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm(affine, training, dtype):
    rng = np.random.default_rng(6)
    for shape in BATCHES:
        x, t = tensors(rng, shape, dtype, 0.5)
        channels = shape[1:2]
        w, tw = tensors(rng, channels, dtype, 1.0) if affine else (None, None)
        b, tb = tensors(rng, channels, dtype) if affine else (None, None)
        mean, variance = rng.standard_normal(channels), rng.random(channels) + 0.5
        statistics = [fx.tensor(v).to(x.dtype).cuda() for v in (mean, variance)]
        wide = [torch.from_numpy(s.cpu().to(fx.float64).numpy().copy()) for s in statistics]
        got = F.batch_norm(x, *statistics, w, b, training=training, momentum=0.2)
        right = T.batch_norm(t, *wide, tw, tb, training=training, momentum=0.2)
        close(got, right, dtype, 4)
        for a, e in zip(statistics, wide, strict=True):
            close(a, e, dtype, 2)
        g, tg = tensors(rng, shape, dtype)
        got.backward(g.detach())
        right.backward(tg.detach())
        close(x.grad, t.grad, dtype, 8)
        if affine:
            close(w.grad, tw.grad, dtype, 4)
            close(b.grad, tb.grad, dtype, 2)


def test_batch_norm_without_running_statistics_and_strided():
    rng = np.random.default_rng(7)
    x, t = tensors(rng, (6, 8, 5), "float32")
    close(F.batch_norm(x, None, None, training=True), T.batch_norm(t, None, None, training=True), "float32", 4)
    held, wide = fx.zeros(16, device="cuda"), torch.zeros(16, dtype=torch.float64)
    got = F.batch_norm(x.transpose(0, 2), held[::2], held[1::2], training=True)
    right = T.batch_norm(t.transpose(0, 2), wide[::2], wide[1::2], training=True)
    close(got, right, "float32", 4)
    close(held, wide, "float32", 4)


def test_the_same_bits_twice():
    x, _ = tensors(np.random.default_rng(8), (40, 3, 130), "float32")
    results = []
    for _ in range(2):
        w = fx.ones(3, device="cuda", requires_grad=True)
        y = F.batch_norm(x, None, None, w, training=True)
        (y * y * y).sum().backward()
        results.append((y.tolist(), w.grad.tolist(), x.grad.tolist()))
        x.grad = None
    assert results[0] == results[1]
