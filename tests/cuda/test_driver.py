"""The driver's table, its errors, and the reasons why it cannot be used."""

import pytest

import ferrox as fx
from ferrox._core.cuda import driver, families

REASON = "import ferrox as fx; print(fx.cuda.is_available(), fx.cuda.device_count(), fx.cuda.why_not())"


def test_import_of_ferrox_imports_no_bindings(python):
    # The bindings' redirector for old names is there from Python's start.
    new = python("import sys; before = set(sys.modules); import ferrox; print(*(set(sys.modules) - before))").split()
    assert "ferrox" in new and not any(name.startswith("cuda") for name in new)


def test_available():
    assert fx.cuda.is_available() and fx.cuda.why_not() == "" and fx.cuda.is_initialized()
    assert driver.version() >= driver.INTERFACE


def test_without_bindings(python):
    said = python("import sys; sys.modules['cuda'] = None\n" + REASON)
    assert said.startswith("False 0 cuda-bindings is not installed") and "pip install" in said


def test_with_broken_bindings(python):
    said = python("import sys; sys.modules['cuda.bindings.driver'] = None\n" + REASON)
    assert said.startswith("False 0 cuda-bindings cannot be imported: ")


def test_without_driver(python, simulator):
    assert python(REASON, simulated=False).startswith("False 0 There is no NVIDIA driver")


@pytest.mark.parametrize(
    "setting, reason",
    [
        (
            {"FXSIM_DRIVER_VERSION": "11040"},
            "The NVIDIA driver is too old: it serves CUDA 11.4, and Ferrox needs CUDA 12.0",
        ),
        ({"FXSIM_DEVICES": "0"}, "The machine has no CUDA device"),
        (
            {"FXSIM_CAPABILITY": "7"},
            "Device 0 (Ferrox simulator 0) has compute capability 7.0: Ferrox needs 8.0 or higher.",
        ),
    ],
)
def test_why_not(python, simulator, setting, reason):
    said = python(REASON, **setting)
    assert said.startswith("False ") and reason in said
    failing = "import ferrox as fx\ntry: fx.zeros(2, device='cuda')\nexcept RuntimeError as error: print(error)"
    assert reason in python(failing, **setting)


def test_driver_older_than_the_kernels(python, simulator):
    if not families.FAMILIES:
        pytest.skip("this build has no kernels")
    said = python(REASON, FXSIM_DRIVER_VERSION="12040", FERROX_CUDA_KERNELS="")
    assert f"it serves CUDA 12.4, and these kernels were built by nvcc {families.NVCC}" in said
    assert python(REASON, FXSIM_DRIVER_VERSION="12040").startswith("True 2")
    # Images that are compressed for size need a driver of CUDA 12.4, whatever nvcc of CUDA 12 made them.
    old = "from ferrox._core.cuda import families; families.NVCC = '12.8.1'\n" + REASON
    assert "they need CUDA 12.4 or newer" in python(old, FXSIM_DRIVER_VERSION="12030", FERROX_CUDA_KERNELS="")
    assert "too old" not in python(old, FXSIM_DRIVER_VERSION="12040", FERROX_CUDA_KERNELS="")


def test_missing_entry_point_is_named(python, simulator):
    program = (
        "import ctypes, ferrox as fx; d = ctypes.CDLL('libcuda.so.1')\n"
        "d.fxsim_hide(b'cuStreamWaitEvent'); print(fx.cuda.why_not())"
    )
    assert "lacks cuStreamWaitEvent" in python(program)


@pytest.mark.parametrize("status", [226, 700, 709, 719])
def test_errors_that_stay_are_told_as_such(python, simulator, status):
    program = (
        "import ctypes, ferrox as fx; x = fx.ones(3, device='cuda'); d = ctypes.CDLL('libcuda.so.1')\n"
        f"d.fxsim_inject(b'cuLaunchKernel', 1, {status})\n"
        "for _ in range(2):\n"
        "    try: print(x + 1)\n"
        "    except fx.cuda.CudaError as error: print(error)"
    )
    first, second = python(program).split("\n", 1)[0], python(program).rsplit("\n", 1)[1]
    assert "launching the kernel" in first and "lost" in second


