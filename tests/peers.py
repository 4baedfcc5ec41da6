"""Libraries that the tests compare with and that need not be installed: `from peers import torch`.

Where one is missing, its name stands for it: the first test that asks it for anything is skipped with the reason, and
a file that does so while it is imported (a parameter's dtype) is skipped whole.
"""

import importlib
import importlib.util

import pytest


class Missing:
    """Stands for a library that is not installed."""

    def __init__(self, library):
        self._library = library

    def __getattr__(self, name):
        if name.startswith("__") or "pytest" in name:  # asked by pytest of whatever a test file holds
            raise AttributeError(name)
        pytest.skip(f"compares with {self._library}, which is not installed", allow_module_level=True)


def peer(module):
    """The module, or what stands for it where its library is not installed."""
    library = module.partition(".")[0]
    return importlib.import_module(module) if importlib.util.find_spec(library) else Missing(library)


torch = peer("torch")
torch_functional = peer("torch.nn.functional")
sklearn_metrics = peer("sklearn.metrics")
