"""Who owns what during backward: nodes and leaves under hooks and other threads, gradients, counts of inputs."""

import gc
import threading

import pytest

import ferrox as fx


def in_threads(function, n=4):
    """Run `function` in n threads at once; raises what one of them raised."""
    errors = []
    ready = threading.Barrier(n)

    def run():
        try:
            ready.wait()
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(n)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    if errors:
        raise errors[0]


# The graph under a hook


def chain(length=200):
    """x, and the tensors of a chain of multiplications by 1 from it."""
    x = fx.rand(5, requires_grad=True)
    tensors = [x * 1.0]
    for _ in range(length):
        tensors.append(tensors[-1] * 1.0)
    return x, tensors


@pytest.mark.parametrize("at", [-1, 100, 0])
def test_a_hook_may_cut_tensors_off(at):
    x, tensors = chain()

    def hook(gradient):
        for each in tensors:
            each.detach_()
        gc.collect()
        with fx.enable_grad():
            fx.rand(5, requires_grad=True).exp().sum().backward()       # takes the freed blocks

    tensors[at].register_hook(hook)
    tensors[-1].backward(fx.full((5,), 2.0))
    assert x.grad.tolist() == [2.0] * 5 and all(each.is_leaf for each in tensors)


def test_a_hook_may_drop_everything():
    x, tensors = chain()
    loss = tensors[-1].sum()
    owners = [tensors, loss]

    def hook(gradient):
        owners.clear()
        gc.collect()

    loss.register_hook(hook)
    del tensors
    root = owners[1]
    del loss
    run = root.backward
    del root
    run()
    assert x.grad.tolist() == [1.0] * 5


def test_a_hook_may_drop_a_leaf():
    leaves = [fx.rand(3, requires_grad=True) for _ in range(20)]
    total = sum((each * 1.0 for each in leaves), fx.zeros(3, requires_grad=True) * 1.0)
    total.register_hook(lambda gradient: leaves.clear())
    total.sum().backward()
    assert not leaves


def test_a_hook_may_take_gradients_away_and_switch_leaves_off():
    x, y = fx.rand(3, requires_grad=True), fx.rand(3, requires_grad=True)
    x.grad = fx.ones(3)

    def hook(gradient):
        x.grad = None
        y.requires_grad_(False)

    total = x * 2.0 + y * 3.0
    total.register_hook(hook)
    total.sum().backward()
    assert x.grad.tolist() == [2.0] * 3 and y.grad is None


def test_a_leaf_switched_off_before_backward_gets_nothing():
    torch = pytest.importorskip("torch")
    for library in (torch, fx):
        x, y = library.ones(3, requires_grad=True), library.ones(3, requires_grad=True)
        total = (x * y).sum()
        x.requires_grad_(False)
        total.backward()
        assert x.grad is None and y.grad.tolist() == [1.0] * 3


def test_a_hook_may_walk_the_same_graph():
    x, tensors = chain()
    loss = (tensors[-1] * tensors[-1]).sum()
    inner = []

    def hook(gradient):
        if not inner:
            inner.append(None)
            inner.append(fx.autograd.grad(loss, x, retain_graph=True)[0])

    tensors[50].register_hook(hook)
    loss.backward(retain_graph=True)
    expected = 2 * x.detach()
    assert fx.equal(x.grad, expected) and fx.equal(inner[1], expected)


def test_gradients_of_inputs_that_a_hook_cuts_off():
    x, tensors = chain()
    middle = tensors[100]

    def hook(gradient):
        middle.detach_()

    middle.register_hook(hook)
    of_middle, of_x = fx.autograd.grad(tensors[-1].sum(), (middle, x))
    assert of_middle.tolist() == [1.0] * 5 and of_x.tolist() == [1.0] * 5


