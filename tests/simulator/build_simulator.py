"""Build the simulated driver and the twins of the kernels; `python tests/simulator/build_simulator.py` builds those of
the tests, tells its steps, and where they are.

What was built is kept by a hash of the sources, compiler and flags in $FERROX_SIMULATOR_CACHE (default: a folder of the
user's cache), so that a second run builds nothing and several processes may ask at once.
"""

import concurrent.futures
import fcntl
import hashlib
import os
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CXX = os.environ.get("CXX", "g++")
FLAGS = ["-std=c++17", "-fPIC", "-Wall", "-Wno-clobbered", "-U_FORTIFY_SOURCE"]
# Wrapping integers and no fused operations, as the CPU's loops.
TWIN = ["-O1", "-fwrapv", "-fno-strict-aliasing", "-ffp-contract=off", "-fno-math-errno", "-shared", "-x", "c++",
        "-I", str(HERE), "-I", str(ROOT / "kernels/include"), "-I", str(ROOT / "kernels/cuda"),
        "-include", str(HERE / "shim.h")]  # fmt: skip


def cache():
    chosen = os.environ.get("FERROX_SIMULATOR_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ferrox-simulator"


def key(sources):
    total = hashlib.sha256()
    total.update(subprocess.run([CXX, "--version"], capture_output=True, check=True).stdout)
    total.update(repr((FLAGS, TWIN)).encode())
    for path in sources:
        total.update(path.name.encode() + path.read_bytes())
    return total.hexdigest()[:16]


def run(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stderr}")


def once(target, make):
    """`make(path)` fills `target`, by way of a temporary name, unless it is there."""
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.parent / (target.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            fresh = target.parent / f"{target.name}.{os.getpid()}"
            make(fresh)
            fresh.rename(target)
    return target


def driver():
    """Path of the simulated libcuda.so.1."""
    sources = sorted(HERE.glob("*.cpp"))
    folder = cache() / key(sources + sorted(HERE.glob("*.h")))
    link = ["-shared", "-Wl,-soname,libcuda.so.1", "-ldl", "-lpthread"]
    return once(folder / "libcuda.so.1", lambda fresh: run([CXX, *FLAGS, "-O2", *sources, *link, "-o", fresh]))


def headers():
    return [
        HERE / "shim.h",
        HERE / "machine.h",
        *sorted((ROOT / "kernels").rglob("*.h")),
        *sorted((ROOT / "kernels").rglob("*.cuh")),
    ]


def twin(source):
    """Path of the library of one kernel file."""
    folder = cache() / key([source, *headers()])
    return once(folder / (source.stem + ".so"), lambda fresh: run([CXX, *FLAGS, *TWIN, source, "-o", fresh]))


def kernels(extra=(), tell=lambda step: None):
    """A folder for FERROX_CUDA_KERNELS: for every file of kernels/cuda, and the `extra` ones, the name of its twin."""
    sources = [*sorted((ROOT / "kernels/cuda").glob("*.cu")), *map(Path, extra)]
    folder = cache() / ("kernels-" + key([*sources, *headers()]))
    folder.mkdir(parents=True, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for count, (source, library) in enumerate(zip(sources, pool.map(twin, sources), strict=True), 1):
            tell(f"[{count}/{len(sources)}] {source.name}")
            once(
                folder / (source.stem + ".fatbin"),
                lambda fresh, library=library: fresh.write_bytes(b"FXSIM\n" + bytes(library) + b"\0"),
            )
    return folder


if __name__ == "__main__":
    print(driver())
    print(kernels(sorted((HERE / "kernels").glob("*.cu")), tell=lambda step: print(step, flush=True)))
