"""`autograd.Function`: a forward and its backward, written in Python, in PyTorch's form."""

import functools
from typing import Any

from ferrox._core.api.custom import FunctionCtx, apply_function, function_operator
from ferrox._core.graph.node import _set_grad_enabled, is_grad_enabled
from ferrox._core.graph.op import Op

__all__ = ["Function", "FunctionCtx", "once_differentiable"]


class Function:
    """A differentiable function of one's own; derive from it and call `apply`.

    forward(ctx, *args), a staticmethod
        Computes the result, unrecorded.  `ctx.save_for_backward(*tensors)` keeps what backward needs; other values may
        be set as attributes of `ctx`.  Or `forward(*args)` together with `setup_context(ctx, inputs, output)`.
    backward(ctx, *grad_outputs), a staticmethod
        Returns one gradient for each argument of forward, None where there is none.  `ctx.saved_tensors` gives back
        what was kept, `ctx.needs_input_grad` says which gradients are asked for.  Written with operators it can be
        differentiated again; otherwise decorate it with `once_differentiable`.

    Examples
    --------
    >>> import ferrox as fx
    >>> class Square(fx.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         x, = ctx.saved_tensors
    ...         return 2 * g * x
    >>> x = fx.tensor([1.0, 3.0], requires_grad=True)
    >>> Square.apply(x).sum().backward()
    >>> x.grad
    tensor([2., 6.])
    """

    def __init__(self, *args, **kwargs):
        raise RuntimeError(f"{type(self).__name__} should not be instantiated. Methods on autograd functions are all "
                           "static, so you should invoke them on the class itself: use `apply`.")

    @staticmethod
    def forward(*args, **kwargs):
        """Compute the result; to be overridden."""
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Keep what backward needs, when `forward` takes no `ctx`; to be overridden."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx, *grad_outputs):
        """Gradients of the arguments; to be overridden."""
        raise NotImplementedError("You must implement either the backward or vjp method for your custom "
                                  "autograd.Function to use it with backward mode AD.")

    vjp = backward

    @classmethod
    def apply(cls, *args, **kwargs) -> Any:
        """Call the function, recording it for gradients."""
        known = cls.__dict__.get("_ferrox_operator")
        if known is None:
            known = _prepare(cls)
        operator, separate = known
        if kwargs:
            if not separate:
                raise TypeError(f"{cls.__name__}.apply() takes no keyword arguments")
            import inspect

            bound = inspect.signature(cls.forward).bind(*args, **kwargs)
            bound.apply_defaults()
            args = bound.args
        return apply_function(operator, cls, args, separate)


def _prepare(cls):
    """The operator of a Function, and whether its forward goes without ctx."""
    backward = cls.backward is not Function.backward
    vjp = cls.vjp is not Function.vjp
    if backward and vjp:
        raise RuntimeError(f"Implementing both 'backward' and 'vjp' for {cls.__name__} is not allowed; implement one.")
    cls._backward = staticmethod(cls.vjp if vjp else cls.backward)
    cls._ferrox_operator = (function_operator(cls.__name__), cls.setup_context is not Function.setup_context)
    return cls._ferrox_operator


class _OnlyOnce(Op):
    """Stands in the graph for a gradient that cannot be differentiated again."""

    def forward(self, gradient, *cotangents):
        return gradient

    def vjp(self, ctx, g):
        raise RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable")


_only_once = _OnlyOnce("once_differentiable")


def once_differentiable(backward):
    """Decorate a `backward` that is not written with operators: differentiating its result is an error, not silence."""

    @functools.wraps(backward)
    def wrapped(ctx, *grad_outputs):
        recording = is_grad_enabled()
        before = _set_grad_enabled(False)
        try:
            result = backward(ctx, *grad_outputs)
        finally:
            _set_grad_enabled(before)
        cotangents = [g for g in grad_outputs if g is not None and g.requires_grad]
        if not recording or not cotangents:
            return result
        single = not isinstance(result, (tuple, list))
        marked = [None if g is None else _only_once(g, *cotangents) for g in ((result,) if single else result)]
        return marked[0] if single else tuple(marked)

    return wrapped
