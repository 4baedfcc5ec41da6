"""Optimiser steps, gradient norm and scaling on the device against torch.optim and NumPy."""
import numpy as np
import pytest

import ferrox as fx
from ferrox._core.door.backend import run_kernel

from .test_elementwise import OnDevice

SHAPES = [(1,), (3, 5), (), (64,), (100, 7), (0, 3), (70, 131)]


def arrays(dtype, seed=0):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(s), dtype) for s in SHAPES]


def there(x, strided=False, shift=0):
    """A tensor on the device; with gaps, or not aligned to 16 bytes."""
    t = fx.tensor(x, device="cuda")
    if strided and t.ndim:
        wide = fx.zeros(tuple(2 * n for n in x.shape[::-1]), dtype=t.dtype, device="cuda")
        view = wide.permute(*range(x.ndim)[::-1])[tuple(slice(None, None, 2) for _ in x.shape)]
        return view.copy_(t)
    if shift and t.numel():
        return fx.zeros(t.numel() + 1, dtype=t.dtype, device="cuda")[1:].reshape(x.shape).copy_(t)
    return t


def close(mine, theirs, dtype):
    for p, q in zip(mine, theirs, strict=True):
        # A small second moment after a change of sign magnifies the last bit of the first.
        np.testing.assert_allclose(p.detach().cpu().numpy(), q.detach(), rtol=3e-6 if dtype == "float32" else 1e-14,
                                   atol=3e-7 if dtype == "float32" else 1e-15)


@pytest.mark.parametrize("layout", [{}, {"strided": True}, {"shift": 1}])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", [
    {}, {"weight_decay": 0.1}, {"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01},
    {"momentum": 0.5, "nesterov": True, "weight_decay": 0.1, "maximize": True},
])
def test_sgd_as_pytorch(options, dtype, layout):
    torch = pytest.importorskip("torch")
    start = arrays(dtype)
    theirs = [torch.from_numpy(p.copy()).requires_grad_() for p in start]
    mine = [fx.nn.Parameter(there(p, **layout)) for p in start]
    optimiser, ours = torch.optim.SGD(theirs, lr=0.05, foreach=False, **options), fx.optim.SGD(mine, lr=0.05, **options)
    for step in range(3):
        for p, q, g in zip(theirs, mine, arrays(dtype, step + 1), strict=True):
            p.grad, q.grad = torch.from_numpy(g.copy()), there(g, **layout)
        optimiser.step()
        ours.step()
    close(mine, theirs, dtype)


@pytest.mark.parametrize("layout", [{}, {"strided": True}, {"shift": 1}])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("options", [
    {}, {"weight_decay": 0.1}, {"amsgrad": True, "weight_decay": 0.1, "maximize": True},
    {"betas": (0.3, 0.9), "eps": 1e-3, "amsgrad": True},
])
def test_adam_as_pytorch(options, decoupled, dtype, layout):
    torch = pytest.importorskip("torch")
    start = arrays(dtype)
    theirs = [torch.from_numpy(p.copy()).requires_grad_() for p in start]
    mine = [fx.nn.Parameter(there(p, **layout)) for p in start]
    options = {"weight_decay": 0.0, **options}
    name = "AdamW" if decoupled else "Adam"
    optimiser = getattr(torch.optim, name)(theirs, lr=0.01, foreach=False, **options)
    ours = getattr(fx.optim, name)(mine, lr=0.01, **options)
    for step in range(3):
        for p, q, g in zip(theirs, mine, arrays(dtype, step + 1), strict=True):
            p.grad, q.grad = torch.from_numpy(g.copy()), there(g, **layout)
        optimiser.step()
        ours.step()
    close(mine, theirs, dtype)


def test_more_tensors_than_one_launch_takes():
    rng = np.random.default_rng(1)
    start = [rng.standard_normal(i % 9) for i in range(400)]
    params = [fx.tensor(p, device="cuda") for p in start]
    grads = [fx.tensor(2 * p, device="cuda") for p in start]
    flat = [a for p, g in zip(params, grads, strict=True) for a in (OnDevice(p), OnDevice(g), None)]
    run_kernel("sgd_step", flat, len(flat), [0.25, 0.0, 0.0, 0, 0.0, 0, 1, 400], "float64", device_type=1)
    for p, q in zip(params, start, strict=True):
        np.testing.assert_allclose(p.cpu().numpy(), q / 2, rtol=1e-15)
    norm = fx.zeros((), dtype=fx.float64, device="cuda")
    run_kernel("grad_norm", [OnDevice(t) for t in (norm, *grads)], 1, [2.0], "float64", device_type=1)
    np.testing.assert_allclose(norm.item(), np.linalg.norm(2 * np.concatenate(start)), rtol=1e-14)
    run_kernel("scale_all", [*map(OnDevice, params), None], 400, [4.0], "float64", device_type=1)
    for p, q in zip(params, start, strict=True):
        np.testing.assert_allclose(p.cpu().numpy(), q * 2, rtol=1e-15)


