"""Metrics of classifiers.

Predictions are class indices of the target's shape, scores with one more dimension (the classes, in dimension 1), or
floating-point probabilities of the target's shape for the positive class of two.  Values are float64 tensors and equal
to scikit-learn's.
"""

import warnings

import ferrox as fx
from ferrox.metrics.base import Metric

__all__ = [
    "AUROC",
    "F1",
    "Accuracy",
    "ConfusionMatrix",
    "Precision",
    "Recall",
    "accuracy",
    "auroc",
    "confusion_matrix",
    "f1",
    "precision",
    "recall",
]

_AVERAGES = ("binary", "micro", "macro", "weighted", None)


def _labels(name, preds, target, threshold=0.5):
    """Return predictions and targets as flat int64 labels."""
    preds, target = preds.detach(), target.detach()
    if target.is_floating_point():
        raise TypeError(f"[{name}] target must hold class indices, got {target.dtype}")
    if preds.ndim == target.ndim + 1:
        preds = preds.argmax(1)
    elif preds.is_floating_point():
        preds = preds > threshold
    if tuple(preds.shape) != tuple(target.shape):
        raise ValueError(
            f"[{name}] shapes do not match: preds is {tuple(preds.shape)}, target is {tuple(target.shape)}"
        )
    if target.numel() == 0:
        raise ValueError(f"[{name}] there are no samples")
    preds, target = preds.reshape(-1).to(fx.int64), target.reshape(-1).to(fx.int64)
    if int(preds.min()) < 0 or int(target.min()) < 0:
        raise ValueError(f"[{name}] class indices must not be negative")
    return preds, target


def _top_hits(name, preds, target, topk):
    """Return the number of samples whose target is among the `topk` largest scores, and the number of samples."""
    if not isinstance(topk, int) or topk < 1:
        raise ValueError(f"[{name}] topk must be a positive integer, got {topk}")
    if topk == 1:
        preds, target = _labels(name, preds, target)
        return int((preds == target).sum()), target.numel()
    if preds.ndim != 2 or target.ndim != 1 or preds.shape[0] != target.shape[0]:
        raise ValueError(
            f"[{name}] topk > 1 needs scores (N, C) and targets (N,): preds is {tuple(preds.shape)}, "
            f"target is {tuple(target.shape)}"
        )
    if topk > preds.shape[1]:
        raise ValueError(f"[{name}] topk is {topk}, but there are only {preds.shape[1]} classes")
    if target.numel() == 0:
        raise ValueError(f"[{name}] there are no samples")
    best = preds.detach().topk(topk, 1)[1]
    return int((best == target.detach().to(fx.int64).unsqueeze(1)).any(1).sum()), target.numel()


def _ratio(hits, count):
    return fx.tensor(hits / count, dtype=fx.float64)


def accuracy(preds, target, topk=1):
    """Return the fraction of samples whose class is predicted (or is among the `topk` largest scores).

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.metrics.accuracy(fx.tensor([0, 1, 2, 2]), fx.tensor([0, 1, 1, 2])).item()
    0.75
    """
    return _ratio(*_top_hits("accuracy", preds, target, topk))


class Accuracy(Metric):
    """`accuracy` over a stream of batches.

    Examples
    --------
    >>> import ferrox as fx
    >>> metric = fx.metrics.Accuracy()
    >>> metric.update(fx.tensor([0, 1]), fx.tensor([0, 1]))
    >>> metric.update(fx.tensor([1, 1]), fx.tensor([0, 1]))
    >>> metric.compute().item()
    0.75
    """

    def __init__(self, topk=1):
        self.topk = topk
        super().__init__()

    def update(self, preds, target):
        hits, count = _top_hits("accuracy", preds, target, self.topk)
        self._hits += hits
        self._count += count

    def compute(self):
        if self._count == 0:
            raise ValueError("[accuracy] there are no samples")
        return _ratio(self._hits, self._count)

    def reset(self):
        self._hits = self._count = 0


def _confusion(name, preds, target, num_classes, threshold=0.5):
    preds, target = _labels(name, preds, target, threshold)
    largest = max(int(preds.max()), int(target.max()))
    size = largest + 1 if num_classes is None else num_classes
    if largest >= size:
        raise ValueError(f"[{name}] num_classes is {size}, but there is a class index {largest}")
    return fx.bincount(target * size + preds, minlength=size * size).reshape(size, size)


def _normalised(counts, normalize):
    if normalize is None:
        return counts
    values = counts.to(fx.float64)
    if normalize == "true":
        totals = values.sum(1, keepdim=True)
    elif normalize == "pred":
        totals = values.sum(0, keepdim=True)
    elif normalize == "all":
        totals = values.sum()
    else:
        raise ValueError(f"[confusion_matrix] normalize must be 'true', 'pred', 'all' or None, got {normalize!r}")
    return (values / totals).nan_to_num(0.0)


