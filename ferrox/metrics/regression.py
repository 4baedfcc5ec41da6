"""Metrics of regressions; values are float64 tensors and equal to scikit-learn's."""

import warnings

import ferrox as fx
from ferrox.metrics.base import Metric

__all__ = [
    "MeanAbsoluteError",
    "MeanSquaredError",
    "R2Score",
    "mean_absolute_error",
    "mean_squared_error",
    "r2_score",
]


def _pair(name, preds, target):
    if tuple(preds.shape) != tuple(target.shape):
        raise ValueError(
            f"[{name}] shapes do not match: preds is {tuple(preds.shape)}, target is {tuple(target.shape)}"
        )
    if target.numel() == 0:
        raise ValueError(f"[{name}] there are no samples")
    return preds.detach().to(fx.float64), target.detach().to(fx.float64)


def mean_squared_error(preds, target, squared=True):
    """Return the mean of the squared errors (its root where `squared` is False).

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.metrics.mean_squared_error(fx.tensor([2.0, 4.0]), fx.tensor([1.0, 1.0])).item()
    5.0
    """
    preds, target = _pair("mean_squared_error", preds, target)
    mean = (preds - target).square().mean()
    return mean if squared else mean.sqrt()


def mean_absolute_error(preds, target):
    """Return the mean of the absolute errors.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.metrics.mean_absolute_error(fx.tensor([2.0, 4.0]), fx.tensor([1.0, 1.0])).item()
    2.0
    """
    preds, target = _pair("mean_absolute_error", preds, target)
    return (preds - target).abs().mean()


class _MeanError(Metric):
    def update(self, preds, target):
        preds, target = _pair(self._name, preds, target)
        self._sum += float(self._errors(preds - target).sum())
        self._count += target.numel()

    def reset(self):
        self._sum = 0.0
        self._count = 0

    def compute(self):
        if self._count == 0:
            raise ValueError(f"[{self._name}] there are no samples")
        return fx.tensor(self._sum / self._count, dtype=fx.float64)


class MeanSquaredError(_MeanError):
    """`mean_squared_error` over a stream of batches."""

    _name = "mean_squared_error"

    def __init__(self, squared=True):
        self.squared = squared
        super().__init__()

    @staticmethod
    def _errors(difference):
        return difference.square()

    def compute(self):
        mean = super().compute()
        return mean if self.squared else mean.sqrt()


class MeanAbsoluteError(_MeanError):
    """`mean_absolute_error` over a stream of batches."""

    _name = "mean_absolute_error"

    @staticmethod
    def _errors(difference):
        return difference.abs()


_MULTIOUTPUT = ("uniform_average", "raw_values", "variance_weighted")


def r2_score(preds, target, multioutput="uniform_average"):
    """Return the coefficient of determination: one minus the squared error over the target's variance.

    Parameters
    ----------
    preds, target : Tensor
        ``(N,)`` or ``(N, outputs)``.
    multioutput : {"uniform_average", "raw_values", "variance_weighted"}
        Over the outputs: the mean, one value each, or the mean weighted by the target's variance.

    Notes
    -----
    Where the target does not vary the score is 1 for exact predictions and 0 otherwise.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.metrics.r2_score(fx.tensor([1.0, 2.0, 3.0]), fx.tensor([1.0, 2.0, 4.0])).item()  # doctest: +ELLIPSIS
    0.785714...
    """
    metric = R2Score(multioutput)
    metric.update(preds, target)
    return metric.compute()


class R2Score(Metric):
    """`r2_score` over a stream of batches."""

    def __init__(self, multioutput="uniform_average"):
        if multioutput not in _MULTIOUTPUT:
            raise ValueError(f"[r2_score] multioutput must be one of {_MULTIOUTPUT}, got {multioutput!r}")
        self.multioutput = multioutput
        super().__init__()

    def update(self, preds, target):
        preds, target = _pair("r2_score", preds, target)
        if target.ndim not in (1, 2):
            raise ValueError(f"[r2_score] preds and target must be (N,) or (N, outputs), got {tuple(target.shape)}")
        preds, target = preds.reshape(len(preds), -1), target.reshape(len(target), -1)
        count, mean = target.shape[0], target.mean(0)
        spread = (target - mean).square().sum(0)
        error = (target - preds).square().sum(0)
        if self._count:
            # Joining means and sums of squared deviations (Chan, Golub, LeVeque 1979) loses no digits.
            total = self._count + count
            shift = mean - self._mean
            spread = self._spread + spread + shift.square() * (self._count * count / total)
            mean = self._mean + shift * (count / total)
            error = self._error + error
            count = total
        self._count, self._mean, self._spread, self._error = count, mean, spread, error

    def reset(self):
        self._count = 0
        self._mean = self._spread = self._error = None

    def compute(self):
        if self._count == 0:
            raise ValueError("[r2_score] there are no samples")
        if self._count < 2:
            warnings.warn("[r2_score] the score is not defined for fewer than two samples", stacklevel=2)
            return fx.tensor(float("nan"), dtype=fx.float64)
        constant = self._spread == 0
        exact = self._error == 0
        safe = fx.where(constant, fx.ones_like(self._spread), self._spread)
        scores = fx.where(constant, exact.to(fx.float64), 1 - self._error / safe)
        if self.multioutput == "raw_values":
            return scores
        if self.multioutput == "variance_weighted" and bool((~constant).any()):
            return (scores * self._spread).sum() / self._spread.sum()
        return scores.mean()
