"""Optimisers and schedules of their learning rates; see `Optimizer`."""

from ferrox.optim import lr_scheduler
from ferrox.optim.adam import Adam, AdamW
from ferrox.optim.optimizer import Optimizer
from ferrox.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "lr_scheduler"]
