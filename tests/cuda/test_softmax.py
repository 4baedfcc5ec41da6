"""Softmax, log-softmax and the losses of classes on the device, against PyTorch's on the CPU in float64."""

import itertools

import numpy as np
import pytest
from peers import torch

import ferrox as fx

F = fx.nn.functional
FLOATS = ("float16", "bfloat16", "float32", "float64")
EPS = {"float16": 2**-11, "bfloat16": 2**-8, "float32": 2**-24, "float64": 2**-53}
# Rows for a part of a warp, a warp, a block, longer than what a block keeps, and cut into pieces; columns.
SHAPES = [(1,), (7,), (5, 1), (9, 3), (4, 4), (3, 33), (5, 128), (2, 515), (2, 4096), (2, 4100), (1, 9001), (2, 33_001),
          (20, 3, 5), (2, 70, 40), (2, 3, 2, 3)]  # fmt: skip


def tensors(rng, shape, dtype):
    """The same values in Ferrox on the device and in PyTorch as float64."""
    x = fx.tensor(rng.standard_normal(shape) * 3).to(getattr(fx, dtype))
    return x.cuda(), torch.from_numpy(x.to(fx.float64).numpy())


def exact(t):
    return t.detach().cpu().to(fx.float64).numpy()


def close(got, expected, dtype, times=8):
    inner = EPS["float64" if dtype == "float64" else "float32"]
    expected = expected.detach().numpy() if isinstance(expected, torch.Tensor) else np.asarray(expected)
    bound = np.abs(expected) * (EPS[dtype] + times * inner) + times * inner + 6e-8 * (dtype == "float16")
    got = exact(got)
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        assert (same | (np.abs(got - expected) <= bound)).all(), np.abs(got - expected).max()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_forward_and_backward(name, dtype):
    rng = np.random.default_rng(1)
    for shape in SHAPES:
        for dim in range(len(shape)):
            x, t = tensors(rng, shape, dtype)
            g, tg = tensors(rng, shape, dtype)
            x.requires_grad_()
            t.requires_grad_()
            y, expected = getattr(fx, name)(x, dim), getattr(torch, name)(t, dim)
            assert y.dtype == x.dtype
            close(y, expected, dtype, 16)
            y.backward(g)
            # The gradient is computed from the result as it was rounded.
            rounded = torch.from_numpy(exact(y))
            if name == "softmax":
                right = (tg - (tg * rounded).sum(dim, keepdim=True)) * rounded
            else:
                right = tg - rounded.exp() * tg.sum(dim, keepdim=True)
            close(x.grad, right, dtype, 8 * (1 + shape[dim] ** 0.5))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [3, 40, 4100])
@pytest.mark.parametrize("dim", [0, 1])
def test_special_values(dtype, n, dim):
    x = np.random.default_rng(4).standard_normal((10, n)).astype(dtype)
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
        got = getattr(fx, name)(fx.tensor(x).cuda(), dim).cpu().numpy()
        expected = getattr(torch, name)(torch.from_numpy(x).double(), dim).numpy()
        np.testing.assert_allclose(got, expected, rtol=2e-5 if dtype == "float32" else 1e-12, atol=1e-6)


def test_layouts_and_alignment():
    rng = np.random.default_rng(5)
    x, t = tensors(rng, (5, 6, 40), "float32")
    for order in itertools.permutations(range(3)):
        for dim in range(3):
            view, wide = x.permute(*order)[1:, ::2], t.permute(*order)[1:, ::2]
            close(fx.softmax(view, dim), torch.softmax(wide, dim), "float32")
    flat = x.reshape(-1)
    for offset in (1, 2, 3):
        view = flat[offset : offset + 600].reshape(2, 300)
        assert fx.log_softmax(view, 1).tolist() == fx.log_softmax(view.clone(), 1).tolist()
    assert fx.softmax(fx.tensor(3.0).cuda(), 0).item() == 1
    assert fx.softmax(fx.zeros(0, 3, device="cuda"), 1).tolist() == []


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_second_gradients(name):
    x = np.random.default_rng(6).standard_normal((3, 4, 5))
    results = []
    for device in ("cpu", "cuda"):
        t = fx.tensor(x, device=device, requires_grad=True)
        y = getattr(fx, name)(t, 1)
        (first,) = fx.autograd.grad((y * y * y).sum(), t, create_graph=True)
        (second,) = fx.autograd.grad((first * first).sum(), t)
        results.append((exact(first), exact(second)))
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(results[1][1], results[0][1], rtol=1e-11, atol=1e-13)


LOSSES = [(1, 1), (3, 10), (40, 10), (5, 33), (2, 1500), (2, 5001), (3, 33_001), (4, 7, 5), (3, 10, 9), (2, 5, 4, 17),
          (6,)]  # fmt: skip


@pytest.mark.parametrize("shape", [(3, 0), (3, 0, 2)])
def test_without_classes(shape):
    x = fx.zeros(shape, device="cuda", requires_grad=True)
    ignored = fx.full(shape[:1] + shape[2:], -100, device="cuda")
    losses = F.cross_entropy(x, ignored, reduction="none")
    assert losses.shape == ignored.shape and not losses.cpu().any()
    losses.sum().backward()
    assert x.grad.shape == shape
    assert F.softmax(x, 1).shape == F.log_softmax(x, 1).shape == shape


