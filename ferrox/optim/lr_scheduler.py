"""Schedules of the learning rate, each giving PyTorch's sequence of values."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ferrox.optim._lr_base import FactorLR, LRScheduler, _set_lr, _values
from ferrox.optim._lr_composite import ChainedScheduler, ReduceLROnPlateau, SequentialLR
from ferrox.optim.optimizer import Optimizer

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]


class LambdaLR(LRScheduler):
    """The initial learning rate times ``lr_lambda(epoch)`` (one function, or one per group).

    Examples
    --------
    >>> import ferrox as fx
    >>> optimizer = fx.optim.SGD(fx.nn.Linear(2, 1).parameters(), lr=1.0)
    >>> schedule = fx.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch)
    >>> optimizer.step()
    >>> schedule.step()
    >>> schedule.get_last_lr()
    [0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | list[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self.lr_lambdas = _per_group(optimizer, lr_lambda, "lr_lambdas")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        _check_count(self)
        return [base * function(self.last_epoch) for function, base in zip(self.lr_lambdas, self.base_lrs, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the optimiser and the functions; of callable objects their attributes are kept."""
        return _lambda_state(self)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        _load_lambda_state(self, state_dict)


class MultiplicativeLR(LRScheduler):
    """The learning rate times ``lr_lambda(epoch)`` (one function, or one per group) after every epoch."""

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | list[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self.lr_lambdas = _per_group(optimizer, lr_lambda, "lr_lambdas")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        _check_count(self)
        groups = self.optimizer.param_groups
        if self._is_initial:
            # Where an earlier schedule ended at 0, no factor leads away from there.
            started = zip(self.base_lrs, self._unchanged(), strict=True)
            return [base if self.last_epoch == 0 and float(lr) == 0 else lr for base, lr in started]
        return [g["lr"] * function(self.last_epoch) for function, g in zip(self.lr_lambdas, groups, strict=True)]

    def _get_closed_form_lr(self):
        _check_count(self)
        epochs = range(1, math.floor(self.last_epoch) + 1)
        return [
            math.prod(map(function, epochs), start=float(base))
            for function, base in zip(self.lr_lambdas, self.base_lrs, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the optimiser and the functions; of callable objects their attributes are kept."""
        return _lambda_state(self)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        _load_lambda_state(self, state_dict)


def _per_group(optimizer, value, name):
    count = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [value] * count
    if len(value) != count:
        raise ValueError(f"Expected {count} {name}, but got {len(value)}")
    return list(value)


def _check_count(scheduler):
    functions, groups = len(scheduler.lr_lambdas), len(scheduler.optimizer.param_groups)
    if functions != groups:
        raise ValueError(
            f"[{type(scheduler).__name__}] the optimizer has {groups} parameter groups, and there are {functions} "
            "lr_lambdas: append one to the schedule's lr_lambdas for each group that was added"
        )


def _lambda_state(scheduler):
    state = {key: value for key, value in scheduler.__dict__.items() if key not in ("optimizer", "lr_lambdas")}
    state["lr_lambdas"] = [
        dict(function.__dict__) if not hasattr(function, "__code__") else None for function in scheduler.lr_lambdas
    ]
    return state


def _load_lambda_state(scheduler, state_dict):
    state = dict(state_dict)
    saved = state.pop("lr_lambdas")
    if len(saved) != len(scheduler.lr_lambdas):
        raise ValueError(
            f"[{type(scheduler).__name__}] the state has {len(saved)} lr_lambdas, this scheduler "
            f"{len(scheduler.lr_lambdas)}"
        )
    for function, attributes in zip(scheduler.lr_lambdas, saved, strict=True):
        if attributes is not None:
            function.__dict__.update(attributes)
    scheduler.__dict__.update(state)


class StepLR(FactorLR):
    """The learning rate times `gamma` every `step_size` epochs.

    Examples
    --------
    >>> import ferrox as fx
    >>> optimizer = fx.optim.SGD(fx.nn.Linear(2, 1).parameters(), lr=0.5)
    >>> schedule = fx.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    >>> for _ in range(2):
    ...     optimizer.step()
    ...     schedule.step()
    >>> schedule.get_last_lr()
    [0.25]
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        if step_size <= 0:
            raise ValueError(f"[StepLR] step_size must be positive, got {step_size}")
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _factor(self, epoch):
        return self.gamma ** (epoch // self.step_size)


class MultiStepLR(FactorLR):
    """The learning rate times `gamma` at each of the epochs `milestones`."""

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones = Counter(milestones)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _factor(self, epoch):
        return self.gamma ** bisect_right(sorted(self.milestones.elements()), epoch)


class ConstantLR(FactorLR):
    """The learning rate times `factor` until the epoch `total_iters`."""

    def __init__(
        self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1
    ) -> None:
        if not 0 <= factor <= 1.0:
            raise ValueError(
                f"Constant multiplicative factor expected to be between 0 and 1. [ConstantLR] got factor={factor}"
            )
        self.factor = factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def _factor(self, epoch):
        return 1.0 if epoch >= self.total_iters else self.factor


class LinearLR(FactorLR):
    """The learning rate times a factor that goes from `start_factor` to `end_factor` in `total_iters` epochs."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < start_factor <= 1.0:
            raise ValueError(
                "Starting multiplicative factor expected to be greater than 0 and less or equal to 1. "
                f"[LinearLR] got start_factor={start_factor}"
            )
        if not 0 <= end_factor <= 1.0:
            raise ValueError(
                f"Ending multiplicative factor expected to be between 0 and 1. [LinearLR] got end_factor={end_factor}"
            )
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def _factor(self, epoch):
        if epoch >= self.total_iters:
            return self.end_factor
        return self.start_factor + (self.end_factor - self.start_factor) * epoch / self.total_iters


class ExponentialLR(FactorLR):
    """The learning rate times `gamma` after every epoch."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _factor(self, epoch):
        return self.gamma**epoch


class PolynomialLR(FactorLR):
    """The learning rate times ``(1 - epoch / total_iters) ** power``, then zero."""

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        if total_iters <= 0:
            raise ValueError(f"[PolynomialLR] total_iters must be positive, got {total_iters}")
        self.total_iters = total_iters
        self.power = power
        super().__init__(optimizer, last_epoch)

    def _factor(self, epoch):
        return (1.0 - min(self.total_iters, epoch) / self.total_iters) ** self.power


class CosineAnnealingLR(FactorLR):
    """The learning rate along half a cosine, from its initial value to `eta_min` in `T_max` epochs (and back).

    Notes
    -----
    I. Loshchilov, F. Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017.
    """

    def __init__(self, optimizer: Optimizer, T_max: float, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        if T_max <= 0:
            raise ValueError(f"[CosineAnnealingLR] T_max must be positive, got {T_max}")
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def _factor(self, epoch):
        return (1 + math.cos(math.pi * (epoch % (2 * self.T_max)) / self.T_max)) / 2


class CosineAnnealingWarmRestarts(LRScheduler):
    """Half cosines to `eta_min` that start again: the first takes `T_0` epochs, each next `T_mult` times as many.

    `step` may be given a fraction of an epoch.
    """

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        if not isinstance(T_0, int) or T_0 <= 0:
            raise ValueError(f"Expected positive integer T_0, but got {T_0}")
        if not isinstance(T_mult, int) or T_mult < 1:
            raise ValueError(f"Expected integer T_mult >= 1, but got {T_mult}")
        if not isinstance(eta_min, (float, int)):
            raise ValueError(f"Expected float or int eta_min, but got {eta_min} of type {type(eta_min)}")
        self.T_0 = T_0
        self.T_i = T_0
        self.T_mult = T_mult
        self.eta_min = eta_min
        self.T_cur = last_epoch
        if last_epoch > 0:
            self._seek(last_epoch)
        super().__init__(optimizer, last_epoch)

    def _seek(self, epoch):
        """Find the period that holds `epoch`: `T_i`, its length, and `T_cur`, the epochs since it began."""
        if self.T_mult == 1:
            self.T_i, self.T_cur = self.T_0, epoch % self.T_0
            return
        # Whole numbers, not logarithms, which round: a restart is an exact multiple.
        begin, length = 0, self.T_0
        while epoch >= begin + length:
            begin += length
            length *= self.T_mult
        self.T_i, self.T_cur = length, epoch - begin

    def get_lr(self) -> list[Any]:
        rise = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (base - self.eta_min) * rise for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """Go on to the next epoch, or to the (fractional) `epoch`, and set the learning rates."""
        self._update_lr(epoch)

    def _update_lr(self, epoch=None):
        self._take_in_new_groups()
        if epoch is None and self.last_epoch < 0:
            epoch = 0
        if epoch is None:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur -= self.T_i
                self.T_i *= self.T_mult
        elif not 0 <= epoch < math.inf:
            raise ValueError(f"Expected non-negative epoch, but got {epoch}")
        else:
            self._seek(epoch)
        self.last_epoch = math.floor(epoch)
        for group, value in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            _set_lr(group, value)
        self._last_lr = _values(self.optimizer, "lr")
