"""The CUDA driver's entry points, taken once through cuda-python, and its errors.

`open_driver` imports `cuda.bindings` (which finds and loads libcuda) and asks cuGetProcAddress for every entry of the
table `cu` by the binary interface of CUDA 12.0, whatever the version of the bindings.  From then on the driver is
called through C pointers, without Python and without the GIL.

Note [Sticky errors].  An error inside a kernel (an address out of range, a trap, an ECC error) destroys the context:
every later call of the driver fails with the same code, far from the cause.  The first one is remembered here with what
was being done; afterwards every call says so and what to do, and nothing is given back to the driver any more.

Note [Fork].  CUDA does not survive a fork.  A handler in the child marks the driver unusable: using it is an error
there, and memory that the child drops is left alone.
"""
from ferrox._core.cuda.abi cimport CUresult, cuda_driver

cdef extern from *:
    """
    #include <pthread.h>
    static volatile int fx_cuda_opened = 0, fx_cuda_forked = 0, fx_cuda_broken = 0;
    static void fx_cuda_child(void) { fx_cuda_forked = fx_cuda_opened; }
    static int fx_cuda_watch_forks(void) { return pthread_atfork(NULL, NULL, fx_cuda_child); }
    """
    int fx_cuda_opened, fx_cuda_forked, fx_cuda_broken
    int fx_cuda_watch_forks() nogil

# In the order of cuda_driver (abi.pxd).
ENTRIES = (
    "cuInit", "cuDriverGetVersion", "cuGetErrorName", "cuGetErrorString", "cuDeviceGetCount", "cuDeviceGet",
    "cuDeviceGetName", "cuDeviceGetUuid", "cuDeviceTotalMem", "cuDeviceGetAttribute", "cuDeviceCanAccessPeer",
    "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuCtxGetCurrent", "cuCtxSynchronize",
    "cuCtxGetStreamPriorityRange", "cuStreamCreateWithPriority", "cuStreamDestroy", "cuStreamQuery",
    "cuStreamSynchronize", "cuStreamWaitEvent", "cuStreamIsCapturing", "cuStreamGetCaptureInfo",
    "cuThreadExchangeStreamCaptureMode", "cuStreamBeginCapture", "cuStreamEndCapture", "cuLaunchHostFunc",
    "cuEventCreate", "cuEventDestroy", "cuEventRecord", "cuEventQuery", "cuEventSynchronize", "cuEventElapsedTime",
    "cuMemGetInfo", "cuMemAlloc", "cuMemFree", "cuMemHostAlloc", "cuMemFreeHost", "cuMemcpyAsync",
    "cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuMemcpyDtoDAsync", "cuMemcpyPeerAsync", "cuMemsetD8Async",
    "cuMemsetD16Async", "cuMemsetD32Async", "cuPointerGetAttribute", "cuModuleLoadData", "cuModuleUnload",
    "cuModuleGetFunction", "cuFuncGetAttribute", "cuFuncSetAttribute", "cuOccupancyMaxActiveBlocksPerMultiprocessor",
    "cuLaunchKernel", "cuGraphGetNodes", "cuGraphInstantiateWithFlags", "cuGraphLaunch", "cuGraphExecDestroy",
    "cuGraphDestroy", "cuMemHostGetDevicePointer", "cuCtxEnablePeerAccess",
)
INTERFACE = 12000   # CUDA 12.0
# Of what goes wrong while a graph is captured, by the driver's number.
CAPTURE_HINTS = {
    900: "it is not permitted while a CUDA graph is captured: do it before the capture or after it",
    901: "an earlier call that is not permitted during the capture of a CUDA graph has ended the capture",
    902: "two captures cannot be joined",
    903: "a capture ends on the stream where it began",
    904: "a stream that waited for the captured one is not joined: let the captured stream wait for it (wait_stream) "
         "before the capture ends",
    905: "a captured stream cannot wait for work that is not captured: let it wait before the capture begins",
    906: "the default stream cannot take part in a capture: use a Stream of its own",
    907: "the event was last recorded during a capture, where nothing runs",
    908: "a capture ends in the thread where it began",
}

cdef object _unavailable = None     # why the driver could not be opened; None before the first attempt
cdef str _broken = None             # what happened when the context was lost
cdef int _version = 0


class CudaError(RuntimeError):
    """An error that the CUDA driver reported.

    Attributes
    ----------
    code : int
        The driver's number of the error.
    name : str
        Its name, such as ``"CUDA_ERROR_ILLEGAL_ADDRESS"``.
    explanation : str
        The driver's sentence about it.
    kernel : str or None
        The kernel that was launched.
    launch : tuple or None
        ``(grid, block, shared bytes)`` of that launch.
    """

    def __init__(self, message, code=0, name="", explanation="", kernel=None, launch=None):
        super().__init__(message)
        self.code = code
        self.name = name
        self.explanation = explanation
        self.kernel = kernel
        self.launch = launch


