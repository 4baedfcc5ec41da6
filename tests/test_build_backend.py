"""What a build requires: nvcc from PyPI where CUDA kernels are asked for without one, nothing more otherwise."""

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("mesonpy")
PATH = Path(__file__).resolve().parents[1] / "tools" / "build_backend.py"


@pytest.fixture
def backend():
    spec = importlib.util.spec_from_file_location("build_backend", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("settings, wanted", [
    (None, False), ({}, False), ({"setup-args": "-Dlevels=v3"}, False), ({"setup-args": "-Dcuda=disabled"}, False),
    ({"setup-args": "-Dcuda=enabled"}, True), ({"setup-args": ["-Darchs=80", "-Dcuda=enabled"]}, True),
    ({"setup-args": ["-Dcuda=enabled", "-Dcuda=auto"]}, False),
])
@pytest.mark.parametrize("hook", ["get_requires_for_build_wheel", "get_requires_for_build_editable"])
def test_nvcc_is_required_when_asked_for_and_missing(backend, monkeypatch, hook, settings, wanted):
    monkeypatch.setattr(backend, "has_nvcc", lambda: False)
    required = getattr(backend, hook)(settings)
    assert [each.partition("==")[0] for each in required if each.startswith("nvidia-")] == (
        ["nvidia-cuda-nvcc", "nvidia-nvvm", "nvidia-cuda-crt", "nvidia-cuda-runtime", "nvidia-cuda-cccl"]
        if wanted else [])
    monkeypatch.setattr(backend, "has_nvcc", lambda: True)
    assert not [each for each in getattr(backend, hook)(settings) if each.startswith("nvidia-")]


def test_nvcc_on_the_path_is_found(backend, monkeypatch, tmp_path):
    nvcc = tmp_path / "nvcc"
    nvcc.write_text('#!/bin/sh\necho "Cuda compilation tools, release 12.9, V12.9.41"\n')
    nvcc.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert backend.has_nvcc()


def test_the_rest_is_meson_python(backend):
    import mesonpy

    assert backend.build_wheel is mesonpy.build_wheel and backend.build_sdist is mesonpy.build_sdist
    assert backend.build_editable is mesonpy.build_editable
