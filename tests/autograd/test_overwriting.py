"""In-place methods under recording, each as PyTorch: what is overwritten gets a gradient of zeros."""

import pytest

import ferrox as fx

torch = pytest.importorskip("torch")

# Methods whose result does not come from what was there; random ones are compared but for their values.
FILLS = {
    "fill_": lambda m, a, y: a.fill_(3.0),
    "fill_ of a tensor": lambda m, a, y: a.fill_(y[0, 0]),
    "fill_ of a constant tensor": lambda m, a, y: a.fill_(m.tensor(2.0)),
    "zero_": lambda m, a, y: a.zero_(),
    "copy_": lambda m, a, y: a.copy_(y),
    "copy_ of a row": lambda m, a, y: a.copy_(y[0]),
    "copy_ of a constant": lambda m, a, y: a.copy_(m.ones(3, 4)),
    "copy_ of another dtype": lambda m, a, y: a.copy_(y.double()),
    "copy_ of itself": lambda m, a, y: a.copy_(a),
    "masked_fill_": lambda m, a, y: a.masked_fill_(MASK(m), 2.0),
    "masked_fill_ of a tensor": lambda m, a, y: a.masked_fill_(MASK(m), y[1, 1]),
    "index_fill_": lambda m, a, y: a.index_fill_(1, m.tensor([0, 2]), 5.0),
    "index_fill_ of a tensor": lambda m, a, y: a.index_fill_(1, m.tensor([0, 2]), y[0, 1]),
    "index_copy_": lambda m, a, y: a.index_copy_(1, m.tensor([0, 2]), y[:, :2]),
    "index_copy_ of a constant": lambda m, a, y: a.index_copy_(1, m.tensor([0, 2]), m.ones(3, 2)),
    "index_add_": lambda m, a, y: a.index_add_(1, m.tensor([0, 2]), y[:, :2]),
    "index_put_": lambda m, a, y: a.index_put_((m.tensor([0, 2]), m.tensor([1, 1])), y[0, :2]),
    "index_put_ of a constant": lambda m, a, y: a.index_put_((m.tensor([0, 2]),), m.tensor(1.0)),
    "masked_scatter_": lambda m, a, y: a.masked_scatter_(MASK(m), y),
    "scatter_": lambda m, a, y: a.scatter_(0, m.tensor([[0, 1, 2, 0]]), y[:1]),
    "scatter_ of a number": lambda m, a, y: a.scatter_(0, m.tensor([[0, 1, 2, 0]]), 4.0),
    "scatter_add_": lambda m, a, y: a.scatter_add_(0, m.tensor([[0, 1, 2, 0]]), y[:1]),
    "scatter_reduce_": lambda m, a, y: a.scatter_reduce_(0, m.tensor([[0, 1, 2, 0]]), y[:1], "sum"),
    "setitem": lambda m, a, y: a.__setitem__(1, 7.0),
    "setitem of a tensor": lambda m, a, y: a.__setitem__((slice(None), 1), y[:, 0]),
    "setitem of all": lambda m, a, y: a.__setitem__(Ellipsis, 7.0),
    "setitem by mask": lambda m, a, y: a.__setitem__(MASK(m), 1.0),
    "view fill_": lambda m, a, y: a[1].fill_(3.0),
    "view zero_": lambda m, a, y: a.view(-1)[2:5].zero_(),
    "view copy_": lambda m, a, y: a.t()[1].copy_(y[:, 0]),
    "whole view fill_": lambda m, a, y: a.view(4, 3).fill_(3.0),
    "tril_": lambda m, a, y: a.tril_(),
    "triu_": lambda m, a, y: a.triu_(),
    "eq_": lambda m, a, y: a.eq_(1.0),
    "ge_": lambda m, a, y: a.ge_(0.5),
    "floor_": lambda m, a, y: a.floor_(),
    "ceil_": lambda m, a, y: a.ceil_(),
    "round_": lambda m, a, y: a.round_(),
    "trunc_": lambda m, a, y: a.trunc_(),
    "sign_": lambda m, a, y: a.sign_(),
    "mul_ by 0": lambda m, a, y: a.mul_(0.0),
    "clamp_": lambda m, a, y: a.clamp_(0.2, 0.4),
    "relu_": lambda m, a, y: a.relu_(),
    "lerp_": lambda m, a, y: a.lerp_(y, 0.3),
    "addcmul_": lambda m, a, y: a.addcmul_(y, y),
    "cumsum_": lambda m, a, y: a.cumsum_(0),
    "fill_ then mul_": lambda m, a, y: a.fill_(3.0).mul_(y),
    "mul_ then fill_": lambda m, a, y: a.mul_(y).fill_(3.0),
    "normal_": lambda m, a, y: a.normal_(),
    "uniform_": lambda m, a, y: a.uniform_(),
    "bernoulli_": lambda m, a, y: a.bernoulli_(0.5),
    "bernoulli_ of a tensor": lambda m, a, y: a.bernoulli_(m.full((3, 4), 0.5)),
    "exponential_": lambda m, a, y: a.exponential_(),
    "random_": lambda m, a, y: a.random_(5),
    "view normal_": lambda m, a, y: a[1].normal_(),
    "init.constant_": lambda m, a, y: m.nn.init.constant_(a, 2.0),
}
RANDOM = ("normal_", "uniform_", "bernoulli_", "exponential_", "random_")


