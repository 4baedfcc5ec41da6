"""The CUDA backend: its memory, and the modules that provide its kernels.  Importing this module opens the driver and
registers both; it is imported by the first use of a CUDA device (device.pyx), and raises RuntimeError where there is
none.
"""
from ferrox._core import errors
from ferrox._core.abi cimport FX_CUDA, fx_backend
from ferrox._core.door.backend cimport provide_backend
from ferrox._core.cuda import device_memory, elementwise, module
# Each of these provides its kernels when it is imported.
from ferrox._core.cuda import attention, copying, index_kernels, loss, matmul, movement, norm, optim, random  # no-cython-lint
from ferrox._core.cuda import reduce, scan, search, select, softmax, sort  # no-cython-lint
from ferrox._core.cuda.abi cimport CUresult
from ferrox._core.cuda.capturing cimport may_wait_for_device, relax, restore
from ferrox._core.cuda.context cimport bind, device_number
from ferrox._core.cuda.device_memory cimport give, label, refusal, take
from ferrox._core.cuda.driver cimport cu
from ferrox._core.cuda.fault cimport fault_record
from ferrox._core.cuda.module cimport driver_call, faultless
from ferrox._core.cuda.transfer cimport transfer
from ferrox._core.door.device cimport device as device_class, device_object

cdef fx_backend _backend


cdef void *_allocate(size_t bytes, int device) noexcept nogil:
    fault_record(device)    # made now, while no graph is being captured
    return take(device, bytes, NULL)


cdef void _release(void *block, size_t bytes, int device) noexcept nogil:
    give(device, block)


cdef void _label(void *block, int device, const char *text) noexcept nogil:
    label(device, block, text)


def _memory_error(operator):
    """The exception of this thread's last refused allocation."""
    failure = refusal()
    if failure is not None and operator is not None:
        text = str(failure)
        failure.args = (f"[{operator}] {text.removeprefix('[cuda] ')}",)
    return failure


errors._memory_error = _memory_error


cdef int _synchronise(int device) noexcept nogil:
    cdef CUresult status = bind(device) or may_wait_for_device(device)
    cdef int mode
    if status == 0:
        mode = relax()
        status = cu.cuCtxSynchronize()
        restore(mode)
    return driver_call(status, b"waiting for a device") or faultless(device)


def located(device_class device):
    """The device with its number: that of this thread for "cuda"; RuntimeError for one that is not there."""
    return device_object(FX_CUDA, device_number(device, "device"))


cdef int _register() except -1:
    missing = module.why_not()
    if missing:
        raise RuntimeError(f"[device] {missing}")
    _backend.name = b"cuda"
    _backend.allocate = _allocate
    _backend.release = _release
    _backend.copy = transfer
    _backend.synchronise = _synchronise
    _backend.label = _label
    device_memory.open_memory()
    elementwise.register()
    copying.register()
    return provide_backend(FX_CUDA, &_backend)


_register()
