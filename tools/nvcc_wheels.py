"""The packages that bring nvcc from PyPI, where CUDA kernels are asked for and no toolkit is found."""

import subprocess
import sys
from pathlib import Path

FIND_NVCC = Path(__file__).resolve().parents[1] / "kernels" / "find_nvcc.py"
OLDEST = "12.8"         # as in ferrox/_core/cuda/meson.build
# Of one release: newer ones write newer PTX, which needs a newer driver.
NVCC = [f"nvidia-{name}==13.0.*" for name in ("cuda-nvcc", "nvvm", "cuda-crt", "cuda-runtime", "cuda-cccl")]


def asked_for(options):
    """Whether the options for Meson say -Dcuda=enabled; the last of them counts."""
    said = [each for each in options if each.startswith("-Dcuda=")]
    return bool(said) and said[-1] == "-Dcuda=enabled"


def present():
    """Whether the build would find one: a path is printed then, and nothing otherwise."""
    return bool(subprocess.run([sys.executable, FIND_NVCC, OLDEST], capture_output=True).stdout.strip())


def required(options):
    """What a build with these options for Meson needs beside what pyproject.toml names."""
    return NVCC if asked_for(options) and not present() else []
