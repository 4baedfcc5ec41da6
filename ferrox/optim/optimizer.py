"""`Optimizer`, the base class of all optimisers."""

from __future__ import annotations

import copy
import math
import numbers
import warnings
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, overload

import ferrox as fx
from ferrox.utils.gradients import clear
from ferrox.utils.hooks import RemovableHandle, _HookDict

__all__ = ["Optimizer"]

_Params: TypeAlias = Iterable[fx.Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, fx.Tensor]]
_Number: TypeAlias = float | fx.Tensor


class _Required:
    def __repr__(self):
        return "<required parameter>"


required = _Required()  # the default of a hyperparameter that every group must give


def check_finite(message, value, low=0.0, high=math.inf, high_included=True):
    """Raise ValueError where the number (or one-element tensor) `value` is not finite and within the bounds."""
    if not isinstance(value, (numbers.Real, fx.Tensor)):
        raise TypeError(f"{message}: expected a number, got {type(value).__name__}")
    number = float(value)
    inside = low <= number <= high if high_included else low <= number < high
    if not (math.isfinite(number) and inside):
        raise ValueError(f"{message}: {value}")


def check_lr(lr):
    """Raise ValueError where `lr` is not a usable learning rate."""
    if isinstance(lr, fx.Tensor) and lr.numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    check_finite("Invalid learning rate", lr)


def check_ways(name, foreach, differentiable, fused):
    """Raise for the ways of computing a step that exclude each other or are not there."""
    if differentiable:
        raise ValueError(f"[{name}] differentiable=True is not supported: a step is never recorded")
    if foreach and fused:
        raise RuntimeError(f"[{name}] `fused` and `foreach` cannot be `True` together.")


