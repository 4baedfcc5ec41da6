"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Callable
from typing import overload

import ferrox as fx
from ferrox._core.ops import optim as _kernels
from ferrox.optim.optimizer import _Number, _Params, check_finite, check_lr, check_ways
from ferrox.optim.planned import PlannedOptimizer

__all__ = ["SGD"]

_sgd_step = _kernels.sgd_step


class SGD(PlannedOptimizer):
    """Stochastic gradient descent, with momentum where wanted.

    Parameters
    ----------
    params : iterable
        Parameters, pairs of name and parameter, or groups; see `Optimizer`.
    lr : float, default 1e-3
        Learning rate.
    momentum, dampening : float, default 0
        ``buffer = momentum * buffer + (1 - dampening) * gradient``; the first buffer is the gradient.
    weight_decay : float, default 0
        Adds ``weight_decay * parameter`` to the gradient.
    nesterov : bool, default False
        Nesterov's momentum.
    maximize : bool, default False
        Ascend.

    Other Parameters
    ----------------
    foreach, fused : bool, optional
        Accepted for PyTorch's sake: a step is always one call for all tensors.

    Notes
    -----
    In a captured CUDA graph the hyperparameters, the learning rate among them, stay what they were at the capture.

    I. Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013.

    Examples
    --------
    >>> import ferrox as fx
    >>> p = fx.nn.Parameter(fx.ones(2))
    >>> optimizer = fx.optim.SGD([p], lr=0.5)
    >>> p.grad = fx.ones(2)
    >>> optimizer.step()
    >>> p.tolist()
    [0.5, 0.5]
    """

    _flag = "momentum"
    _roles = ("momentum_buffer",)

    def __init__(
        self,
        params: _Params,
        lr: _Number = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: _Number = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_ways("SGD", foreach, differentiable, fused)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        self._check_group(defaults)
        super().__init__(params, defaults)

    def _check_group(self, group):
        check_lr(group["lr"])
        check_finite("Invalid momentum value", group["momentum"])
        check_finite("Invalid dampening value", group["dampening"], low=float("-inf"))
        check_finite("Invalid weight_decay value", group["weight_decay"])
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")

    def _batch_key(self, param, group):
        return bool(group["momentum"]) and self._state[param].get("momentum_buffer") is None

    def _fill(self, plan):
        if not plan.flag:
            return
        # `step` is 0 only before the first update of these buffers.
        plan.step = int(self._state[plan.params[0]].get("momentum_buffer") is not None)
        if plan.step:
            plan.buffers = ([self._state[param]["momentum_buffer"] for param in plan.params],)
        else:
            self._check_captured()
            plan.buffers = ([fx.empty_like(param.detach()) for param in plan.params],)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], _Number]) -> _Number: ...

    def step(self, closure: Callable[[], _Number] | None = None) -> _Number | None:
        """Update the parameters once.

        Parameters
        ----------
        closure : callable, optional
            Evaluated first, with gradients enabled; its result is returned.
        """
        loss = None if closure is None else self._evaluate(closure)
        for plan, grads in self._ready():
            group = plan.group
            buffers = plan.buffers[0] if plan.buffers else None
            _sgd_step(
                plan.params,
                grads,
                buffers,
                group["lr"],
                group["momentum"],
                group["dampening"],
                group["nesterov"],
                group["weight_decay"],
                group["maximize"],
                plan.step == 0,
            )
            if plan.step == 0:
                plan.step = 1
                if buffers is not None:
                    for param, buffer in zip(plan.params, buffers, strict=True):
                        self._state[param]["momentum_buffer"] = buffer
        return loss