def test_error_has_name_and_explanation(simulator):
    simulator.fxsim_inject(b"cuMemGetInfo", 1, 999)
    with pytest.raises(
        fx.cuda.CudaError, match=r"CUDA_ERROR_UNKNOWN .unknown error. reading the free memory"
    ) as caught:
        fx.cuda.mem_get_info()
    assert isinstance(caught.value, RuntimeError)
    assert (caught.value.code, caught.value.name, caught.value.explanation) == (
        999,
        "CUDA_ERROR_UNKNOWN",
        "unknown error",
    )
    assert caught.value.kernel is None and caught.value.launch is None
    fx.cuda.mem_get_info()


def test_launch_error_has_kernel_and_shape(simulator):
    x = fx.ones(1000, device="cuda")
    fx.cuda.synchronize()
    simulator.fxsim_inject(b"cuLaunchKernel", 1, 701)
    with pytest.raises(
        fx.cuda.CudaError, match=r"\[exp\] CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES .* the kernel exp_f32 with grid"
    ) as caught:
        x.exp()
    assert caught.value.kernel == "exp_f32" and caught.value.launch == ((1, 1, 1), (256, 1, 1), 0)
    assert x.exp()[0].item() == pytest.approx(2.718281828)


STICKY = """
import ctypes, ferrox as fx
d = ctypes.CDLL("libcuda.so.1")
x = fx.ones(4, device="cuda")
kept = x.cpu()
d.fxsim_inject(b"cuLaunchKernel", 1, 700)
side = fx.cuda.Stream()
for attempt in (lambda: x + 1, lambda: x * 2, lambda: x.cpu(), fx.cuda.synchronize, side.synchronize):
    try:
        attempt()
    except fx.cuda.CudaError as error:
        print(error.name, "|", error)
del x
print(kept.tolist(), (kept + 1).tolist())
"""


def test_a_lost_context_is_said_by_every_later_call(python, simulator):
    lines = python(STICKY).split("\n")
    assert len(lines) == 6
    assert all(line.startswith("CUDA_ERROR_ILLEGAL_ADDRESS | ") for line in lines[:5])
    assert "the kernel add_f32" in lines[0] and "tensors on the CPU are intact" in lines[0]
    for line in lines[1:5]:
        assert "lost to an earlier error" in line and "the kernel add_f32" in line and "start a new process" in line
    assert "CUDA_LAUNCH_BLOCKING=1" in lines[1]
    assert lines[5] == "[1.0, 1.0, 1.0, 1.0] [2.0, 2.0, 2.0, 2.0]"


FORK = """
import os, ferrox as fx
x = fx.ones(4, device="cuda") if {used} else None
child = os.fork()
if child == 0:
    try:
        print(fx.ones(2, device="cuda").tolist(), fx.cuda.is_available(), flush=True)
    except RuntimeError as error:
        print(error, flush=True)
    if x is not None:
        for attempt in (lambda: x.add_(1), lambda: x.cpu(), fx.cuda.synchronize):
            try:
                attempt()
            except RuntimeError as error:
                print("forked" in str(error), flush=True)
        del x
    print((fx.ones(2) + 1).tolist(), flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(fx.ones(3, device="cuda").tolist())
"""


def test_fork_after_use(python):
    lines = python(FORK.format(used=True)).split("\n")
    assert "CUDA was initialised before this process was forked" in lines[0] and "spawn" in lines[0]
    assert lines[1:] == ["True", "True", "True", "[2.0, 2.0]", "[1.0, 1.0, 1.0]"]


def test_fork_before_use(python):
    assert python(FORK.format(used=False)) == "[1.0, 1.0] True\n[2.0, 2.0]\n[1.0, 1.0, 1.0]"


def test_nothing_is_left_allocated(python, simulator):
    program = (
        "import ctypes, ferrox as fx; x = fx.ones(1000, device='cuda'); y = (x * 2)[3:].exp(); y.cpu(); del x, y\n"
        "fx.cuda.empty_cache(); print(ctypes.CDLL('libcuda.so.1').fxsim_live())"
    )
    assert python(program) == "1"  # the record of faults (fault.pyx)
