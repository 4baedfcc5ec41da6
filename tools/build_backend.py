"""The build backend: meson-python, which is given nvcc from PyPI where CUDA kernels are asked for and there is none.

`pip install . -Csetup-args=-Dcuda=enabled` needs no CUDA toolkit so; without that option nothing more is downloaded.
"""

import subprocess
import sys
from pathlib import Path

import mesonpy
from mesonpy import *  # noqa: F403

FIND_NVCC = Path(__file__).resolve().parents[1] / "kernels" / "find_nvcc.py"
OLDEST = "12.8"         # as in ferrox/_core/cuda/meson.build
# Of one release: newer ones write newer PTX, which needs a newer driver.
NVCC = [f"nvidia-{name}==13.0.*" for name in ("cuda-nvcc", "nvvm", "cuda-crt", "cuda-runtime", "cuda-cccl")]


def asks_for_cuda(config_settings):
    """Whether the options for Meson say -Dcuda=enabled; the last of them counts."""
    options = (config_settings or {}).get("setup-args", [])
    said = [each for each in ([options] if isinstance(options, str) else options) if each.startswith("-Dcuda=")]
    return bool(said) and said[-1] == "-Dcuda=enabled"


def has_nvcc():
    """Whether the build would find one: a path is printed then, and nothing otherwise."""
    return bool(subprocess.run([sys.executable, FIND_NVCC, OLDEST], capture_output=True).stdout.strip())


def more(config_settings):
    """What a build with these settings requires beside what meson-python does."""
    return NVCC if asks_for_cuda(config_settings) and not has_nvcc() else []


def get_requires_for_build_wheel(config_settings=None):
    return [*mesonpy.get_requires_for_build_wheel(config_settings), *more(config_settings)]


def get_requires_for_build_editable(config_settings=None):
    return [*mesonpy.get_requires_for_build_editable(config_settings), *more(config_settings)]
