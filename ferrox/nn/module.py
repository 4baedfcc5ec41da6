"""`Module`, the base class of layers and networks.

A parameter, buffer or child lives in two places: in its registry (`_parameters`, `_buffers`, `_modules`), which gives
order and kind, and in the instance `__dict__`, so that ``self.weight`` is an ordinary attribute look-up and the class
needs no ``__getattr__``.  `Registry` and ``Module.__setattr__`` keep the two equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, Self, TypeVar

import ferrox as fx
from ferrox.nn._hooks import Hooks, add_hook, call_hooked
from ferrox.nn._members import Once, Registry
from ferrox.nn._state_dict import StateDictMixin
from ferrox.nn.parameter import Parameter
from ferrox.utils.gradients import clear
from ferrox.utils.hooks import RemovableHandle, _HookDict

__all__ = ["Module", "register_module_forward_hook", "register_module_forward_pre_hook"]

_REGISTRIES = ("_parameters", "_buffers", "_modules")
_ABSENT = object()
_P = ParamSpec("_P")
_R = TypeVar("_R", covariant=True)


class _Forward(Protocol[_P, _R]):
    """What has a `forward`: calling it takes and gives what that does."""

    def forward(self, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...


def typename(value):
    """Return the qualified name of `value`'s type, as error messages show it."""
    cls = type(value)
    if cls.__module__.startswith("ferrox._core."):  # where it is made says nothing to users
        return f"ferrox.{cls.__qualname__}"
    return cls.__qualname__ if cls.__module__ in ("builtins", None) else f"{cls.__module__}.{cls.__qualname__}"


