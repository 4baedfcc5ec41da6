"""Functions of neural networks, under PyTorch's names.

Operators of the engine are taken over at the end; the others are compositions of them.
"""

from __future__ import annotations

# ruff: noqa: F401
import ferrox as fx
from ferrox._core.graph.op import operators as _operators
from ferrox.nn._losses import (
    cosine_embedding_loss,
    cosine_similarity,
    gaussian_nll_loss,
    hinge_embedding_loss,
    kl_div,
    margin_ranking_loss,
    multi_margin_loss,
    multilabel_margin_loss,
    multilabel_soft_margin_loss,
    pairwise_distance,
    poisson_nll_loss,
    soft_margin_loss,
    triplet_margin_loss,
    triplet_margin_with_distance_loss,
)

# Operators of the engine that are functions of torch.nn.functional too.
_ENGINE = [
    "relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus", "softsign",
    "hardtanh", "hardsigmoid", "hardswish", "logsigmoid", "tanhshrink", "softshrink", "hardshrink", "threshold",
    "sigmoid", "tanh", "softmax", "log_softmax", "linear", "embedding", "layer_norm", "batch_norm", "dropout",
    "scaled_dot_product_attention", "cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss",
    "huber_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "pad", "softmin", "one_hot",
    "rms_norm",
]


def glu(input: fx.Tensor, dim: int = -1) -> fx.Tensor:
    """Split `input` in two along `dim` and return ``first * sigmoid(second)``.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.nn.functional.glu(fx.tensor([2.0, 0.0])).tolist()
    [1.0]
    """
    if input.ndim == 0:
        raise RuntimeError("[glu] glu does not support 0-dimensional tensors: it halves a dimension")
    size = input.shape[dim]
    if size % 2:
        raise RuntimeError(f"[glu] Halving dimension must be even, but dimension {dim} is size {size}")
    first, second = input.chunk(2, dim)
    return first * second.sigmoid()


def relu_(input: fx.Tensor) -> fx.Tensor:
    """Apply `relu` in place."""
    return input.relu_()


def normalize(
    input: fx.Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: fx.Tensor | None = None
) -> fx.Tensor:
    """Divide `input` by its `p`-norm along `dim` (by `eps` where the norm is smaller).

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.nn.functional.normalize(fx.tensor([[3.0, 4.0]])).tolist()  # doctest: +ELLIPSIS
    [[0.6..., 0.8...]]
    """
    result = input / input.norm(p, dim, keepdim=True).clamp_min(eps).expand_as(input)
    return result if out is None else out.copy_(result)


