"""Elementwise losses against PyTorch: values, reductions, weights, both gradients, refusals."""

import warnings

import pytest
from against_torch import check, fx_of, raises_alike, same
from peers import torch
from peers import torch_functional as theirs

import ferrox as fx
import ferrox.nn.functional as mine

torch.manual_seed(0)
REDUCTIONS = ["none", "mean", "sum"]


def functional(lib):
    return mine if lib is fx else theirs


def r(*shape, low=-2.0, high=2.0):
    return torch.rand(shape, dtype=torch.float64) * (high - low) + low


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    "name, parameters",
    [
        ("mse_loss", {}),
        ("l1_loss", {}),
        ("smooth_l1_loss", {}),
        ("smooth_l1_loss", {"beta": 0.3}),
        ("smooth_l1_loss", {"beta": 0.0}),
        ("huber_loss", {}),
        ("huber_loss", {"delta": 0.3}),
    ],
)
def test_differences(name, parameters, reduction):
    def loss(lib, x, y):
        return getattr(functional(lib), name)(x, y, reduction=reduction, **parameters)

    check(loss, r(3, 4), r(3, 4))
    check(loss, r(), r())
    check(loss, r(3, 4).T, r(4, 3))
    same(loss(fx, fx.ones(0), fx.ones(0)), loss(torch, torch.ones(0), torch.ones(0)))
    a, b = r(3, 4), r(3, 4)
    b[0] = a[0]
    check(loss, a, b, order=1)
    x, y = fx_of(r(6)).requires_grad_(), fx_of(r(6, low=3, high=4)).requires_grad_()
    assert fx.autograd.gradcheck(lambda x, y: loss(fx, x, y), (x, y))
    assert fx.autograd.gradgradcheck(lambda x, y: loss(fx, x, y), (x, y))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss"])
def test_weights(name, reduction):
    check(
        lambda lib, x, y, w: getattr(functional(lib), name)(x, y, reduction=reduction, weight=w),
        r(3, 4),
        r(3, 4),
        r(3, 4, low=0.1),
    )
    raises_alike(
        lambda lib, x, y, w: getattr(functional(lib), name)(x, y, weight=w),
        r(3),
        r(3),
        r(1),
        match="Weights and input must have the same size",
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_binary_cross_entropy(reduction):
    x, y = r(3, 4, low=0.05, high=0.95), r(3, 4, low=0, high=1)

    def loss(lib, x, y, w=None):
        return functional(lib).binary_cross_entropy(x, y, weight=w, reduction=reduction)

    # PyTorch holds a denominator of the second derivative above 1e-12 by adding it.
    check(loss, x, y, rtol=1e-8)
    check(loss, x, y, w=r(4, low=0.1), rtol=1e-8)
    edge = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.5], dtype=torch.float64)
    # Its smallest denominator is 1e-12 in float32; its slope for the target leaves out the bound on the logarithm.
    check(lambda lib, x: loss(lib, x, lib.tensor([0.0, 1.0, 1.0, 0.0, 0.5], dtype=x.dtype)), edge, order=1, rtol=1e-8)
    target = fx.full((2,), 0.5, requires_grad=True)
    mine.binary_cross_entropy(fx.tensor([0.0, 1.0]), target, reduction="sum").backward()
    assert target.grad.tolist() == [100.0, -100.0]
    for bad in (-0.1, 1.5):
        raises_alike(loss, torch.tensor([0.5, bad]), torch.tensor([0.5, 0.5]), match="between 0 and 1")
    assert fx.autograd.gradgradcheck(
        lambda x, y: loss(fx, x, y), (fx_of(x[0]).requires_grad_(), fx_of(y[0]).requires_grad_())
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_binary_cross_entropy_with_logits(reduction):
    x, y = r(3, 4, low=-4, high=4), r(3, 4, low=0, high=1)

    def loss(lib, x, y, w=None, p=None):
        return functional(lib).binary_cross_entropy_with_logits(x, y, weight=w, pos_weight=p, reduction=reduction)

    check(loss, x, y)
    check(loss, x, y, w=r(4, low=0.1))
    check(loss, x, y, p=r(4, low=0.1))
    check(loss, x, y, w=r(3, 1, low=0.1), p=r(4, low=0.1))
    check(
        loss,
        torch.tensor([-1000.0, 1000.0, 0.0], dtype=torch.float64),
        torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64),
    )
    assert fx.autograd.gradgradcheck(
        lambda x, y: loss(fx, x, y), (fx_of(x[0]).requires_grad_(), fx_of(y[0]).requires_grad_())
    )


def test_dtypes():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        x, y = r(50, low=0.1, high=0.9).to(dtype), r(50, low=0.1, high=0.9).to(dtype)
        for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy",
                     "binary_cross_entropy_with_logits"):
            same(
                getattr(mine, name)(fx_of(x), fx_of(y)),
                getattr(theirs, name)(x, y),
                {torch.float16: 5e-3, torch.bfloat16: 4e-2}.get(dtype),
            )
    check(lambda lib, x, y: functional(lib).mse_loss(x, y), r(3), r(3).float())
    check(lambda lib, x, y: functional(lib).l1_loss(x, y, reduction="sum"), torch.tensor([1, 5]), torch.tensor([4, 3]))
    raises_alike(lambda lib, x: functional(lib).mse_loss(x, x), torch.tensor([1]))


def test_sizes():
    with pytest.warns(UserWarning, match="Using a target size"):
        got = mine.mse_loss(fx.ones(2, 3), fx.zeros(3))
    assert got.item() == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(lambda lib, x, y: functional(lib).mse_loss(x, y), r(2, 3), r(3))
        raises_alike(lambda lib, x, y: functional(lib).l1_loss(x, y), r(2, 3), r(2))
    raises_alike(
        lambda lib, x, y: functional(lib).binary_cross_entropy(x, y),
        torch.ones(2),
        torch.ones(3),
        match="Please ensure they have the same size",
    )
    raises_alike(
        lambda lib, x, y: functional(lib).binary_cross_entropy_with_logits(x, y),
        torch.ones(2),
        torch.ones(1),
        match="must be the same as input size",
    )


def test_refusals():
    for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy",
                 "binary_cross_entropy_with_logits"):
        with pytest.raises(ValueError):
            getattr(mine, name)(fx.zeros(2), fx.zeros(2), reduction="median")
    raises_alike(
        lambda lib, x: functional(lib).huber_loss(x, x, delta=0.0), r(2), match="non-positive values for delta"
    )
    raises_alike(lambda lib, x: functional(lib).smooth_l1_loss(x, x, beta=-1.0), r(2), match="negative values for beta")


def test_the_old_arguments():
    x, y = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 5.0])
    for old in ((True, None), (False, None), (None, False), (None, True), (False, True), (True, False)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            same(mine.mse_loss(fx_of(x), fx_of(y), *old), theirs.mse_loss(x, y, *old))
    with pytest.warns(UserWarning, match="will be deprecated"):
        mine.l1_loss(fx_of(x), fx_of(y), size_average=False)


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_old_arguments_of_class_losses(name):
    x, t = fx.tensor([[0.5, -1.0], [2.0, 0.25]]), fx.tensor([0, 1])
    loss = getattr(fx.nn.functional, name)
    with pytest.warns(UserWarning, match="reduction='sum'"):
        assert loss(x, t, size_average=False).item() == loss(x, t, reduction="sum").item()
    with pytest.warns(UserWarning, match="reduction='none'"):
        assert loss(x, t, reduce=False).tolist() == loss(x, t, reduction="none").tolist()