class Module(StateDictMixin):
    """Base class of all layers and networks: a callable that owns parameters, buffers and child modules.

    Assigning a `Parameter` or a `Module` as an attribute registers it.  Subclasses call ``super().__init__()``
    first and define `forward`.

    Examples
    --------
    >>> import ferrox as fx
    >>> class Affine(fx.nn.Module):
    ...     def __init__(self) -> None:
    ...         super().__init__()
    ...         self.scale = fx.nn.Parameter(fx.ones(2))
    ...
    ...     def forward(self, x):
    ...         return x * self.scale
    >>> model = Affine()
    >>> [name for name, _ in model.named_parameters()]
    ['scale']
    >>> model(fx.ones(2)).tolist()
    [1.0, 1.0]
    """

    training: bool

    if TYPE_CHECKING:  # parameters, buffers and children are attributes of any type

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if args or kwargs:
            unexpected = f"{next(iter(kwargs))!r}" if kwargs else None
            raise TypeError(
                f"{type(self).__name__}.__init__() got an unexpected keyword argument {unexpected}"
                if unexpected
                else f"{type(self).__name__}.__init__() takes 1 positional argument but {len(args) + 1} were given"
            )
        attributes = self.__dict__
        attributes["training"] = True
        attributes["_parameters"] = Registry(self)
        attributes["_buffers"] = Registry(self)
        attributes["_modules"] = Registry(self)
        attributes["_non_persistent_buffers_set"] = set()
        attributes["_hooks"] = None
        attributes["_state_hooks"] = None

    if TYPE_CHECKING:

        def __call__(self: _Forward[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R: ...

    else:
        # One and two positional arguments are told apart from the rest: a call without * costs half as much.
        def __call__(self, first: Any = _ABSENT, second: Any = _ABSENT, /, *args: Any, **kwargs: Any) -> Any:
            if self._hooks is None and first is not _ABSENT and not args and not kwargs:
                return self.forward(first) if second is _ABSENT else self.forward(first, second)
            if second is not _ABSENT:
                args = (first, second, *args)
            elif first is not _ABSENT:
                args = (first,)
            if self._hooks is None:
                return self.forward(*args, **kwargs)
            return _call_with_hooks(self, args, kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the output; every subclass defines it."""
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    # ---- registration

    def __setattr__(self, name: str, value: Any) -> None:
        attributes = self.__dict__
        if isinstance(value, Parameter):
            if "_parameters" not in attributes:
                raise AttributeError("cannot assign parameters before Module.__init__() call")
            self._forget(name, "_parameters")
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            if "_modules" not in attributes:
                raise AttributeError("cannot assign module before Module.__init__() call")
            self._forget(name, "_modules")
            attributes["_modules"][name] = attributes[name] = value
        elif name in attributes.get("_parameters", ()):
            if value is not None:
                raise TypeError(
                    f"cannot assign '{typename(value)}' as parameter '{name}' (ferrox.nn.Parameter or None expected)"
                )
            attributes["_parameters"][name] = attributes[name] = None
        elif name in attributes.get("_modules", ()):
            if value is not None:
                raise TypeError(
                    f"cannot assign '{typename(value)}' as child module '{name}' (ferrox.nn.Module or None expected)"
                )
            attributes["_modules"][name] = attributes[name] = None
        elif name in attributes.get("_buffers", ()):
            if value is not None and not isinstance(value, fx.Tensor):
                raise TypeError(
                    f"cannot assign '{typename(value)}' as buffer '{name}' (ferrox.Tensor or None expected)"
                )
            attributes["_buffers"][name] = attributes[name] = value
        else:
            object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        for registry in _REGISTRIES:
            if name in self.__dict__.get(registry, ()):
                self._forget(name, None)
                return
        object.__delattr__(self, name)

    def _forget(self, name, keep):
        """Take `name` out of the instance and of every registry but `keep`."""
        attributes = self.__dict__
        for registry in _REGISTRIES:
            if registry != keep and name in attributes[registry]:
                del attributes[registry][name]
                if registry == "_buffers":
                    self._non_persistent_buffers_set.discard(name)
        if keep is None or name not in attributes[keep]:
            attributes.pop(name, None)

    def _check_name(self, kind, name, registry):
        if registry not in self.__dict__:
            raise AttributeError(f"cannot assign {kind} before Module.__init__() call")
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string. Got {typename(name)}")
        if "." in name:
            raise KeyError(f'{kind} name can\'t contain "."' + (f", got: {name}" if kind == "module" else ""))
        if name == "":
            raise KeyError(f'{kind} name can\'t be empty string ""')
        if hasattr(self, name) and name not in self.__dict__[registry]:
            raise KeyError(f"attribute '{name}' already exists")

    def register_buffer(self, name: str, tensor: fx.Tensor | None, persistent: bool = True) -> None:
        """Register a tensor that is state but not trained, such as a running mean.

        Parameters
        ----------
        name : str
            The attribute under which it is reached.
        tensor : Tensor or None
            The buffer; None is kept as an attribute and ignored otherwise.
        persistent : bool, default True
            Whether it is part of the `state_dict`.
        """
        self._check_name("buffer", name, "_buffers")
        if tensor is not None and not isinstance(tensor, fx.Tensor):
            raise TypeError(
                f"cannot assign '{typename(tensor)}' object to buffer '{name}' (ferrox Tensor or None required)"
            )
        self._buffers[name] = self.__dict__[name] = tensor
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Register `param` (a Parameter or None) under `name`."""
        self._check_name("parameter", name, "_parameters")
        if param is not None:
            if not isinstance(param, Parameter):
                raise TypeError(
                    f"cannot assign '{typename(param)}' object to parameter '{name}' "
                    "(ferrox.nn.Parameter or None required)"
                )
            if param.grad_fn is not None:
                raise ValueError(
                    f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must be created "
                    f"explicitly. To express '{name}' as a function of another Tensor, compute the value in the "
                    "forward() method."
                )
        self._parameters[name] = self.__dict__[name] = param

    def add_module(self, name: str, module: Module | None) -> None:
        """Register `module` (a Module or None) as a child under `name`."""
        if not isinstance(module, Module) and module is not None:
            raise TypeError(f"{typename(module)} is not a Module subclass")
        self._check_name("module", name, "_modules")
        self._modules[name] = self.__dict__[name] = module

    register_module = add_module

    def get_submodule(self, target: str) -> Module:
        """Return the module at the dotted path `target` (the module itself for ``""``)."""
        module = self
        for name in target.split(".") if target else ():
            if not hasattr(module, name):
                raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
            module = getattr(module, name)
            if not isinstance(module, Module):
                raise AttributeError(f"`{name}` is not an nn.Module")
        return module

    def _get_member(self, target, cls, what):
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
        value = getattr(module, name)
        if not isinstance(value, cls) or (cls is not Parameter and name not in module._buffers):
            raise AttributeError(f"`{name}` is not {what}")
        return value

    def get_parameter(self, target: str) -> Parameter:
        """Return the parameter at the dotted path `target`."""
        return self._get_member(target, Parameter, "an nn.Parameter")

    def get_buffer(self, target: str) -> fx.Tensor:
        """Return the buffer at the dotted path `target`."""
        return self._get_member(target, fx.Tensor, "a buffer")

    # ---- walking the tree

    def _named_members(self, registry, prefix, recurse, remove_duplicate):
        seen = set()
        for path, module in (
            self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else ((prefix, self),)
        ):
            for name, value in getattr(module, registry).items():
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield (path + "." + name if path else name), value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Iterate over ``(dotted name, parameter)``, of the children too where `recurse`."""
        return self._named_members("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Iterate over the parameters, of the children too where `recurse`; each comes once."""
        for _, param in self._named_members("_parameters", "", recurse, True):
            yield param

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, fx.Tensor]]:
        """Iterate over ``(dotted name, buffer)``, of the children too where `recurse`."""
        return self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[fx.Tensor]:
        """Iterate over the buffers, of the children too where `recurse`; each comes once."""
        for _, buffer in self._named_members("_buffers", "", recurse, True):
            yield buffer

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Iterate over ``(name, child)``; each child comes once."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        """Iterate over the immediate child modules; each comes once."""
        for _, module in self.named_children():
            yield module

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """Iterate over ``(dotted name, module)`` of the whole tree, the module itself first under `prefix`."""
        memo = set() if memo is None else memo
        if self not in memo:
            if remove_duplicate:
                memo.add(self)
            yield prefix, self
            for name, module in self._modules.items():
                if module is not None:
                    yield from module.named_modules(memo, prefix + "." + name if prefix else name, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """Iterate over all modules of the tree, the module itself first; each comes once."""
        for _, module in self.named_modules():
            yield module

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call ``fn(module)`` on every child and then on the module itself; return the module."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    # ---- modes, gradients, conversions

    def train(self, mode: bool = True) -> Self:
        """Put the module and its children into training mode (or evaluation mode); return the module."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self) -> Self:
        """Put the module and its children into evaluation mode; return the module."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set `requires_grad` of every parameter; return the module."""
        for param in self.parameters():
            param.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of every parameter, or fill them with zeros in place where `set_to_none` is False."""
        clear(self.parameters(), set_to_none)

    def _apply(self, fn, recurse=True):
        """Replace every parameter's and buffer's values by ``fn(values)``; parameters keep their identity.

        What stands in several places is converted once, and stays one.
        """
        fn = fn if isinstance(fn, Once) else Once(fn)
        if recurse:
            for module in self.children():
                module._apply(fn)
        for param in self._parameters.values():
            if param is not None and fn.is_new(param):
                with fx.no_grad():
                    param.data = fn(param.data)
                    if param.grad is not None:
                        grad = param.grad
                        param.grad = None  # dtype and device of the two must never differ
                        param.grad = fn(grad.detach()).requires_grad_(grad.requires_grad)
        for name, buffer in list(self._buffers.items()):
            if buffer is not None:
                self._buffers[name] = self.__dict__[name] = fn.converted(buffer)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Convert parameters and buffers: ``to(device=None, dtype=None)``, ``to(dtype)`` or ``to(tensor)``.

        A dtype applies to floating-point tensors only.  The module itself is changed and returned.
        """
        device, dtype = _parse_to(*args, **kwargs)
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(
                f"nn.Module.to only accepts floating point or complex dtypes, but got desired dtype={dtype}"
            )

        def convert(tensor):
            options = {}
            if device is not None:
                options["device"] = device
            if dtype is not None and tensor.is_floating_point():
                options["dtype"] = dtype
            return tensor.to(**options) if options else tensor

        return self._apply(convert)

    def type(self, dst_type: fx.dtype | str) -> Self:
        """Convert all parameters and buffers to the dtype `dst_type`."""
        return self._apply(lambda tensor: tensor.to(dtype=dst_type))

    def _to_floating(self, dtype):
        return self._apply(lambda tensor: tensor.to(dtype=dtype) if tensor.is_floating_point() else tensor)

    def float(self) -> Self:
        """Convert floating-point parameters and buffers to float32."""
        return self._to_floating(fx.float32)

    def double(self) -> Self:
        """Convert floating-point parameters and buffers to float64."""
        return self._to_floating(fx.float64)

    def half(self) -> Self:
        """Convert floating-point parameters and buffers to float16."""
        return self._to_floating(fx.float16)

    def bfloat16(self) -> Self:
        """Convert floating-point parameters and buffers to bfloat16."""
        return self._to_floating(fx.bfloat16)

    def cpu(self) -> Self:
        """Move all parameters and buffers to the CPU."""
        return self._apply(lambda tensor: tensor.cpu())

    def cuda(self, device: str | int | fx.device | None = None) -> Self:
        """Move all parameters and buffers to a GPU (an index or device; default: the current one)."""
        return self._apply(lambda tensor: tensor.cuda(device))

    # ---- hooks

    def _call_hooks(self):
        if self._hooks is None:
            self._hooks = Hooks()
        return self._hooks

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, args)`` before each forward; it may return new arguments.

        With `with_kwargs` it is called as ``hook(module, args, kwargs)`` and may return a new pair of them.
        """
        return add_hook(self._call_hooks().forward_pre, hook, prepend, with_kwargs)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, args, output)`` after each forward; it may return another output.

        With `with_kwargs` it is called as ``hook(module, args, kwargs, output)``; with `always_call` also where the
        forward raised (with None as the output).
        """
        return add_hook(self._call_hooks().forward, hook, prepend, with_kwargs, always_call)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_input, grad_output)`` in each backward; it may return another grad_input.

        Both are tuples over the positional inputs and the outputs, with None where there is no gradient.
        """
        return add_hook(self._call_hooks().backward, hook, prepend)

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_output)`` before the module's backward; it may return another grad_output."""
        return add_hook(self._call_hooks().backward_pre, hook, prepend)

    # ---- copying, printing

    def __getstate__(self) -> Any:
        state = self.__dict__.copy()
        for registry in _REGISTRIES:
            if registry in state:
                members = state[registry] = dict(state[registry])
                for name in members:
                    state.pop(name, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__dict__.setdefault("_hooks", None)
        self.__dict__.setdefault("_state_hooks", None)
        for registry in _REGISTRIES:
            if registry in self.__dict__:
                self.__dict__[registry] = Registry(self, self.__dict__[registry])

    def extra_repr(self) -> str:
        """Return what `repr` shows between the parentheses; override it in a subclass."""
        return ""

    def _get_name(self):
        return type(self).__name__

    def __repr__(self) -> str:
        extra = self.extra_repr()
        extra_lines = extra.split("\n") if extra else []
        child_lines = [f"({name}): {_indented(repr(module))}" for name, module in self._modules.items()]
        if not child_lines and len(extra_lines) <= 1:
            return f"{self._get_name()}({extra})"
        lines = extra_lines + child_lines
        return f"{self._get_name()}(\n  " + "\n  ".join(lines) + "\n)"


def _indented(text):
    return text.replace("\n", "\n  ")


def _parse_to(*args, **kwargs):
    device, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
    kwargs.pop("non_blocking", None)
    tensor = kwargs.pop("tensor", None)
    if kwargs:
        raise TypeError(f"to() got an unexpected keyword argument {next(iter(kwargs))!r}")
    for value in args:
        if isinstance(value, fx.Tensor):
            tensor = value
        elif isinstance(value, fx.dtype):
            dtype = value
        elif isinstance(value, str) and isinstance(getattr(fx, value, None), fx.dtype):
            dtype = getattr(fx, value)
        elif isinstance(value, bool) or value is None:
            continue  # non_blocking, or a device left open
        elif isinstance(value, (str, int, fx.device)):
            device = value
        else:
            raise TypeError(f"to() received an invalid argument of type {typename(value)}")
    if tensor is not None:
        device, dtype = tensor.device, tensor.dtype
    return device, dtype


def _call_with_hooks(module, args, kwargs):
    hooks = module._hooks
    if not hooks:
        module._hooks = None  # the last hook was removed: back to the short way
        return module.forward(*args, **kwargs)
    return call_hooked(module, hooks, args, kwargs)


# Hooks over every module.  Registering the first one exchanges Module.__call__, so that they cost nothing when unused.
_global_pre_hooks = _HookDict()
_global_hooks = _HookDict()
_plain_call = Module.__call__


def _observed_call(self, *args, **kwargs):
    if not _global_pre_hooks and not _global_hooks:
        Module.__call__ = _plain_call
        return _plain_call(self, *args, **kwargs)
    return call_hooked(
        self, self._hooks, args, kwargs, tuple(_global_pre_hooks.values()), tuple(_global_hooks.values())
    )


def register_module_forward_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call ``hook(module, args)`` before the forward of every module; see `Module.register_forward_pre_hook`."""
    Module.__call__ = _observed_call
    return add_hook(_global_pre_hooks, hook)


def register_module_forward_hook(
    hook: Callable[..., Any], *, with_kwargs: bool = False, always_call: bool = False
) -> RemovableHandle:
    """Call ``hook(module, args, output)`` after the forward of every module; see `Module.register_forward_hook`."""
    Module.__call__ = _observed_call
    return add_hook(_global_hooks, hook, False, with_kwargs, always_call)
