"""Hooks on tensors, nodes, saved values and several tensors at once."""

import gc
import weakref

import pytest

import ferrox as fx


def test_tensor_hooks_see_and_replace_gradients():
    x = fx.tensor([1.0, 2.0], requires_grad=True)
    h = x * 3.0
    seen = []
    h.register_hook(lambda g: seen.append(g.tolist()))
    handle = h.register_hook(lambda g: g * 10.0)
    x.register_hook(lambda g: g + 1.0)
    (h * h).sum().backward(retain_graph=True)
    assert seen == [[6.0, 12.0]] and x.grad.tolist() == [181.0, 361.0]
    handle.remove()
    x.grad = None
    (h * h).sum().backward()
    assert x.grad.tolist() == [19.0, 37.0]


def test_leaf_hooks_get_the_whole_gradient_once():
    x = fx.tensor([1.0, 2.0], requires_grad=True)
    seen, after = [], []
    x.register_hook(lambda g: seen.append(g.tolist()))
    x.register_post_accumulate_grad_hook(lambda t: after.append(t.grad.tolist()))
    (x * 2.0 + x * 3.0 + x).sum().backward()
    assert seen == [[6.0, 6.0]] and after == [[6.0, 6.0]]


def test_node_hooks():
    x = fx.tensor([1.0, 2.0], requires_grad=True)
    y = x.exp()
    calls = []
    y.grad_fn.register_prehook(lambda grads: (grads[0] * 2.0,))
    y.grad_fn.register_hook(lambda inputs, outputs: calls.append((inputs[0].shape, outputs[0].tolist())))
    y.sum().backward()
    assert calls == [((2,), [2.0, 2.0])]
    fx.testing.assert_close(x.grad, x.detach().exp() * 2.0)


def test_hooks_on_what_needs_no_gradient():
    with pytest.raises(RuntimeError, match="doesn't require gradient"):
        fx.tensor(1.0).register_hook(print)


def test_a_hook_that_refers_back_is_collected():
    x = fx.tensor([1.0], requires_grad=True)
    x.register_hook(lambda g, owner=x: None)
    reference = weakref.ref(x)
    del x
    gc.collect()
    assert reference() is None


def test_retain_grad():
    x = fx.tensor([1.0, 2.0], requires_grad=True)
    h = x * x
    h.retain_grad()
    (h * 3.0).sum().backward()
    assert h.grad.tolist() == [3.0, 3.0] and h.retains_grad


def test_multi_grad_hook():
    x, y, z = (fx.tensor(float(k), requires_grad=True) for k in (2, 3, 4))
    rounds, first = [], []
    handle = fx.autograd.graph.register_multi_grad_hook(
        [x, y, z], lambda gs: rounds.append([None if g is None else g.item() for g in gs]))
    fx.autograd.graph.register_multi_grad_hook([x, y], lambda g: first.append(g.item()), mode="any")
    (x * y).backward()
    (x * y * z).backward()
    assert rounds == [[3.0, 2.0, None], [12.0, 8.0, 6.0]] and len(first) == 2
    handle.remove()
    (x * y).backward()
    assert len(rounds) == 2


def test_saved_tensors_hooks_pack_every_value_and_keep_gradients():
    packed, unpacked = [], []

    def pack(x):
        packed.append(x.tolist())
        assert not x.requires_grad or x.is_leaf
        return x.clone()

    def unpack(x):
        unpacked.append(x.tolist())
        return x

    x = fx.tensor([1.0, 2.0], dtype=fx.float64, requires_grad=True)
    with fx.autograd.graph.saved_tensors_hooks(pack, unpack):
        y = x.exp() * (x * 2.0)
    e = x.detach().exp().tolist()
    assert packed == [e, e, [2.0, 4.0]]      # exp's output, and both factors
    first, = fx.autograd.grad(y.sum(), x, create_graph=True)
    second, = fx.autograd.grad(first.sum(), x, create_graph=True)
    third, = fx.autograd.grad(second.sum(), x)
    e = x.detach().exp()
    v = x.detach()
    fx.testing.assert_close(first.detach(), e * (v * 2.0 + 2.0))
    fx.testing.assert_close(second.detach(), e * (v * 2.0 + 4.0))
    fx.testing.assert_close(third, e * (v * 2.0 + 6.0))
    assert unpacked


def test_saved_tensors_hooks_misused():
    x = fx.tensor([1.0, 2.0], requires_grad=True)
    with fx.autograd.graph.saved_tensors_hooks(lambda t: t, lambda p: "no tensor"):
        y = (x * x).sum()
    with pytest.raises(TypeError, match="unpack_hook expected to be a Tensor"):
        y.backward()
    with fx.autograd.graph.disable_saved_tensors_hooks("not here"), pytest.raises(RuntimeError, match="not here"), \
            fx.autograd.graph.saved_tensors_hooks(print, print):
        pass

    def fail(t):
        raise ValueError("cannot pack")

    with pytest.raises(ValueError, match="cannot pack"), fx.autograd.graph.saved_tensors_hooks(fail, print):
        x * x
    assert (x * x).requires_grad


def test_save_on_cpu():
    x = fx.tensor([1.0, 2.0], requires_grad=True)
    with fx.autograd.graph.save_on_cpu():
        y = (x * x).exp().sum()
    y.backward()
    fx.testing.assert_close(x.grad, (x * x).exp().detach() * 2.0 * x.detach())


def test_walking_the_graph():
    x, w = fx.tensor(1.0, requires_grad=True), fx.tensor(2.0, requires_grad=True)
    y = (x * w).exp() + x
    assert [node.name() for node in fx.autograd.graph.walk(y)] == ["add", "exp", "mul"]
    assert {id(each) for each in fx.autograd.graph.leaves(y)} == {id(x), id(w)}
    edge = fx.autograd.graph.get_gradient_edge(y)
    assert edge.node is y.grad_fn and edge.output_nr == 0
