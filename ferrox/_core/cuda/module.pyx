"""Kernels: loaded by the family on first use, launched without the GIL.

A family is one file of kernels/cuda/, compiled into a fatbin beside this module: machine code for several
architectures, and PTX, which the driver compiles for an architecture that came later.  FERROX_CUDA_KERNELS names
another folder to take the fatbins from.
"""
import os
import threading

from libc.stdlib cimport calloc
from libc.string cimport strdup

from ferrox._core import errors
from ferrox._core.abi cimport FX_ERROR_DEVICE, FX_OK
from ferrox._core.cuda import families as built
from ferrox._core.cuda.abi cimport CUfunction, CUmodule, CUresult, CUstream
from ferrox._core.cuda.capturing cimport relax, restore
from ferrox._core.cuda.context cimport bind, device_number, devices
from ferrox._core.cuda.driver cimport check, cu, error, noted
from ferrox._core.cuda.context import why_not as device_missing
from ferrox._core.cuda.driver import cuda_name, version
from ferrox._core.cuda.fault cimport fault_waits, take_fault
from ferrox._core.cuda.stream cimport Stream, current_stream

cdef extern from *:
    """
    typedef struct {
        int status;
        const char *doing;
        void *kernel;
        unsigned int grid[3], block[3], shared;
        int device;
    } fx_launch_failure;
    static __thread fx_launch_failure fx_failure;
    """
    ctypedef struct fx_launch_failure:
        int status
        const char *doing   # of a failed call that was no launch
        void *kernel
        unsigned int grid[3]
        unsigned int block[3]
        unsigned int shared
        int device          # of a fault
    fx_launch_failure fx_failure

cdef enum:
    UNPACKING = 12040       # the first driver that unpacks images compressed for size
    FREE_SHARED = 48 << 10  # what a block may have without asking
    MAX_DYNAMIC_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    LOADING = -4            # a status of ours: the family could not be loaded; the exception is in `_failed`
    FAULT = -5              # and another: kernels have reported a fault of `device`

cdef dict _kernels = {}     # (family, name) -> address of the record
cdef list _families = []    # names, by number
cdef dict _modules = {}     # (family number, device) -> CUmodule
_lock = threading.RLock()
_failed = threading.local()


def folder():
    """Where the fatbins are."""
    return os.environ.get("FERROX_CUDA_KERNELS") or os.path.dirname(__file__)


def why_not():
    """Why kernels cannot be run, in one sentence; an empty string when they can."""
    elsewhere = os.environ.get("FERROX_CUDA_KERNELS")
    if not built.FAMILIES and not elsewhere:
        return ("This build of Ferrox has no CUDA kernels: nvcc was not found when it was built (`pip install "
                "nvidia-cuda-nvcc nvidia-nvvm nvidia-cuda-crt nvidia-cuda-runtime nvidia-cuda-cccl`, and build again).")
    missing = device_missing()
    if missing or elsewhere:
        return missing
    # Machine code runs on drivers of its own major version and later ones; drivers unpack these images from 12.4 on.
    needed = max(UNPACKING, 1000 * int(built.NVCC.partition(".")[0]))
    if version() < needed:
        return (f"The NVIDIA driver is too old: it serves CUDA {cuda_name(version())}, and these kernels were built by "
                f"nvcc {built.NVCC}, so that they need CUDA {cuda_name(needed)} or newer.")
    return ""


cdef cuda_kernel *find_kernel(str family, str name) except NULL:
    cdef cuda_kernel *kernel
    found = _kernels.get((family, name))
    if found is not None:
        return <cuda_kernel *> <size_t> found
    kernel = <cuda_kernel *> calloc(1, sizeof(cuda_kernel))
    if kernel == NULL:
        raise MemoryError
    kernel.name = strdup(name.encode())
    if family not in _families:
        _families.append(family)
    kernel.family = _families.index(family)
    _kernels[family, name] = <size_t> kernel
    return kernel


