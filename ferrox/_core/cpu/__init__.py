"""The CPU backend: importing it registers the kernels of the best level that this machine runs."""
import importlib
import os

from ferrox._core.cpu.level import levels

LEVEL = os.environ.get("FERROX_CPU_LEVEL") or levels()[0]
if LEVEL not in levels():
    raise ValueError(f"FERROX_CPU_LEVEL is {LEVEL!r}; this machine runs {', '.join(levels())}")

for _name in ("gemm", "gemm_types"):
    importlib.import_module(f"ferrox._core.cpu.{LEVEL}.{_name}")
