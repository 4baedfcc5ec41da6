"""What kernels found wrong with the values they were given.

A kernel must not touch what an index out of range points to, and cannot raise.  It writes what it found into the
device's record (fx/fault.h), in pinned memory of the host that the device sees, and goes on.  The host looks whenever
it has waited for the device anyway: when it reads values back, and in `synchronize`.  So the exception comes later than
the call, and its context is whole.  Of several faults before a wait the first one is told.
"""
from libc.string cimport memset

from ferrox._core.door.backend cimport kernel_name
from ferrox._core.cuda.abi cimport CUdeviceptr, CUresult
from ferrox._core.cuda.capturing cimport relax, restore
from ferrox._core.cuda.context cimport MAX_DEVICES, bind
from ferrox._core.cuda.driver cimport cu, noted

cdef extern from "fx/fault.h" nogil:
    enum:
        FX_FAULT_INDEX
        FX_FAULT_TARGET
        FX_FAULT_DIVISION
    ctypedef struct fx_fault:
        int kind, kernel
        long long value, size

cdef extern from *:
    """
    #include <pthread.h>
    static pthread_mutex_t fx_fault_mutex = PTHREAD_MUTEX_INITIALIZER;
    static inline void fx_fault_lock(void) { pthread_mutex_lock(&fx_fault_mutex); }
    static inline void fx_fault_unlock(void) { pthread_mutex_unlock(&fx_fault_mutex); }
    static inline int fx_fault_kind_of(fx_fault *f) { return __atomic_load_n(&f->kind, __ATOMIC_ACQUIRE); }
    static inline void fx_fault_clear(fx_fault *f) { __atomic_store_n(&f->kind, 0, __ATOMIC_RELEASE); }
    """
    void fx_fault_lock() nogil
    void fx_fault_unlock() nogil
    int fx_fault_kind_of(fx_fault *f) nogil
    void fx_fault_clear(fx_fault *f) nogil

cdef enum:
    PORTABLE_AND_MAPPED = 3     # CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP

cdef fx_fault *_records[MAX_DEVICES]        # as the host sees them
cdef void *_on_device[MAX_DEVICES]


cdef void *fault_record(int device) noexcept nogil:
    cdef void *host = NULL
    cdef CUdeviceptr there = 0
    cdef CUresult status
    cdef int mode
    if _on_device[device] != NULL or bind(device):
        return _on_device[device]
    mode = relax()
    fx_fault_lock()
    if _on_device[device] == NULL:
        status = cu.cuMemHostAlloc(&host, sizeof(fx_fault), PORTABLE_AND_MAPPED)
        if status == 0:
            memset(host, 0, sizeof(fx_fault))
            status = cu.cuMemHostGetDevicePointer(&there, host, 0)
            if status == 0:
                _records[device] = <fx_fault *> host
                _on_device[device] = <void *> there
            else:
                cu.cuMemFreeHost(host)
        noted(status)
    fx_fault_unlock()
    restore(mode)
    return _on_device[device]


cdef bint fault_waits(int device) noexcept nogil:
    return _records[device] != NULL and fx_fault_kind_of(_records[device]) > 0


cdef object take_fault(int device):
    cdef fx_fault found
    cdef fx_fault *record = _records[device]
    fx_fault_lock()     # short, and without Python within
    found.kind = fx_fault_kind_of(record) if record != NULL else 0
    if found.kind > 0:
        found = record[0]
        fx_fault_clear(record)
    fx_fault_unlock()
    if found.kind <= 0:
        return None
    where = f"(found by a kernel that ran earlier on cuda:{device})"
    name = kernel_name(found.kernel)
    if found.kind == FX_FAULT_INDEX:
        return IndexError(f"[{name}] index {found.value} is out of range for a dimension of size {found.size} {where}")
    if found.kind == FX_FAULT_TARGET:
        return IndexError(f"[{name}] target {found.value} is out of bounds for {found.size} classes {where}")
    return RuntimeError(f"[{name}] ZeroDivisionError: integer division by zero {where}")


cdef int raise_fault(int device) except -1:
    failure = take_fault(device) if fault_waits(device) else None
    if failure is not None:
        raise failure
    return 0


def look(int device):
    """Raise what kernels of a device that are done have reported since the last time."""
    raise_fault(device)


def record_address(int device):
    """Where the device's record is, as kernels see it; for tests."""
    return <size_t> fault_record(device)