def confusion_matrix(preds, target, num_classes=None, normalize=None, threshold=0.5):
    """Return the counts of samples by true class (rows) and predicted class (columns).

    Parameters
    ----------
    preds, target : Tensor
        Predictions and class indices.
    num_classes : int, optional
        Default: the largest index and one.
    normalize : {"true", "pred", "all"}, optional
        Divide by the sums of rows, of columns, or of all.
    threshold : float, default 0.5
        Probabilities above it predict class 1.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.metrics.confusion_matrix(fx.tensor([0, 1, 1]), fx.tensor([0, 1, 0])).tolist()
    [[1, 1], [0, 1]]
    """
    return _normalised(_confusion("confusion_matrix", preds, target, num_classes, threshold), normalize)


class _Counting(Metric):
    """Metrics of the confusion matrix, which grows with the classes seen unless `num_classes` is given."""

    _name = "confusion_matrix"

    def __init__(self, num_classes=None, threshold=0.5):
        self.num_classes = num_classes
        self.threshold = threshold
        super().__init__()

    def update(self, preds, target):
        counts = _confusion(self._name, preds, target, self.num_classes, self.threshold)
        if self._counts is not None:
            old, new = self._counts.shape[0], counts.shape[0]
            if old < new:
                self._counts, counts = counts, self._counts.to(counts.device)
            small = counts.shape[0]
            self._counts[:small, :small] += counts.to(self._counts.device)
        else:
            self._counts = counts

    def reset(self):
        self._counts = None

    def _total(self):
        if self._counts is None:
            raise ValueError(f"[{self._name}] there are no samples")
        return self._counts


class ConfusionMatrix(_Counting):
    """`confusion_matrix` over a stream of batches."""

    def __init__(self, num_classes=None, normalize=None, threshold=0.5):
        self.normalize = normalize
        super().__init__(num_classes, threshold)

    def compute(self):
        return _normalised(self._total().clone(), self.normalize)


def _score(name, counts, kind, average, pos_label, all_classes, zero_division):
    """Return precision, recall or f1 from a confusion matrix."""
    if average not in _AVERAGES:
        raise ValueError(f"[{name}] average must be one of {_AVERAGES}, got {average!r}")
    counts = counts.to(fx.float64)
    hits = counts.diagonal()
    predicted, support = counts.sum(0), counts.sum(1)
    if kind == "precision":
        numerator, denominator = hits, predicted
    elif kind == "recall":
        numerator, denominator = hits, support
    else:
        numerator, denominator = 2 * hits, predicted + support

    def divided(top, bottom):
        return fx.where(bottom == 0, fx.full_like(bottom, float(zero_division)), top / bottom)

    if average == "binary":
        if counts.shape[0] > 2:
            raise ValueError(f"[{name}] there are {counts.shape[0]} classes, but average is 'binary'")
        if pos_label >= counts.shape[0]:  # the positive class never occurs
            return fx.tensor(float(zero_division), dtype=fx.float64)
        return divided(numerator[pos_label], denominator[pos_label])
    if average == "micro":
        return divided(numerator.sum(), denominator.sum())
    scores = divided(numerator, denominator)
    if average is None:
        return scores
    if average == "macro":
        return scores.mean() if all_classes else scores[predicted + support > 0].mean()
    return (scores * support).sum() / support.sum()


_SCORE_DOC = """Return the {what} of predictions.

    Parameters
    ----------
    preds, target : Tensor
        Predictions and class indices.
    average : {{"binary", "micro", "macro", "weighted", None}}, default "binary"
        Of the positive class; over all counts; the mean over classes; the mean weighted by the classes' frequency;
        one value per class.
    num_classes : int, optional
        Default: the mean is over the classes that occur.
    pos_label : int, default 1
        The positive class.
    zero_division : float, default 0.0
        The value where nothing is to be counted.
    threshold : float, default 0.5
        Probabilities above it predict class 1.

    Examples
    --------
    >>> import ferrox as fx
    >>> preds, target = fx.tensor([1, 1, 0, 1, 0]), fx.tensor([1, 0, 0, 1, 0])
    >>> round(fx.metrics.{name}(preds, target).item(), 4)
    {example}
    """


def _documented(what, name, example):
    def decorate(function):
        function.__doc__ = _SCORE_DOC.format(what=what, name=name, example=example)
        return function

    return decorate


def _score_of(name, preds, target, average, num_classes, pos_label, zero_division, threshold):
    counts = _confusion(name, preds, target, num_classes, threshold)
    return _score(name, counts, name, average, pos_label, num_classes is not None, zero_division)


@_documented("precision (the fraction of right ones among those predicted)", "precision", 0.6667)
def precision(preds, target, average="binary", num_classes=None, pos_label=1, zero_division=0.0, threshold=0.5):
    return _score_of("precision", preds, target, average, num_classes, pos_label, zero_division, threshold)


@_documented("recall (the fraction of those of a class that are predicted)", "recall", 1.0)
def recall(preds, target, average="binary", num_classes=None, pos_label=1, zero_division=0.0, threshold=0.5):
    return _score_of("recall", preds, target, average, num_classes, pos_label, zero_division, threshold)


