"""Initial values of parameters; every function fills its tensor in place and returns it."""

from __future__ import annotations

import math
import warnings

import ferrox as fx

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

_LINEAR = (
    "linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
)  # fmt: skip


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor by which a standard deviation grows to make up for `nonlinearity`.

    Examples
    --------
    >>> import ferrox as fx
    >>> round(fx.nn.init.calculate_gain("leaky_relu", 0.2), 4)
    1.3868
    """
    if nonlinearity in _LINEAR or nonlinearity == "sigmoid":
        return 1
    if nonlinearity == "tanh":
        return 5.0 / 3
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        if param is None:
            slope = 0.01
        elif isinstance(param, (int, float)) and not isinstance(param, bool):
            slope = param
        else:
            raise ValueError(f"negative_slope {param} not a valid number")
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity == "selu":
        return 3.0 / 4
    raise ValueError(
        f"Unsupported nonlinearity {nonlinearity}: [calculate_gain] knows linear, sigmoid, tanh, relu, leaky_relu and "
        "selu, and the names of linear layers"
    )


def uniform_(tensor: fx.Tensor, a: float = 0.0, b: float = 1.0, generator: fx.Generator | None = None) -> fx.Tensor:
    """Draw from the uniform distribution on ``[a, b)``."""
    with fx.no_grad():
        return tensor.uniform_(a, b, generator=generator)


def normal_(tensor: fx.Tensor, mean: float = 0.0, std: float = 1.0, generator: fx.Generator | None = None) -> fx.Tensor:
    """Draw from the normal distribution."""
    with fx.no_grad():
        return tensor.normal_(mean, std, generator=generator)


def trunc_normal_(
    tensor: fx.Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: fx.Generator | None = None,
) -> fx.Tensor:
    """Draw from the normal distribution restricted to ``[a, b]``, through the inverse of its distribution function."""

    def cdf(x):
        return (1.0 + math.erf(x / math.sqrt(2.0))) / 2.0

    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn(
            "mean is more than 2 std from [a, b] in nn.init.trunc_normal_. "
            "The distribution of values may be incorrect.",
            stacklevel=2,
        )
    low, high = cdf((a - mean) / std), cdf((b - mean) / std)
    with fx.no_grad():
        tensor.uniform_(2 * low - 1, 2 * high - 1, generator=generator)
        tensor.erfinv_()
        tensor.mul_(std * math.sqrt(2.0)).add_(mean)
        return tensor.clamp_(min=a, max=b)


def constant_(tensor: fx.Tensor, val: float) -> fx.Tensor:
    """Fill with `val`."""
    with fx.no_grad():
        return tensor.fill_(val)


def ones_(tensor: fx.Tensor) -> fx.Tensor:
    """Fill with ones."""
    return constant_(tensor, 1.0)


def zeros_(tensor: fx.Tensor) -> fx.Tensor:
    """Fill with zeros."""
    with fx.no_grad():
        return tensor.zero_()


def eye_(tensor: fx.Tensor) -> fx.Tensor:
    """Fill a matrix with the identity."""
    if tensor.ndim != 2:
        raise ValueError(f"[eye_] Only tensors with 2 dimensions are supported, got shape {tuple(tensor.shape)}")
    with fx.no_grad():
        return tensor.copy_(fx.eye(*tensor.shape, dtype=tensor.dtype, device=tensor.device))


def dirac_(tensor: fx.Tensor, groups: int = 1) -> fx.Tensor:
    """Fill a convolution's weight (3 to 5 dimensions) so that it hands its input channels on."""
    if tensor.ndim not in (3, 4, 5):
        raise ValueError(
            f"[dirac_] Only tensors with 3, 4, or 5 dimensions are supported, got shape {tuple(tensor.shape)}"
        )
    if tensor.shape[0] % groups:
        raise ValueError(f"[dirac_] dim 0 must be divisible by groups, got size {tensor.shape[0]} and groups={groups}")
    per_group = tensor.shape[0] // groups
    centre = tuple(size // 2 for size in tensor.shape[2:])
    with fx.no_grad():
        tensor.zero_()
        for group in range(groups):
            for i in range(min(per_group, tensor.shape[1])):
                tensor[(group * per_group + i, i, *centre)] = 1
        return tensor


def _calculate_fan_in_and_fan_out(tensor):
    if tensor.ndim < 2:
        raise ValueError(
            "Fan in and fan out can not be computed for tensor with fewer than 2 dimensions, got shape "
            f"{tuple(tensor.shape)}"
        )
    receptive_field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * receptive_field, tensor.shape[0] * receptive_field


def _calculate_correct_fan(tensor, mode):
    mode = mode.lower()
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']")
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    return fan_in if mode == "fan_in" else fan_out


def xavier_uniform_(tensor: fx.Tensor, gain: float = 1.0, generator: fx.Generator | None = None) -> fx.Tensor:
    """Draw uniformly with standard deviation ``gain * sqrt(2 / (fan_in + fan_out))``.

    Notes
    -----
    X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010.
    """
    bound = math.sqrt(3.0) * gain * math.sqrt(2.0 / sum(_calculate_fan_in_and_fan_out(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: fx.Tensor, gain: float = 1.0, generator: fx.Generator | None = None) -> fx.Tensor:
    """Draw normally with standard deviation ``gain * sqrt(2 / (fan_in + fan_out))``; see `xavier_uniform_`."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(_calculate_fan_in_and_fan_out(tensor))), generator)


def _is_empty(tensor):
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=3)
        return True
    return False


def kaiming_uniform_(
    tensor: fx.Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: fx.Generator | None = None,
) -> fx.Tensor:
    """Draw uniformly with standard deviation ``gain / sqrt(fan)``.

    Parameters
    ----------
    a : float, default 0
        The negative slope of the rectifier that follows (for ``"leaky_relu"``).
    mode : {"fan_in", "fan_out"}
        Keep the scale of the forward or of the backward pass.

    Notes
    -----
    K. He et al., "Delving deep into rectifiers", ICCV 2015.
    """
    if _is_empty(tensor):
        return tensor
    bound = math.sqrt(3.0) * calculate_gain(nonlinearity, a) / math.sqrt(_calculate_correct_fan(tensor, mode))
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: fx.Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: fx.Generator | None = None,
) -> fx.Tensor:
    """Draw normally with standard deviation ``gain / sqrt(fan)``; see `kaiming_uniform_`."""
    if _is_empty(tensor):
        return tensor
    std = calculate_gain(nonlinearity, a) / math.sqrt(_calculate_correct_fan(tensor, mode))
    return normal_(tensor, 0.0, std, generator)


def sparse_(tensor: fx.Tensor, sparsity: float, std: float = 0.01, generator: fx.Generator | None = None) -> fx.Tensor:
    """Draw a matrix normally and set the fraction `sparsity` of each column to zero."""
    if tensor.ndim != 2:
        raise ValueError(f"[sparse_] Only tensors with 2 dimensions are supported, got shape {tuple(tensor.shape)}")
    rows, columns = tensor.shape
    zeros = math.ceil(sparsity * rows)
    with fx.no_grad():
        tensor.normal_(0, std, generator=generator)
        for column in range(columns):
            tensor[fx.randperm(rows)[:zeros], column] = 0
        return tensor
