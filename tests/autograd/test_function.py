"""`autograd.Function`: each program also runs with PyTorch, whose results and errors are the reference."""

import gc

import pytest
from peers import torch

import ferrox as fx

BOTH = pytest.mark.parametrize("m", [fx, torch], ids=["ferrox", "pytorch"])


@BOTH
def test_saved_tensors_attributes_and_numbers(m):
    class Affine(m.autograd.Function):
        @staticmethod
        def forward(ctx, x, w, k, name=None):
            ctx.save_for_backward(x, w, None)
            ctx.k = k
            assert ctx.needs_input_grad == (True, True, False, False) or ctx.needs_input_grad == (True, True, False)
            return x * w * k

        @staticmethod
        def backward(ctx, g):
            x, w, none = ctx.saved_tensors
            assert none is None and ctx.needs_input_grad[:3] == (True, True, False)
            return g * w * ctx.k, g * x * ctx.k, None, None

    x, w = m.tensor([1.0, 2.0], requires_grad=True), m.tensor([3.0, 4.0], requires_grad=True)
    Affine.apply(x, w, 2.0, "name").sum().backward()
    assert x.grad.tolist() == [6.0, 8.0] and w.grad.tolist() == [2.0, 4.0]


@BOTH
def test_setup_context_and_keywords(m):
    class Power(m.autograd.Function):
        @staticmethod
        def forward(x, n=2):
            return x ** n

        @staticmethod
        def setup_context(ctx, inputs, output):
            x, ctx.n = inputs
            ctx.save_for_backward(x)

        @staticmethod
        def backward(ctx, g):
            x, = ctx.saved_tensors
            return g * ctx.n * x ** (ctx.n - 1), None

    x = m.tensor([2.0, 3.0], requires_grad=True)
    Power.apply(x, 3).sum().backward()
    assert x.grad.tolist() == [12.0, 27.0]
    Power.apply(x, n=2).sum().backward()
    assert x.grad.tolist() == [16.0, 33.0]


@BOTH
def test_outputs_saved_and_differentiated_twice(m):
    class Exp(m.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            y = x.exp()
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx, g):
            y, = ctx.saved_tensors
            return g * y

    x = m.tensor([0.5, -1.0], dtype=m.float64, requires_grad=True)
    g = Exp.apply(x).sum()
    for _ in range(4):
        g, = m.autograd.grad(g.sum(), x, create_graph=True)
    fx.testing.assert_close(g.tolist(), x.detach().exp().tolist(), rtol=1e-12, atol=0.0)
    assert m.autograd.gradcheck(Exp.apply, (x,)) and m.autograd.gradgradcheck(Exp.apply, (x,))


@BOTH
def test_several_outputs_and_materialised_gradients(m):
    class Two(m.autograd.Function):
        materialise = True

        @staticmethod
        def forward(ctx, x):
            ctx.set_materialize_grads(Two.materialise)
            return x * 2, x * 3, "text"

        @staticmethod
        def backward(ctx, g, h, none):
            assert none is None
            if Two.materialise:
                assert h.tolist() == [0.0, 0.0]
                return g * 2 + h * 3
            assert h is None
            return g * 2

    for Two.materialise in (True, False):
        x = m.tensor([1.0, 2.0], requires_grad=True)
        a, b, text = Two.apply(x)
        assert text == "text" and b.requires_grad
        a.sum().backward()
        assert x.grad.tolist() == [2.0, 2.0]


