"""Modules that hold modules or parameters."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Generic, Self, TypeVar, overload

import ferrox as fx
from ferrox.nn.module import Module, _indented, typename
from ferrox.nn.parameter import Parameter

__all__ = ["ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential"]


def _position(index, length):
    index = operator.index(index)
    if not -length <= index < length:
        raise IndexError(f"index {index} is out of range: there are {length}")
    return index % length


class _Indexed(Module):
    """What Sequential and ModuleList share: children named "0", "1", … in order."""

    def _renumber(self, modules):
        self._modules.clear()
        for i, module in enumerate(modules):
            self.add_module(str(i), module)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __dir__(self) -> list[str]:
        return [key for key in super().__dir__() if not key.isdigit()]


class Sequential(_Indexed):
    """Modules called one after the other, each on the output of the one before.

    Parameters
    ----------
    *args : Module or OrderedDict
        The modules in order, or one ordered dict of named modules.

    Examples
    --------
    >>> import ferrox as fx
    >>> model = fx.nn.Sequential(fx.nn.Linear(4, 8), fx.nn.ReLU(), fx.nn.Linear(8, 2))
    >>> tuple(model(fx.zeros(3, 4)).shape)
    (3, 2)
    """

    def __init__(self, *args: Any) -> None:
        super().__init__()
        if len(args) == 1 and isinstance(args[0], OrderedDict):
            for name, module in args[0].items():
                self.add_module(name, module)
        else:
            for i, module in enumerate(args):
                self.add_module(str(i), module)

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        for module in self._modules.values():
            input = module(input)
        return input

    def _key(self, index):
        return list(self._modules)[_position(index, len(self._modules))]

    @overload
    def __getitem__(self, index: int) -> Module: ...

    @overload
    def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: int | slice) -> Module | Self:
        if isinstance(index, slice):
            return type(self)(OrderedDict(list(self._modules.items())[index]))
        return self._modules[self._key(index)]

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._key(index), module)

    def __delitem__(self, index: int | slice) -> None:
        keys = list(self._modules)[index] if isinstance(index, slice) else [self._key(index)]
        for key in keys:
            delattr(self, key)
        self._renumber(list(self._modules.values()))

    def __add__(self, other: Iterable[Module]) -> Sequential:
        if not isinstance(other, Sequential):
            raise ValueError(f"add operator supports only objects of Sequential class, but {type(other)} is given.")
        return Sequential(*self, *other)

    def __iadd__(self, other: Iterable[Module]) -> Self:
        if not isinstance(other, Sequential):
            raise ValueError(f"add operator supports only objects of Sequential class, but {type(other)} is given.")
        return self.extend(list(other))

    def append(self, module: Module) -> Self:
        """Add `module` at the end; return the container."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, sequential: Iterable[Module]) -> Self:
        """Add all modules of `sequential` at the end; return the container."""
        for module in sequential:
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Self:
        """Put `module` before position `index`; return the container."""
        if not isinstance(module, Module):
            raise AssertionError(f"module should be of type: {Module}")
        length = len(self)
        if not -length <= index <= length:
            raise IndexError(f"Index out of range: {index}")
        modules = list(self)
        modules.insert(index, module)
        self._renumber(modules)
        return self

    def pop(self, key: int) -> Module:
        """Remove and return the module at `key`."""
        module = self[key]
        del self[key]
        return module


