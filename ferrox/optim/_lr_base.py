"""The base class of schedules of the learning rate."""

import warnings
import weakref
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

    def __init__(self, optimizer, last_epoch=-1) -> None:
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

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the optimiser."""
        return {key: value for key, value in self.__dict__.items() if key != "optimizer"}

    def load_state_dict(self, state_dict) -> None:
        """Take back what `state_dict` returned."""
        self.__dict__.update(state_dict)

    def get_last_lr(self) -> list[float]:
        """Return the learning rates last set, one per group."""
        return self._last_lr

    def get_lr(self):
        """Return the next learning rates, one per group; every subclass defines it."""
        raise NotImplementedError

    def step(self, epoch=None) -> None:
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

    def _update_lr(self, epoch=None):
        if epoch is None:
            self.last_epoch += 1
            values = self.get_lr()
        else:
            self.last_epoch = epoch
            values = self._get_closed_form_lr() if hasattr(self, "_get_closed_form_lr") else self.get_lr()
        for group, value in zip(self.optimizer.param_groups, values, strict=True):
            _set_lr(group, value)
        self._last_lr = _values(self.optimizer, "lr")

    def _scaled(self, factor):
        return [group["lr"] * factor for group in self.optimizer.param_groups]

    def _unchanged(self):
        return _values(self.optimizer, "lr")
