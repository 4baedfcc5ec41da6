"""What the tests of the CUDA wing run on: the GPU where there is one, the simulated driver otherwise.

The simulated driver takes libcuda's place in this process, and has to do so before anything asks for a GPU; that is why
it is loaded when this file is.  FERROX_TEST_GPU=simulator chooses it in any case.
"""

import contextlib
import ctypes
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
KERNELS = sorted((HERE.parent / "simulator/kernels").glob("*.cu"))


def has_device():
    """Asked in a process of its own: a driver that fails to initialise stays so."""
    ask = (
        "import ctypes; driver = ctypes.CDLL('libcuda.so.1'); n = ctypes.c_int(); driver.cuInit(0)\n"
        "driver.cuDeviceGetCount(ctypes.byref(n)); print(n.value)"
    )
    said = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
    return said.returncode == 0 and int(said.stdout) > 0


def missing():
    if importlib.util.find_spec("cuda") is None or importlib.util.find_spec("cuda.bindings") is None:
        return "cuda-bindings is not installed"
    return ""


SIMULATED = not missing() and (os.environ.get("FERROX_TEST_GPU") == "simulator" or not has_device())
SIMULATOR = None
if SIMULATED:
    import build_simulator

    SIMULATOR = ctypes.CDLL(str(build_simulator.driver()), mode=ctypes.RTLD_GLOBAL)
    SIMULATOR.fxsim_last_failure.restype = ctypes.c_char_p
    SIMULATOR.fxsim_pace.argtypes = [ctypes.c_double] * 3
    SIMULATOR.fxsim_live.restype = ctypes.c_uint64
    os.environ["FERROX_CUBLASLT"] = "0"  # the real one would not find a GPU here
    os.environ["FERROX_CUDA_KERNELS"] = str(build_simulator.kernels(KERNELS))


@pytest.fixture(autouse=True)
def _needs_cuda():
    if missing():
        pytest.skip(missing())
    import ferrox as fx

    if fx.cuda.why_not():
        pytest.skip(fx.cuda.why_not())
    from ferrox._core.cuda import driver

    if driver.lost():
        pytest.skip("a test before has lost the context")
    yield
    with contextlib.suppress(RuntimeError):
        for device in range(fx.cuda.device_count()):
            fx.cuda.synchronize(device)
    assert not driver.lost(), SIMULATED and SIMULATOR.fxsim_last_failure().decode()


@pytest.fixture
def cached():
    """For what the caching allocator does, which compute-sanitizer runs without to see every block."""
    if os.environ.get("FERROX_NO_CUDA_MEMORY_CACHING") == "1":
        pytest.skip("needs the caching allocator")


@pytest.fixture
def simulator():
    """The simulated driver, to steer it; nothing injected is left behind."""
    if not SIMULATED:
        pytest.skip("runs on the simulated driver only")
    yield SIMULATOR
    SIMULATOR.fxsim_clear()
    SIMULATOR.fxsim_pace(0, 0, 0)
    for device in range(2):
        SIMULATOR.fxsim_limit(device, ctypes.c_uint64(1 << 30))


@pytest.fixture
def python(tmp_path):
    """Run a program in a process of its own, with the same driver; returns what it printed, less the last newline."""

    def run(program, simulated=SIMULATED, fails=False, **environment):
        env = {**os.environ, **environment}
        if simulated:
            folder = build_simulator.driver().parent
            env["LD_LIBRARY_PATH"] = f"{folder}:{env.get('LD_LIBRARY_PATH', '')}"
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
        )
        assert (done.returncode != 0) == fails, done.stderr
        return done.stdout.rstrip("\n")

    return run
