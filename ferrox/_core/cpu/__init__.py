"""The CPU backend.  Importing it registers the loops of the best CPU level that this machine runs.

FERROX_CPU_LEVEL (v2, v3, v4) overrides the choice, for tests and measurements.
"""
import importlib
import os

from ferrox._core.cpu import table

LOOPS = ("reduce_loops", "loops_cast", "loops_unary_real", "loops_unary_integer", "loops_guarded_real", "loops_binary_real",
         "loops_binary_integer", "loops_ternary_real", "loops_ternary_integer")

supported = table.supported_levels()
level = os.environ.get("FERROX_CPU_LEVEL") or supported[-1]
if level not in supported:
    raise ImportError(f"FERROX_CPU_LEVEL is {level!r}; this machine runs {', '.join(supported)}")
for _name in LOOPS:
    importlib.import_module(f"ferrox._core.cpu.{level}.{_name}")
