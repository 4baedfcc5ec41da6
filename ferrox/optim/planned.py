"""Optimisers whose step is one call of a multi-tensor operator per batch of parameters.

A *plan* keeps the lists of one such call between steps: parameters of one group that share dtype, device and the state
that the operator takes as scalars.  Each step collects the gradients anew and checks that the plans still fit; anything
that a plan was made from (the groups, which gradients are there, the state) makes new plans when it changes.
"""

import sys

import ferrox as fx
from ferrox._core.ops.optim import gradients
from ferrox.optim.optimizer import Optimizer


def captured():
    """Whether this step is being recorded into a CUDA graph."""
    graphs = sys.modules.get("ferrox._core.cuda.graphs")
    return graphs is not None and graphs.step_is_captured()


class Plan:
    """The lists of one call."""

    __slots__ = (
        "buffers",
        "counts_there",
        "flag",
        "group",
        "params",
        "skipped",
        "source",
        "source_count",
        "step",
        "step_tensor",
    )

    def __init__(self, group, params, skipped, flag) -> None:
        self.group = group
        self.source = group["params"]
        self.source_count = len(self.source)
        self.params = params
        self.skipped = skipped  # parameters of the group that had no gradient
        self.flag = flag
        self.buffers = ()  # a list of a tensor per parameter for each role, or None in its place
        self.step = 0
        self.step_tensor = None
        self.counts_there = False  # the count lives on the device, and is one tensor for good


class PlannedOptimizer(Optimizer):
    """Base of `SGD`, `Adam` and `AdamW`."""

    _flag = None  # the hyperparameter on which the kind of state depends
    _roles = ()  # the tensors of a parameter's state that are like it, in the order of a plan's buffers

    def _batch_key(self, param, group):
        """Return what parameters of one call must have in common, besides dtype and device."""
        raise NotImplementedError

    def _fill(self, plan):
        """Take the plan's buffers from the state, making those that are not there yet."""
        raise NotImplementedError

    def _ready(self):
        """Return pairs of plan and gradients for this step."""
        plans = self._plans
        if plans is None or self.param_groups is not plans[0] or len(self.param_groups) != plans[1]:
            return self._replan()
        flag = self._flag
        ready = []
        for plan in plans[2]:
            group = plan.group
            source = group["params"]
            grads = gradients(plan.params, plan.buffers)
            if (
                grads is None
                or source is not plan.source
                or len(source) != plan.source_count
                or bool(group[flag]) is not plan.flag
            ):
                return self._replan()
            for param in plan.skipped:
                if param.grad is not None:
                    return self._replan()
            if grads:
                ready.append((plan, grads))
        return ready

    def _replan(self):
        if self._plans is not None:
            self._release_plans()
        plans = []
        for group in self.param_groups:
            flag = bool(group[self._flag])
            batches = {}
            skipped = []
            for param in group["params"]:
                if param.grad is None:
                    skipped.append(param)
                else:
                    key = (param.dtype, str(param.device), self._batch_key(param, group))
                    batches.setdefault(key, []).append(param)
            for params in batches.values():
                plan = Plan(group, params, (), flag)
                for param in params:
                    self._check_fit(param, self._state.get(param, {}))
                self._fill(plan)
                plans.append(plan)
            if skipped or not batches:
                plans.append(Plan(group, [], skipped, flag))
        self._plans = (self.param_groups, len(self.param_groups), plans)
        return [(plan, [param.grad for param in plan.params]) for plan in plans if plan.params]

    def _check_fit(self, param, state):
        """Raise where the gradient or the state of `param` is not like it."""
        for role in ("gradient", *self._roles):
            tensor = param.grad if role == "gradient" else state.get(role)
            if tensor is None:
                continue
            for what in ("shape", "dtype", "device"):
                got = getattr(tensor, what) if isinstance(tensor, fx.Tensor) else type(tensor).__name__
                if got != getattr(param, what):
                    raise ValueError(
                        f"[{type(self).__name__}] the {role} of {self._named(param)} does not fit it: expected {what} "
                        f"{_text(getattr(param, what))}, got {_text(got)}"
                    )

    def _named(self, param):
        index = 0
        for group in self.param_groups:
            for i, each in enumerate(group["params"]):
                if each is param:
                    names = group.get("param_names")
                    return f"parameter {index}" + (f" ({names[i]})" if names else "")
                index += 1
        return "a parameter"

    def _check_state(self, state):
        for param, entry in state.items():
            if isinstance(param, fx.Tensor) and isinstance(entry, dict):
                self._check_fit(param, {role: entry.get(role) for role in self._roles})

    def _release_plans(self):
        plans, self._plans = self._plans[2], None
        for plan in plans:
            if plan.step_tensor is not None and not plan.counts_there:
                # Within a plan one tensor counts the steps of all its parameters.
                for param in plan.params:
                    self._state[param]["step"] = plan.step_tensor.clone()

    def _check_captured(self):
        """Raise where state would be made during a capture, and made anew by every replay."""
        if captured():
            raise RuntimeError(
                f"[{type(self).__name__}] the first step makes the optimizer's state, which a CUDA graph must not "
                "repeat: call step() once for the same parameters before the capture"
            )


def _text(value):
    return str(tuple(value)) if isinstance(value, tuple) else str(value).removeprefix("ferrox.")


def zeros_like(param):
    """Return a buffer of zeros for `param`, laid out as it is."""
    return fx.zeros_like(param.detach())