class Optimizer:
    """Base class: parameter groups with their hyperparameters, and state per parameter.

    An optimiser of one's own calls ``super().__init__(params, defaults)`` and defines `step`.

    Parameters
    ----------
    params : iterable
        Tensors, pairs of name and tensor, or dicts with the key ``"params"`` and hyperparameters of that group.
    defaults : dict
        Hyperparameters of groups that do not give their own.

    Attributes
    ----------
    param_groups : list of dict
    state : defaultdict of dict
        By parameter.
    defaults : dict

    Examples
    --------
    >>> import ferrox as fx
    >>> class SignDescent(fx.optim.Optimizer):
    ...     def step(self):
    ...         with fx.no_grad():
    ...             for group in self.param_groups:
    ...                 for p in group["params"]:
    ...                     p.sub_(group["lr"] * p.grad.sign())
    >>> p = fx.nn.Parameter(fx.ones(2))
    >>> p.grad = fx.tensor([3.0, -0.5])
    >>> SignDescent([p], {"lr": 0.5}).step()
    >>> p.tolist()
    [0.5, 1.5]
    """

    param_groups: list[dict[str, Any]]
    defaults: dict[str, Any]

    def __init__(self, params: _Params, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self._state: defaultdict[Any, Any] = defaultdict(dict)
        self._plans = None
        self.param_groups = []
        self._init_hooks()
        if isinstance(params, (fx.Tensor, dict)) or not isinstance(params, Iterable):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, but got "
                f"{'Tensor' if isinstance(params, fx.Tensor) else type(params).__qualname__}: pass "
                "model.parameters(), a list of tensors, or a list of groups"
            )
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(dict(group) if isinstance(group, dict) else group)

    def _init_hooks(self):
        self._state_dict_hooks = {
            kind: _HookDict() for kind in ("step_pre", "step_post", "state_pre", "state_post", "load_pre", "load_post")
        }

    # ---- state

    @property
    def state(self) -> defaultdict[Any, Any]:
        # Whoever reads the state may change it: plans made from it end here.
        if self._plans is not None:
            self._release_plans()
        return self._state

    @state.setter
    def state(self, value: defaultdict[Any, Any]) -> None:
        self._plans = None
        self._state = value

    def _release_plans(self):
        """Give up plans kept between steps; subclasses that plan override it."""
        self._plans = None

    def _check_group(self, group):
        """Raise ValueError for hyperparameters that make no sense; subclasses override it."""

    def _check_state(self, state):
        """Raise ValueError for loaded state that does not fit its parameter; subclasses override it."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters: a dict with ``"params"`` and any hyperparameters of its own."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        if "params" not in param_group:
            raise KeyError(
                f"[{type(self).__name__}] a parameter group needs the key 'params', got a dict of "
                f"{', '.join(map(repr, param_group)) or 'nothing'}"
            )
        params = param_group["params"]
        if isinstance(params, set):
            raise TypeError(
                "optimizer parameters need to be organized in ordered collections, but the ordering of tensors in "
                "sets will change between runs. Please use a list instead."
            )
        params = [params] if isinstance(params, fx.Tensor) else list(params)
        names = [item[0] for item in params if isinstance(item, tuple)]
        if names:
            if len(names) != len(params):
                raise ValueError("all optimizer params should be with/without names. Some param names are missing")
            params = [item[1] for item in params]
            param_group["param_names"] = names
        param_group["params"] = params
        for param in params:
            if not isinstance(param, fx.Tensor):
                raise TypeError(
                    "optimizer can only optimize Tensors, but one of the params is "
                    f"{type(param).__module__}.{type(param).__qualname__}: pass model.parameters() or a list of tensors"
                )
            if not (param.is_leaf or param.retains_grad):
                raise ValueError("can't optimize a non-leaf Tensor")
        for name, default in self.defaults.items():
            if default is required and name not in param_group:
                raise ValueError(f"parameter group didn't specify a value of required optimization parameter {name}")
            param_group.setdefault(name, default)
        self._check_group(param_group)
        ids = {id(param) for param in params}
        if len(ids) != len(params):
            warnings.warn("optimizer contains a parameter group with duplicate parameters", stacklevel=3)
        for group in self.param_groups:
            if ("param_names" in param_group) != ("param_names" in group):
                kind = "with names" if "param_names" in param_group else "without names"
                raise ValueError(
                    "all optimizer param groups should be with/without names. "
                    f"cannot add param group {kind} to the optimizer"
                )
            if not ids.isdisjoint(map(id, group["params"])):
                raise ValueError("some parameters appear in more than one parameter group")
        self.param_groups.append(param_group)
        self._plans = None

    # ---- the step

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], _Number]) -> _Number: ...

    def step(self, closure: Callable[[], _Number] | None = None) -> _Number | None:
        """Update the parameters from their gradients; every subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} does not define step()")

    @staticmethod
    def _evaluate(closure):
        with fx.enable_grad():
            return closure()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or fill them with zeros in place where `set_to_none` is False."""
        for group in self.param_groups:
            clear(group["params"], set_to_none)

    # ---- saving

    def state_dict(self) -> dict[str, Any]:
        """Return ``{"state": ..., "param_groups": ...}`` with parameters replaced by their positions.

        Tensors are those of the optimiser, not copies.
        """
        for hook in list(self._state_dict_hooks["state_pre"].values()):
            hook(self)
        index = {}
        groups = []
        for group in self.param_groups:
            packed = {key: value for key, value in group.items() if key != "params"}
            for param in group["params"]:
                index.setdefault(id(param), len(index))
            packed["params"] = [index[id(param)] for param in group["params"]]
            groups.append(packed)
        state = {(index[id(key)] if isinstance(key, fx.Tensor) else key): value for key, value in self.state.items()}
        result = {"state": state, "param_groups": groups}
        for hook in list(self._state_dict_hooks["state_post"].values()):
            changed = hook(self, result)
            if changed is not None:
                result = changed
        return result

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state of `state_dict`; its tensors are copied, to each parameter's dtype and device.

        Parameters
        ----------
        state_dict : dict
            As `state_dict` returned it, from an optimiser with the same groups.  Tensors of another library are taken
            through DLPack.

        Raises
        ------
        ValueError
            The groups differ in number or size, or a tensor has another shape than its parameter.
        """
        state_dict = dict(state_dict)
        for hook in list(self._state_dict_hooks["load_pre"].values()):
            changed = hook(self, state_dict)
            if changed is not None:
                state_dict = changed
        saved_groups = copy.deepcopy(state_dict["param_groups"])
        if len(saved_groups) != len(self.param_groups):
            raise ValueError("loaded state dict has a different number of parameter groups")
        params = {}
        for group, saved in zip(self.param_groups, saved_groups, strict=True):
            if len(group["params"]) != len(saved["params"]):
                raise ValueError(
                    "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
                )
            params.update(zip(saved["params"], group["params"], strict=True))
        state = defaultdict(dict)
        for key, value in state_dict["state"].items():
            if key in params:
                state[params[key]] = _cast(params[key], value)
            else:
                state[key] = value
        self._check_state(state)
        for group, saved in zip(self.param_groups, saved_groups, strict=True):
            saved["params"] = group["params"]
            if "param_names" in group and "param_names" not in saved:
                saved["param_names"] = group["param_names"]
            for name, default in self.defaults.items():
                saved.setdefault(name, default)
        self.__setstate__({"state": state, "param_groups": saved_groups})
        for hook in list(self._state_dict_hooks["load_post"].values()):
            hook(self)

    def __getstate__(self) -> Any:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        if "state" in state:
            self._state = state.pop("state")
        self.__dict__.update(state)
        self._plans = None
        if "_state_dict_hooks" not in self.__dict__:
            self._init_hooks()

    # ---- hooks

    def _add_hook(self, kind, hook, prepend=False):
        hooks = self._state_dict_hooks[kind]
        handle = RemovableHandle(hooks)
        hooks[handle.id] = hook
        if prepend:
            for key in list(hooks)[:-1]:
                hooks[key] = hooks.pop(key)
        return handle

    def _add_step_hook(self, kind, hook):
        # The instance's own `step` runs the hooks, so that an optimiser without any pays nothing.
        if not getattr(self.__dict__.get("step"), "_runs_hooks", False):
            self.step = _HookedStep(self)
        return self._add_hook(kind, hook)

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` before each step; it may return new arguments."""
        return self._add_step_hook("step_pre", hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` after each step."""
        return self._add_step_hook("step_post", hook)

    def register_state_dict_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer)`` before each `state_dict`."""
        return self._add_hook("state_pre", hook, prepend)

    def register_state_dict_post_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer, state_dict)`` after each `state_dict`; it may return another."""
        return self._add_hook("state_post", hook, prepend)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer, state_dict)`` before loading; it may return another state dict."""
        return self._add_hook("load_pre", hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer)`` after loading."""
        return self._add_hook("load_post", hook, prepend)

    def __repr__(self) -> str:
        text = f"{type(self).__name__} ("
        for i, group in enumerate(self.param_groups):
            text += f"\nParameter Group {i}\n"
            text += "".join(f"    {key}: {group[key]}\n" for key in sorted(group) if key != "params")
        return text + ")"


class _HookedStep:
    """A `step` with hooks around it."""

    _runs_hooks = True

    def __init__(self, optimizer) -> None:
        self._optimizer = weakref.ref(optimizer)
        self._inner = optimizer.__dict__.get("step")  # someone else's wrapper, or None for the method

    def __call__(self, *args, **kwargs):
        optimizer = self._optimizer()
        hooks = optimizer._state_dict_hooks
        for hook in list(hooks["step_pre"].values()):
            result = hook(optimizer, args, kwargs)
            if result is not None:
                if not (isinstance(result, tuple) and len(result) == 2):
                    raise RuntimeError(
                        f"step pre-hook must return None or a tuple of (new_args, new_kwargs), but got {result}."
                    )
                args, kwargs = result
        inner = self._inner or type(optimizer).step.__get__(optimizer)
        out = inner(*args, **kwargs)
        for hook in list(hooks["step_post"].values()):
            hook(optimizer, args, kwargs)
        return out


def _cast(param, value, key=None):
    """Copy a loaded piece of state; tensors go to the parameter's device, and to its dtype unless a step count."""
    if not isinstance(value, fx.Tensor) and hasattr(value, "__dlpack__"):
        value = fx.from_dlpack(value)
    if isinstance(value, fx.Tensor):
        if key == "step":
            return value.detach().clone()
        kind = {"dtype": param.dtype} if param.is_floating_point() else {}
        return value.detach().to(device=param.device, **kind).clone()
    if isinstance(value, dict):
        return {k: _cast(param, v, k) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_cast(param, v) for v in value)
    return value
