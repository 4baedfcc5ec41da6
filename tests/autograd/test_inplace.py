"""In-place changes under gradients: right, or an error that names the culprit."""

import pytest
from peers import torch

import ferrox as fx


def _both(program):
    """Run a program with Ferrox and with PyTorch; compare its results and the gradient of its input."""
    results = []
    for library in (fx, torch):
        x = library.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype=library.float64, requires_grad=True)
        value = program(library, x)
        value.sum().backward()
        results.append((value.tolist(), x.grad.tolist()))
    fx.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


PROGRAMS = {
    "whole": lambda m, x: (x * 1.0).mul_(2.0).exp(),
    "twice": lambda m, x: (x * 1.0).mul_(x).add_(x),
    "itself": lambda m, x: _itself(m, x),
    "row": lambda m, x: _through(x, lambda y: y.select(0, 1)),
    "column": lambda m, x: _through(x, lambda y: y.select(1, 1)),
    "slice": lambda m, x: _through(x, lambda y: y.narrow(1, 0, 2)),
    "transposed": lambda m, x: _through(x, lambda y: y.t()),
    "reshaped": lambda m, x: _through(x, lambda y: y.reshape(-1)),
    "view of a view": lambda m, x: _through(x, lambda y: y.t().select(0, 2)),
    "diagonal": lambda m, x: _through(x, lambda y: y.diagonal()),
    "other view": lambda m, x: _other_view(m, x),
    "base under a view": lambda m, x: _base_under_view(m, x),
    "zeros filled": lambda m, x: _filled(m, x),
    "unrelated base": lambda m, x: _gathered(m, x),
    "several views in turn": lambda m, x: _several(m, x),
    "view kept through": lambda m, x: _kept(m, x),
}


def _itself(m, x):
    y = x * 2.0
    y.add_(y)
    return y * y


def _through(x, view):
    y = x * 1.0
    v = view(y)
    v.mul_(3.0)
    return y * y + v.sum()


def _other_view(m, x):
    y = x * 1.0
    a, b = y.select(0, 0), y.reshape(-1)
    a.mul_(5.0)
    return b * b            # sees the change made through a


def _base_under_view(m, x):
    y = x * 1.0
    v = y.select(1, 0)
    y.mul_(x)
    return v * v            # sees the change made to its base


def _filled(m, x):
    y = x * 1.0
    y.select(0, 0).zero_()
    y.select(1, 2).fill_(7.0)
    return y.exp()


def _gathered(m, x):
    out = m.zeros(2, 3, dtype=m.float64)
    for k in range(3):
        out.select(1, k).add_(x.select(1, k) * float(k + 1))
    return out * out


def _several(m, x):
    y = x * 1.0
    for k in range(2):
        y.select(0, k).mul_(y.select(0, 1 - k).clone())
    return y


def _kept(m, x):
    y = x * 1.0
    v = y.narrow(0, 0, 1)
    w = v.narrow(1, 1, 2)
    w.add_(x.select(1, 0).sum())
    v.mul_(2.0)
    return w * w + y.sum()


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_pytorch(name):
    _both(PROGRAMS[name])


def test_second_order_through_in_place():
    results = []
    for m in (fx, torch):
        x = m.tensor([1.0, 2.0, 3.0], dtype=m.float64, requires_grad=True)
        y = x * x
        y.narrow(0, 1, 2).mul_(x.narrow(0, 0, 2))
        g, = m.autograd.grad((y * y).sum(), x, create_graph=True)
        h, = m.autograd.grad(g.sum(), x)
        results.append((g.tolist(), h.tolist()))
    fx.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


def test_a_changed_saved_value_names_both_operators():
    x = fx.tensor([1.0, 2.0], requires_grad=True)
    y = x.exp()
    y.mul_(2.0)
    with pytest.raises(RuntimeError, match=r"\[exp\].*modified by an inplace operation.*output of exp.*changed by mul"):
        y.sum().backward()
    a = fx.tensor([1.0, 2.0])
    z = (x * a).sum()
    a.add_(1.0)
    with pytest.raises(RuntimeError, match=r"\[mul\].*input 1 of mul, of shape \(2,\), was changed by add.*anomaly"):
        z.backward()


def test_a_changed_saved_value_is_traced_under_detect_anomaly():
    x, a = fx.tensor([1.0], requires_grad=True), fx.tensor([2.0])
    with pytest.warns(UserWarning), fx.autograd.detect_anomaly():
        z = x * a
        a.add_(1.0)     # the culprit
    with pytest.raises(RuntimeError, match=r"a\.add_\(1\.0\)\s+# the culprit"):
        z.backward()


def test_a_change_next_to_a_saved_view_is_noticed():
    # The factor lies on the memory that is changed: PyTorch refuses this too.
    for m in (fx, torch):
        y = m.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True) * 1.0
        y.select(0, 0).mul_(y.select(0, 1))
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


def test_a_change_through_an_alias_is_noticed():
    x, a = fx.tensor([1.0, 2.0], requires_grad=True), fx.tensor([3.0, 4.0])
    z = (x * a).sum()
    a.narrow(0, 0, 1).zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.backward()


def test_leaves_that_require_grad_cannot_be_changed():
    x = fx.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        x.mul_(2.0)
    with pytest.raises(RuntimeError, match="a view of a leaf Variable"):
        x.narrow(0, 0, 1).mul_(2.0)
    with fx.no_grad():
        x.mul_(2.0)
    assert x.tolist() == [2.0, 4.0]


def test_expanded_memory_cannot_be_changed():
    x = fx.tensor([[1.0], [2.0]], requires_grad=True)
    with pytest.raises(RuntimeError, match="single memory location"):
        (x * 1.0).expand(2, 3).mul_(2.0)