def test_parameters_without_gradient_and_half_parameters():
    w, other = fx.ones(40, dtype=fx.float16, device="cuda"), fx.ones(40, device="cuda")
    g = fx.full((40,), 0.5, dtype=fx.float16, device="cuda")
    m, v = fx.zeros(40, device="cuda"), fx.zeros(40, device="cuda")
    flat = [OnDevice(other), None, None, None, None, *map(OnDevice, (w, g, m, v)), None]
    run_kernel("adam_step", flat, 10, [0.125, 0.9, 0.999, 0.0, 0.0, 0, 0, 0, 0.1, 0.001, 2], device_type=1)
    np.testing.assert_allclose(w.cpu().numpy(), 0.875)
    np.testing.assert_allclose(m.cpu().numpy(), 0.05, rtol=1e-6)
    assert (other.cpu() == 1).all()


def test_special_values():
    w, g = np.array([1, np.inf, 2, 3], "float32"), np.array([np.nan, 1, np.inf, 0], "float32")
    w, g = there(w), there(g)
    run_kernel("sgd_step", [OnDevice(w), OnDevice(g), None], 3, [0.1, 0.0, 0.0, 0, 0.0, 0, 1, 1], device_type=1)
    np.testing.assert_array_equal(w.cpu().numpy(), np.array([np.nan, np.inf, -np.inf, 3], "float32"))


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, 0.5, np.inf, -np.inf])
@pytest.mark.parametrize("layout", [{}, {"strided": True}, {"shift": 1}])
def test_grad_norm(p, layout):
    values = arrays("float32", 9)
    flat = np.concatenate([v.reshape(-1) for v in values]).astype(np.float64)
    norm = fx.zeros((), device="cuda")

    def got():
        every = [OnDevice(t) for t in (norm, *(there(v, **layout) for v in values))]
        run_kernel("grad_norm", [*every, None], 1, [p], device_type=1)
        return norm.item()

    np.testing.assert_allclose(got(), np.linalg.norm(flat, p), rtol=1e-6)
    values[-1][69, 130] = np.nan
    assert np.isnan(got())
    values[-1][69, 130] = np.inf
    assert got() == (np.inf if p > 0 else np.linalg.norm(np.delete(flat, -1), p).astype("float32"))


def test_norm_of_nothing_and_of_large_values():
    norm = fx.ones((), device="cuda")
    for p in (2.0, -np.inf):
        run_kernel("grad_norm", [OnDevice(norm), None], 1, [p], device_type=1)
        assert norm.item() == 0
    x = fx.full((20000,), 1e30, device="cuda")
    run_kernel("grad_norm", [OnDevice(norm), OnDevice(x)], 1, [2.0], device_type=1)
    np.testing.assert_allclose(norm.item(), 1e32 * np.sqrt(2), rtol=1e-6)   # its square is no float32
    with pytest.raises(ValueError, match="norm_type 0"):
        run_kernel("grad_norm", [OnDevice(norm), OnDevice(x)], 1, [0.0], device_type=1)


@pytest.mark.parametrize("layout", [{}, {"strided": True}, {"shift": 1}])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_scale_all(dtype, layout):
    values = arrays(dtype, 3)
    tensors = [there(v, **layout) for v in values]
    run_kernel("scale_all", [*map(OnDevice, tensors), None], len(values), [0.5], dtype, device_type=1)
    factor = fx.tensor(0.25, dtype=getattr(fx, dtype), device="cuda")
    run_kernel("scale_all", [*map(OnDevice, tensors), OnDevice(factor)], len(values), [], dtype, device_type=1)
    for t, v in zip(tensors, values, strict=True):
        np.testing.assert_array_equal(t.cpu().numpy(), v * np.asarray(0.125, dtype))
