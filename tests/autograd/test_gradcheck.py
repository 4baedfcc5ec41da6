"""gradcheck passes what is right and names what is wrong."""

import pytest
from peers import torch

import ferrox as fx


def _points(m=fx, requires_grad=True):
    return m.tensor([[0.3, -0.7], [1.2, 0.4]], dtype=m.float64, requires_grad=requires_grad)


def _function(forward, backward):
    class Custom(fx.autograd.Function):
        @staticmethod
        def forward(ctx, *xs):
            ctx.save_for_backward(*xs)
            return forward(*xs)

        @staticmethod
        def backward(ctx, *gs):
            return backward(*ctx.saved_tensors, *gs)

    return Custom.apply


GOOD = {
    "product": (lambda a, b: a * b, 2),
    "several outputs": (lambda a, b: (a * b, (a + b).sum()), 2),
    "matrix product": (lambda a, b: a @ b, 2),
    "view": (lambda a: a.t().reshape(-1) * 2.0, 1),
    "unused input": (lambda a, b: a.exp(), 2),
    "empty output": (lambda a: a.reshape(-1).narrow(0, 0, 0) * 2.0, 1),
}


@pytest.mark.parametrize("fast_mode", [False, True])
@pytest.mark.parametrize("name", GOOD)
def test_right_gradients(name, fast_mode):
    func, count = GOOD[name]
    inputs = tuple(_points() for _ in range(count))
    assert fx.autograd.gradcheck(func, inputs, fast_mode=fast_mode)
    assert fx.autograd.gradgradcheck(func, inputs, fast_mode=fast_mode)


@pytest.mark.parametrize("fast_mode", [False, True])
def test_a_wrong_gradient_is_named_with_its_numbers(fast_mode):
    def backward(a, b, g):
        wrong = g * a
        wrong.select(0, 1).narrow(0, 0, 1).mul_(1.5)
        return g * b, wrong

    func = _function(lambda a, b: a * b, backward)
    with pytest.raises(fx.autograd.GradcheckError) as error:
        fx.autograd.gradcheck(func, (_points(), _points() + 1.0), fast_mode=fast_mode)
    text = str(error.value)
    assert "Jacobian mismatch for output 0 with respect to input 1: 1 of 16 entries" in text
    assert "output[1, 0] by input[1, 0]: numerical 1.2, analytical 1.8" in text or "numerical 1.199999" in text
    assert not fx.autograd.gradcheck(func, (_points(), _points()), fast_mode=fast_mode, raise_exception=False)


def test_a_wrong_second_derivative():
    func = _function(lambda a: a * a * a, lambda a, g: g * 3.0 * a.detach() * a)
    assert fx.autograd.gradcheck(func, _points())
    with pytest.raises(fx.autograd.GradcheckError, match=r"the gradient of .*Jacobian mismatch for output 0"):
        fx.autograd.gradgradcheck(func, _points())


def test_a_gradient_that_ignores_its_cotangent():
    func = _function(lambda a: a * 2.0, lambda a, g: fx.full_like(a, 2.0) * (g * 0 + 1))
    with pytest.raises(fx.autograd.GradcheckError):
        fx.autograd.gradcheck(func, _points())
    scalar = _function(lambda a: (a * 2.0).sum(), lambda a, g: fx.full_like(a, 2.0))
    with pytest.raises(fx.autograd.GradcheckError, match="backward not multiplied by grad_output"):
        fx.autograd.gradcheck(scalar, _points())


def test_a_gradient_that_varies():
    stream = iter(range(10000))
    func = _function(lambda a: a * 2.0, lambda a, g: g * (2.0 + 1e-9 * next(stream)))
    with pytest.raises(fx.autograd.GradcheckError, match="not reentrant"):
        fx.autograd.gradcheck(func, _points())
    assert fx.autograd.gradcheck(func, _points(), nondet_tol=1e-3)


def test_an_output_that_hides_its_dependence():
    with pytest.raises(fx.autograd.GradcheckError, match="expected to be zero"):
        fx.autograd.gradcheck(lambda a: a.detach() * 2.0, _points())
    assert fx.autograd.gradcheck(lambda a: fx.ones(2, dtype=fx.float64), _points())


def test_unsuitable_inputs():
    with pytest.raises(ValueError, match="at least one input tensor to require gradient"):
        fx.autograd.gradcheck(lambda a: a, _points(requires_grad=False))
    with pytest.raises(RuntimeError, match="stride 0"):
        fx.autograd.gradcheck(lambda a: a * 2.0, fx.ones(1, dtype=fx.float64).expand(3).requires_grad_())
    with pytest.warns(UserWarning, match="not a double precision"):
        fx.autograd.gradcheck(lambda a: a * 2.0, fx.ones(2, requires_grad=True), atol=1e-1, eps=1e-2)


def test_strided_inputs_keep_their_strides():
    seen = []

    def func(a):
        seen.append(a.stride())
        return a * a

    points = _points(requires_grad=False).t().requires_grad_()
    assert fx.autograd.gradcheck(func, points) and set(seen) == {(1, 2)}


def test_inputs_are_left_alone():
    x = _points()
    before, version = x.tolist(), x._version
    assert fx.autograd.gradcheck(lambda a: a.exp(), x)
    assert x.tolist() == before and x._version == version and x.grad is None


def test_verdicts_as_pytorch():
    for scale in (1.0, 1.0 + 5e-4, 1.002, 0.99):
        verdicts = []
        for m in (fx, torch):
            class Scaled(m.autograd.Function):
                factor = 3.0 * scale

                @staticmethod
                def forward(ctx, x):
                    ctx.factor = Scaled.factor
                    return x * 3.0

                @staticmethod
                def backward(ctx, g):
                    return g * ctx.factor

            verdicts.append(m.autograd.gradcheck(Scaled.apply, (_points(m),), raise_exception=False))
        assert verdicts[0] == verdicts[1], scale
