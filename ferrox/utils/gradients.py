"""What modules and optimisers do with the gradients of their parameters."""

from __future__ import annotations

from collections.abc import Iterable

import ferrox as fx


def clear(parameters: Iterable[fx.Tensor], set_to_none: bool) -> None:
    """Drop the gradients, or fill them with zeros: in place, since others may hold or share them."""
    for param in parameters:
        if set_to_none:
            param.grad = None
            continue
        grad = param.grad
        if grad is None:
            continue
        if grad.grad_fn is not None:
            grad.detach_()
        else:
            grad.requires_grad_(False)
        grad.zero_()