class ModuleList(_Indexed):
    """A list of modules, all registered; it has no forward of its own.

    Parameters
    ----------
    modules : iterable of Module, optional
        The first elements.

    Examples
    --------
    >>> import ferrox as fx
    >>> layers = fx.nn.ModuleList(fx.nn.Linear(2, 2) for _ in range(3))
    >>> len(layers), len(list(layers.parameters()))
    (3, 6)
    """

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.extend(modules)

    @overload
    def __getitem__(self, index: int) -> Module: ...

    @overload
    def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: int | slice) -> Module | Self:
        if isinstance(index, slice):
            return type(self)(list(self._modules.values())[index])
        return self._modules[str(_position(index, len(self)))]

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, str(_position(index, len(self))), module)

    def __delitem__(self, index: int | slice) -> None:
        modules = list(self)
        if isinstance(index, slice):
            del modules[index]
        else:
            del modules[_position(index, len(modules))]
        self._renumber(modules)

    def __iadd__(self, modules: Iterable[Module]) -> Self:
        return self.extend(modules)

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def append(self, module: Module) -> Self:
        """Add `module` at the end; return the list."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add every module of the iterable `modules` at the end; return the list."""
        if not isinstance(modules, Iterable):
            raise TypeError("ModuleList.extend should be called with an iterable, but got " + type(modules).__name__)
        for module in modules:
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> None:
        """Put `module` before position `index`."""
        modules = list(self)
        modules.insert(index, module)
        self._renumber(modules)

    def pop(self, key: int) -> Module:
        """Remove and return the module at `key`."""
        module = self[key]
        del self[key]
        return module

    def __repr__(self) -> str:
        # Equal neighbours are shown once, as "(0-2): 3 x Linear(...)".
        runs = []
        for i, text in enumerate(map(repr, self)):
            if runs and runs[-1][2] == text:
                runs[-1][1] = i
            else:
                runs.append([i, i, text])
        if not runs:
            return self._get_name() + "()"
        lines = [
            f"({first}): {_indented(text)}"
            if first == last
            else f"({first}-{last}): {last - first + 1} x {_indented(text)}"
            for first, last, text in runs
        ]
        return f"{self._get_name()}(\n  " + "\n  ".join(lines) + "\n)"


_Member = TypeVar("_Member")


class _Mapped(Generic[_Member]):
    """Dict methods shared by ModuleDict and ParameterDict, over `_members()`."""

    def __len__(self) -> int:
        return len(self._members())

    def __iter__(self) -> Iterator[str]:
        return iter(self._members())

    def __contains__(self, key: object) -> bool:
        return key in self._members()

    def keys(self) -> KeysView[str]:
        """Return the names."""
        return self._members().keys()

    def items(self) -> ItemsView[str, _Member]:
        """Return the pairs of name and member."""
        return self._members().items()

    def values(self) -> ValuesView[_Member]:
        """Return the members."""
        return self._members().values()

    def __getitem__(self, key: str) -> _Member:
        return self._members()[key]

    def __setitem__(self, key: str, value: _Member) -> None:
        self._put(key, value)

    def __delitem__(self, key: str) -> None:
        if key not in self._members():
            raise KeyError(key)
        delattr(self, key)

    def clear(self) -> None:
        """Remove everything."""
        for key in list(self._members()):
            del self[key]

    def pop(self, key: str) -> _Member:
        """Remove the member `key` and return it."""
        value = self[key]
        del self[key]
        return value

    def update(self, other: Any) -> None:
        """Add the members of a mapping, or of an iterable of pairs; equal names are replaced."""
        if not isinstance(other, Iterable):
            raise TypeError(
                f"{type(self).__name__}.update should be called with an iterable of key/value pairs, but got "
                + type(other).__name__
            )
        if isinstance(other, (Mapping, _Mapped)):
            for key, value in other.items():
                self[key] = value
            return
        for i, pair in enumerate(other):
            if not isinstance(pair, Iterable):
                raise TypeError(
                    f"{type(self).__name__} update sequence element #{i} should be Iterable; is {type(pair).__name__}"
                )
            pair = tuple(pair)
            if len(pair) != 2:
                raise ValueError(
                    f"{type(self).__name__} update sequence element #{i} has length {len(pair)}; 2 is required"
                )
            self[pair[0]] = pair[1]


