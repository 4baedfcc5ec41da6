"""The stages of `make gpu`: what they print is kept, their time is limited, and what is missing is said."""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def gpu(monkeypatch):
    spec = importlib.util.spec_from_file_location("gpu_stages", ROOT / "tools/gpu.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_stages", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def python(program, seconds=20, **environment):
    return [sys.executable, "-c", program], seconds, environment


def test_what_a_stage_prints_is_kept(gpu, tmp_path, capsys):
    stage = gpu.Stage(*python("import os; print('said', os.environ['WHAT'])", WHAT="this"))
    assert gpu.outcome("one", stage, tmp_path / "out").startswith("passed in")
    assert (tmp_path / "out/one.txt").read_text() == "said this\n" == capsys.readouterr().out
    assert gpu.outcome("two", gpu.Stage(*python("raise SystemExit(3)")), tmp_path / "out").endswith("exit status 3")
    summary = (tmp_path / "out/summary.txt").read_text().splitlines()
    assert [each.split()[:2] for each in summary] == [["one", "passed"], ["two", "failed"]]


@pytest.mark.parametrize("deaf", [False, True])
def test_a_stage_ends_at_its_limit_and_leaves_what_it_had(gpu, tmp_path, monkeypatch, deaf):
    monkeypatch.setattr(gpu, "SECONDS_TO_END", 1)
    program = f"""
import signal, time
if {deaf}: signal.signal(signal.SIGINT, signal.SIG_IGN)
print('begun')
try: time.sleep(60)
except KeyboardInterrupt: print('what has failed so far')
"""
    start = time.monotonic()
    assert gpu.outcome("slow", gpu.Stage(*python(program, seconds=2)), tmp_path) == "stopped at its limit of 2 s"
    assert time.monotonic() - start < 20
    assert (tmp_path / "slow.txt").read_text() == "begun\n" + ("" if deaf else "what has failed so far\n")


def test_a_stage_without_its_tool_is_skipped(gpu, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    stage = gpu.stages(sys.executable, tmp_path, tmp_path)["sanitize"]
    assert gpu.outcome("sanitize", stage, tmp_path) == "skipped: compute-sanitizer is not on PATH"
    assert gpu.capability() == ""


def test_without_a_gpu_the_reason_is_given(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "FERROX_TEST_GPU"}
    for venv, reason in ((tmp_path, "nothing is built"), (Path(sys.prefix), "")):
        done = subprocess.run(
            [sys.executable, ROOT / "tools/gpu.py", "kernels", "--venv", venv, "--out", tmp_path / "out"],
            capture_output=True, text=True, env={**environment, "CUDA_VISIBLE_DEVICES": ""}, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.startswith(f"gpu-kernels: skipped: {reason}")


def test_together_they_stay_under_eight_minutes(gpu, tmp_path):
    named = gpu.stages(sys.executable, tmp_path, tmp_path)
    assert list(named) == ["build", "kernels", "registry", "bench", "sanitize"]
    assert sum(stage.seconds for stage in named.values()) <= 480
    for stage in named.values():
        for each in stage.command:
            assert not isinstance(each, Path) or ROOT not in each.parents or each.exists(), each