def cuda_name(int number):
    """"12.4" of 12040."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _open():
    """Fill the table; returns a sentence when that is impossible."""
    global _version
    cdef void **slot = <void **> &cu
    cdef int count = 0
    if sizeof(cuda_driver) != len(ENTRIES) * sizeof(void *):
        raise SystemError("abi.pxd and ENTRIES differ")
    try:
        from cuda.bindings import driver
    except ImportError as missing:
        if isinstance(missing, ModuleNotFoundError) and missing.name in ("cuda", "cuda.bindings"):
            return "cuda-bindings is not installed: `pip install ferrox[cuda]`."
        return f"cuda-bindings cannot be imported: {missing}."
    try:
        status, _version = driver.cuDriverGetVersion()
    except Exception:    # of several types by the version of the bindings
        return "There is no NVIDIA driver: cuda-bindings does not find libcuda."
    if status != 0 or _version < INTERFACE:
        return (f"The NVIDIA driver is too old: it serves CUDA {cuda_name(_version)}, and Ferrox needs "
                f"CUDA {cuda_name(INTERFACE)} or newer (driver 525 or newer).")
    try:
        status = driver.cuInit(0)[0]
    except Exception as failed:
        return f"The NVIDIA driver cannot be initialised: {failed}"
    if int(status) == 100:
        return "The machine has no CUDA device, or CUDA_VISIBLE_DEVICES hides all of them."
    if int(status) != 0:
        return f"The NVIDIA driver cannot be initialised: {getattr(status, 'name', status)}."
    for index, name in enumerate(ENTRIES):
        try:
            found = driver.cuGetProcAddress(name.encode(), INTERFACE, 0)
        except Exception as failed:
            return f"The NVIDIA driver does not hand out its entry points: {failed}"
        if int(found[0]) != 0 or not int(found[1]):
            return f"The NVIDIA driver (CUDA {cuda_name(_version)}) lacks {name}: install a newer one."
        slot[<int> index] = <void *> <size_t> int(found[1])
    if cu.cuDeviceGetCount(&count) or count == 0:
        return "The machine has no CUDA device, or CUDA_VISIBLE_DEVICES hides all of them."
    if fx_cuda_watch_forks():
        return "pthread_atfork failed."
    return ""


def why_not():
    """Why the driver cannot be used, in one sentence; an empty string when it can."""
    global _unavailable, fx_cuda_opened
    if fx_cuda_forked:
        return ("CUDA was initialised before this process was forked, which it does not survive: start processes "
                "with multiprocessing's 'spawn' method, or use CUDA only after the fork.")
    if _unavailable is None:
        _unavailable = _open()
        fx_cuda_opened = not _unavailable
    return _unavailable


def is_open():
    """Whether the driver has been opened, here or before a fork."""
    return bool(fx_cuda_opened)


def lost():
    """Whether an error has destroyed the context of this process."""
    return bool(fx_cuda_broken)


def version():
    """The CUDA version that the driver serves, as 1000 * major + 10 * minor; 0 when there is none."""
    return _version


cdef int open_driver() except -1:
    """Make the table `cu` valid, or raise RuntimeError with the reason."""
    if fx_cuda_opened and not fx_cuda_forked:
        return 0
    reason = why_not()
    if reason:
        raise RuntimeError(f"[cuda] {reason}")
    return 0


cdef CUresult usable() noexcept nogil:
    if fx_cuda_forked:
        return CUDA_FORKED
    if fx_cuda_broken:
        return CUDA_BROKEN
    return 0 if fx_cuda_opened else CUDA_UNAVAILABLE


cdef bint _is_sticky(CUresult status) noexcept nogil:
    return status == 214 or status == 220 or status == 700 or status == 702 or status == 710 or (714 <= status <= 719) \
        or status in (226, 709, 721, 810)


cdef CUresult noted(CUresult status) noexcept nogil:
    """The status itself; the first sticky one marks the context as lost."""
    global fx_cuda_broken
    if status > 0 and fx_cuda_broken == 0 and _is_sticky(status):
        fx_cuda_broken = status
    return status


cdef str _text(const char *text):
    return "" if text == NULL else text.decode("utf-8", "replace")


cdef object error(CUresult status, str doing, str kernel=None, object shape=None):
    """The exception for a status.  `doing` is what was tried, as a verbal noun: "copying to the device"."""
    global _broken
    cdef const char *name = NULL
    cdef const char *explanation = NULL
    if status == CUDA_FORKED or status == CUDA_UNAVAILABLE:
        return RuntimeError(f"[cuda] {why_not()}")
    if status == CUDA_CAPTURING:
        return RuntimeError(f"[cuda] {doing} is not possible while a CUDA graph is captured: nothing runs during a "
                            "capture, so that the host has nothing to wait for or to read. Move it (item, tolist, cpu, "
                            "nonzero, a condition on a tensor, synchronize) before the capture or after it; copies "
                            "between the device and the host need pinned memory and non_blocking=True")
    first = status != CUDA_BROKEN and _broken is None
    cdef CUresult code = fx_cuda_broken if status == CUDA_BROKEN else status
    cu.cuGetErrorName(code, &name)
    cu.cuGetErrorString(code, &explanation)
    where = doing
    if kernel is not None:
        grid, block, shared = shape
        where += f" the kernel {kernel} with grid {grid}, block {block} and {shared} bytes of shared memory"
    said = f"{_text(name) or 'CUDA error ' + str(code)} ({_text(explanation)})"
    if fx_cuda_broken and not first:
        message = (f"[cuda] the context of this process was lost to an earlier error, {_broken or said}: "
                   f"nothing on the GPU can be used any more. Tensors on the CPU are intact: save them and start a new "
                   f"process. Run it with CUDA_LAUNCH_BLOCKING=1, or under compute-sanitizer, to see the cause "
                   f"(now: {where})")
    else:
        message = f"[cuda] {said} {where}"
        if code in CAPTURE_HINTS:
            message += f": {CAPTURE_HINTS[code]}"
        if _is_sticky(code):
            noted(code)
            _broken = f"{said} {where}"
            message += (". The context of this process is lost: nothing on the GPU can be used any more; tensors on "
                        "the CPU are intact. A kernel fails after its launch, so that the cause may lie before: run "
                        "with CUDA_LAUNCH_BLOCKING=1, or under compute-sanitizer")
    return CudaError(message, code, _text(name), _text(explanation), kernel, shape)


cdef int check(CUresult status, str doing) except -1:
    """Raise CudaError unless the status is success."""
    if status == 0:
        return 0
    raise error(noted(status), doing)
