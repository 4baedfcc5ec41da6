"""Operators of the user's own: `fx.Op`."""

import copy
import gc
import pickle
import weakref

import pytest

import ferrox as fx


class Cube(fx.Op):
    reference, sample = "x ** 3", "t(3, 4)"

    def forward(self, x):
        return x * x * x

    def vjp(self, ctx, g):
        x, = ctx.inputs
        return g * 3 * x * x


class Scaled(fx.Op):
    """Two inputs, a number, a keyword, two outputs."""

    saves = "inputs"
    sample = "(t(3, 4), t(4), 2.5)"

    def __init__(self, power):      # without super().__init__: the name is the class's
        self.power = power

    def forward(self, a, b, k, *, shift=0.0):
        return a * b * k + shift, b * self.power

    def vjp(self, ctx, g, h):
        a, b, k = ctx.inputs
        assert ctx.params in ({}, {"shift": 1.0}) and len(ctx.needs_input_grad) == 3 and not ctx.needs_input_grad[2]
        return g * b * k, (g * a * k).sum(0) + h * self.power, None


def test_an_instance_is_called_through_its_class():
    cube = Cube()
    assert cube(fx.tensor(2.0)).item() == 8.0 and cube.name == "Cube" and Cube("third").name == "third"
    assert cube.__call__(fx.tensor(2.0)).item() == 8.0
    x = fx.tensor(2.0, requires_grad=True)
    y = cube(x)
    assert y.grad_fn.name() == "Cube" and y.grad_fn.operator is cube
    assert y.grad_fn.saved_values.keys() == {"saved 0", "saved 1"}


def test_it_is_no_method():
    class Holder:
        cube = Cube()

    assert Holder().cube(fx.tensor(2.0)).item() == 8.0


def test_checks():
    assert fx.testing.check(Cube()) == 1
    assert fx.testing.check(Scaled(3.0)) == 1


def test_third_order():
    x = fx.tensor([0.5, 2.0], dtype=fx.float64, requires_grad=True)
    g = Cube()(x).sum()
    for expected in ([0.75, 12.0], [3.0, 12.0], [6.0, 6.0]):
        g, = fx.autograd.grad(g.sum(), x, create_graph=True)
        assert g.tolist() == expected


def test_cotangents_of_unused_outputs_are_zeros():
    op = Scaled(3.0)
    a, b = fx.ones(2, 4, requires_grad=True), fx.ones(4, requires_grad=True)
    op(a, b, 2.0)[1].sum().backward()
    assert a.grad.tolist() == [[0.0] * 4] * 2 and b.grad.tolist() == [3.0] * 4
    op(a, b, 2.0, shift=1.0)[0].sum().backward()
    assert b.grad.tolist() == [7.0] * 4


def test_outputs_have_history_when_read_while_recording():
    class Exp(fx.Op):
        saves = ("outputs",)

        def forward(self, x):
            return x.exp()

        def vjp(self, ctx, g):
            y, = ctx.outputs
            return g * y

    exp, x = Exp(), fx.tensor([0.3, -0.7], dtype=fx.float64, requires_grad=True)
    assert fx.autograd.gradcheck(exp, x) and fx.autograd.gradgradcheck(exp, x)
    g, = fx.autograd.grad(exp(x).sum(), x, create_graph=True)
    for _ in range(3):
        g, = fx.autograd.grad(g.sum(), x, create_graph=True)
    fx.testing.assert_close(g.detach(), x.detach().exp())
    with pytest.raises(RuntimeError, match=r"ctx\.inputs is not kept"):
        class Wrong(Exp):
            def vjp(self, ctx, g):
                return ctx.inputs

        Wrong()(x).sum().backward()


@pytest.mark.parametrize("forward", [lambda x: x, lambda x: x.reshape(-1), lambda x: x.t(), lambda x: (x, x),
                                     lambda x: [x, x.t()]])
def test_inputs_and_views_as_outputs(forward):
    class Forward(fx.Op):
        def forward(self, x):
            return forward(x)

        def vjp(self, ctx, *gs):
            x, = ctx.inputs
            total = 0.0
            for g in gs:
                total = total + (g.t() if g.shape != x.shape and g.ndim == 2 else g.reshape(x.shape))
            return -total

    x = fx.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)
    h = x * 1.0
    outputs = Forward()(h)
    many = outputs if isinstance(outputs, tuple) else (outputs,)
    assert all(each is not h for each in many) and h.grad_fn.name() == "mul"
    with fx.no_grad():
        many[0].zero_()
    assert h.tolist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    (sum(each.sum() for each in many) + h.sum() * 10.0).backward()
    assert x.grad.tolist() == [[10.0 - len(many)] * 3] * 2


def test_a_tensor_that_the_operator_keeps_gets_no_history():
    class Table(fx.Op):
        table = fx.tensor([1.0, 2.0])

        def forward(self, x):
            return self.table

        def vjp(self, ctx, g):
            return g * 2.0

    op, x = Table(), fx.tensor([5.0, 6.0], requires_grad=True)
    for _ in range(2):
        op(x).sum().backward()
    assert Table.table.grad_fn is None and x.grad.tolist() == [4.0, 4.0]


