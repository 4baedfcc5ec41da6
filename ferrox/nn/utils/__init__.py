"""Helpers for gradients and parameter vectors."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable

import ferrox as fx

__all__ = [
    "clip_grad_norm_",
    "clip_grad_value_",
    "clip_grads_with_norm_",
    "get_total_norm",
    "parameters_to_vector",
    "vector_to_parameters",
]


def _grads(parameters):
    parameters = [parameters] if isinstance(parameters, fx.Tensor) else list(parameters)
    grads = [param.grad for param in parameters if param.grad is not None]
    return parameters, grads


def get_total_norm(
    tensors: fx.Tensor | Iterable[fx.Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> fx.Tensor:
    """Return the `norm_type`-norm of all `tensors` as if they were one vector."""
    tensors = [tensors] if isinstance(tensors, fx.Tensor) else list(tensors)
    if not tensors:
        return fx.tensor(0.0)
    norm_type = float(norm_type)
    device = tensors[0].device
    norms = [tensor.norm(norm_type).to(device) for tensor in tensors]
    stacked = fx.stack(norms)
    # The 0-"norm" counts non-zeros; as PyTorch, the counts are then put through the same norm.
    total = stacked.max() if norm_type == math.inf else stacked.norm(norm_type)
    if error_if_nonfinite and not bool(total.isfinite()):
        raise RuntimeError(
            f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, so it cannot be "
            "clipped. To disable this error and scale the gradients by the non-finite norm anyway, set "
            "`error_if_nonfinite=False`"
        )
    return total


def clip_grads_with_norm_(
    parameters: fx.Tensor | Iterable[fx.Tensor], max_norm: float, total_norm: fx.Tensor, foreach: bool | None = None
) -> None:
    """Scale the gradients of `parameters` by ``max_norm / total_norm`` where that is below one."""
    _, grads = _grads(parameters)
    with fx.no_grad():
        # Multiplying by a coefficient clamped to 1 needs no look at its value, hence no wait for a GPU.
        coefficient = (float(max_norm) / (total_norm + 1e-6)).clamp(max=1.0)
        for grad in grads:
            grad.mul_(coefficient.to(grad.device) if coefficient.device != grad.device else coefficient)


def clip_grad_norm_(
    parameters: fx.Tensor | Iterable[fx.Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> fx.Tensor:
    """Scale the gradients in place so that their joint norm is at most `max_norm`.

    Parameters
    ----------
    parameters : Tensor or iterable of Tensor
        Those whose gradients count.
    max_norm : float
        The bound.
    norm_type : float, default 2.0
        The p of the norm; ``inf`` for the largest absolute value.
    error_if_nonfinite : bool, default False
        Raise RuntimeError where the norm is NaN or infinite.

    Returns
    -------
    Tensor
        The norm before clipping.

    Examples
    --------
    >>> import ferrox as fx
    >>> p = fx.nn.Parameter(fx.zeros(2))
    >>> p.grad = fx.tensor([3.0, 4.0])
    >>> fx.nn.utils.clip_grad_norm_([p], 1.0).item()
    5.0
    """
    if not isinstance(parameters, fx.Tensor):
        is_generator = hasattr(parameters, "__next__")
        parameters = list(parameters)
        if is_generator and not parameters:
            warnings.warn("`parameters` is an empty generator, no gradient clipping will occur.", stacklevel=2)
    parameters, grads = _grads(parameters)
    with fx.no_grad():
        total_norm = get_total_norm(grads, norm_type, error_if_nonfinite)
    clip_grads_with_norm_(parameters, max_norm, total_norm)
    return total_norm


def clip_grad_value_(
    parameters: fx.Tensor | Iterable[fx.Tensor], clip_value: float, foreach: bool | None = None
) -> None:
    """Limit every element of the gradients to ``[-clip_value, clip_value]``, in place."""
    clip_value = float(clip_value)
    with fx.no_grad():
        for grad in _grads(parameters)[1]:
            grad.clamp_(-clip_value, clip_value)


def parameters_to_vector(parameters: Iterable[fx.Tensor]) -> fx.Tensor:
    """Return all elements of `parameters` as one vector.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.nn.utils.parameters_to_vector(fx.nn.Linear(3, 2).parameters()).numel()
    8
    """
    vectors = []
    device = None
    for param in parameters:
        device = _same_device(param, device)
        vectors.append(param.reshape(-1))
    return fx.cat(vectors)


def vector_to_parameters(vec: fx.Tensor, parameters: Iterable[fx.Tensor]) -> None:
    """Set `parameters` to the consecutive pieces of the vector `vec`, whose storage they then share."""
    if not isinstance(vec, fx.Tensor):
        raise TypeError(f"expected ferrox.Tensor, but got: {type(vec).__name__}")
    parameters = list(parameters)
    total = sum(param.numel() for param in parameters)
    if vec.ndim != 1 or vec.numel() != total:
        raise ValueError(
            f"[vector_to_parameters] expected a vector of the parameters' {total} elements, got {vec.numel()} in shape "
            f"{tuple(vec.shape)}"
        )
    start = 0
    device = None
    for param in parameters:
        device = _same_device(param, device)
        count = param.numel()
        param.data = vec[start : start + count].view(param.shape).data
        start += count


def _same_device(param, device):
    if device is not None and param.device != device:
        raise TypeError("Found two parameters on different devices, this is currently not supported.")
    return param.device
