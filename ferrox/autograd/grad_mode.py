"""Switching the recording of gradients: context managers that are decorators too."""

import functools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from ferrox._core.graph.node import _set_grad_enabled, _set_persist, is_grad_enabled

__all__ = ["enable_grad", "inference_mode", "is_grad_enabled", "is_inference_mode_enabled", "no_grad", "saved_values",
           "set_grad_enabled"]

_GENERATOR, _COROUTINE = 0x20, 0x80     # bits of a code object's co_flags

_state = threading.local()
_F = TypeVar("_F", bound=Callable[..., Any])


class _Mode:
    """A context manager that decorates functions, generators and coroutines: the mode holds while their code runs."""

    __slots__ = ("_before",)

    def _clone(self):
        return type(self)()

    def __enter__(self) -> None:
        self._before = _set_grad_enabled(self._on)
        return None

    def __exit__(self, *exception: object) -> None:
        _set_grad_enabled(self._before)

    def __call__(self, function: _F) -> _F:
        if isinstance(function, type):
            raise TypeError(f"{type(self).__name__} decorates functions; got the class {function.__name__}")
        flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
        if flags & _GENERATOR:
            return _wrap_generator(self._clone, function)
        if flags & _COROUTINE:
            return _wrap_coroutine(self._clone, function)

        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            with self._clone():
                return function(*args, **kwargs)

        return wrapped


def _drive(clone, generator):
    """Run a generator under a mode, and its consumer outside of it."""
    send, value = generator.send, None
    try:
        while True:
            try:
                with clone():
                    produced = send(value)
            except StopIteration as stop:
                return stop.value
            try:
                value = yield produced
                send = generator.send
            except GeneratorExit:
                with clone():
                    generator.close()
                raise
            except BaseException as error:
                send, value = generator.throw, error
    finally:
        generator.close()


def _wrap_generator(clone, function):
    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        return (yield from _drive(clone, function(*args, **kwargs)))

    return wrapped


class _Awaitable:
    """A coroutine that runs under a mode between its suspensions."""

    def __init__(self, clone, coroutine):
        self._clone, self._coroutine = clone, coroutine

    def __await__(self):
        return _drive(self._clone, self._coroutine)


def _wrap_coroutine(clone, function):
    @functools.wraps(function)
    async def wrapped(*args, **kwargs):
        return await _Awaitable(clone, function(*args, **kwargs))

    return wrapped


class _PlainMode(_Mode):
    """A mode without arguments: may also decorate without parentheses."""

    __slots__ = ()

    if TYPE_CHECKING:

        @overload
        def __new__(cls, function: None = None) -> Self: ...
        @overload
        def __new__(cls, function: _F) -> _F: ...  # type: ignore[misc]

    else:

        def __new__(cls, function=None):
            mode = object.__new__(cls)
            return mode if function is None else mode(function)


class no_grad(_PlainMode):
    """Computations inside are not recorded for gradients; a context manager and a decorator.

    Examples
    --------
    >>> import ferrox as fx
    >>> x = fx.ones(2, requires_grad=True)
    >>> with fx.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """

    __slots__ = ()
    _on = False


class enable_grad(_PlainMode):
    """Computations inside are recorded, also within `no_grad`; a context manager and a decorator.

    Examples
    --------
    >>> import ferrox as fx
    >>> x = fx.ones(2, requires_grad=True)
    >>> with fx.no_grad(), fx.enable_grad():
    ...     y = x * 2
    >>> y.requires_grad
    True
    """

    __slots__ = ()
    _on = True


class set_grad_enabled(_Mode):
    """Switch recording at once; as a context manager or decorator, for its block only.

    Parameters
    ----------
    mode : bool
        Whether to record.

    Examples
    --------
    >>> import ferrox as fx
    >>> with fx.set_grad_enabled(False):
    ...     fx.is_grad_enabled()
    False
    """

    __slots__ = ("mode",)

    def __init__(self, mode: bool) -> None:
        self.mode = bool(mode)
        self._before = _set_grad_enabled(self.mode)

    def _clone(self):
        return set_grad_enabled(self.mode)

    def __enter__(self):
        _set_grad_enabled(self.mode)

    def __call__(self, function: _F) -> _F:
        _set_grad_enabled(self._before)
        return super().__call__(function)

    def __repr__(self):
        return f"set_grad_enabled(mode={self.mode})"


class inference_mode(_Mode):
    """`no_grad` for code that will never need gradients; `inference_mode(False)` records.

    Parameters
    ----------
    mode : bool
        Whether inference mode is on.

    Examples
    --------
    >>> import ferrox as fx
    >>> @fx.inference_mode()
    ... def predict(x):
    ...     return x * 2
    >>> predict(fx.ones(2, requires_grad=True)).requires_grad
    False
    """

    __slots__ = ("_inference", "mode")

    if TYPE_CHECKING:
        mode: bool

        @overload
        def __new__(cls, mode: bool = ...) -> Self: ...
        @overload
        def __new__(cls, mode: _F) -> _F: ...  # type: ignore[misc]

    else:

        def __new__(cls, mode=True):
            made = object.__new__(cls)
            made.mode = bool(mode)
            return _Mode.__call__(made, mode) if callable(mode) else made

    @property
    def _on(self):
        return not self.mode

    def _clone(self):
        return inference_mode(self.mode)

    def __enter__(self):
        super().__enter__()
        self._inference = getattr(_state, "inference", False)
        _state.inference = self.mode

    def __exit__(self, *exception):
        super().__exit__(*exception)
        _state.inference = self._inference


def is_inference_mode_enabled():
    """Whether `inference_mode` is on in this thread."""
    return getattr(_state, "inference", False)


class saved_values:
    """Choose what happens to the values saved for gradients by nodes made inside.

    Parameters
    ----------
    policy : {"keep", "persist"}
        "keep" frees them as backward goes (unless `retain_graph`); "persist" never frees them while the graph lives, so
        that any number of backwards may follow.  The third policy, recomputing them, is `ferrox.utils.checkpoint`.

    Examples
    --------
    >>> import ferrox as fx
    >>> x = fx.ones(2, requires_grad=True)
    >>> with fx.autograd.saved_values("persist"):
    ...     y = (x * x).sum()
    >>> y.backward()
    >>> y.backward()
    >>> x.grad
    tensor([4., 4.])
    """

    __slots__ = ("_before", "_policy")

    def __init__(self, policy):
        if policy not in ("keep", "persist"):
            raise ValueError(f'saved_values takes "keep" or "persist", got {policy!r}')
        self._policy = policy

    def __enter__(self) -> None:
        self._before = _set_persist(self._policy == "persist")

    def __exit__(self, *exception):
        _set_persist(self._before)
