"""Helpers around training: data loading, recomputation and hook handles."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ferrox.utils import checkpoint as checkpoint
    from ferrox.utils import data as data
    from ferrox.utils import hooks as hooks
else:

    def __getattr__(name):
        if name in ("checkpoint", "data", "hooks"):
            import importlib

            return importlib.import_module(f"ferrox.utils.{name}")
        raise AttributeError(f"module 'ferrox.utils' has no attribute {name!r}")
