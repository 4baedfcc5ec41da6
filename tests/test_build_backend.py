"""What a build requires: nvcc from PyPI where CUDA kernels are asked for without one, nothing more otherwise."""

import sys
from pathlib import Path

import mesonpy
import pytest

TOOLS = Path(__file__).resolve().parents[1] / "tools"


@pytest.fixture
def tools(monkeypatch):
    """The folder as pip has it on its path while it builds (`backend-path` in pyproject.toml)."""
    monkeypatch.syspath_prepend(TOOLS)
    yield
    for name in ("build_backend", "nvcc_wheels"):
        sys.modules.pop(name, None)


@pytest.fixture
def backend(tools):
    import build_backend

    return build_backend


@pytest.fixture
def nvcc_wheels(tools):
    import nvcc_wheels

    return nvcc_wheels


@pytest.mark.parametrize("settings, wanted", [
    (None, False), ({}, False), ({"setup-args": "-Dlevels=v3"}, False), ({"setup-args": "-Dcuda=disabled"}, False),
    ({"setup-args": "-Dcuda=enabled"}, True), ({"setup-args": ["-Darchs=80", "-Dcuda=enabled"]}, True),
    ({"setup-args": ["-Dcuda=enabled", "-Dcuda=auto"]}, False),
])
@pytest.mark.parametrize("hook", ["get_requires_for_build_wheel", "get_requires_for_build_editable"])
def test_nvcc_is_required_when_asked_for_and_missing(backend, nvcc_wheels, monkeypatch, hook, settings, wanted):
    monkeypatch.setattr(nvcc_wheels, "present", lambda: False)
    required = getattr(backend, hook)(settings)
    assert [each.partition("==")[0] for each in required if each.startswith("nvidia-")] == (
        ["nvidia-cuda-nvcc", "nvidia-nvvm", "nvidia-cuda-crt", "nvidia-cuda-runtime", "nvidia-cuda-cccl"]
        if wanted else [])
    monkeypatch.setattr(nvcc_wheels, "present", lambda: True)
    assert not [each for each in getattr(backend, hook)(settings) if each.startswith("nvidia-")]


def test_nvcc_on_the_path_is_found(nvcc_wheels, monkeypatch, tmp_path):
    nvcc = tmp_path / "nvcc"
    nvcc.write_text('#!/bin/sh\necho "Cuda compilation tools, release 12.9, V12.9.41"\n')
    nvcc.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert nvcc_wheels.present()


def test_the_rest_is_meson_python(backend):
    assert backend.build_wheel is mesonpy.build_wheel and backend.build_sdist is mesonpy.build_sdist
    assert backend.build_editable is mesonpy.build_editable


def test_requirements_of_a_build_without_isolation(tools, nvcc_wheels, monkeypatch):
    import requirements

    monkeypatch.setattr(nvcc_wheels, "present", lambda: False)
    plain = requirements.requirements(["-Dlevels=v3"])
    assert any(each.startswith("meson-python") for each in plain) and not any("nvidia" in each for each in plain)
    asked = requirements.requirements(["-Dcuda=enabled"])
    assert asked[: len(plain)] == plain and sum(each.startswith("nvidia-") for each in asked) == 5
