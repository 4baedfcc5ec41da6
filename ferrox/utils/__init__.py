"""Helpers around training: data loading, recomputation and hook handles."""


def __getattr__(name):
    if name in ("checkpoint", "data", "hooks"):
        import importlib

        return importlib.import_module(f"ferrox.utils.{name}")
    raise AttributeError(f"module 'ferrox.utils' has no attribute {name!r}")
