"""Handles that take a registered hook away again."""

from __future__ import annotations

import itertools
import weakref
from typing import Any, Self

__all__ = ["RemovableHandle"]


class _HookDict(dict):
    """A dict that a handle can refer to weakly, so that a kept handle does not keep its module alive."""

    __slots__ = ("__weakref__",)

    def __reduce__(self):
        return _HookDict, (dict(self),)


class RemovableHandle:
    """What registering a hook returns; `remove()` or leaving a ``with`` block takes the hook away.

    Parameters
    ----------
    hooks : _HookDict
        The hooks among which this one is kept, by id.

    Examples
    --------
    >>> import ferrox as fx
    >>> layer = fx.nn.Identity()
    >>> with layer.register_forward_hook(lambda module, args, output: output + 1):
    ...     hooked = layer(fx.zeros(2))
    >>> hooked.tolist(), layer(fx.zeros(2)).tolist()
    ([1.0, 1.0], [0.0, 0.0])
    """

    _ids = itertools.count()

    def __init__(self, hooks: Any) -> None:
        self._hooks = weakref.ref(hooks)
        self.id = next(RemovableHandle._ids)

    def remove(self) -> None:
        """Take the hook away; a second call does nothing."""
        hooks = self._hooks()
        if hooks is not None:
            hooks.pop(self.id, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.remove()