def MASK(m):
    return m.tensor([[True, False, True, False], [False, False, False, True], [True, True, False, False]])


def outcome(library, change, values, others):
    x = library.tensor(values, requires_grad=True)
    y = library.tensor(others, requires_grad=True)
    a = x * 1.0
    change(library, a, y)
    weights = library.arange(1.0, 13.0).view(3, 4)
    required = a.requires_grad
    if required:
        (a * weights).sum().backward()
    return [required, a.is_leaf, *(None if g is None else g.tolist() for g in (x.grad, y.grad))], a.detach().tolist()


@pytest.mark.parametrize("name", FILLS)
def test_overwriting_is_as_in_pytorch(name):
    values, others = torch.rand(3, 4).tolist(), torch.rand(3, 4).tolist()
    found, elements = outcome(fx, FILLS[name], values, others)
    expected, wanted = outcome(torch, FILLS[name], values, others)
    assert found[:2] == expected[:2]
    for mine, theirs in zip(found[2:], expected[2:], strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            assert torch.allclose(torch.tensor(mine), torch.tensor(theirs), rtol=1e-5, atol=1e-6)
    if not any(each in name for each in RANDOM):
        assert torch.allclose(torch.tensor(elements), torch.tensor(wanted), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["fill_", "zero_", "copy_", *RANDOM])
def test_leaves_are_not_overwritten(name):
    for library in (fx, torch):
        x = library.ones(3, 4, requires_grad=True)
        with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
            FILLS[name](library, x, library.ones(3, 4))
        with library.no_grad():
            FILLS[name](library, x, library.ones(3, 4))
        assert x.requires_grad and x.is_leaf


def test_a_constant_becomes_what_is_copied_into_it():
    for library in (fx, torch):
        y = library.ones(3, requires_grad=True)
        a = library.zeros(3)
        a.copy_(y * 2.0)
        assert a.requires_grad and not a.is_leaf
        (a * a).sum().backward()
        assert y.grad.tolist() == [8.0] * 3


def test_overwriting_can_be_differentiated_twice():
    x = fx.rand(3, requires_grad=True)
    y = fx.rand(3, requires_grad=True)
    a = x * x
    a.copy_(y * y * y)
    (of_y, of_x) = fx.autograd.grad(a.sum(), (y, x), create_graph=True)
    assert of_x.tolist() == [0.0] * 3
    (second,) = fx.autograd.grad(of_y.sum(), y)
    assert fx.allclose(second, 6 * y.detach())