def classes_of(shape):
    return (shape[1], shape[:1] + shape[2:]) if len(shape) > 1 else (shape[0], ())


def reference(x, target, weight, smoothing):
    """Losses, class weights of the samples and the gradient of the sum by the formulae, in long double."""
    x = x.astype("longdouble")
    x = np.moveaxis(x, 1, -1) if x.ndim > 1 else x
    top = x.max(-1, keepdims=True)
    lse = top + np.log(np.exp(x - top).sum(-1, keepdims=True))
    w = np.ones(x.shape[-1]) if weight is None else weight.astype("longdouble")
    kept = target != -100
    k = np.where(kept, target, 0)[..., None]
    hot = np.arange(x.shape[-1]) == k
    wt = w[k[..., 0]] * kept
    share = smoothing / x.shape[-1]
    loss = (1 - smoothing) * wt * (lse - x)[hot].reshape(target.shape) + share * kept * (w * (lse - x)).sum(-1)
    p = np.exp(x - lse)
    dx = ((1 - smoothing) * wt)[..., None] * (p - hot) + share * kept[..., None] * (p * w.sum() - w)
    return loss, wt, dx


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.15])
def test_cross_entropy(smoothing, weighted, dtype):
    rng = np.random.default_rng(7)
    for shape in LOSSES:
        x, _ = tensors(rng, shape, dtype)
        classes, rest = classes_of(shape)
        target = np.array(rng.integers(0, classes, rest))
        if target.size > 2:
            target.reshape(-1)[::3] = -100
        weight = fx.tensor(rng.random(classes) + 0.5).to(x.dtype).cuda() if weighted else None
        x.requires_grad_()
        k = fx.tensor(target).cuda()
        losses, weights, slopes = reference(exact(x), target, weight if weight is None else exact(weight), smoothing)
        got = F.cross_entropy(x, k, weight, reduction="none", label_smoothing=smoothing)
        close(got, losses, dtype, 32)
        if dtype in ("float32", "float64"):
            mean = F.cross_entropy(x, k, weight, label_smoothing=smoothing)
            close(mean, losses.sum() / weights.sum(), dtype, 32)
        g, tg = tensors(rng, rest, dtype)
        got.backward(g)
        slopes = slopes * tg.numpy()[..., None]
        close(x.grad, np.moveaxis(slopes, -1, 1) if x.ndim > 1 else slopes, dtype, 32)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("weighted", [False, True])
def test_nll(weighted, dtype):
    rng = np.random.default_rng(8)
    for shape in LOSSES:
        x, t = tensors(rng, shape, dtype)
        classes, rest = classes_of(shape)
        target = np.array(rng.integers(0, classes, rest))
        if target.size > 2:
            target.reshape(-1)[::3] = 0  # the one ignored
        weight = fx.tensor(rng.random(classes)).to(x.dtype).cuda() if weighted else None
        wide = torch.from_numpy(exact(weight)) if weighted else None
        x.requires_grad_()
        t.requires_grad_()
        got = F.nll_loss(x, fx.tensor(target).cuda(), weight, ignore_index=0, reduction="none")
        right = torch.nn.functional.nll_loss(t, torch.from_numpy(target), wide, ignore_index=0, reduction="none")
        close(got, right, dtype)
        g, tg = tensors(rng, rest, dtype)
        got.backward(g)
        right.backward(tg)
        close(x.grad, t.grad, dtype)


def test_cross_entropy_of_infinities():
    x = np.random.default_rng(4).standard_normal((6, 12)).astype("float32")
    x[0] = -np.inf
    x[1, 3] = -np.inf
    x[2, 3] = np.inf
    x[3] = 1e38
    x[4, 0] = -1e38
    target = np.array([3, 3, 3, 1, 0, 2])
    expected = torch.nn.functional.cross_entropy(torch.from_numpy(x), torch.from_numpy(target), reduction="none")
    got = F.cross_entropy(fx.tensor(x).cuda(), fx.tensor(target).cuda(), reduction="none")
    np.testing.assert_allclose(got.cpu().numpy(), expected, rtol=1e-5)


def test_an_ignored_sample_keeps_its_nan_to_itself():
    x = fx.tensor([[1.0, 2.0], [np.nan, 0.0]], device="cuda", requires_grad=True)
    loss = F.cross_entropy(x, fx.tensor([1, -100]).cuda())
    loss.backward()
    assert abs(loss.item() - np.log(1 + np.exp(-1))) < 1e-6
    assert x.grad[1].tolist() == [0, 0]


@pytest.mark.parametrize("wrong", [-1, 3, 1 << 40])
@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_a_target_out_of_range(name, wrong):
    for shape in ((2, 3), (2, 3, 4)):
        target = np.zeros(shape[:1] + shape[2:], dtype="i8")
        target.reshape(-1)[-1] = wrong
        with pytest.raises(IndexError, match=rf"target {wrong} is out of bounds for 3 classes"):
            getattr(F, name)(fx.zeros(shape, device="cuda"), fx.tensor(target).cuda()).item()
        fx.cuda.synchronize()
