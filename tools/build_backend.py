"""The build backend: meson-python, which is given nvcc from PyPI where CUDA kernels are asked for and there is none.

`pip install . -Csetup-args=-Dcuda=enabled` needs no CUDA toolkit so; without that option nothing more is downloaded.
"""

import mesonpy
import nvcc_wheels
from mesonpy import *  # noqa: F403


def more(config_settings):
    """What a build with these settings requires beside what meson-python does."""
    options = (config_settings or {}).get("setup-args", [])
    return nvcc_wheels.required([options] if isinstance(options, str) else options)


def get_requires_for_build_wheel(config_settings=None):
    return [*mesonpy.get_requires_for_build_wheel(config_settings), *more(config_settings)]


def get_requires_for_build_editable(config_settings=None):
    return [*mesonpy.get_requires_for_build_editable(config_settings), *more(config_settings)]
