"""Graphs that refer back to themselves are found by the cyclic collector."""

import functools
import gc
import weakref

import pytest

import ferrox as fx


def leaf():
    return fx.rand(3, requires_grad=True)


def tensor_hook():
    y = leaf() * 2
    y.register_hook(lambda g: g * y)
    return (y,)


def hook_on_what_was_used_before():
    h = leaf() * 2
    out = (h.exp() + h * h).sum()
    h.register_hook(lambda g: g * out)
    return h, out


def hook_on_what_is_used_later():
    h = leaf() * 2
    h.register_hook(lambda g: g * out)
    out = (h.exp() + h.cos()).sum()
    return h, out


def hook_in_a_partial():
    y = leaf() * 2
    y.register_hook(functools.partial(lambda other, g: g * other, y.exp()))
    return (y,)


def hook_that_is_a_method():
    class Holder:
        def hook(self, g):
            return g * self.out

    holder = Holder()
    h = leaf() * 2
    holder.out = h.exp().sum()
    h.register_hook(holder.hook)
    return h, holder.out


def hook_on_a_leaf():
    x = leaf()
    x.register_hook(lambda g: g * out)
    out = (x * x).exp()
    return x, out


def hook_on_a_leaf_that_was_used_before():
    x = leaf()
    out = (x * x).exp()
    x.register_hook(lambda g: g * out)
    return x, out


def hook_after_accumulation():
    x = leaf()
    out = x * x
    x.register_post_accumulate_grad_hook(lambda t: out)
    return x, out


def node_hook():
    h = leaf().exp()
    out = h * h
    h.grad_fn.register_hook(lambda inputs, outputs: (out, h))
    return h, out


def node_prehook():
    h = leaf().exp()
    out = h * h
    h.grad_fn.register_prehook(lambda outputs: (out, h))
    return h, out


def gradient_with_history():
    x = leaf()
    (x * x * x).exp().sum().backward(create_graph=True)
    return (x,)


def assigned_gradient_with_history():
    x = leaf()
    y = (x * x).exp()
    x.grad = y * x
    return x, y


def retained_gradient_with_history():
    x = leaf()
    y = x.exp()
    y.retain_grad()
    (y * y * x).sum().backward(create_graph=True)
    return x, y


def function_context():
    class Keeps(fx.autograd.Function):
        @staticmethod
        def forward(ctx, holder, x):
            ctx.holder = holder
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return None, g * 2

    holder = []
    y = Keeps.apply(holder, leaf())
    out = (y.exp() * y).sum()
    holder.extend([y, out])
    return y, out


def operator_parameters():
    class Keeps(fx.Op):
        def forward(self, x, *, holder):
            return x * 2

        def vjp(self, ctx, g):
            return g * 2

    holder = []
    y = Keeps()(leaf(), holder=holder)
    holder.append(y.exp())
    return y, holder[0]


def hooks_on_saved_values():
    kept = []
    x = leaf()
    with fx.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: kept and t):
        y = x.exp()
    out = y.cos()
    kept.extend([y, out])
    return y, out


def module_hook_that_stores_its_output():
    module = fx.nn.Sequential(fx.nn.Linear(3, 3), fx.nn.ReLU())
    module.register_forward_hook(lambda module, inputs, output: setattr(module, "seen", output))
    module.register_full_backward_hook(lambda module, inputs, outputs: module.seen and None)
    out = module(fx.rand(2, 3, requires_grad=True))
    return module, out


def in_place_change_of_what_has_a_hook():
    y = leaf() * 2
    y.register_hook(lambda g: g * y)
    y.mul_(3)
    y[0] = 1.0
    return (y,)


def anomaly():
    with fx.autograd.detect_anomaly():
        y = leaf() * 2
        y.register_hook(lambda g: g * y)
    return (y,)


CYCLES = [value for name, value in list(globals().items()) if callable(value) and value.__module__ == __name__
          and name != "leaf"]


@pytest.mark.parametrize("cycle", CYCLES, ids=lambda each: each.__name__)
def test_cycles_are_collected(cycle):
    gc.collect()
    alive = fx.graph_stats()["alive"]
    gone = [weakref.ref(each) for each in cycle()]
    gc.collect()
    assert [each() for each in gone] == [None] * len(gone)
    assert fx.graph_stats()["alive"] == alive


@pytest.mark.parametrize("cycle", CYCLES, ids=lambda each: each.__name__)
def test_what_is_held_is_not_collected(cycle):
    held = cycle()
    before = [each.detach().clone() for each in held if isinstance(each, fx.Tensor)]
    gc.collect()
    assert all(fx.equal(each.detach(), value) for each, value in zip(
        (each for each in held if isinstance(each, fx.Tensor)), before, strict=True))
    assert all(each.is_leaf or each.grad_fn.next_functions for each in held if isinstance(each, fx.Tensor))


def test_graphs_without_hooks_are_not_looked_at():
    x = leaf()
    y = (x * 2).exp()
    z = y.sum()
    z.backward()
    assert not any(gc.is_tracked(each) for each in (y, z, y.grad_fn, z.grad_fn))


def test_a_long_chain_with_a_hook_is_freed_in_flat_stack():
    def chain():
        y = leaf() * 1.0
        y.register_hook(lambda g: g * y)
        out = y
        for _ in range(200_000):
            out = out * 1.0
        return weakref.ref(y)

    gone = chain()
    gc.collect()
    assert gone() is None