def gumbel_softmax(
    logits: fx.Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> fx.Tensor:
    """Draw from the Gumbel-softmax distribution of `logits`.

    Parameters
    ----------
    logits : Tensor
        Unnormalised log probabilities.
    tau : float, default 1
        Temperature.
    hard : bool, default False
        Return one-hot samples, whose gradient is that of the soft ones.
    dim : int, default -1
        The dimension along which the probabilities sum to one.

    Notes
    -----
    E. Jang, S. Gu, B. Poole, "Categorical reparameterization with Gumbel-softmax", ICLR 2017.
    """
    gumbels = -fx.empty_like(logits).exponential_().log()
    soft = ((logits + gumbels) / tau).softmax(dim)
    if not hard:
        return soft
    index = soft.max(dim, keepdim=True)[1]
    sample = fx.zeros_like(logits).scatter_(dim, index, 1.0)
    return sample - soft.detach() + soft


def bilinear(input1: fx.Tensor, input2: fx.Tensor, weight: fx.Tensor, bias: fx.Tensor | None = None) -> fx.Tensor:
    """Return ``input1 @ weight[k] @ input2 + bias[k]`` for every k, over the last dimension."""
    if input1.shape[:-1] != input2.shape[:-1]:
        raise RuntimeError(
            f"bilinear(): input batch dimensions do not match: got {tuple(input1.shape)} and {tuple(input2.shape)}"
        )
    for i, input in ((1, input1), (2, input2)):
        if input.shape[-1] != weight.shape[i]:
            raise RuntimeError(
                f"bilinear(): input{i} size does not match weight size: got {input.shape[-1]} but expected "
                f"{weight.shape[i]}"
            )
    out_features, in1, in2 = weight.shape
    # input1 against all weights at once, then a product and a sum with input2.
    left = input1 @ weight.permute(1, 0, 2).reshape(in1, out_features * in2)
    left = left.reshape(*input1.shape[:-1], out_features, in2)
    output = (left @ input2.unsqueeze(-1)).squeeze(-1)
    return output if bias is None else output + bias


def group_norm(
    input: fx.Tensor, num_groups: int, weight: fx.Tensor | None = None, bias: fx.Tensor | None = None, eps: float = 1e-5
) -> fx.Tensor:
    """Normalise each of `num_groups` groups of channels of every sample, then scale and shift per channel.

    Notes
    -----
    Y. Wu, K. He, "Group normalization", ECCV 2018.
    """
    if input.ndim < 2:
        raise RuntimeError(f"[group_norm] Expected at least 2 dimensions for input tensor but received {input.ndim}")
    batch, channels = input.shape[:2]
    if num_groups <= 0 or channels % num_groups:
        raise RuntimeError(
            "[group_norm] Expected number of channels in input to be divisible by num_groups, but got input of shape "
            f"{list(input.shape)} and num_groups={num_groups}"
        )
    _check_affine("group_norm", input, weight, bias)
    if input.numel() == num_groups:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {list(input.shape)}")
    if input.numel() == 0:
        return _per_channel(input * 1, weight, bias)
    grouped = input.reshape(batch, num_groups, -1)
    output = layer_norm(grouped, (grouped.shape[2],), None, None, eps).reshape(input.shape)  # noqa: F821
    return _per_channel(output, weight, bias)


def instance_norm(
    input: fx.Tensor, running_mean: fx.Tensor | None = None, running_var: fx.Tensor | None = None,
    weight: fx.Tensor | None = None, bias: fx.Tensor | None = None, use_input_stats: bool = True,
    momentum: float = 0.1, eps: float = 1e-5
) -> fx.Tensor:
    """Normalise every channel of every sample, then scale and shift per channel."""
    _check_affine("instance_norm", input, weight, bias)
    batch, channels = input.shape[:2]
    count = input[0, 0].numel() if batch and channels else 0
    if use_input_stats and count == 1:
        raise ValueError(f"Expected more than 1 spatial element when training, got input size {input.size()}")
    if use_input_stats and running_mean is None:
        return _per_channel(group_norm(input, channels, None, None, eps), weight, bias)
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)  # noqa: F821
    flat = input.reshape(batch, channels, -1)
    with fx.no_grad():
        running_mean.copy_(running_mean.lerp(flat.mean((0, 2)).to(running_mean.dtype), momentum))
        running_var.copy_(running_var.lerp(flat.var(2).mean(0).to(running_var.dtype), momentum))
    return _per_channel(group_norm(input, channels, None, None, eps), weight, bias)


def _check_affine(name, input, weight, bias):
    """Refuse a weight or bias of another dtype than the input's; float32 will do for half precision."""
    for role, each in (("weight", weight), ("bias", bias)):
        if each is None or each.dtype == input.dtype:
            continue
        if input.dtype not in (fx.float16, fx.bfloat16) or each.dtype != fx.float32:
            raise RuntimeError(f"[{name}] expected {role} of dtype {input.dtype}, that of the input, got {each.dtype}")


def _per_channel(output, weight, bias):
    shape, dtype = (1, -1) + (1,) * (output.ndim - 2), output.dtype
    if weight is not None:
        output = output * weight.reshape(shape)
    if bias is not None:
        output = output + bias.reshape(shape)
    return output.to(dtype)


# ---- dropout


