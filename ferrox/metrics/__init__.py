"""Metrics of classifiers and regressions, as functions and as accumulating objects; see `Metric`."""

from ferrox.metrics.base import Metric
from ferrox.metrics.classification import (
    AUROC,
    F1,
    Accuracy,
    ConfusionMatrix,
    Precision,
    Recall,
    accuracy,
    auroc,
    confusion_matrix,
    f1,
    precision,
    recall,
)
from ferrox.metrics.regression import (
    MeanAbsoluteError,
    MeanSquaredError,
    R2Score,
    mean_absolute_error,
    mean_squared_error,
    r2_score,
)

__all__ = [
    "AUROC",
    "F1",
    "Accuracy",
    "ConfusionMatrix",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "Precision",
    "R2Score",
    "Recall",
    "accuracy",
    "auroc",
    "confusion_matrix",
    "f1",
    "mean_absolute_error",
    "mean_squared_error",
    "precision",
    "r2_score",
    "recall",
]
