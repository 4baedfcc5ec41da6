"""Activations, losses and their fused gradients: values, kinks and special values as PyTorch has them."""

import numpy as np
import pytest
from peers import torch

import ferrox._core.cpu  # noqa: F401
from ferrox._core.cpu.table import run_loop

F = torch.nn.functional
inf = np.inf


def run(name, *operands, p=()):
    operands = [np.ascontiguousarray(x) for x in operands]
    out = np.empty_like(operands[0])
    at = [x.ctypes.data for x in operands] + [0, 0]
    run_loop(name, {"float32": 8, "float64": 9}[out.dtype.name], out.ctypes.data, *at[:3], out.size, p)
    return out


# name: (PyTorch's function, params, what the gradient kernel takes: "x" input, "y" output)
ACTIVATIONS = {
    "relu": (F.relu, (), "y", "threshold"),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.1), (0.1,), "x", None),
    "elu": (lambda x: F.elu(x, 1.3), (1.3, 1.0, 1.0), "x", None),
    "celu": (lambda x: F.celu(x, 1.3), (1.3,), "x", None),
    "gelu_erf": (F.gelu, (), "x", None),
    "gelu_tanh": (lambda x: F.gelu(x, approximate="tanh"), (), "x", None),
    "silu": (F.silu, (), "x", None),
    "mish": (F.mish, (), "x", None),
    "softplus": (lambda x: F.softplus(x, 1.5, 12.0), (1.5, 12.0), "x", None),
    "softsign": (F.softsign, (), "x", None),
    "hardtanh": (lambda x: F.hardtanh(x, -2.0, 3.0), (-2.0, 3.0), "x", None),
    "hardsigmoid": (F.hardsigmoid, (), "x", None),
    "hardswish": (F.hardswish, (), "x", None),
    "logsigmoid": (F.logsigmoid, (), "x", None),
    "softshrink": (lambda x: F.softshrink(x, 0.5), (0.5,), "x", None),
    "hardshrink": (lambda x: F.hardshrink(x, 0.5), (0.5,), "x", None),
    "threshold": (lambda x: F.threshold(x, 0.5, 20.0), (0.5, 20.0), "x", "threshold"),
    "tanh": (torch.tanh, (), "y", None),
    "sigmoid": (torch.sigmoid, (), "y", None),
    "abs": (torch.abs, (), "x", None),
    "sqrt": (torch.sqrt, (), "y", None),
    "rsqrt": (torch.rsqrt, (), "y", None),
    "reciprocal": (torch.reciprocal, (), "y", None),
    "expm1": (torch.expm1, (), "x", None),
    "log1p": (torch.log1p, (), "x", None),
    "clamp_scalar": (lambda x: torch.clamp(x, -2.0, 3.0), (-2.0, 3.0), "x", "clamp"),
    "relu6": (F.relu6, (), None, None),
    "tanhshrink": (F.tanhshrink, (), None, None),
}
SINGLE = {"celu", "hardsigmoid"}  # PyTorch rounds a constant of these to float32 even in float64
KINKS = [0.0, -0.0, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, 6.0, 1.0, -1.0, 8.0, 20.0, 25.0, -25.0, 60.0, -60.0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name, dtype):
    function, params, takes, gradient = ACTIVATIONS[name]
    rng = np.random.default_rng(0)
    x = np.concatenate([KINKS, rng.normal(size=500) * 3]).astype(dtype)
    if name in ("sqrt", "rsqrt", "log1p"):
        x = np.abs(x)
    tolerance = {"rtol": 1e-6 if dtype == np.float32 else 1e-14, "atol": 1e-6 if dtype == np.float32 else 2e-15}
    if dtype == np.float64 and name in SINGLE:
        tolerance = {"rtol": 1e-6, "atol": 1e-6}
    t = torch.from_numpy(x.copy()).requires_grad_()
    y = function(t)
    got = run(name, x, p=params)
    np.testing.assert_allclose(got, y.detach().numpy(), **tolerance)
    special = np.array([np.nan, inf, -inf], dtype)
    if name not in ("gelu_tanh", "softsign", "tanhshrink", "hardswish", "mish"):
        expected = function(torch.from_numpy(special)).numpy()
        keep = ~np.isnan(expected) | np.isnan(special)  # silu(-inf), gelu(-inf): NaN there, their limit or NaN here
        np.testing.assert_array_equal(run(name, special, p=params)[keep], expected[keep])
    if takes:
        g = rng.normal(size=x.size).astype(dtype)
        y.backward(torch.from_numpy(g))
        params = (0.0,) if name == "relu" else params
        dx = run(f"{gradient or name}_backward", g, x if takes == "x" else y.detach().numpy(), p=params)
        np.testing.assert_allclose(dx, t.grad.numpy(), **tolerance)


LOSSES = {
    "mse": (F.mse_loss, ()),
    "l1": (F.l1_loss, ()),
    "smooth_l1": (lambda x, t, reduction: F.smooth_l1_loss(x, t, reduction=reduction, beta=0.7), (0.7,)),
    "huber": (lambda x, t, reduction: F.huber_loss(x, t, reduction=reduction, delta=0.7), (0.7,)),
    "bce": (F.binary_cross_entropy, ()),
    "bce_with_logits": (F.binary_cross_entropy_with_logits, ()),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", LOSSES)
def test_loss(name, dtype):
    function, params = LOSSES[name]
    rng = np.random.default_rng(0)
    x = (rng.random(500) if name == "bce" else rng.normal(size=500) * 3).astype(dtype)
    target = (rng.random(500) if "bce" in name else rng.normal(size=500)).astype(dtype)
    x[:6] = [0, 1, 0, 1, 0.5, 0.25]
    target[:6] = [0, 1, 1, 0, 0.5, 0.25]
    if name in ("smooth_l1", "huber"):  # the kinks, exactly
        target[6:8] = 0
        x[6:8] = dtype(0.7), -dtype(0.7)
    g = rng.normal(size=500).astype(dtype)
    t = torch.from_numpy(x.copy()).requires_grad_()
    y = function(t, torch.from_numpy(target), reduction="none")
    tolerance = {"rtol": 2e-6 if dtype == np.float32 else 1e-14, "atol": 1e-6 if dtype == np.float32 else 1e-14}
    np.testing.assert_allclose(run(name, x, target, p=params), y.detach().numpy(), **tolerance)
    y.backward(torch.from_numpy(g))
    dx = run(f"{name}_backward", g, x, target, p=params)
    np.testing.assert_allclose(dx[6:], t.grad.numpy()[6:], **tolerance)
    np.testing.assert_allclose(
        dx[:6], t.grad.numpy()[:6], rtol=1e-6
    )  # PyTorch's 1e-12 in bce's denominator is a float32


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0, -1.0, 0.5, 2.5])
def test_power_gradient(exponent):
    rng = np.random.default_rng(0)
    x, g = np.abs(rng.normal(size=99)) + 0.1, rng.normal(size=99)
    t = torch.from_numpy(x.copy()).requires_grad_()
    (t**exponent).backward(torch.from_numpy(g))
    np.testing.assert_allclose(run("pow_scalar_backward", g, x, p=(exponent,)), t.grad.numpy(), rtol=1e-14)


def test_prelu_and_nan_to_num():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=99), rng.random(99)
    np.testing.assert_array_equal(run("prelu", x, w), np.where(x > 0, x, x * w))
    x = np.array([np.nan, inf, -inf, 1.5])
    np.testing.assert_array_equal(run("nan_to_num", x, p=(7.0, 8.0, 9.0)), [7, 8, 9, 1.5])
