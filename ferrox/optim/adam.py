"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import ferrox as fx
from ferrox._core.ops import optim as _kernels
from ferrox.optim.optimizer import _Number, _Params, check_finite, check_lr, check_ways
from ferrox.optim.planned import PlannedOptimizer, captured, zeros_like

__all__ = ["Adam", "AdamW"]

_adam_step = _kernels.adam_step
_adam_step_capturable = _kernels.adam_step_capturable


class Adam(PlannedOptimizer):
    """Adam: steps scaled by running averages of the gradient and of its square.

    Parameters
    ----------
    params : iterable
        Parameters, pairs of name and parameter, or groups; see `Optimizer`.
    lr : float, default 1e-3
        Learning rate.
    betas : pair of float, default (0.9, 0.999)
        Decay of the two averages.
    eps : float, default 1e-8
        Added to the root of the second average.
    weight_decay : float, default 0
        Adds ``weight_decay * parameter`` to the gradient.
    amsgrad : bool, default False
        Use the largest second average so far.
    maximize : bool, default False
        Ascend.
    decoupled_weight_decay : bool, default False
        Shrink the parameters by ``lr * weight_decay`` instead, as `AdamW`.

    capturable : bool, default False
        Count the steps of parameters on a GPU there, so that a captured CUDA graph (`fx.cuda.graph`) may repeat the
        step. The learning rate may then be a tensor on the GPU, which replays read anew; a number stays what it was.

    Other Parameters
    ----------------
    foreach, fused : bool, optional
        Accepted for PyTorch's sake: a step is always one call for all tensors.

    Notes
    -----
    D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015; S. J. Reddi, S. Kale, S. Kumar, "On
    the convergence of Adam and beyond", ICLR 2018 (amsgrad).

    Examples
    --------
    >>> import ferrox as fx
    >>> model = fx.nn.Linear(4, 1)
    >>> optimizer = fx.optim.Adam(model.parameters(), lr=0.01)
    >>> loss = model(fx.ones(2, 4)).square().mean()
    >>> loss.backward()
    >>> optimizer.step()
    >>> optimizer.zero_grad()
    """

    _flag = "amsgrad"
    _roles = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")

    def __init__(
        self,
        params: _Params,
        lr: _Number = 1e-3,
        betas: tuple[_Number, _Number] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        check_ways(type(self).__name__, foreach, differentiable, fused)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        self._check_group(defaults)
        super().__init__(params, defaults)

    def _check_group(self, group):
        check_lr(group["lr"])
        check_finite("Invalid epsilon value", group["eps"])
        betas = group["betas"]
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise ValueError(f"Invalid betas: expected a pair of numbers, got {betas}")
        for i, beta in enumerate(betas):
            check_finite(f"Invalid beta parameter at index {i}", beta, high=1.0, high_included=False)
        check_finite("Invalid weight_decay value", group["weight_decay"])

    def _batch_key(self, param, group):
        count = self._state[param].get("step", 0)
        if captured() and isinstance(count, fx.Tensor) and count.is_cuda:  # its value cannot be read
            return count.data_ptr()
        return float(count)

    def _count_there(self, plan, states):
        """Let one tensor on the device count the steps of all parameters of the plan."""
        plan.counts_there = True
        count = states[0].get("step", 0)
        device = plan.params[0].device
        usable = isinstance(count, fx.Tensor) and count.device == device and count.dtype == fx.float32
        if usable:
            ours = set(map(id, plan.params))
            sharers = {id(param) for param, state in self._state.items() if state.get("step") is count}
            usable = sharers <= ours
        if not usable:
            self._check_captured()
            count = fx.tensor(float(count), dtype=fx.float32).to(device)
        plan.step_tensor = count

    def _fill(self, plan):
        states = [self._state[param] for param in plan.params]
        if plan.group.get("capturable") and plan.params[0].is_cuda:
            self._count_there(plan, states)
        else:
            plan.step = int(states[0].get("step", 0))
            plan.step_tensor = fx.tensor(float(plan.step), dtype=fx.float32)
        buffers = {"exp_avg": [], "exp_avg_sq": [], "max_exp_avg_sq": []}
        if not plan.flag:
            del buffers["max_exp_avg_sq"]
        for param, state in zip(plan.params, states, strict=True):
            state["step"] = plan.step_tensor
            for name, tensors in buffers.items():
                if name not in state:
                    self._check_captured()
                    state[name] = zeros_like(param)
                tensors.append(state[name])
        plan.buffers = (buffers["exp_avg"], buffers["exp_avg_sq"], buffers.get("max_exp_avg_sq"))

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
        if captured() and not all(group.get("capturable") for group in self.param_groups):
            raise RuntimeError(
                f"[{type(self).__name__}] Attempting CUDA graph capture of step() for an instance of "
                f"{type(self).__name__} but param_groups' capturable is False."
            )
        for plan, grads in self._ready():
            group = plan.group
            exp_avgs, exp_avg_sqs, max_exp_avg_sqs = plan.buffers
            beta1, beta2 = group["betas"]
            if plan.counts_there:
                _adam_step_capturable(
                    plan.params,
                    grads,
                    exp_avgs,
                    exp_avg_sqs,
                    max_exp_avg_sqs,
                    plan.step_tensor,
                    group["lr"],
                    beta1,
                    beta2,
                    group["eps"],
                    group["weight_decay"],
                    plan.flag,
                    group["maximize"],
                    group["decoupled_weight_decay"],
                )
                continue
            step = plan.step + 1
            _adam_step(
                plan.params,
                grads,
                exp_avgs,
                exp_avg_sqs,
                max_exp_avg_sqs,
                step,
                group["lr"],
                beta1,
                beta2,
                group["eps"],
                group["weight_decay"],
                plan.flag,
                group["maximize"],
                group["decoupled_weight_decay"],
            )
            plan.step = step
            plan.step_tensor.fill_(step)
        return loss


class AdamW(Adam):
    """Adam with decoupled weight decay: each step first shrinks the parameters by ``lr * weight_decay``.

    Parameters
    ----------
    weight_decay : float, default 1e-2
        The decay; all other parameters are those of `Adam`.

    Notes
    -----
    I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019.

    Examples
    --------
    >>> import ferrox as fx
    >>> optimizer = fx.optim.AdamW(fx.nn.Linear(4, 1).parameters())
    >>> optimizer.param_groups[0]["weight_decay"]
    0.01
    """

    def __init__(
        self,
        params: _Params,
        lr: _Number = 1e-3,
        betas: tuple[_Number, _Number] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True
