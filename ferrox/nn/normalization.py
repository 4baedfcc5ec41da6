"""Normalisation layers."""

from __future__ import annotations

from collections.abc import Sequence

import ferrox as fx
from ferrox.nn import functional as F
from ferrox.nn import init
from ferrox.nn.module import Module
from ferrox.nn.parameter import Parameter

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "RMSNorm",
]


class _StatisticsNorm(Module):
    """Parameters and running statistics of batch and instance norms."""

    _version = 2

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        device: str | int | fx.device | None,
        dtype: fx.dtype | None,
        bias: bool,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        for name, present in (("weight", affine), ("bias", affine and bias)):
            value = Parameter(fx.empty(num_features, device=device, dtype=dtype)) if present else None
            self.register_parameter(name, value)
        tracked = track_running_stats
        self.register_buffer("running_mean", fx.zeros(num_features, device=device, dtype=dtype) if tracked else None)
        self.register_buffer("running_var", fx.ones(num_features, device=device, dtype=dtype) if tracked else None)
        self.register_buffer("num_batches_tracked", fx.tensor(0, dtype=fx.int64, device=device) if tracked else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Set the running mean to 0, the running variance to 1 and the count of batches to 0."""
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Reset the statistics, set the weight to 1 and the bias to 0."""
        self.reset_running_stats()
        if self.affine:
            init.ones_(self.weight)
            if self.bias is not None:
                init.zeros_(self.bias)

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )

    def _load_from_state_dict(
        self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
    ):
        version = local_metadata.get("version", None)
        key = prefix + "num_batches_tracked"
        # Before version 2 there was no count of batches.
        if (version is None or version < 2) and self.track_running_stats and key not in state_dict:
            state_dict[key] = self.num_batches_tracked
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


class _BatchNorm(_StatisticsNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: str | int | fx.device | None = None,
        dtype: fx.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        self._check_input_dim(input)
        factor = 0.0 if self.momentum is None else self.momentum
        running_mean, running_var = self.running_mean, self.running_var
        if self.training:
            if self.track_running_stats:
                self.num_batches_tracked.add_(1)
                if self.momentum is None:  # cumulative average
                    factor = 1.0 / float(self.num_batches_tracked)
            else:
                running_mean = running_var = None
            use_batch = True
        else:
            use_batch = running_mean is None and running_var is None
        return F.batch_norm(input, running_mean, running_var, self.weight, self.bias, use_batch, factor, self.eps)

    def _check_input_dim(self, input):
        if input.ndim not in self._dims:
            expected = " or ".join(f"{n}D" for n in self._dims)
            raise ValueError(
                f"expected {expected} input (got {input.ndim}D input): [{type(self).__name__}] got shape "
                f"{tuple(input.shape)}"
            )


class BatchNorm1d(_BatchNorm):
    """Normalise every channel of a ``(N, C)`` or ``(N, C, L)`` input over the batch, then scale and shift.

    Parameters
    ----------
    num_features : int
        The number of channels C.
    eps : float, default 1e-5
        Added to the variance.
    momentum : float or None, default 0.1
        The weight of a new batch in the running statistics; None for the average over all batches.
    affine : bool, default True
        Whether there is a weight per channel.
    bias : bool, default True
        Whether there is a bias beside the weight.
    track_running_stats : bool, default True
        Keep running statistics and use them in evaluation mode.

    Notes
    -----
    S. Ioffe, C. Szegedy, "Batch normalization", ICML 2015.

    Examples
    --------
    >>> import ferrox as fx
    >>> layer = fx.nn.BatchNorm1d(4)
    >>> tuple(layer(fx.randn(8, 4)).shape), int(layer.num_batches_tracked)
    ((8, 4), 1)
    """

    _dims = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Normalise every channel of a ``(N, C, H, W)`` input over batch and positions; see `BatchNorm1d`."""

    _dims = (4,)


class BatchNorm3d(_BatchNorm):
    """Normalise every channel of a ``(N, C, D, H, W)`` input over batch and positions; see `BatchNorm1d`."""

    _dims = (5,)


class _InstanceNorm(_StatisticsNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: str | int | fx.device | None = None,
        dtype: fx.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        if input.ndim not in self._dims:
            expected = " or ".join(f"{n}D" for n in self._dims)
            raise ValueError(
                f"expected {expected} input (got {input.ndim}D input): [{type(self).__name__}] got shape "
                f"{tuple(input.shape)}"
            )
        batched = input.ndim == self._dims[1]
        channels = input.shape[1 if batched else 0]
        if channels != self.num_features:
            raise ValueError(f"expected input's size at dim={1 if batched else 0} to match num_features "
                             f"({self.num_features}), but got: {channels}.")  # fmt: skip
        output = F.instance_norm(
            input if batched else input.unsqueeze(0),
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )
        return output if batched else output.squeeze(0)


class InstanceNorm1d(_InstanceNorm):
    """Normalise every channel of every sample of a ``(N, C, L)`` or ``(C, L)`` input; arguments as `BatchNorm1d`."""

    _dims = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """Normalise every channel of every sample of a ``(N, C, H, W)`` or ``(C, H, W)`` input."""

    _dims = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """Normalise every channel of every sample of a ``(N, C, D, H, W)`` or ``(C, D, H, W)`` input."""

    _dims = (4, 5)


def _as_shape(normalized_shape):
    return (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)


class LayerNorm(Module):
    """Normalise over the last dimensions, of shape `normalized_shape`, then scale and shift elementwise.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The shape of the last dimensions.
    eps : float, default 1e-5
        Added to the variance.
    elementwise_affine : bool, default True
        Whether there is a weight.
    bias : bool, default True
        Whether there is a bias beside the weight.

    Notes
    -----
    J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer normalization", 2016.

    Examples
    --------
    >>> import ferrox as fx
    >>> tuple(fx.nn.LayerNorm(10)(fx.randn(2, 5, 10)).shape)
    (2, 5, 10)
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: str | int | fx.device | None = None,
        dtype: fx.dtype | None = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = _as_shape(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        for name, present in (("weight", elementwise_affine), ("bias", elementwise_affine and bias)):
            value = Parameter(fx.empty(self.normalized_shape, device=device, dtype=dtype)) if present else None
            self.register_parameter(name, value)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the weight to 1 and the bias to 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


class GroupNorm(Module):
    """Normalise each of `num_groups` groups of channels of every sample, then scale and shift per channel.

    Parameters
    ----------
    num_groups, num_channels : int
        The second is a multiple of the first.
    eps : float, default 1e-5
        Added to the variance.
    affine : bool, default True
        Whether there is a weight per channel.
    bias : bool, default True
        Whether there is a bias beside the weight.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: str | int | fx.device | None = None,
        dtype: fx.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if num_channels % num_groups != 0:
            raise ValueError(f"num_channels ({num_channels}) must be divisible by num_groups ({num_groups})")
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        for name, present in (("weight", affine), ("bias", affine and bias)):
            value = Parameter(fx.empty(num_channels, device=device, dtype=dtype)) if present else None
            self.register_parameter(name, value)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the weight to 1 and the bias to 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


class RMSNorm(Module):
    """Divide by the root mean square over the last dimensions, then scale elementwise.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The shape of the last dimensions.
    eps : float, optional
        Added to the mean square; default: the machine epsilon of the input's dtype.
    elementwise_affine : bool, default True
        Whether there is a weight.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: str | int | fx.device | None = None,
        dtype: fx.dtype | None = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = _as_shape(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        value = Parameter(fx.empty(self.normalized_shape, device=device, dtype=dtype)) if elementwise_affine else None
        self.register_parameter("weight", value)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the weight to 1."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
