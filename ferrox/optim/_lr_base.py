"""The base class of schedules of the learning rate."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Mapping
from typing import Any

import ferrox as fx
from ferrox.optim.optimizer import Optimizer


def _values(optimizer, key):
    return [value.clone() if isinstance(value := group[key], fx.Tensor) else value for group in optimizer.param_groups]


def _set_lr(group, value):
    if isinstance(group["lr"], fx.Tensor):
        group["lr"].fill_(float(value))
    else:
        group["lr"] = value


class _FirstStep:
    """Stands in for the optimiser's `step` until its first call, to know that there was one."""

    def __init__(self, optimizer) -> None:
        self._optimizer = weakref.ref(optimizer)
        self._inner = optimizer.__dict__.get("step")
        optimizer._opt_called = False
        optimizer.step = self

    def __call__(self, *args, **kwargs):
        optimizer = self._optimizer()
        optimizer._opt_called = True
        if optimizer.__dict__.get("step") is self:
            if self._inner is None:
                del optimizer.step
            else:
                optimizer.step = self._inner
        return (self._inner or type(optimizer).step.__get__(optimizer))(*args, **kwargs)


class LRScheduler:
    """Base class: `step` is called after each epoch and sets the groups' ``"lr"`` to what `get_lr` returns.

    Parameters
    ----------
    optimizer : Optimizer
        The optimiser whose learning rates are set.
    last_epoch : int, default -1
        The epoch after which to resume; -1 to start.
    """

    _is_initial = False

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                lr = group["lr"]
                group.setdefault("initial_lr", lr.clone() if isinstance(lr, fx.Tensor) else lr)
            elif "initial_lr" not in group:
                raise KeyError(
                    f"param 'initial_lr' is not specified in param_groups[{i}] when resuming scheduler with "
                    "last_epoch >= 0."
                )
        self.base_lrs = _values(optimizer, "initial_lr")
        self.last_epoch = last_epoch
        if not hasattr(optimizer, "_opt_called"):
            _FirstStep(optimizer)
        self._initial_step()

    def _initial_step(self):
        self._step_count = 0
        self._is_initial = True
        try:
            self.step()
        finally:
            self._is_initial = False

    def _begin(self):
        """Take the first step anew."""
        self.last_epoch = -1
        self._initial_step()

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the optimiser."""
        return {key: value for key, value in self.__dict__.items() if key != "optimizer"}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.__dict__.update(state_dict)

    def get_last_lr(self) -> list[float]:
        """Return the learning rates last set, one per group."""
        return self._last_lr

    def get_lr(self) -> list[Any]:
        """Return the next learning rates, one per group; every subclass defines it."""
        raise NotImplementedError

    def step(self, epoch: int | None = None) -> None:
        """Go on to the next epoch (or to `epoch`) and set the learning rates."""
        if self._step_count == 1 and not getattr(self.optimizer, "_opt_called", True):
            warnings.warn(
                "Detected call of `lr_scheduler.step()` before `optimizer.step()`. You should call them in the "
                "opposite order: `optimizer.step()` before `lr_scheduler.step()`. Failure to do this will result in "
                "skipping the first value of the learning rate schedule.",
                stacklevel=2,
            )
        self._step_count += 1
        self._update_lr(epoch)

    def _take_in_new_groups(self):
        for group in self.optimizer.param_groups[len(self.base_lrs) :]:
            lr = group["lr"]
            self.base_lrs.append(group.setdefault("initial_lr", lr.clone() if isinstance(lr, fx.Tensor) else lr))

    def _update_lr(self, epoch=None):
        self._take_in_new_groups()
        if epoch is None:
            self.last_epoch += 1
            values = self.get_lr()
        else:
            self.last_epoch = epoch
            values = self._get_closed_form_lr() if hasattr(self, "_get_closed_form_lr") else self.get_lr()
        for group, value in zip(self.optimizer.param_groups, values, strict=True):
            _set_lr(group, value)
        self._last_lr = _values(self.optimizer, "lr")

    def _unchanged(self):
        return _values(self.optimizer, "lr")


class FactorLR(LRScheduler):
    """Base of schedules with a closed form: ``eta_min + (initial - eta_min) * factor(epoch)``.

    Note [Chained schedules]: another schedule, or the user, may change the learning rate between two steps.  Where it
    is what the closed form gave for the epoch before, nobody did, and it becomes what the closed form gives now: no
    error builds up over the epochs.  Where it is not, its distance from `eta_min` is scaled by the ratio of the two
    factors, as PyTorch's chainable forms do.
    """

    eta_min = 0.0

    def _factor(self, epoch):
        """Return the factor of an epoch, which may be fractional; every subclass defines it."""
        raise NotImplementedError

    def _closed(self, base, epoch):
        return self.eta_min + (float(base) - self.eta_min) * self._factor(epoch)

    def _get_closed_form_lr(self):
        return [self._closed(base, self.last_epoch) for base in self.base_lrs]

    def get_lr(self) -> list[Any]:
        value_of = self._first_value if self._is_initial else self._next_value
        groups = self.optimizer.param_groups
        return [value_of(base, group["lr"]) for base, group in zip(self.base_lrs, groups, strict=True)]

    def _first_value(self, base, lr):
        value, epoch = float(lr), self.last_epoch
        if epoch == 0:
            if value == self.eta_min:  # where an earlier schedule ended: no ratio leads away from there
                return self._closed(base, 0)
            return self.eta_min + (value - self.eta_min) * factor if (factor := self._factor(0)) != 1 else lr
        # Resumed at a later epoch: with a fresh optimiser, or with the state of the one that was saved.
        if _is_at(lr, float(base)) or _is_at(lr, self._closed(base, epoch - 1)):
            return self._closed(base, epoch)
        return lr

    def _next_value(self, base, lr):
        epoch = self.last_epoch
        if _is_at(lr, self._closed(base, epoch - 1)):
            return self._closed(base, epoch)
        value, before, now = float(lr), self._factor(epoch - 1), self._factor(epoch)
        if before == 0:
            return value + (float(base) - self.eta_min) * now
        return self.eta_min + (value - self.eta_min) * (now / before)


def _is_at(lr, value):
    """Whether `lr`, a number or a tensor of some dtype, was set to `value`."""
    return float(lr.clone().fill_(value) if isinstance(lr, fx.Tensor) else value) == float(lr)