@_documented("F1 score (the harmonic mean of precision and recall)", "f1", 0.8)
def f1(preds, target, average="binary", num_classes=None, pos_label=1, zero_division=0.0, threshold=0.5):
    return _score_of("f1", preds, target, average, num_classes, pos_label, zero_division, threshold)


class _Score(_Counting):
    def __init__(self, average="binary", num_classes=None, pos_label=1, zero_division=0.0, threshold=0.5):
        if average not in _AVERAGES:
            raise ValueError(f"[{self._name}] average must be one of {_AVERAGES}, got {average!r}")
        self.average = average
        self.pos_label = pos_label
        self.zero_division = zero_division
        super().__init__(num_classes, threshold)

    def compute(self):
        return _score(
            self._name,
            self._total(),
            self._name,
            self.average,
            self.pos_label,
            self.num_classes is not None,
            self.zero_division,
        )


class Precision(_Score):
    """`precision` over a stream of batches."""

    _name = "precision"


class Recall(_Score):
    """`recall` over a stream of batches."""

    _name = "recall"


class F1(_Score):
    """`f1` over a stream of batches."""

    _name = "f1"


def _binary_auroc(scores, positive):
    """Return the area for float64 `scores` and a boolean mask; tied scores count half."""
    order = scores.argsort(descending=True)
    scores, positive = scores[order], positive[order].to(fx.float64)
    hits, misses = positive.cumsum(0), (1 - positive).cumsum(0)
    total_hits, total_misses = hits[-1], misses[-1]
    if float(total_hits) == 0 or float(total_misses) == 0:
        warnings.warn("[auroc] only one class is present in target: the area is not defined", stacklevel=4)
        return fx.tensor(float("nan"), dtype=fx.float64)
    # The curve has a point at the end of every run of equal scores.
    ends = fx.cat([scores[1:] != scores[:-1], fx.ones(1, dtype=fx.bool, device=scores.device)])
    zero = fx.zeros(1, dtype=fx.float64, device=scores.device)
    y, x = fx.cat([zero, hits[ends]]), fx.cat([zero, misses[ends]])
    return ((x[1:] - x[:-1]) * (y[1:] + y[:-1])).sum() / (2 * total_hits * total_misses)


def auroc(preds, target, average="macro"):
    """Return the area under the receiver operating characteristic.

    Parameters
    ----------
    preds : Tensor
        Scores: ``(N,)`` for the positive class of two, or ``(N, C)``, each class then against the rest.
    target : Tensor
        Class indices, ``(N,)``.
    average : {"macro", "weighted", None}, default "macro"
        Over the classes: the mean, the mean weighted by their frequency, or one value each.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.metrics.auroc(fx.tensor([0.1, 0.4, 0.35, 0.8]), fx.tensor([0, 0, 1, 1])).item()
    0.75
    """
    if average not in ("macro", "weighted", None):
        raise ValueError(f"[auroc] average must be 'macro', 'weighted' or None, got {average!r}")
    if target.ndim != 1 or preds.ndim not in (1, 2) or preds.shape[0] != target.shape[0]:
        raise ValueError(
            f"[auroc] preds must be (N,) or (N, C) and target (N,): preds is {tuple(preds.shape)}, "
            f"target is {tuple(target.shape)}"
        )
    if target.numel() == 0:
        raise ValueError("[auroc] there are no samples")
    scores, target = preds.detach().to(fx.float64), target.detach().to(fx.int64)
    if bool(scores.isnan().any()):
        raise ValueError("[auroc] preds contains NaN")
    classes = 2 if scores.ndim == 1 else scores.shape[1]
    if int(target.min()) < 0 or int(target.max()) >= classes:
        raise ValueError(f"[auroc] target must be within 0 and {classes - 1}")
    if scores.ndim == 1:
        return _binary_auroc(scores, target == 1)
    areas = fx.stack([_binary_auroc(scores[:, k], target == k) for k in range(classes)])
    if average is None:
        return areas
    if average == "macro":
        return areas.mean()
    frequencies = fx.bincount(target, minlength=classes).to(fx.float64)
    return (areas * frequencies).sum() / frequencies.sum()


class AUROC(Metric):
    """`auroc` over a stream of batches; all scores are kept."""

    def __init__(self, average="macro"):
        if average not in ("macro", "weighted", None):
            raise ValueError(f"[auroc] average must be 'macro', 'weighted' or None, got {average!r}")
        self.average = average
        super().__init__()

    def update(self, preds, target):
        if preds.shape[0] != target.shape[0]:
            raise ValueError(
                f"[auroc] shapes do not match: preds is {tuple(preds.shape)}, target is {tuple(target.shape)}"
            )
        self._preds.append(preds.detach().clone())
        self._target.append(target.detach().clone())

    def compute(self):
        if not self._preds:
            raise ValueError("[auroc] there are no samples")
        return auroc(fx.cat(self._preds), fx.cat(self._target), self.average)

    def reset(self):
        self._preds, self._target = [], []