class ModuleDict(_Mapped[Module], Module):
    """A dict of modules by name, in order of insertion, all registered.

    Parameters
    ----------
    modules : mapping or iterable of pairs, optional
        The first members.

    Examples
    --------
    >>> import ferrox as fx
    >>> heads = fx.nn.ModuleDict({"mean": fx.nn.Linear(4, 1), "scale": fx.nn.Linear(4, 1)})
    >>> list(heads)
    ['mean', 'scale']
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.update(modules)

    def _members(self):
        return self._modules

    def _put(self, key, value):
        self.add_module(key, value)


class _ParameterHolder(Module):
    @staticmethod
    def _as_member(value):
        return Parameter(value) if isinstance(value, fx.Tensor) and not isinstance(value, Parameter) else value

    def _lines(self, items):
        lines = []
        for name, value in items:
            if isinstance(value, fx.Tensor):
                kind = "Parameter" if isinstance(value, Parameter) else "Tensor"
                size = "x".join(str(n) for n in value.shape)
                place = "" if value.device.type == "cpu" else f" ({value.device})"
                lines.append(f"  ({name}): {kind} containing: [{value.dtype} of size {size}{place}]")
            else:
                lines.append(f"  ({name}): Object of type: {type(value).__name__}")
        return lines

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f"{type(self).__name__} should not be called.")


class ParameterList(_ParameterHolder):
    """A list of parameters, all registered; tensors put into it become parameters.

    Parameters
    ----------
    values : iterable, optional
        The first elements.

    Examples
    --------
    >>> import ferrox as fx
    >>> weights = fx.nn.ParameterList([fx.zeros(2), fx.ones(3)])
    >>> [tuple(weight.shape) for weight in weights.parameters()]
    [(2,), (3,)]
    """

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        self._size = 0
        if values is not None:
            self += values

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Any]:
        return iter(self[i] for i in range(self._size))

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return getattr(self, str(_position(index, self._size)))

    def __setitem__(self, index: int, value: Any) -> None:
        setattr(self, str(_position(index, self._size)), self._as_member(value))

    def append(self, value: Any) -> Self:
        """Add `value` at the end; return the list."""
        self._size += 1
        self[self._size - 1] = value
        return self

    def extend(self, values: Iterable[Any]) -> Self:
        """Add every element of the iterable `values` at the end; return the list."""
        if not isinstance(values, Iterable) or isinstance(values, fx.Tensor):
            raise TypeError("ParameterList.extend should be called with an iterable, but got " + type(values).__name__)
        for value in list(values):
            self.append(value)
        return self

    def __iadd__(self, values: Iterable[Any]) -> Self:
        return self.extend(values)

    def pop(self, index: int = -1) -> Any:
        """Remove and return the element at `index` (default: the last)."""
        values = list(self)
        value = values.pop(index)
        for i in range(self._size):
            delattr(self, str(i))
        self._size = 0
        self.extend(values)
        return value

    def __repr__(self) -> str:
        return "ParameterList(\n" + "\n".join(self._lines(enumerate(self))) + "\n)" if len(self) else "ParameterList()"


class ParameterDict(_Mapped[Any], _ParameterHolder):
    """A dict of parameters by name, in order of insertion; tensors put into it become parameters.

    Parameters
    ----------
    parameters : mapping or iterable of pairs, optional
        The first members.

    Examples
    --------
    >>> import ferrox as fx
    >>> params = fx.nn.ParameterDict({"gain": fx.ones(1)})
    >>> params["gain"].requires_grad
    True
    """

    def __init__(self, parameters: Any = None) -> None:
        super().__init__()
        self._keys = {}
        if parameters is not None:
            self.update(parameters)

    def _members(self):
        return {key: getattr(self, key) for key in self._keys}

    def _put(self, key, value):
        if not isinstance(key, str):
            raise TypeError(
                "Index given to ParameterDict cannot be used as a key as it is not a string "
                f"(type is '{typename(key)}')."
            )
        if key not in self._keys and hasattr(self, key):
            raise KeyError(f"attribute '{key}' already exists")
        self._keys[key] = None
        setattr(self, key, self._as_member(value))

    def __delitem__(self, key: str) -> None:
        del self._keys[key]
        delattr(self, key)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return the member `key`, after setting it to `default` if it was absent."""
        if key not in self._keys:
            self[key] = default
        return self[key]

    def get(self, key: str, default: Any = None) -> Any:
        """Return the member `key`, or `default`."""
        return self[key] if key in self._keys else default

    def copy(self) -> ParameterDict:
        """Return a new ParameterDict of the same parameters."""
        return ParameterDict(dict(self.items()))

    def __repr__(self) -> str:
        lines = self._lines(self.items())
        return "ParameterDict(\n" + "\n".join(lines) + "\n)" if lines else "ParameterDict()"