def test_a_fresh_output_is_handed_on_as_it_is():
    made = []

    class Makes(fx.Op):
        def forward(self, x):
            y = x * 2.0
            made.append(id(y))
            return y, x * 3.0

        def vjp(self, ctx, g, h):
            return g * 2.0 + h * 3.0

    a, _ = Makes()(fx.ones(2, requires_grad=True))
    assert id(a) == made[0]


def test_integer_outputs_stay_outside_the_graph():
    class Split(fx.Op):
        def forward(self, x):
            return x.to(fx.int64), x * 2.0

        def vjp(self, ctx, none, g):
            assert none is None
            return g * 2.0

    x = fx.tensor([1.5, 2.5], requires_grad=True)
    whole, twice = Split()(x)
    assert whole.tolist() == [1, 2] and not whole.requires_grad
    twice.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_gradients_are_fitted_and_checked():
    class Wrong(fx.Op):
        def __init__(self, result):
            super().__init__("wrong")
            self.result = result

        def forward(self, a, b):
            return a + b

        def vjp(self, ctx, g):
            return self.result(g)

    a, b = fx.ones(2, 3, requires_grad=True), fx.ones(3, requires_grad=True)
    Wrong(lambda g: (g, g))(a, b).sum().backward()
    assert b.grad.tolist() == [2.0, 2.0, 2.0]
    for result, message in [(lambda g: g, r"incorrect number of gradients \(expected 2, got 1\)"),
                            (lambda g: (g, g, g), r"expected 2, got 3"),
                            (lambda g: (g, fx.ones(5)),
                             r"invalid gradient at index 1 - got \[5\] but expected .* \[3\]"),
                            (lambda g: (g, 1.0), "expected Variable or None")]:
        with pytest.raises((RuntimeError, TypeError), match=r"\[wrong\].*" + message):
            Wrong(result)(a, b).sum().backward()
    with pytest.raises(RuntimeError, match="different than None at position 2"):
        Wrong(lambda g: (g, g))(a, 2.0).sum().backward()
    Wrong(lambda g: (g, None, None))(a, b).sum().backward()


def test_misuse_is_named():
    class Nothing(fx.Op):
        pass

    class OnlyForward(fx.Op):
        def forward(self, x):
            return x * 2

    class Changes(fx.Op):
        def forward(self, x):
            return x.mul_(2.0)

        def vjp(self, ctx, g):
            return g

    x = fx.tensor([1.0], requires_grad=True)
    with pytest.raises(NotImplementedError, match=r"\[Nothing\] has no forward"):
        Nothing()(x)
    y = OnlyForward()(x)
    with pytest.raises(NotImplementedError, match=r"\[OnlyForward\] has no gradient rule: its input 0"):
        y.sum().backward()
    with pytest.raises(RuntimeError, match=r"\[Changes\] forward changed its input 0 in place"):
        Changes()(x * 1.0)
    assert fx.is_grad_enabled()
    with pytest.raises(TypeError, match="'b' requires grad"):
        Cube()(x, b=x)


def test_a_changed_input_is_noticed():
    a = fx.tensor([1.0, 2.0], requires_grad=True)
    b = a * 1.0
    y = Cube()(b)
    b.add_(1.0)
    with pytest.raises(RuntimeError, match=r"\[Cube\].*input 0 of Cube.*changed by add"):
        y.sum().backward()
    z = Cube()(a)
    z.backward(fx.ones(2))
    with pytest.raises(RuntimeError, match=r"\[Cube\].*second time"):
        z.backward(fx.ones(2))


def test_without_recording_nothing_is_kept():
    with fx.no_grad():
        y = Cube()(fx.tensor(2.0, requires_grad=True))
    assert not y.requires_grad and not Cube()(fx.tensor(2.0)).requires_grad


def test_a_cycle_through_an_operator_is_collected():
    class Remembers(Cube):
        def forward(self, x):
            self.last = x * x * x
            return self.last

    class Holder:
        pass

    op = Remembers()
    holder = Holder()
    holder.result = op(fx.tensor(2.0, requires_grad=True))
    op.holder = holder
    gc.collect()  # what tests before have left
    before, reference = fx.graph_stats()["alive"], weakref.ref(holder)
    del op, holder
    gc.collect()
    assert reference() is None and fx.graph_stats()["alive"] == before - 1


def test_it_works_under_saved_tensors_hooks_and_in_chains():
    cube, x = Cube(), fx.tensor([0.9, 1.1], dtype=fx.float64, requires_grad=True)
    with fx.autograd.graph.saved_tensors_hooks(lambda t: t.tolist(), lambda v: fx.tensor(v, dtype=fx.float64)):
        y = cube(cube(x)).sum()
    g, = fx.autograd.grad(y, x, create_graph=True)
    h, = fx.autograd.grad(g.sum(), x)
    fx.testing.assert_close(h, 72.0 * x.detach() ** 7)
    deep = fx.tensor(1.0, requires_grad=True)
    z = deep
    for _ in range(20000):
        z = cube(z)
    z.backward(retain_graph=True)
    del z
    gc.collect()


def test_copies_and_pickles_of_built_in_operators():
    assert pickle.loads(pickle.dumps(fx.exp)) is fx.exp and copy.copy(fx.exp) is fx.exp
