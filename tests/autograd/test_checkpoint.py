"""Recomputation in place of saved values."""

import gc
import weakref

import pytest

import ferrox as fx
from ferrox.utils.checkpoint import CheckpointError, checkpoint, checkpoint_sequential


def _block(x):
    return (x * 2.0).exp().sin() * x


def _gradients(run, order=3):
    x = fx.tensor([0.3, -0.2, 0.9], dtype=fx.float64, requires_grad=True)
    g, found = run(x).sum(), []
    for _ in range(order):
        g, = fx.autograd.grad(g.sum(), x, create_graph=True)
        found.append(g.tolist())
    return found


@pytest.mark.parametrize("use_reentrant", [None, False, True])
def test_gradients_of_every_order(use_reentrant):
    plain = _gradients(_block)
    assert _gradients(lambda x: checkpoint(_block, x, use_reentrant=use_reentrant)) == plain
    assert _gradients(lambda x: checkpoint(lambda y: checkpoint(_block, y * 1.0) * 1.0, x * 1.0)) == plain


def test_nothing_is_kept_and_forward_runs_twice():
    runs = []

    def block(x, w):
        runs.append(fx.is_grad_enabled())
        return (x * w).exp().sin()

    x, w = fx.ones(100, requires_grad=True), fx.ones(100, requires_grad=True)
    h = x * 1.0
    y = checkpoint(block, h, w)
    assert fx.graph_stats(y)["bytes"] == 0 and runs == [True]
    y.sum().backward()
    assert runs == [True, True]
    plain = fx.autograd.grad(block(x, w).sum(), (x, w))
    fx.testing.assert_close(x.grad, plain[0])
    fx.testing.assert_close(w.grad, plain[1])


def test_closed_over_parameters_and_retain_graph():
    w = fx.tensor([2.0, 3.0], requires_grad=True)
    x = fx.tensor([1.0, 1.0])           # needs no gradient itself
    y = checkpoint(lambda x: (x * w * w).exp(), x).sum()
    y.backward(retain_graph=True)
    first = w.grad.tolist()
    y.backward()
    fx.testing.assert_close(w.grad.tolist(), [2 * g for g in first])
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_the_second_run_must_repeat_the_first():
    calls = []

    def varies(x):
        calls.append(None)
        return x.exp() if len(calls) == 1 else x.reshape(2, 2).exp().reshape(4)

    def shrinks(x):
        calls.append(None)
        return x.exp().sin().exp() if len(calls) == 1 else x.exp()

    x = fx.ones(4, requires_grad=True)
    with pytest.raises(CheckpointError, match="different metadata"):
        checkpoint(varies, x).sum().backward()
    calls.clear()
    with pytest.raises(CheckpointError, match="different number of tensors"):
        checkpoint(shrinks, x).sum().backward()
    h = x * 1.0
    y = checkpoint(_block, h)
    with fx.no_grad():
        h.add_(1.0)
    with pytest.raises(CheckpointError, match="changed in place"):
        y.sum().backward()


def test_random_numbers_repeat():
    x = fx.ones(1000, requires_grad=True)
    fx.manual_seed(7)
    y = checkpoint(lambda x: x * fx.rand(1000), x)
    after = fx.rand(3).tolist()
    mask = y.detach()
    y.sum().backward()
    fx.testing.assert_close(x.grad, mask)
    fx.manual_seed(7)
    fx.rand(1000)
    assert fx.rand(3).tolist() == after


def test_without_recording_it_is_the_function():
    with fx.no_grad():
        assert not checkpoint(_block, fx.ones(3, requires_grad=True)).requires_grad


def test_keywords_and_several_outputs():
    def block(x, *, scale):
        return x.exp() * scale, x * x

    x = fx.tensor([0.5, 1.5], requires_grad=True)
    a, b = checkpoint(block, x, scale=2.0)
    (a.sum() + b.sum()).backward()
    fx.testing.assert_close(x.grad, x.detach().exp() * 2.0 + x.detach() * 2.0)


def test_sequential():
    layers = [lambda x: x.exp(), lambda x: x.sin(), lambda x: x * x, lambda x: x.tanh(), lambda x: x * 3.0]

    def plain(x):
        for each in layers:
            x = each(x)
        return x

    expected = _gradients(plain, 2)
    for segments in (1, 2, 3, 5):
        assert _gradients(lambda x, n=segments: checkpoint_sequential(layers, n, x), 2) == expected
    with pytest.raises(ValueError, match="segments"):
        checkpoint_sequential(layers, 6, fx.ones(2))


def test_nothing_stays_behind():
    class Big:
        pass

    x, witness = fx.ones(3, requires_grad=True), Big()
    reference = weakref.ref(witness)
    y = checkpoint(lambda x, owner=witness: x.exp().sin(), x)
    y.sum().backward()
    del witness, y
    gc.collect()
    assert reference() is None
