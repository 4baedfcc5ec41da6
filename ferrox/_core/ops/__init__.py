"""Operators.  Importing this package fills the registry with every row of its modules."""
import importlib

from ferrox._core.bundles import BUNDLES

for _name in BUNDLES["ferrox._core.ops"]:
    importlib.import_module(f"ferrox._core.ops.{_name}")