@BOTH
def test_mark_non_differentiable(m):
    class Sort(m.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            y, mask = x * 2, x * 0
            ctx.mark_non_differentiable(mask)
            ctx.save_for_backward(mask)
            return y, mask

        @staticmethod
        def backward(ctx, g, none):
            assert not ctx.saved_tensors[0].requires_grad
            return g * 2

    x = m.tensor([1.0, 2.0], requires_grad=True)
    y, mask = Sort.apply(x)
    assert y.requires_grad and not mask.requires_grad
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


@BOTH
def test_mark_dirty(m):
    class Double(m.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            x.mul_(2)
            ctx.mark_dirty(x)
            return x

        @staticmethod
        def backward(ctx, g):
            return g * 2

    x = m.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    h = x * 1.0
    y = Double.apply(h)
    assert y is h and h.tolist() == [[2.0, 4.0], [6.0, 8.0]]
    (h * h).sum().backward()
    assert x.grad.tolist() == [[8.0, 16.0], [24.0, 32.0]]
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        Double.apply(x.detach().requires_grad_())
    e = (x * 1.0).exp()
    Double.apply(e)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        e.sum().backward()


def test_mark_dirty_reaches_the_base_of_a_view():
    class Double(fx.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            x.mul_(2)
            ctx.mark_dirty(x)
            return x

        @staticmethod
        def backward(ctx, g):
            return g * 2

    x = fx.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    h = x * 1.0
    Double.apply(h.select(0, 0))
    (h * h).sum().backward()
    assert x.grad.tolist() == [[8.0, 16.0], [6.0, 8.0]]


@BOTH
def test_dirty_inputs_must_be_returned(m):
    class Forgets(m.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.mark_dirty(x)
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g

    with pytest.raises(RuntimeError, match="must all be outputs of the Function"):
        Forgets.apply(m.tensor([1.0], requires_grad=True) * 1.0)


@BOTH
def test_an_input_as_output(m):
    class Reverse(m.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, g):
            return -g

    x = m.tensor([1.0, 2.0], requires_grad=True)
    y = Reverse.apply(x)
    assert y is not x and x.is_leaf
    (y.sum() + x.sum() * 3).backward()
    assert x.grad.tolist() == [2.0, 2.0]


@BOTH
def test_once_differentiable(m):
    class Square(m.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @m.autograd.function.once_differentiable
        def backward(ctx, g):
            x, = ctx.saved_tensors
            assert not m.is_grad_enabled()
            return 2 * g * x

    x = m.tensor([3.0], requires_grad=True)
    Square.apply(x).sum().backward()
    assert x.grad.tolist() == [6.0]
    w = m.tensor([1.0], requires_grad=True)
    g, = m.autograd.grad((Square.apply(x) * w).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="marked with @once_differentiable"):
        g.sum().backward()


def _returning(m, result, n=1):
    class Returns(m.autograd.Function):
        @staticmethod
        def forward(ctx, *xs):
            return xs[0] * 1.0

        @staticmethod
        def backward(ctx, g):
            return result(g)

    return Returns


@BOTH
@pytest.mark.parametrize("result, arguments, message", [
    (lambda g: (g, g), 1, r"returned an incorrect number of gradients \(expected 1, got 2\)"),
    (lambda g: g, 2, r"returned an incorrect number of gradients \(expected 2, got 1\)"),
    (lambda g: (g, g), "number",
     "different than None at position 2, but the corresponding forward input was not a Variable"),
    (lambda g: g.sum().expand(5), 1,
     r"invalid gradient at index 0 - got \[5\] but expected shape compatible with \[2\]"),
])
def test_errors_of_backward(m, result, arguments, message):
    x = m.tensor([1.0, 2.0], requires_grad=True)
    args = {1: (x,), 2: (x, x * 2), "number": (x, 3.0)}[arguments]
    with pytest.raises(RuntimeError, match=message):
        _returning(m, result).apply(*args).sum().backward()


@BOTH
def test_methods_need_not_be_marked_static(m):
    class Plain(m.autograd.Function):
        def forward(ctx, x):
            return x * 2

        def backward(ctx, g):
            return g * 2

    x = m.tensor([1.0], requires_grad=True)
    Plain.apply(x).backward()
    assert x.grad.tolist() == [2.0]


@BOTH
def test_none_and_extra_none_gradients(m):
    x, y = m.tensor([1.0], requires_grad=True), m.tensor([1.0], requires_grad=True)
    _returning(m, lambda g: (None, g, None)).apply(x, y).sum().backward()
    assert x.grad is None and y.grad.tolist() == [1.0]


@BOTH
def test_misuse(m):
    class NoBackward(m.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1.0

    class Saves(m.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(3)
            return x * 1.0

        @staticmethod
        def backward(ctx, g):
            return g

    x = m.tensor([1.0], requires_grad=True)
    with pytest.raises(NotImplementedError, match="implement either the backward or vjp"):
        NoBackward.apply(x).sum().backward()
    with pytest.raises(TypeError, match="save_for_backward can only save variables"):
        Saves.apply(x)
    assert m.is_grad_enabled()


@BOTH
def test_saved_values_that_changed_and_backward_twice(m):
    class Keep(m.autograd.Function):
        @staticmethod
        def forward(ctx, x, a):
            ctx.save_for_backward(a)
            return x * a

        @staticmethod
        def backward(ctx, g):
            return g * ctx.saved_tensors[0], None

    x, a = m.tensor([1.0], requires_grad=True), m.tensor([2.0])
    y = Keep.apply(x, a)
    a.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
    y = Keep.apply(x, a)
    y.backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


@BOTH
def test_backward_may_differentiate_inside(m):
    class Inner(m.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.sin()

        @staticmethod
        def backward(ctx, g):
            x, = ctx.saved_tensors
            with m.enable_grad():
                y = x.detach().requires_grad_()
                inner, = m.autograd.grad(y.sin(), y, g)
            return inner

    x = m.tensor([0.3], dtype=m.float64, requires_grad=True)
    Inner.apply(Inner.apply(x)).backward()
    expected = x.detach().cos() * x.detach().sin().cos()
    fx.testing.assert_close(x.grad.tolist(), expected.tolist(), rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("keep", ["attribute", "save"])
def test_cycles_are_collected(keep):
    class Cycle(fx.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            y = x * 2
            if keep == "attribute":
                ctx.y = y
            ctx.save_for_backward(x, y)
            return y

        @staticmethod
        def backward(ctx, g):
            return g * 2

    gc.collect()
    before = fx.graph_stats()["alive"]
    for _ in range(100):
        Cycle.apply(fx.ones(3, requires_grad=True))
    gc.collect()
    assert fx.graph_stats()["alive"] == before


def test_the_graph_shows_the_function():
    class MyFunction(fx.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    y = MyFunction.apply(fx.ones(2, requires_grad=True))
    assert y.grad_fn.name() == "MyFunction"
    with pytest.raises(RuntimeError, match="should not be instantiated"):
        MyFunction()


# Differentiating twice (PyTorch's "Double Backward with Custom Functions")


class SquareOfInput(fx.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * 2 * x


class ExpOfOutput(fx.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * y


class SinhOfOutputs(fx.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        a, b = x.exp(), (-x).exp()
        ctx.save_for_backward(a, b)
        return (a - b) / 2, a, b

    @staticmethod
    def backward(ctx, g, ga, gb):
        a, b = ctx.saved_tensors
        return g * (a + b) / 2 + ga * a - gb * b


class SinhOfAttributes(fx.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.a, ctx.b = x.exp(), (-x).exp()
        return (ctx.a - ctx.b) / 2

    @staticmethod
    def backward(ctx, g):
        return g * (ctx.a + ctx.b) / 2


class SinhOfAList(SinhOfAttributes):
    @staticmethod
    def forward(ctx, x):
        ctx.both = [x.exp(), (-x).exp()]
        return (ctx.both[0] - ctx.both[1]) / 2

    @staticmethod
    def backward(ctx, g):
        return g * (ctx.both[0] + ctx.both[1]) / 2


class SinhOfSaved(SinhOfAttributes):
    @staticmethod
    def forward(ctx, x):
        a, b = x.exp(), (-x).exp()
        ctx.save_for_backward(a, b)
        return (a - b) / 2

    @staticmethod
    def backward(ctx, g):
        a, b = ctx.saved_tensors
        return g * (a + b) / 2


class InputOnContext(fx.autograd.Function):
    @staticmethod
    def forward(ctx, x, k):
        ctx.x, ctx.k = x, k
        return x**2 * k

    @staticmethod
    def backward(ctx, g):
        return g * 2 * ctx.x * ctx.k, None


class OutputOnContext(fx.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.y = x.exp()
        return ctx.y

    @staticmethod
    def backward(ctx, g):
        return g * ctx.y


class ScaledByAConstant(fx.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.factor = fx.full((), 3.0)
        ctx.mark_non_differentiable(ctx.factor)
        ctx.save_for_backward(x)
        return x**2 * ctx.factor

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * 2 * x * ctx.factor


def twice(function, x, *more):
    out = function.apply(x, *more)
    out = out[0] if isinstance(out, tuple) else out
    (first,) = fx.autograd.grad(out.sum(), x, create_graph=True)
    return first.detach(), fx.autograd.grad(first.sum(), x)[0]


@pytest.mark.parametrize("function, first, second", [
    (SquareOfInput, lambda x: 2 * x, lambda x: x * 0 + 2),
    (ExpOfOutput, lambda x: x.exp(), lambda x: x.exp()),
    (SinhOfOutputs, lambda x: x.cosh(), lambda x: x.sinh()),
    (OutputOnContext, lambda x: x.exp(), lambda x: x.exp()),
    (ScaledByAConstant, lambda x: 6 * x, lambda x: x * 0 + 6),
])
def test_functions_differentiated_twice(function, first, second):
    x = fx.rand(4, dtype=fx.float64, requires_grad=True)
    found = twice(function, x)
    assert fx.allclose(found[0], first(x.detach())) and fx.allclose(found[1], second(x.detach()))


def test_an_argument_on_the_context_has_its_history():
    x, k = fx.rand(4, dtype=fx.float64, requires_grad=True), fx.full((4,), 5.0, dtype=fx.float64)
    found = twice(InputOnContext, x, k)
    assert fx.allclose(found[0], 10 * x.detach()) and found[1].tolist() == [10.0] * 4


@pytest.mark.parametrize("function, name", [(SinhOfAttributes, r"ctx\.[ab]"), (SinhOfAList, r"ctx\.both"),
                                            (SinhOfSaved, "saved tensor [01]")])
def test_what_forward_computed_is_not_silently_taken_for_a_constant(function, name):
    x = fx.rand(4, requires_grad=True)
    for point in (x, x * 1.0):
        (first,) = fx.autograd.grad(function.apply(point).sum(), x, create_graph=True)
        assert fx.allclose(first.detach(), x.detach().cosh())
        with pytest.raises(RuntimeError, match=rf"\[{function.__name__}\] differentiating twice: {name} was computed"):
            fx.autograd.grad(first.sum(), x)
    function.apply(x).sum().backward()
    assert fx.allclose(x.grad, x.detach().cosh())
