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


# What hooks return, and in-place changes


WRONG = {"size": lambda g: g[:1], "dtype": lambda g: g.double(), "type": lambda g: 3}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_a_tensor_hook_returns_is_checked(wrong):
    error = TypeError if wrong == "type" else RuntimeError
    x = fx.rand(3, requires_grad=True)
    y = x.exp()
    y.register_hook(WRONG[wrong])
    named = "tensor or None" if wrong == "type" else wrong
    with pytest.raises(error, match=rf"\[exp\] a hook on its output .*{named}"):
        y.sum().backward()
    x.register_hook(WRONG[wrong])
    with pytest.raises(error, match=r"a hook on a leaf tensor of shape \(3,\)"):
        (x * 2).sum().backward()
    first, _ = y.detach().requires_grad_().split([1, 2])
    first.register_hook(lambda g: fx.ones(2))
    with pytest.raises(RuntimeError, match="changed the size"):
        first.sum().backward()


@pytest.mark.parametrize("wrong", [*WRONG, "number", "no tuple"])
@pytest.mark.parametrize("kind", ["hook", "prehook"])
def test_what_a_node_hook_returns_is_checked(kind, wrong):
    x = fx.rand(3, requires_grad=True)
    y = x.exp()

    def hook(first, second=None):
        if wrong == "number":
            return first * 2
        if wrong == "no tuple":
            return first[0]
        return (WRONG[wrong](first[0]),)

    (y.grad_fn.register_hook if kind == "hook" else y.grad_fn.register_prehook)(hook)
    with pytest.raises((TypeError, RuntimeError), match=rf"\[exp\] a {kind} .*\(.*hook\)"):
        y.sum().backward()
    assert x.grad is None


@pytest.mark.parametrize("wrong", [*WRONG, "number"])
@pytest.mark.parametrize("kind", ["register_full_backward_hook", "register_full_backward_pre_hook"])
def test_what_a_module_hook_returns_is_checked(kind, wrong):
    module = fx.nn.Linear(2, 2)

    def hook(module, first, second=None):
        return first * 2 if wrong == "number" else (WRONG[wrong](first[0]),)

    getattr(module, kind)(hook)
    with pytest.raises((TypeError, RuntimeError), match=r"\[Linear\] Backward (pre )?hook \(.*hook\)"):
        module(fx.rand(3, 2, requires_grad=True)).sum().backward()


def hooks_and_changes(library):
    """What hooks and retained gradients see when tensors are changed in place."""
    seen = []
    for change in ("mul", "copy", "slice", "fill", "twice", "view"):
        x = library.ones(2, requires_grad=True)
        a = x * 1.0
        a.retain_grad()
        a.register_hook(lambda g, change=change: seen.append((change, "before", g.tolist())))
        if change == "mul":
            a.mul_(2)
        elif change == "copy":
            a.copy_(x * 4)
        elif change == "slice":
            a[0] = x[1] * 5
        elif change == "fill":
            a.fill_(2.0)
        elif change == "twice":
            a.mul_(2).add_(x)
        else:
            a[1].mul_(6)
        a.register_hook(lambda g, change=change: seen.append((change, "after", g.tolist())))
        (a * a * 3).sum().backward()
        seen.append((change, a.grad.tolist(), x.grad.tolist(), a.retains_grad))
        x = library.ones(2, requires_grad=True)
        a = x * 1.0
        v = a[0]
        v.retain_grad()
        a.mul_(2)
        (v * 3).sum().backward()
        seen.append((v.grad.tolist(), x.grad.tolist()))
    return sorted(map(str, seen))


def test_hooks_and_retained_gradients_under_in_place_changes_are_as_in_pytorch():
    torch = pytest.importorskip("torch")
    assert hooks_and_changes(fx) == hooks_and_changes(torch)


def test_a_tensor_cut_off_retains_no_gradient():
    x = fx.ones(2, requires_grad=True)
    a = x * 1.0
    b = a * 2.0
    a.retain_grad()
    a.detach_()
    b.sum().backward()
    assert a.grad is None and not a.retains_grad and x.grad.tolist() == [2.0, 2.0]


def test_hooks_come_before_what_is_captured_and_prehooks_after():
    torch = pytest.importorskip("torch")
    for library in (torch, fx):
        x = library.ones(2, requires_grad=True)
        y = x * 1.0
        y.register_hook(lambda g: g * 3)
        y.grad_fn.register_prehook(lambda grads: (grads[0] * 10,))
        y.retain_grad()
        (captured,) = library.autograd.grad(y.sum(), y, retain_graph=True)
        y.grad = None
        y.sum().backward()
        assert (captured.tolist(), y.grad.tolist(), x.grad.tolist()) == ([3.0] * 2, [3.0] * 2, [30.0] * 2)
