"""Operators.  Importing this package fills the registry with every row of its modules."""
import importlib

from ferrox._core.ops.modules import MODULES

for _name in MODULES:
    importlib.import_module(f"ferrox._core.ops.{_name}")