def test_backward_of_an_output_that_its_own_unpack_hook_cuts_off():
    x = fx.rand(4, requires_grad=True)

    def unpack(value):
        y.detach_()
        gc.collect()
        return value

    with fx.autograd.graph.saved_tensors_hooks(lambda value: value, unpack):
        y = x.exp()
    values = y.detach().clone()
    y.sum().backward()
    assert fx.equal(x.grad, values)


def test_hooks_on_saved_values_outlive_who_set_them():
    x = fx.rand(4, requires_grad=True)
    manager = fx.autograd.graph.saved_tensors_hooks(lambda value: value.clone(), lambda value: value)
    manager.__enter__()
    try:
        manager._hooks = None
        gc.collect()
        y = x.exp()
    finally:
        manager.__exit__()
    y.sum().backward()
    assert fx.equal(x.grad, y.detach())


# Threads


def test_threads_add_to_one_large_leaf():
    w = fx.zeros(400_000, requires_grad=True)

    def run():
        for _ in range(15):
            (w * 1.0).sum().backward()

    in_threads(run)
    assert float(w.grad.min()) == float(w.grad.max()) == 60.0


def test_threads_add_a_first_gradient():
    for _ in range(20):
        w = fx.zeros(400_000, requires_grad=True)
        in_threads(lambda w=w: (w * 1.0).sum().backward())
        assert float(w.grad.min()) == float(w.grad.max()) == 4.0


def test_threads_add_gradients_with_history():
    w = fx.ones(100_000, requires_grad=True)
    in_threads(lambda: (w * w).sum().backward(create_graph=True))
    assert float(w.grad.detach().min()) == float(w.grad.detach().max()) == 8.0
    w.grad = None


def test_threads_walk_one_graph():
    x = fx.rand(100_000, dtype=fx.float64, requires_grad=True)
    y = x
    for _ in range(10):
        y = y * 2.0 + x
    loss = y.sum()
    (expected,) = fx.autograd.grad(loss, x, retain_graph=True)
    found = []

    def run():
        for _ in range(3):
            loss.backward(retain_graph=True)
            found.append(fx.autograd.grad(loss, x, retain_graph=True)[0])

    in_threads(run)
    assert float((x.grad - 12 * expected).abs().max()) <= 1e-9 * 12 * float(expected.max())
    assert all(fx.equal(each, expected) for each in found)
    loss.backward()
    assert float((x.grad - 13 * expected).abs().max()) <= 1e-9 * 13 * float(expected.max())


def test_threads_walk_graphs_that_share_a_part():
    x = fx.rand(50_000, dtype=fx.float64, requires_grad=True)
    shared = (x * 2.0).exp()
    in_threads(lambda: [(shared * 3.0).sum().backward(retain_graph=True) for _ in range(5)])
    assert fx.allclose(x.grad, 20 * 6.0 * shared.detach(), rtol=1e-12)


# Gradients that others hold


def same_memory(a, b):
    return a.data_ptr() == b.data_ptr()


def test_two_leaves_do_not_share_a_gradient():
    a, b = fx.rand(6, requires_grad=True), fx.rand(6, requires_grad=True)
    (a + b).sum().backward()
    (a + b).backward(fx.ones(6))
    assert not same_memory(a.grad, b.grad)
    a.grad.zero_()
    assert b.grad.tolist() == [2.0] * 6


@pytest.mark.parametrize("hold", ["given", "tensor hook", "leaf hook", "node hook", "prehook", "view", "numpy"])
def test_a_gradient_that_others_hold_is_copied(hold):
    w = fx.rand(6, requires_grad=True)
    h = w * 1.0 if hold in ("tensor hook", "node hook", "prehook") else w
    given, kept = fx.full((6,), 3.0), []
    if hold == "tensor hook":
        h.register_hook(lambda g: kept.append(g))
    elif hold == "leaf hook":
        w.register_hook(lambda g: kept.append(g))
    elif hold == "node hook":
        h.grad_fn.register_hook(lambda inputs, outputs: kept.append(inputs))
    elif hold == "prehook":
        h.grad_fn.register_prehook(lambda outputs: kept.append(outputs))
    elif hold == "numpy":
        array = given.numpy().copy()
        given = fx.from_numpy(array)
        kept.append(given)
    elif hold == "view":
        kept.append(given.view(2, 3))
    if hold == "given":
        kept.append(given)
    (h + 0.0 if hold in ("numpy", "view", "given") else h).backward(given)
    before = [each[0] if isinstance(each, tuple) else each for each in kept]
    assert before
    w.grad.mul_(5.0)
    (w * 1.0).sum().backward()
    assert w.grad.tolist() == [16.0] * 6
    assert all((each == 3.0).all() for each in before) and (given == 3.0).all()


