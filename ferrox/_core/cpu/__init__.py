"""The CPU backend: importing it registers the kernels of the best level that this machine runs."""
import importlib
import os

from ferrox._core.cpu.level import levels

LEVEL = os.environ.get("FERROX_CPU_LEVEL") or levels()[0]
if LEVEL not in levels():
    raise ValueError(f"FERROX_CPU_LEVEL is {LEVEL!r}; this machine runs {', '.join(levels())}")

# OpenBLAS starts its own threads when it is loaded, unless told otherwise; blas.pyx gives it ours instead.
_kept = os.environ.get("OPENBLAS_NUM_THREADS")
os.environ["OPENBLAS_NUM_THREADS"] = "1"
try:
    importlib.import_module("ferrox._core.cpu.blas")
finally:
    if _kept is None:
        del os.environ["OPENBLAS_NUM_THREADS"]
    else:
        os.environ["OPENBLAS_NUM_THREADS"] = _kept

for _name in ("gemm", "gemm_types"):
    importlib.import_module(f"ferrox._core.cpu.{LEVEL}.{_name}")
