"""The CPU backend: importing it registers the kernels of the best level that this machine runs."""
import importlib
import os

from ferrox._core.cpu.level import levels

LEVEL = os.environ.get("FERROX_CPU_LEVEL") or levels()[0]
if LEVEL not in levels():
    raise ValueError(f"FERROX_CPU_LEVEL is {LEVEL!r}; this machine runs {', '.join(levels())}")

LEVELED = ("loops_cast", "loops_unary_real", "loops_unary_integer", "loops_guarded_real", "loops_binary_real",
           "loops_binary_integer", "loops_ternary_real", "loops_ternary_integer")
for _name in LEVELED:
    importlib.import_module(f"ferrox._core.cpu.{LEVEL}.{_name}")