cdef CUmodule _load_family(int family, int device) except NULL:
    """The family's module on a device; the device's context is current."""
    cdef CUmodule module = NULL
    cdef CUresult status
    cdef const char *image
    cdef int mode
    cdef str name = _families[family]
    with _lock:
        found = _modules.get((family, device))
        if found is not None:
            return <CUmodule> <size_t> found
        path = os.path.join(folder(), name + ".fatbin")
        try:
            with open(path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            missing = f"[cuda] the kernels {name!r} are not installed ({path}). {why_not()}"
            raise RuntimeError(missing.rstrip()) from None
        image = data
        with nogil:
            mode = relax()
            status = cu.cuModuleLoadData(&module, image)
            restore(mode)
        if status in (200, 209, 218, 222):
            failure = error(status, f"loading the kernels {name!r}")
            capability = f"{devices[device].major}.{devices[device].minor}"
            failure.args = (f"{failure}: they hold nothing that the driver (CUDA {cuda_name(version())}) can run on "
                            f"compute capability {capability}; they were built for "
                            f"{', '.join(built.ARCHITECTURES) or 'nothing'} by nvcc {built.NVCC or '(none)'}",)
            raise failure
        check(status, f"loading the kernels {name!r}")
        _modules[family, device] = <size_t> module
        return module


cdef CUfunction _load(cuda_kernel *kernel, int device) noexcept with gil:
    """The kernel on a device; NULL after putting the exception aside for `launch_error`."""
    cdef CUfunction function = NULL
    cdef CUmodule module
    cdef CUresult status
    cdef int mode
    try:
        module = _load_family(kernel.family, device)
        mode = relax()
        status = cu.cuModuleGetFunction(&function, module, kernel.name)
        restore(mode)
        check(status, f"looking for the kernel {kernel.name.decode()} in {_families[kernel.family]!r}")
        kernel.function[device] = function
        return function
    except BaseException as failure:
        _failed.value = failure
        return NULL


cdef CUresult _fail(CUresult status, cuda_kernel *kernel, const launch_shape *shape) noexcept nogil:
    cdef int i
    noted(status)
    fx_failure.status = status
    fx_failure.doing = NULL
    fx_failure.kernel = kernel
    for i in range(3):
        fx_failure.grid[i] = shape.grid[i]
        fx_failure.block[i] = shape.block[i]
    fx_failure.shared = shape.shared
    return status


cdef CUresult launch(cuda_kernel *kernel, int device, CUstream stream, const launch_shape *shape,
                     void **args) noexcept nogil:
    cdef CUresult status = bind(device)
    cdef CUfunction function = kernel.function[device]
    cdef int mode
    if status:
        return _fail(status, kernel, shape)
    if function == NULL:
        function = _load(kernel, device)
        if function == NULL:
            return _fail(LOADING, kernel, shape)
    if shape.shared > FREE_SHARED and shape.shared > kernel.shared[device]:
        mode = relax()
        status = cu.cuFuncSetAttribute(function, MAX_DYNAMIC_SHARED, <int> shape.shared)
        restore(mode)
        if status:
            return _fail(status, kernel, shape)
        kernel.shared[device] = shape.shared
    status = cu.cuLaunchKernel(function, shape.grid[0], shape.grid[1], shape.grid[2], shape.block[0], shape.block[1],
                               shape.block[2], shape.shared, stream, args, NULL)
    if status:
        return _fail(status, kernel, shape)
    return 0


cdef int launched(CUresult status) noexcept nogil:
    return FX_OK if status == 0 else FX_ERROR_DEVICE


cdef int driver_call(CUresult status, const char *doing) noexcept nogil:
    if status == 0:
        return FX_OK
    fx_failure.status = noted(status)
    fx_failure.doing = doing
    return FX_ERROR_DEVICE


cdef int faultless(int device) noexcept nogil:
    if not fault_waits(device):
        return FX_OK
    fx_failure.status = FAULT
    fx_failure.device = device
    return FX_ERROR_DEVICE


cdef object launch_error():
    cdef cuda_kernel *kernel = <cuda_kernel *> fx_failure.kernel
    if fx_failure.status == FAULT:
        return take_fault(fx_failure.device) or RuntimeError("[cuda] another thread has been told what a kernel found")
    if fx_failure.doing != NULL:
        return error(fx_failure.status, fx_failure.doing.decode())
    if fx_failure.status == LOADING:
        failure = _failed.value
        _failed.value = None
        return failure
    name = "" if kernel == NULL else kernel.name.decode()
    f = fx_failure
    shape = (f.grid[0], f.grid[1], f.grid[2]), (f.block[0], f.block[1], f.block[2]), f.shared
    return error(f.status, "launching", name, shape)


def _device_error(operator):
    failure = launch_error()
    text = str(failure)
    if text.startswith("[cuda] "):      # a fault names its operator
        failure.args = (f"[{operator}] {text[7:]}",)
    return failure


errors._device_error = _device_error


def raise_launch_error(operator):
    """Raise this thread's last failure."""
    raise _device_error(operator)


def launch_kernel(str family, str name, grid, block, args, unsigned int shared=0, Stream stream=None, device=None):
    """Launch one kernel; for tests, measurements and experiments below the operators.

    Parameters
    ----------
    grid, block : int or tuple of up to three ints
    args : sequence of ctypes values, structures or bytes
        The kernel's arguments, each of exactly the size and layout that it declares.
    shared : int
        Bytes of dynamic shared memory.
    """
    cdef int index = stream.device_index if stream is not None else device_number(device, "launch_kernel"), i
    cdef cuda_kernel *kernel = find_kernel(family, name)
    cdef launch_shape shape
    cdef void *pointers[64]
    grid = (grid,) if isinstance(grid, int) else tuple(grid)
    block = (block,) if isinstance(block, int) else tuple(block)
    for i in range(3):
        shape.grid[i] = grid[i] if i < len(grid) else 1
        shape.block[i] = block[i] if i < len(block) else 1
    shape.shared = shared
    kept = [bytes(each) for each in args]
    if len(kept) > 64:
        raise ValueError("[launch_kernel] more than 64 arguments")
    for i in range(len(kept)):
        pointers[i] = <void *> <char *> kept[i]
    cdef CUstream queue = current_stream(index) if stream is None else stream.handle
    with nogil:
        status = launch(kernel, index, queue, &shape, pointers)
    if status:
        raise launch_error()


def attributes(str family, str name, int threads=256, unsigned int shared=0, device=None):
    """Registers, bytes of local and static shared memory, and blocks per multiprocessor of a kernel, as a dict."""
    cdef int index = device_number(device, "attributes"), value = 0
    cdef cuda_kernel *kernel = find_kernel(family, name)
    cdef CUfunction function
    check(bind(index), "using a device")
    function = kernel.function[index]
    if function == NULL:
        function = _load(kernel, index)
        if function == NULL:
            failure, _failed.value = _failed.value, None
            raise failure
    found = {}
    for key, attribute in (("shared", 1), ("local", 3), ("registers", 4), ("max_threads", 0)):
        check(cu.cuFuncGetAttribute(&value, attribute, function), "reading the attributes of a kernel")
        found[key] = value
    cdef CUresult status = cu.cuOccupancyMaxActiveBlocksPerMultiprocessor(&value, function, threads, shared)
    check(status, "asking for a kernel's occupancy")
    found["blocks_per_multiprocessor"] = value
    return found
