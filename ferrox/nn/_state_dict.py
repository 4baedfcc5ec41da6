"""Saving and loading the state of a module tree, with PyTorch's keys, layouts and messages."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ferrox as fx
from ferrox.nn._hooks import add_hook
from ferrox.nn.parameter import Parameter
from ferrox.utils.hooks import RemovableHandle, _HookDict

EXTRA_STATE_SUFFIX = "_extra_state"


class _IncompatibleKeys(NamedTuple):
    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self):
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"_IncompatibleKeys(missing_keys={self.missing_keys!r}, unexpected_keys={self.unexpected_keys!r})"


class _StateDict(OrderedDict):
    """An ordered dict that may carry `_metadata` (the version of each module) beside its entries."""


class StateDictMixin:
    """The part of `Module` that saves and loads its state."""

    _version = 1

    def _hooks_of_state(self, kind):
        if self._state_hooks is None:
            self._state_hooks = {}
        return self._state_hooks.setdefault(kind, _HookDict())

    def _state_hooks_of(self, kind):
        if self._state_hooks is None:
            return ()
        return [hook.function for hook in self._state_hooks.get(kind, {}).values()]

    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, prefix, keep_vars)`` before each `state_dict`."""
        return add_hook(self._hooks_of_state("pre"), hook)

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, state_dict, prefix, local_metadata)`` after each `state_dict`, to change it in place."""
        return add_hook(self._hooks_of_state("post"), hook, with_kwargs=True)

    def _register_state_dict_hook(self, hook):
        """As the public post-hook, but a returned dict replaces the state dict of the root module."""
        return add_hook(self._hooks_of_state("post"), hook)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, state_dict, prefix, metadata, strict, missing, unexpected, errors)`` before loading."""
        return add_hook(self._hooks_of_state("load_pre"), hook)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, incompatible_keys)`` after loading; it may change the lists of keys in place."""
        return add_hook(self._hooks_of_state("load_post"), hook)

    def get_extra_state(self) -> Any:
        """Return further state for `state_dict` to hold; override together with `set_extra_state`."""
        raise RuntimeError("get_extra_state() is not overridden by this module")

    def set_extra_state(self, state: Any) -> None:
        """Take back what `get_extra_state` returned; called by `load_state_dict`."""
        raise RuntimeError("set_extra_state() is not overridden by this module")

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        """Put this module's own parameters and persistent buffers into `destination`."""
        for name, param in self._parameters.items():
            if param is not None:
                destination[prefix + name] = param if keep_vars else param.detach()
        for name, buffer in self._buffers.items():
            if buffer is not None and name not in self._non_persistent_buffers_set:
                destination[prefix + name] = buffer if keep_vars else buffer.detach()
        if type(self).get_extra_state is not StateDictMixin.get_extra_state:
            destination[prefix + EXTRA_STATE_SUFFIX] = self.get_extra_state()

    def state_dict(
        self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Any]:
        """Return the parameters and persistent buffers of the module and its children, by dotted name.

        Parameters
        ----------
        destination : dict, optional
            Filled and returned instead of a new ordered dict.
        prefix : str, default ""
            Put before every key.
        keep_vars : bool, default False
            Return the parameters themselves rather than detached tensors that share their storage.

        Examples
        --------
        >>> import ferrox as fx
        >>> list(fx.nn.Linear(3, 2).state_dict())
        ['weight', 'bias']
        """
        if args:
            destination = args[0]
            prefix = args[1] if len(args) > 1 else prefix
            keep_vars = args[2] if len(args) > 2 else keep_vars
        if destination is None:
            destination = _StateDict()
            destination._metadata = OrderedDict()
        local_metadata = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = local_metadata
        for hook in self._state_hooks_of("pre"):
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=destination, prefix=prefix + name + ".", keep_vars=keep_vars)
        if self._state_hooks is not None:
            for hook in list(self._state_hooks.get("post", {}).values()):
                result = hook.function(self, destination, prefix, local_metadata)
                if hook.with_kwargs:  # registered through the public method
                    if result is not None:
                        raise RuntimeError("state_dict post-hook must return None")
                elif result is not None:
                    destination = result
        return destination

    def _load_from_state_dict(
        self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
    ):
        """Copy this module's own entries from `state_dict`; subclasses override it to convert older layouts."""
        for hook in self._state_hooks_of("load_pre"):
            hook(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        local_state = {name: param for name, param in self._parameters.items() if param is not None}
        for name, buffer in self._buffers.items():
            if buffer is not None and name not in self._non_persistent_buffers_set:
                local_state[name] = buffer
        assign = local_metadata.get("assign_to_params_buffers", False)
        for name, param in local_state.items():
            key = prefix + name
            if key not in state_dict:
                if strict:
                    missing_keys.append(key)
                continue
            message = _load_entry(self, name, param, key, state_dict[key], assign)
            if message:
                error_msgs.append(message)

        extra_key = prefix + EXTRA_STATE_SUFFIX
        if type(self).set_extra_state is not StateDictMixin.set_extra_state:
            if extra_key in state_dict:
                self.set_extra_state(state_dict[extra_key])
            elif strict:
                missing_keys.append(extra_key)
        elif strict and extra_key in state_dict:
            unexpected_keys.append(extra_key)
        if strict:
            for key in state_dict:
                if key.startswith(prefix) and key != extra_key:
                    head, dot, _ = key[len(prefix) :].partition(".")
                    if head not in (self._modules if dot else local_state):
                        unexpected_keys.append(key)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> _IncompatibleKeys:
        """Copy the tensors of `state_dict` into the parameters and buffers of the module and its children.

        Parameters
        ----------
        state_dict : mapping
            Tensors by dotted name.  Tensors of another library are taken through DLPack.
        strict : bool, default True
            Refuse keys that are missing or unknown.
        assign : bool, default False
            Take the given tensors themselves (their dtype and device included) instead of copying their values.  What
            was one parameter or buffer in several places stays one.

        Returns
        -------
        named tuple
            `missing_keys` and `unexpected_keys`.

        Raises
        ------
        RuntimeError
            Shapes differ, or `strict` and the keys differ; the message lists every such entry.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        missing_keys, unexpected_keys, error_msgs = [], [], []
        metadata = getattr(state_dict, "_metadata", None)
        state_dict = _StateDict(state_dict)
        if metadata is not None:
            state_dict._metadata = metadata

        def load(module, local_state, prefix):
            local_metadata = dict({} if metadata is None else metadata.get(prefix[:-1], {}))
            if assign:
                local_metadata["assign_to_params_buffers"] = True
            module._load_from_state_dict(
                local_state, prefix, local_metadata, True, missing_keys, unexpected_keys, error_msgs
            )
            for name, child in module._modules.items():
                if child is not None:
                    child_prefix = prefix + name + "."
                    load(child, {k: v for k, v in local_state.items() if k.startswith(child_prefix)}, child_prefix)
            incompatible = _IncompatibleKeys(missing_keys, unexpected_keys)
            for hook in module._state_hooks_of("load_post"):
                if hook(module, incompatible) is not None:
                    raise AssertionError(
                        "Hooks registered with ``register_load_state_dict_post_hook`` are not expected to return new "
                        "values, if incompatible_keys need to be modified, it should be done inplace."
                    )

        tied = _tied_members(self) if assign else ()
        load(self, state_dict, "")
        _tie_again(tied)
        if strict:
            if unexpected_keys:
                error_msgs.insert(0, f"Unexpected key(s) in state_dict: {_quoted(unexpected_keys)}. ")
            if missing_keys:
                error_msgs.insert(0, f"Missing key(s) in state_dict: {_quoted(missing_keys)}. ")
        if error_msgs:
            raise RuntimeError(
                "Error(s) in loading state_dict for {}:\n\t{}".format(type(self).__name__, "\n\t".join(error_msgs))
            )
        return _IncompatibleKeys(missing_keys, unexpected_keys)


def _quoted(keys):
    return ", ".join(f'"{key}"' for key in keys)


def _tied_members(module):
    """Return the parameters and buffers that stand in several places, each with its places in order of loading."""
    members = {}
    for child in module.modules():
        for registry in (child._parameters, child._buffers):
            for name, value in registry.items():
                if value is not None:
                    members.setdefault(id(value), (value, []))[1].append((child, name))
    return [(value, places) for value, places in members.values() if len(places) > 1]


def _tie_again(tied):
    """Give every place of a member what was assigned to the last of them, as copying would."""
    for before, places in tied:
        assigned = [value for child, name in places if (value := getattr(child, name)) is not before]
        if assigned:
            for child, name in places:
                if getattr(child, name) is not assigned[-1]:
                    setattr(child, name, assigned[-1])


def _load_entry(module, name, param, key, value, assign):
    """Copy or assign one entry; return a message where that is impossible."""
    if not isinstance(value, fx.Tensor):
        if not hasattr(value, "__dlpack__"):
            return (
                f'While copying the parameter named "{key}", expected ferrox.Tensor or Tensor-like object from '
                f"checkpoint but received {type(value)}"
            )
        value = fx.from_dlpack(value)
    if param.ndim == 0 and value.ndim == 1 and value.shape[0] == 1:
        value = value[0]  # scalars of very old checkpoints
    if tuple(value.shape) != tuple(param.shape):
        return (
            f"size mismatch for {key}: copying a param with shape {value.shape} from checkpoint, "
            f"the shape in current model is {param.shape}."
        )
    try:
        with fx.no_grad():
            if not assign:
                param.copy_(value)
            elif not isinstance(param, Parameter):
                setattr(module, name, value)
            elif isinstance(value, Parameter):
                setattr(module, name, value.requires_grad_(param.requires_grad))
            else:
                setattr(module, name, Parameter(value, requires_grad=param.requires_grad))
    except Exception as error:
        return (
            f'While copying the parameter named "{key}", whose dimensions in the model are {param.size()} and '
            f"whose dimensions in the checkpoint are {value.size()}, an exception occurred : {error.args}."
        )
    return None
