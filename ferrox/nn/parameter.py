"""Parameters: tensors that a module registers and an optimiser trains."""

from __future__ import annotations

from typing import Any, Self

import ferrox as fx
from ferrox._core.tensor.base import as_subclass

__all__ = ["Parameter"]


def _rebuild(cls, data, requires_grad):
    return cls(data, requires_grad)


class Parameter(fx.Tensor):
    """A tensor that a module registers as trainable when it is assigned as an attribute.

    Parameters
    ----------
    data : Tensor, optional
        The values; the parameter shares their storage.  Default: an empty tensor.
    requires_grad : bool, default True
        Whether gradients are accumulated for it.

    Examples
    --------
    >>> import ferrox as fx
    >>> weight = fx.nn.Parameter(fx.zeros(2, 3))
    >>> weight.requires_grad, weight.is_leaf
    (True, True)
    """

    _prints_as_tensor = True

    def __new__(cls, data: fx.Tensor | None = None, requires_grad: bool = True) -> Self:
        if data is None:
            data = fx.empty(0)
        elif not isinstance(data, fx.Tensor):
            raise TypeError(f"cannot make a Parameter from {type(data).__name__!r} (a Tensor is expected)")
        return as_subclass(data.detach(), cls).requires_grad_(requires_grad)

    def __init__(self, data: fx.Tensor | None = None, requires_grad: bool = True) -> None:
        # __new__ did the work: the base class's __init__ must not run again on the same storage.
        pass

    def __deepcopy__(self, memo: Any) -> Self:
        if id(self) in memo:
            return memo[id(self)]
        result = type(self)(self.detach().clone(), self.requires_grad)
        memo[id(self)] = result
        return result

    def __reduce_ex__(self, protocol: Any) -> Any:
        data = self.detach()
        if type(data) is not fx.Tensor:
            data = as_subclass(data, fx.Tensor)
        state = vars(self)
        arguments = (type(self), data, self.requires_grad)
        return (_rebuild, arguments, state) if state else (_rebuild, arguments)

    def __repr__(self, **kwargs: Any) -> str:
        return "Parameter containing:\n" + super().__repr__(**kwargs)
