"""The CPU backend.  Importing it registers its kernels, those of the best CPU level that this machine runs among them.

FERROX_CPU_LEVEL (v2, v3, v4) overrides the choice, for tests and measurements.
"""
import importlib
import os

from ferrox._core.bundles import BUNDLES, LEVELS
from ferrox._core.cpu.level import levels

supported = [each for each in levels() if each in LEVELS]
if not supported:
    raise ImportError(f"built for the CPU levels {', '.join(LEVELS)}; this machine runs {', '.join(levels())}")
level = os.environ.get("FERROX_CPU_LEVEL") or supported[0]
if level not in supported:
    raise ImportError(f"FERROX_CPU_LEVEL is {level!r}; this build and this machine have {', '.join(supported)}")


def load_blas():
    """The module that offers OpenBLAS to the products; matmul.pyx calls this when one first wants it.

    OpenBLAS starts threads of its own when it is loaded, unless told otherwise; blas.pyx gives it ours instead.
    """
    kept = os.environ.get("OPENBLAS_NUM_THREADS")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    try:
        return importlib.import_module("ferrox._core.cpu.blas")
    finally:
        if kept is None:
            del os.environ["OPENBLAS_NUM_THREADS"]
        else:
            os.environ["OPENBLAS_NUM_THREADS"] = kept


LEVEL = level
for _folder in ("ferrox._core.cpu", f"ferrox._core.cpu.{level}"):
    for _name in BUNDLES[_folder]:
        importlib.import_module(f"{_folder}.{_name}")

from ferrox._core.cpu import elementwise  # noqa: E402

elementwise.register()
