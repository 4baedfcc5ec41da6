"""The stages of `make gpu`, each within its own time: what a machine with a GPU is asked, most telling first.

    gpu.py build|kernels|registry|bench|sanitize --venv .venv --out out/gpu

What a stage prints goes to OUT/STAGE.txt as it comes, and its outcome to OUT/summary.txt: a run that is cut short
leaves what it had.  A stage whose tool is absent is skipped and says why.  Exit status 0: passed or skipped.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECONDS_TO_END = 15  # after the limit, for a summary of what was done


@dataclass
class Stage:
    """One stage: what runs, with which environment, for how long at most, and what it cannot do without."""

    command: list
    seconds: int
    environment: dict = field(default_factory=dict)
    missing: str = ""


def capability():
    """The compute capability of the first GPU, as nvcc writes it: 90; empty without one."""
    if not shutil.which("nvidia-smi"):
        return ""
    ask = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    said = subprocess.run(ask, capture_output=True, text=True)
    return said.stdout.split("\n")[0].strip().replace(".", "") if said.returncode == 0 else ""


def why_no_cuda(python):
    """Why the installed Ferrox has no GPU to run on; empty where it has.  The simulated device of the tests is one."""
    if os.environ.get("FERROX_TEST_GPU") == "simulator":
        return ""
    ask = "import ferrox as fx; print(fx.cuda.why_not())"
    said = subprocess.run([python, "-P", "-c", ask], capture_output=True, text=True)
    return said.stdout.strip() if said.returncode == 0 else said.stderr.strip().split("\n")[-1]


def stages(python, venv, out):
    """The stages by name, in their order."""
    pytest = [python, "-P", "-m", "pytest", "-c", ROOT / "pyproject.toml", "--rootdir", ROOT, "--import-mode=importlib",
              "-p", "no:cacheprovider", "-v", "--tb=short"]
    tests = ROOT / "tests/cuda"
    aside = [f"--ignore={tests / name}" for name in ("test_registry.py", "test_benchmarks.py")]
    options = f"-Dlevels=native -Dcuda=enabled -Darchs={capability() or 80} -Dtesting=true"
    uncached = {"FERROX_NO_CUDA_MEMORY_CACHING": "1"}  # so that the sanitizer sees every block
    sample = [tests / f"test_{name}.py" for name in ("dense", "elementwise", "softmax", "reduce", "matmul", "optim")]
    checked = ["compute-sanitizer", "--error-exitcode", "9", "--target-processes", "all"]
    benchmark = [python, "-P", ROOT / "benchmarks/gpu.py", "--rounds", "3", "--seconds", "0.02", "--results", out]
    return {
        "build": Stage(["make", "-C", ROOT, f"VENV={venv}", f"OPTIONS={options}", "gpu-installed"], 150),
        "kernels": Stage([*pytest, "-n", "4", *aside, tests], 100),
        "registry": Stage([*pytest, "-n", "8", tests / "test_registry.py"], 90),
        "bench": Stage(benchmark, 80),
        "sanitize": Stage(
            [*checked, *pytest, "-x", *sample], 60, uncached,
            "" if shutil.which("compute-sanitizer") else "compute-sanitizer is not on PATH"),
    }


def run(stage, log):
    """Run a stage, its output into `log` and onto the terminal as it comes; returns what came of it."""
    start = time.monotonic()
    process = subprocess.Popen(
        [str(each) for each in stage.command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", start_new_session=True, env={**os.environ, "PYTHONUNBUFFERED": "1", **stage.environment})

    def end(number, frame):
        nonlocal stopped
        # The first time as from the keyboard, upon which pytest tells what has failed so far.
        os.killpg(process.pid, signal.SIGKILL if stopped else signal.SIGINT)
        stopped = True
        signal.alarm(SECONDS_TO_END)

    stopped = False
    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(stage.seconds)
    try:
        for line in process.stdout:
            log.write(line)
            log.flush()
            sys.stdout.write(line)
        status = process.wait()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    spent = time.monotonic() - start
    if stopped:
        return f"stopped at its limit of {stage.seconds} s"
    return f"passed in {spent:.0f} s" if status == 0 else f"failed after {spent:.0f} s, exit status {status}"


def outcome(name, stage, out):
    """Run or skip a stage; what came of it is appended to the summary, and returned."""
    out.mkdir(parents=True, exist_ok=True)
    with open(out / f"{name}.txt", "w") as log:
        result = f"skipped: {stage.missing}" if stage.missing else run(stage, log)
    with open(out / "summary.txt", "a") as summary:
        summary.write(f"{name:<10} {result}\n")
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("stage")
    parser.add_argument("--venv", type=Path, default=Path(".venv"))
    parser.add_argument("--out", type=Path, default=Path("out/gpu"))
    chosen = parser.parse_args()
    venv, out = chosen.venv.absolute(), chosen.out.absolute()
    python = venv / "bin/python"
    stage = stages(python, venv, out)[chosen.stage]
    if chosen.stage != "build" and not stage.missing:
        stage.missing = why_no_cuda(python) if python.exists() else "nothing is built: make gpu-build"
    result = outcome(chosen.stage, stage, out)
    print(f"gpu-{chosen.stage}: {result}", flush=True)
    return 0 if result.startswith(("passed", "skipped")) else 1


if __name__ == "__main__":
    sys.exit(main())
