"""Losses and distances composed of elementary operators; `ferrox.nn.functional` gives them out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import ferrox as fx


def legacy_reduction(size_average, reduce):
    """Translate PyTorch's deprecated pair of arguments into a `reduction`."""
    size_average = True if size_average is None else size_average
    reduce = True if reduce is None else reduce
    reduction = ("mean" if size_average else "sum") if reduce else "none"
    warnings.warn(
        f"size_average and reduce args will be deprecated, please use reduction='{reduction}' instead.", stacklevel=4
    )
    return reduction


def _reduction(size_average, reduce, reduction):
    if size_average is not None or reduce is not None:
        return legacy_reduction(size_average, reduce)
    return reduction


def _reduce(loss, reduction):
    if reduction == "mean":
        return loss.mean()
    if reduction == "sum":
        return loss.sum()
    if reduction == "none":
        return loss
    raise ValueError(f"{reduction} is not a valid value for reduction")


def kl_div(
    input: fx.Tensor,
    target: fx.Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> fx.Tensor:
    """Return the Kullback-Leibler divergence of `target` from `input`, pointwise ``target * (log target - input)``.

    Parameters
    ----------
    input : Tensor
        Log probabilities.
    target : Tensor
        Probabilities, or log probabilities where `log_target`.
    reduction : {"mean", "batchmean", "sum", "none"}, default "mean"
        "mean" divides by the number of elements, "batchmean" by that of samples (the mathematical definition).

    Examples
    --------
    >>> import ferrox as fx
    >>> p = fx.tensor([[0.5, 0.5]])
    >>> fx.nn.functional.kl_div(p.log(), p, reduction="batchmean").item()
    0.0
    """
    reduction = _reduction(size_average, reduce, reduction)
    if reduction == "mean":
        warnings.warn(
            "reduction: 'mean' divides the total loss by both the batch size and the support size."
            "'batchmean' divides only by the batch size, and aligns with the KL div math definition."
            "'mean' will be changed to behave the same as 'batchmean' in the next major release.",
            stacklevel=2,
        )
    loss = target.exp() * (target - input) if log_target else fx.xlogy(target, target) - target * input
    if reduction == "batchmean":
        return loss.sum() / (input.shape[0] if input.ndim else 1)
    return _reduce(loss, reduction)


def hinge_embedding_loss(
    input: fx.Tensor,
    target: fx.Tensor,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> fx.Tensor:
    """Return `input` where `target` is 1, and ``max(0, margin - input)`` where it is -1."""
    zeros = fx.zeros_like(input)
    near = fx.where(target != -1, input, zeros)
    far = fx.where(target != 1, (margin - input).clamp_min(0), zeros)
    return _reduce(near + far, _reduction(size_average, reduce, reduction))


def margin_ranking_loss(
    input1: fx.Tensor,
    input2: fx.Tensor,
    target: fx.Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> fx.Tensor:
    """Return ``max(0, -target * (input1 - input2) + margin)``; a `target` of 1 asks for the first to be larger."""
    if input1.ndim != input2.ndim or input1.ndim != target.ndim:
        raise RuntimeError(
            "margin_ranking_loss : All input tensors should have same dimension but got sizes: "
            f"input1: {input1.size()}, input2: {input2.size()}, target: {target.size()} "
        )
    loss = (margin - target * (input1 - input2)).clamp_min(0)
    return _reduce(loss, _reduction(size_average, reduce, reduction))


def cosine_similarity(x1: fx.Tensor, x2: fx.Tensor, dim: int = 1, eps: float = 1e-8) -> fx.Tensor:
    """Return ``sum(x1 * x2) / (max(norm(x1), eps) * max(norm(x2), eps))`` along `dim`.

    Examples
    --------
    >>> import ferrox as fx
    >>> a = fx.tensor([[1.0, 0.0]])
    >>> fx.nn.functional.cosine_similarity(a, fx.tensor([[0.0, 2.0]])).item()
    0.0
    """
    x1, x2 = fx.broadcast_tensors(x1, x2)
    unit1 = x1 / _norm_at_least(x1, dim, eps)
    unit2 = x2 / _norm_at_least(x2, dim, eps)
    return (unit1 * unit2).sum(dim)


def _norm_at_least(x, dim, eps):
    """Return the 2-norm along `dim`, or `eps` where it is smaller.

    Values are clamped as data, the gradient stays that of the norm: this is how PyTorch defines it.
    """
    norm = x.norm(2, dim, keepdim=True)
    with fx.no_grad():
        missing = (eps - norm).clamp_min(0)  # of an infinite norm none
    return norm + missing


def cosine_embedding_loss(
    input1: fx.Tensor,
    input2: fx.Tensor,
    target: fx.Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> fx.Tensor:
    """Return one minus the cosine where `target` is 1, and ``max(0, cosine - margin)`` where it is -1."""
    if target.ndim == 1:
        if input1.ndim != 2 or input2.ndim != 2:
            raise RuntimeError(
                "1D target tensor expects 2D input tensors, but found inputs with sizes "
                f"{list(input1.shape)} and {list(input2.shape)}."
            )
    elif target.ndim == 0:
        if input1.ndim != 1 or input2.ndim != 1:
            raise RuntimeError(
                "0D target tensor expects 1D input tensors, but found inputs with sizes "
                f"{list(input1.shape)} and {list(input2.shape)}."
            )
    else:
        raise RuntimeError(f"0D or 1D target tensor expected, multi-target not supported, got {target.ndim}D")
    epsilon = 1e-12  # on the squares, as PyTorch
    dim = target.ndim
    product = (input1 * input2).sum(dim)
    squares1 = (input1 * input1).sum(dim) + epsilon
    squares2 = (input2 * input2).sum(dim) + epsilon
    cosine = product / (squares1 * squares2).sqrt()
    zeros = fx.zeros_like(cosine)
    near = fx.where(target == 1, 1 - cosine, zeros)
    far = fx.where(target == -1, (cosine - margin).clamp_min(0), zeros)
    return _reduce(near + far, _reduction(size_average, reduce, reduction))


def pairwise_distance(
    x1: fx.Tensor, x2: fx.Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> fx.Tensor:
    """Return the `p`-norm of ``x1 - x2 + eps`` over the last dimension."""
    return (x1 - x2 + eps).norm(p, -1, keepdim=keepdim)


def triplet_margin_loss(
    anchor: fx.Tensor, positive: fx.Tensor, negative: fx.Tensor, margin: float = 1.0, p: float = 2, eps: float = 1e-6,
    swap: bool = False, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean"
) -> fx.Tensor:
    """Return ``max(0, d(anchor, positive) - d(anchor, negative) + margin)`` with `p`-norm distances.

    With `swap` the smaller of the negative's distances to anchor and positive counts.
    """
    reduction = _reduction(size_average, reduce, reduction)
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise RuntimeError(
            "The anchor, positive, and negative tensors are expected to have the same number of dimensions, but got: "
            f"anchor {anchor.ndim}D, positive {positive.ndim}D, and negative {negative.ndim}D inputs"
        )

    def distance(x1, x2):
        return pairwise_distance(x1, x2, p, eps)

    return _triplet(anchor, positive, negative, distance, margin, swap, reduction)


def triplet_margin_with_distance_loss(
    anchor: fx.Tensor, positive: fx.Tensor, negative: fx.Tensor, *,
    distance_function: Callable[[fx.Tensor, fx.Tensor], fx.Tensor] | None = None, margin: float = 1.0,
    swap: bool = False, reduction: str = "mean"
) -> fx.Tensor:
    """`triplet_margin_loss` with a distance of one's own (default: `pairwise_distance`)."""
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise RuntimeError(
            "The anchor, positive, and negative tensors are expected to have the same number of dimensions, but got: "
            f"anchor {anchor.ndim}D, positive {positive.ndim}D, and negative {negative.ndim}D inputs"
        )
    return _triplet(anchor, positive, negative, distance_function or pairwise_distance, margin, swap, reduction)


def _triplet(anchor, positive, negative, distance, margin, swap, reduction):
    near = distance(anchor, positive)
    far = distance(anchor, negative)
    if swap:
        far = fx.minimum(far, distance(positive, negative))
    return _reduce((near - far + margin).clamp_min(0), reduction)


def gaussian_nll_loss(
    input: fx.Tensor,
    target: fx.Tensor,
    var: fx.Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> fx.Tensor:
    """Return the negative log likelihood of `target` under normal distributions of mean `input` and variance `var`.

    Parameters
    ----------
    var : Tensor or float
        Variances: of the shape of `input`, with a last dimension of 1, or without the last dimension.
    full : bool, default False
        Add the constant ``log(2 pi) / 2``.
    eps : float, default 1e-6
        Variances are clamped to at least this; the gradient ignores the clamping.
    """
    if isinstance(var, (int, float)):
        if var < 0:
            raise ValueError("var has negative entry/entries")
        var = fx.full_like(input, var)
    elif bool((var < 0).any()):
        raise ValueError("var has negative entry/entries")
    if var.shape != input.shape:
        if input.shape[:-1] == var.shape:
            var = var.unsqueeze(-1)
        elif not (input.shape[:-1] == var.shape[:-1] and var.shape[-1] == 1):
            broadcast = var.ndim == input.ndim and sum(
                have != want for have, want in zip(var.shape, input.shape, strict=True)
            ) == 1 and all(have in (1, want) for have, want in zip(var.shape, input.shape, strict=True))  # fmt: skip
            if not broadcast:
                raise ValueError("var is of incorrect size")
    with fx.no_grad():
        missing = (eps - var).clamp_min(0)
    var = var + missing
    loss = 0.5 * (var.log() + (input - target) ** 2 / var)
    if full:
        loss = loss + 0.5 * math.log(2 * math.pi)
    return _reduce(loss, reduction)


def poisson_nll_loss(
    input: fx.Tensor, target: fx.Tensor, log_input: bool = True, full: bool = False, size_average: bool | None = None,
    eps: float = 1e-8, reduce: bool | None = None, reduction: str = "mean"
) -> fx.Tensor:
    """Return the negative log likelihood of the counts `target` under Poisson distributions of rate `input`.

    With `log_input` (the default) `input` is the logarithm of the rate.  With `full` Stirling's approximation of
    ``log(target!)`` is added where `target` is above 1.
    """
    loss = input.exp() - target * input if log_input else input - target * (input + eps).log()
    if full:
        stirling = target * target.log() - target + 0.5 * (2 * math.pi * target).log()
        loss = loss + fx.where(target > 1, stirling, fx.zeros_like(stirling))
    return _reduce(loss, _reduction(size_average, reduce, reduction))


def soft_margin_loss(
    input: fx.Tensor,
    target: fx.Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> fx.Tensor:
    """Return ``log(1 + exp(-target * input))`` for targets of 1 and -1."""
    if input.shape != target.shape:
        raise ValueError(f"The size of input {tuple(input.shape)} and target {tuple(target.shape)} must match")
    loss = -fx.nn.functional.logsigmoid(target * input)
    return _reduce(loss, _reduction(size_average, reduce, reduction))


def multi_margin_loss(
    input: fx.Tensor,
    target: fx.Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: fx.Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> fx.Tensor:
    """Return ``sum over i != target of max(0, margin - input[target] + input[i])**p / classes`` per sample.

    Parameters
    ----------
    input : Tensor
        Scores, ``(N, C)`` or ``(C,)``.
    target : Tensor
        Class indices, int64.
    weight : Tensor, optional
        One weight per class, by the target's class.
    """
    if p not in (1, 2):
        raise ValueError("only p == 1 and p == 2 supported")
    if weight is not None and weight.ndim != 1:
        raise ValueError("weight must be one-dimensional")
    if input.ndim == 0 and target.ndim == 0:
        input = input.reshape(1)
    if input.ndim not in (1, 2):
        raise RuntimeError(f"Expected non-empty vector or matrix, but got: {list(input.shape)}")
    classes = input.shape[-1]
    index = target.reshape(-1, 1) if input.ndim == 2 else target.reshape(1, 1)
    scores = input if input.ndim == 2 else input.unsqueeze(0)
    if index.shape[0] != scores.shape[0]:
        raise RuntimeError(f"inconsistent target size, expected {scores.shape[0]} but got {list(target.shape)}")
    violation = (margin - scores.gather(1, index) + scores).clamp_min(0)
    if p == 2:
        violation = violation * violation
    if weight is not None:
        violation = violation * weight[index]
    loss = violation.scatter(1, index, 0.0).sum(1) / classes
    return _reduce(loss if input.ndim == 2 else loss.squeeze(0), _reduction(size_average, reduce, reduction))


def multilabel_margin_loss(
    input: fx.Tensor,
    target: fx.Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> fx.Tensor:
    """Return the multi-label margin loss; each row of `target` lists its classes and ends at the first -1."""
    if input.ndim == 0 and target.ndim == 0:
        input, target = input.reshape(1), target.reshape(1)
    if input.ndim not in (1, 2) or input.shape != target.shape:
        raise RuntimeError(f"inconsistent target size: {list(target.shape)} for input of size: {list(input.shape)}")
    scores = input if input.ndim == 2 else input.unsqueeze(0)
    index = target if input.ndim == 2 else target.unsqueeze(0)
    classes = scores.shape[1]
    listed = (index < 0).to(fx.int64).cumsum(1) == 0
    safe = fx.where(listed, index, fx.zeros_like(index))
    is_target = fx.zeros_like(index).scatter_add(1, safe, listed.to(fx.int64)) > 0
    margins = 1 - scores.gather(1, safe).unsqueeze(2) + scores.unsqueeze(1)
    counted = listed.unsqueeze(2) & ~is_target.unsqueeze(1)
    loss = fx.where(counted, margins.clamp_min(0), fx.zeros_like(margins)).sum((1, 2)) / classes
    return _reduce(loss if input.ndim == 2 else loss.squeeze(0), _reduction(size_average, reduce, reduction))


def multilabel_soft_margin_loss(
    input: fx.Tensor,
    target: fx.Tensor,
    weight: fx.Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> fx.Tensor:
    """Return the mean over classes of the binary cross entropy of the scores `input` with `target`."""
    logsigmoid = fx.nn.functional.logsigmoid
    loss = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    if weight is not None:
        loss = loss * weight
    return _reduce(loss.mean(-1), _reduction(size_average, reduce, reduction))
