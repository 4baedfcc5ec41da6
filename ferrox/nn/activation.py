"""Activation functions as modules."""

from __future__ import annotations

import ferrox as fx
from ferrox.nn import functional as F
from ferrox.nn.module import Module
from ferrox.nn.parameter import Parameter

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softmax2d",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Tanh",
    "Tanhshrink",
    "Threshold",
]


class ReLU(Module):
    """``max(0, x)``."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.relu_(input) if self.inplace else F.relu(input)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class ReLU6(Module):
    """``min(max(0, x), 6)``."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.relu6(input, inplace=True) if self.inplace else F.relu6(input)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class LeakyReLU(Module):
    """``x`` where positive, ``negative_slope * x`` elsewhere."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        self.inplace = inplace

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return (
            F.leaky_relu(input, self.negative_slope, inplace=True)
            if self.inplace
            else F.leaky_relu(input, self.negative_slope)
        )

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}" + (", inplace=True" if self.inplace else "")


class ELU(Module):
    """``x`` where positive, ``alpha * (exp(x) - 1)`` elsewhere."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = alpha
        self.inplace = inplace

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.elu(input, self.alpha, inplace=True) if self.inplace else F.elu(input, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}" + (", inplace=True" if self.inplace else "")


class SELU(Module):
    """The self-normalising ELU, with its fixed scale and alpha."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.selu(input, inplace=True) if self.inplace else F.selu(input)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class CELU(Module):
    """``max(0, x) + min(0, alpha * (exp(x / alpha) - 1))``."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = alpha
        self.inplace = inplace

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.celu(input, self.alpha, inplace=True) if self.inplace else F.celu(input, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}" + (", inplace=True" if self.inplace else "")


class SiLU(Module):
    """``x * sigmoid(x)``, also called swish."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.silu(input, inplace=True) if self.inplace else F.silu(input)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class Mish(Module):
    """``x * tanh(softplus(x))``."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.mish(input, inplace=True) if self.inplace else F.mish(input)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class Hardsigmoid(Module):
    """``relu6(x + 3) / 6``."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.hardsigmoid(input, inplace=True) if self.inplace else F.hardsigmoid(input)


class Hardswish(Module):
    """``x * relu6(x + 3) / 6``."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.hardswish(input, inplace=True) if self.inplace else F.hardswish(input)


class GELU(Module):
    """``x`` times the normal distribution function of ``x`` (``approximate="tanh"``: the tanh formula)."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.gelu(input, approximate=self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class Softplus(Module):
    """``log(1 + exp(beta * x)) / beta``, and ``x`` where ``beta * x`` exceeds `threshold`."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = beta
        self.threshold = threshold

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class Softsign(Module):
    """``x / (1 + abs(x))``."""

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.softsign(input)


class LogSigmoid(Module):
    """``log(sigmoid(x))``."""

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.logsigmoid(input)


class Tanhshrink(Module):
    """``x - tanh(x)``."""

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.tanhshrink(input)


class Softshrink(Module):
    """``x`` moved towards zero by `lambd`, zero within `lambd` of it."""

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.softshrink(input, self.lambd)

    def extra_repr(self) -> str:
        return str(self.lambd)


class Hardshrink(Module):
    """``x``, but zero within `lambd` of zero."""

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.hardshrink(input, self.lambd)

    def extra_repr(self) -> str:
        return str(self.lambd)


class Sigmoid(Module):
    """``1 / (1 + exp(-x))``."""

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return input.sigmoid()


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return input.tanh()


class Hardtanh(Module):
    """``x`` limited to ``[min_val, max_val]``."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        if not max_val > min_val:
            raise AssertionError("max_val must be larger than min_val")
        self.min_val = min_val
        self.max_val = max_val
        self.inplace = inplace

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        if self.inplace:
            return F.hardtanh(input, self.min_val, self.max_val, inplace=True)
        return F.hardtanh(input, self.min_val, self.max_val)

    def extra_repr(self) -> str:
        return f"min_val={self.min_val}, max_val={self.max_val}" + (", inplace=True" if self.inplace else "")


class Threshold(Module):
    """``x`` where it exceeds `threshold`, `value` elsewhere."""

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__()
        self.threshold = threshold
        self.value = value
        self.inplace = inplace

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        if self.inplace:
            return F.threshold(input, self.threshold, self.value, inplace=True)
        return F.threshold(input, self.threshold, self.value)

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}, value={self.value}" + (", inplace=True" if self.inplace else "")


class PReLU(Module):
    """``x`` where positive, ``weight * x`` elsewhere, with one learned weight or one per channel.

    Parameters
    ----------
    num_parameters : int, default 1
        1, or the number of channels (dimension 1 of the input).
    init : float, default 0.25
        The weight's initial value.
    """

    def __init__(
        self,
        num_parameters: int = 1,
        init: float = 0.25,
        device: str | int | fx.device | None = None,
        dtype: fx.dtype | None = None,
    ) -> None:
        super().__init__()
        self.num_parameters = num_parameters
        self.init = init
        self.weight = Parameter(fx.empty(num_parameters, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the weight to its initial value."""
        with fx.no_grad():
            self.weight.fill_(self.init)

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class GLU(Module):
    """Split the input in two along `dim` and return ``first * sigmoid(second)``."""

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.glu(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


def _implicit_dim(input):
    # PyTorch's rule for a dim left open: dimension 1 of matrices and images, else 0.
    return 0 if input.ndim in (0, 1, 3) else 1


class _AlongDim(Module):
    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softmax(_AlongDim):
    """``exp(x) / sum(exp(x))`` along `dim`."""

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.softmax(input, _implicit_dim(input) if self.dim is None else self.dim)


class LogSoftmax(_AlongDim):
    """The logarithm of `Softmax`, computed without overflow."""

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.log_softmax(input, _implicit_dim(input) if self.dim is None else self.dim)


class Softmin(_AlongDim):
    """`Softmax` of ``-x``."""

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.softmin(input, _implicit_dim(input) if self.dim is None else self.dim)


class Softmax2d(Module):
    """`Softmax` over the channels of ``(N, C, H, W)`` or ``(C, H, W)`` inputs."""

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        if input.ndim not in (3, 4):
            raise ValueError(f"Softmax2d: expected input to be 3D or 4D, got {input.ndim}D instead")
        return F.softmax(input, -3)