def test_the_gradient_of_one_step_is_not_the_cotangent_of_another():
    x = fx.rand(5, requires_grad=True)
    a = x * 1.0
    a.retain_grad()
    (a + a.exp()).sum().backward()
    expected = (1 + x.detach().exp()).tolist()
    a.grad.zero_()
    assert x.grad.tolist() == pytest.approx(expected)


def test_an_operator_that_keeps_the_tuple_it_returns():
    class Kept(fx.Op):
        def forward(self, a, b):
            return a + b

        def vjp(self, ctx, g):
            self.returned = (g * 2.0, g * 3.0)
            return self.returned

    a, b = fx.rand(4, requires_grad=True), fx.rand(4, requires_grad=True)
    op = Kept()
    op(a, b).sum().backward()
    a.grad.zero_()
    assert op.returned[0].tolist() == [2.0] * 4 and b.grad.tolist() == [3.0] * 4


# Counts


def test_more_inputs_than_sixteen_bits_count():
    leaves = [fx.full((), float(k), requires_grad=True) for k in range(65_540)]
    weights = fx.arange(65_540, dtype=fx.float64)
    (fx.stack(leaves) * weights).sum().backward()
    assert [int(each.grad) for each in leaves] == list(range(65_540))
    assert len((fx.stack(leaves)).grad_fn.next_functions) == 65_540


def test_an_operator_of_more_inputs_than_sixteen_bits_count():
    class Total(fx.Op):
        def forward(self, *inputs):
            return fx.stack(inputs).sum()

        def vjp(self, ctx, g):
            return tuple(g * k for k in range(len(ctx.inputs)))

    leaves = [fx.zeros((), requires_grad=True) for _ in range(65_537)]
    Total()(*leaves).backward()
    assert [int(each.grad) for each in leaves] == list(range(65_537))


@pytest.mark.parametrize("kind", ["Op", "Function"])
def test_more_outputs_than_sixteen_bits_count(kind):
    n = 70_000

    def cotangent(pieces):
        return sum(k * float(piece) for k, piece in enumerate(pieces))

    if kind == "Op":

        class Spread(fx.Op):
            def forward(self, x):
                return tuple(x * 1.0 for _ in range(n))

            def vjp(self, ctx, *pieces):
                return fx.tensor(cotangent(pieces))

        spread = Spread()
    else:

        class Spread(fx.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return tuple(x * 1.0 for _ in range(n))

            @staticmethod
            def backward(ctx, *pieces):
                return fx.tensor(cotangent(pieces))

        spread = Spread.apply
    x = fx.ones((), requires_grad=True)
    outputs = spread(x)
    (outputs[65_536] + 2 * outputs[69_999] + 3 * outputs[1]).backward()
    assert float(x.grad) == 65_536 + 2 * 69_999 + 3
    assert outputs[69_999].output_nr == 69_999


def test_unbinding_into_more_tensors_than_sixteen_bits_count():
    x = fx.rand(66_000, requires_grad=True)
    pieces = x.unbind()
    (pieces[65_999] * 2 + pieces[65_536] * 3 + pieces[463]).backward()
    assert {k: float(x.grad[k]) for k in x.grad.nonzero().flatten().tolist()} == {463: 1.0, 65_536: 3.0, 65_999: 2.0}
