"""The stages of `make sanitize`: builds that watch memory, undefined behaviour and threads, and the tests on them.

    sanitize.py address-build|address|thread-build|thread --venv .venv --out out/sanitize [--tests PATH ...]

What a stage prints goes to OUT/STAGE.txt as it comes, its outcome to OUT/summary.txt.  The interpreter itself is not
instrumented: the run-time library is loaded before it, leaks are not looked for (the interpreter keeps what it likes
until the end), and Python's allocator is malloc, so that every object is a block of its own.  PyTorch is not in these
environments; tests/cuda, which compile a device of their own, are left out.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import gpu

ROOT = Path(__file__).resolve().parents[1]
# The tests that compute in threads of ours or of the caller's, and two that train in threads.
THREADED = ["core/test_threads.py", "core/test_cpu_rows.py", "core/test_cpu_scan.py", "core/test_cpu_sort.py",
            "core/test_cpu_reduce.py", "core/test_cpu_movement.py", "core/test_cpu_index.py",
            "autograd/test_engine.py", "optim/test_threads.py", "utils/test_loader.py"]
LEFT_OUT = ["cuda", "test_typing.py", "test_stubs.py", "test_surface.py", "test_build_tools.py", "test_gpu_stages.py"]
# -g1: lines for the reports.  No kept blocks of Cython's: each object is malloc's.  Meson's -Db_lundef would refuse
# the functions of the sanitizers; vptr needs the whole of the C++ library.
WATCHED = "-Dlevels=native -Dtesting=true -Dcuda=disabled -Doptimization=1 -Ddebug=true -Db_lundef=false"
FLAGS = ("-Dc_args=-g1,-fno-omit-frame-pointer,-DCYTHON_USE_FREELISTS=0 "
         "-Dcpp_args=-g1,-fno-omit-frame-pointer,-fno-sanitize=vptr")


def library(name):
    """The path of a run-time library of the compiler."""
    said = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return said.stdout.strip()


def environment(sanitizer):
    """What the interpreter needs around it for a sanitizer's build."""
    both = "halt_on_error=1:abort_on_error=0:print_stacktrace=1"
    if sanitizer == "thread":
        options = f"{both}:second_deadlock_stack=1:suppressions={ROOT / 'tools/thread_sanitizer.txt'}:exitcode=66"
        return {"LD_PRELOAD": library("libtsan.so"), "TSAN_OPTIONS": options, "PYTHONMALLOC": "malloc"}
    return {"LD_PRELOAD": f"{library('libasan.so')} {library('libubsan.so')}",
            "ASAN_OPTIONS": f"{both}:detect_leaks=0:allocator_may_return_null=1:use_sigaltstack=0",
            "UBSAN_OPTIONS": both, "PYTHONMALLOC": "malloc"}


def stages(venv, chosen):
    """The stages by name, in their order."""
    made = {}
    for sanitizer, option in (("address", "address,undefined"), ("thread", "thread")):
        own = Path(f"{venv}-{sanitizer}")
        options = f"{WATCHED} -Db_sanitize={option} {FLAGS}"
        tests = chosen or ([ROOT / "tests" / each for each in THREADED] if sanitizer == "thread" else [ROOT / "tests"])
        pytest = [own / "bin/python", "-P", "-m", "pytest", "-c", ROOT / "pyproject.toml", "--rootdir", ROOT,
                  "--import-mode=importlib", "-p", "no:cacheprovider", "--tb=short",
                  *[f"--ignore={ROOT / 'tests' / each}" for each in LEFT_OUT]]
        jobs = [] if sanitizer == "thread" else ["-n", "2"]
        made[f"{sanitizer}-build"] = gpu.Stage(
            ["make", "-C", ROOT, f"VENV={own}", f"OPTIONS={options}", "installed-test"], 3600)
        made[sanitizer] = gpu.Stage([*pytest, *jobs, *tests], 5400, environment(sanitizer),
                                    "" if (own / "bin/.installed-test").exists() else
                                    f"nothing is built: make sanitize-{sanitizer}-build")
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("stage")
    parser.add_argument("--venv", type=Path, default=Path(".venv"))
    parser.add_argument("--out", type=Path, default=Path("out/sanitize"))
    parser.add_argument("--tests", type=Path, nargs="*", default=[])
    told = parser.parse_args()
    tests = [each.absolute() for each in told.tests]
    stage = stages(told.venv.absolute(), tests)[told.stage]
    result = gpu.outcome(told.stage, stage, told.out.absolute())
    print(f"sanitize-{told.stage}: {result}", flush=True)
    return 0 if result.startswith("passed") else 1


if __name__ == "__main__":
    sys.exit(main())