def _check_probability(p):
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def _channel_mask(input, p):
    """Return a mask over the first two dimensions: zero with probability `p`, one otherwise."""
    shape = tuple(input.shape[:2]) + (1,) * (input.ndim - 2)
    return fx.empty(shape, dtype=input.dtype, device=input.device).bernoulli_(1 - p)


def _feature_dropout(input, p, training, inplace):
    if not training or p == 0 or input.numel() == 0:
        return input if inplace else input * 1
    # p == 1 would divide by zero: everything is dropped.
    mask = _channel_mask(input, p).div_(1 - p) if p < 1 else fx.zeros((), dtype=input.dtype, device=input.device)
    return input.mul_(mask) if inplace else input * mask


def dropout1d(input: fx.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> fx.Tensor:
    """Zero whole channels of a ``(N, C, L)`` or ``(C, L)`` input with probability `p` and scale the others."""
    _check_probability(p)
    if input.ndim not in (2, 3):
        raise RuntimeError(
            f"dropout1d: Expected 2D or 3D input, but received a {input.ndim}D input. Note that dropout1d exists to "
            "provide channel-wise dropout on inputs with 1 spatial dimension, a channel dimension, and an optional "
            "batch dimension (i.e. 2D or 3D inputs)."
        )
    if input.ndim == 3:
        return _feature_dropout(input, p, training, inplace)
    result = _feature_dropout(input.unsqueeze(0), p, training, inplace)
    return input if inplace else result.squeeze(0)


def dropout2d(input: fx.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> fx.Tensor:
    """Zero whole channels of a ``(N, C, H, W)`` input with probability `p` and scale the others."""
    _check_probability(p)
    if input.ndim < 2:
        raise RuntimeError(f"Feature dropout requires at least 2 dimensions in the input, got {input.ndim}D")
    return _feature_dropout(input, p, training, inplace)


def dropout3d(input: fx.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> fx.Tensor:
    """Zero whole channels of a ``(N, C, D, H, W)`` input with probability `p` and scale the others."""
    return dropout2d(input, p, training, inplace)


_SELU_NEGATIVE_LIMIT = -1.7580993408473766  # -scale * alpha of SELU


def _alpha_dropout(input, keep, p, inplace):
    # Dropped units take SELU's negative limit; the affine map keeps mean 0 and variance 1.
    a = ((_SELU_NEGATIVE_LIMIT**2 * p + 1) * (1 - p)) ** -0.5
    shift = (keep - 1) * (-_SELU_NEGATIVE_LIMIT * a) - _SELU_NEGATIVE_LIMIT * a * p
    scale = keep * a
    return input.mul_(scale).add_(shift) if inplace else input * scale + shift


def alpha_dropout(input: fx.Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> fx.Tensor:
    """Dropout that keeps mean and variance of self-normalising networks.

    Notes
    -----
    G. Klambauer et al., "Self-normalizing neural networks", NeurIPS 2017.
    """
    return _alpha_dropout_of(input, p, training, inplace, fx.empty_like)


def feature_alpha_dropout(input: fx.Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> fx.Tensor:
    """`alpha_dropout` of whole channels."""

    def empty(like):
        return fx.empty(tuple(like.shape[:2]) + (1,) * (like.ndim - 2), dtype=like.dtype, device=like.device)

    return _alpha_dropout_of(input, p, training, inplace, empty)


def _alpha_dropout_of(input, p, training, inplace, empty):
    _check_probability(p)
    if not training or p == 0 or input.numel() == 0:
        return input if inplace else input * 1
    if p == 1:
        return input.mul_(0.0) if inplace else input * fx.zeros((), dtype=input.dtype, device=input.device)
    with fx.no_grad():
        keep = empty(input).bernoulli_(1 - p)
    return _alpha_dropout(input, keep, p, inplace)


globals().update({name: _operators()[name] for name in _ENGINE})

__all__ = sorted(name for name, value in globals().items() if callable(value) and not name.startswith("_"))
