"""The memory of devices: the driver as the source of one caching allocator for each device.

FERROX_NO_CUDA_MEMORY_CACHING=1 goes around the allocators: every block is the driver's own, as compute-sanitizer wants
it to see accesses beyond one.  Slow, for freeing then waits for the device.
"""
cimport cython
import os

from cpython.pycapsule cimport PyCapsule_New
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free

from ferrox._core.abi cimport FX_ERROR_DEVICE, FX_ERROR_MEMORY, FX_OK
from ferrox._core.cuda.abi cimport CUdeviceptr, CUevent, CUresult, CUstream
from ferrox._core.cuda.allocator cimport (
    allocator_allocate, allocator_begin_pool, allocator_end_pool, allocator_label, allocator_record_stream,
    allocator_release, allocator_release_pool, allocator_statistics)
from ferrox._core.cuda.capturing cimport CAPTURE_STREAMS, capture_of, capture_record, captures, relax, restore
from ferrox._core.cuda.context cimport MAX_DEVICES, bind, open_devices
from ferrox._core.cuda.contract cimport (
    ALLOCATED_BYTES, HOST_MEMORY, fx_memory_source, fx_out_of_memory, fx_statistics)
from ferrox._core.cuda.driver cimport CUDA_ERROR_NOT_READY, CUDA_ERROR_OUT_OF_MEMORY, CUDA_FORKED, cu, noted, usable
from ferrox._core.cuda.allocator_state cimport free_snapshot, fx_allocator
from ferrox._core.cuda.memory cimport CachingAllocator, raise_allocation
from ferrox._core.cuda.module cimport driver_call, launch_error
from ferrox._core.cuda.stream cimport Stream, current_stream

cdef extern from *:
    """
    static __thread void *fx_refused;       /* a struct refused, or NULL */
    """
    void *fx_refused

cdef enum:
    WITHOUT_TIMING = 2      # CU_EVENT_DISABLE_TIMING

cdef struct refused:
    int status, device
    fx_out_of_memory why

cdef fx_allocator *_allocators[MAX_DEVICES]
cdef list _of_devices = []      # CachingAllocators, by device
cdef bint _uncached = os.environ.get("FERROX_NO_CUDA_MEMORY_CACHING", "0") not in ("", "0")


# The source.  Its context is the device's number.

cdef inline int _device(void *context) noexcept nogil:
    return <int> <size_t> context


cdef int _allocate(void *context, size_t bytes, void **pointer) noexcept nogil:
    cdef CUdeviceptr memory = 0
    cdef CUresult status = bind(_device(context))
    cdef int mode
    if status == 0:
        mode = relax()
        status = cu.cuMemAlloc(&memory, bytes)
        restore(mode)
    if status == CUDA_ERROR_OUT_OF_MEMORY:
        return FX_ERROR_MEMORY
    pointer[0] = <void *> memory
    return driver_call(status, b"allocating memory")


cdef void _release(void *context, void *pointer, size_t bytes) noexcept nogil:
    cdef int mode
    if bind(_device(context)) == 0:
        mode = relax()
        noted(cu.cuMemFree(<CUdeviceptr> pointer))
        restore(mode)


cdef int _info(void *context, size_t *free_bytes, size_t *total_bytes) noexcept nogil:
    cdef CUresult status = bind(_device(context))
    return noted(cu.cuMemGetInfo(free_bytes, total_bytes)) if status == 0 else status


cdef void *_event_record(void *context, void *stream) noexcept nogil:
    cdef CUevent event = NULL
    if bind(_device(context)) or noted(cu.cuEventCreate(&event, WITHOUT_TIMING)):
        return NULL
    if noted(cu.cuEventRecord(event, <CUstream> stream)):
        _event_destroy(context, event)
        return NULL
    return event


cdef int _event_query(void *context, void *event) noexcept nogil:
    cdef CUresult status = bind(_device(context))
    cdef int mode
    if status == 0:
        mode = relax()
        status = cu.cuEventQuery(<CUevent> event)
        restore(mode)
    if status == CUDA_ERROR_NOT_READY:
        return 0
    return 1 if noted(status) == 0 else -1


cdef int _event_wait(void *context, void *event) noexcept nogil:
    cdef CUresult status = bind(_device(context))
    cdef int mode
    if status == 0:
        mode = relax()
        status = noted(cu.cuEventSynchronize(<CUevent> event))
        restore(mode)
    return status


cdef void _event_destroy(void *context, void *event) noexcept nogil:
    if bind(_device(context)) == 0:
        noted(cu.cuEventDestroy(<CUevent> event))


@cython.binding(False)        # methods that check their self
@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
cdef class DeviceMemory:
    """A device's memory as a source for a `CachingAllocator`."""
    cdef fx_memory_source functions
    cdef bytes name

    def __cinit__(self, int device):
        self.name = f"cuda:{device}".encode()
        self.functions.context = <void *> <size_t> device
        self.functions.name = self.name
        self.functions.device = device
        self.functions.allocate = _allocate
        self.functions.release = _release
        self.functions.info = _info
        self.functions.event_record = _event_record
        self.functions.event_query = _event_query
        self.functions.event_wait = _event_wait
        self.functions.event_destroy = _event_destroy

    def memory_source(self):
        return PyCapsule_New(&self.functions, "fx_memory_source", NULL)


def open_memory():
    """Make the allocators; nothing of the devices is touched yet."""
    cdef CachingAllocator made
    while len(_of_devices) < open_devices():
        made = CachingAllocator(DeviceMemory(len(_of_devices)))
        Py_INCREF(made)     # blocks may come back while the interpreter goes down
        _allocators[len(_of_devices)] = made.state
        _of_devices.append(made)


def allocator(int device):
    """The `CachingAllocator` of a device."""
    return _of_devices[device]


def record_stream(size_t address, int device, Stream stream not None):
    """Keep the block that begins at an address until `stream` is done with it; nothing for memory of others."""
    if stream.device_index != device:
        raise RuntimeError(f"[record_stream] the memory is on cuda:{device}, the stream on cuda:{stream.device_index}")
    cdef int status = FX_OK
    with nogil:
        if usable() == 0:
            status = allocator_record_stream(_allocators[device], <void *> address, stream.handle)
    if status < 0:
        raise MemoryError("[record_stream] no host memory for the allocator's records")


# Private pools.

def is_cached():
    """Whether memory comes from the allocators, as captures need it."""
    return not _uncached


cdef int draw_on_pool(capture_record *record, int device, CUstream stream) noexcept nogil:
    cdef int i, status
    for i in range(record.n_uses):
        if record.uses[i].stream == stream and record.uses[i].device == device:
            return FX_OK
    if record.n_uses == CAPTURE_STREAMS:
        return HOST_MEMORY
    status = allocator_begin_pool(_allocators[device], record.pool, stream, False)
    if status == FX_OK:
        record.uses[record.n_uses].stream = stream
        record.uses[record.n_uses].device = device
        record.n_uses += 1
    return status


cdef void end_uses(const capture_record *record) noexcept nogil:
    """The capture is over; its pool stays as it is."""
    cdef int i
    for i in range(record.n_uses):
        allocator_end_pool(_allocators[record.uses[i].device], record.pool)


cdef void release_uses(const capture_record *record) noexcept nogil:
    """The graph is gone: so are the users that its capture added to the pool."""
    cdef int i
    for i in range(record.n_uses):
        allocator_release_pool(_allocators[record.uses[i].device], record.pool)


# Blocks.

cdef void *_refuse(int device, int status, fx_out_of_memory *why) noexcept nogil:
    global fx_refused
    cdef refused *r = <refused *> fx_refused
    if r == NULL:
        r = <refused *> calloc(1, sizeof(refused))
        fx_refused = r
    else:
        free_snapshot(&r.why.snapshot)
    if r == NULL:
        free_snapshot(&why.snapshot)
        return NULL
    r.status = status
    r.device = device
    r.why = why[0]
    return NULL


cdef void *take(int device, size_t bytes, const char *tag) noexcept nogil:
    cdef void *pointer = NULL
    cdef fx_out_of_memory why
    cdef capture_record *record
    cdef int status = driver_call(usable(), b"allocating memory")   # also: a forked child may not touch the mutex
    why.snapshot.segments = NULL
    why.snapshot.blocks = NULL
    why.requested = why.segment_bytes = bytes
    why.limit = <size_t> -1
    why.free_bytes = why.total_bytes = 0
    why.capturing = False
    why.snapshot.n_segments = why.snapshot.n_blocks = 0
    if status == FX_OK:
        if _uncached:
            status = _allocate(<void *> <size_t> device, bytes if bytes else 1, &pointer)
        else:
            if captures and bind(device) == 0:
                record = capture_of(current_stream(device))
                if record != NULL:      # this stream, or one that the captured one has drawn in
                    status = draw_on_pool(record, device, current_stream(device))
            if status == FX_OK:
                status = allocator_allocate(_allocators[device], bytes, current_stream(device), tag, &pointer, &why)
    return pointer if status == FX_OK else _refuse(device, status, &why)


cdef void give(int device, void *block) noexcept nogil:
    if usable() == CUDA_FORKED or block == NULL:
        return
    if _uncached:
        _release(<void *> <size_t> device, block, 0)
    else:
        allocator_release(_allocators[device], block)


cdef void label(int device, void *block, const char *tag) noexcept nogil:
    if not _uncached and usable() == 0:
        allocator_label(_allocators[device], block, tag)


cdef void usage(int device, int64_t *taken, int64_t *in_use) noexcept nogil:
    cdef fx_statistics s
    allocator_statistics(_allocators[device], &s)
    taken[0] = s.table[<int> ALLOCATED_BYTES][0].allocated
    in_use[0] = s.table[<int> ALLOCATED_BYTES][0].current


cdef object refusal():
    global fx_refused
    cdef refused *r = <refused *> fx_refused
    if r == NULL:
        return None
    fx_refused = NULL
    try:
        if r.status == FX_ERROR_DEVICE:
            free_snapshot(&r.why.snapshot)
            return launch_error()
        raise_allocation(_allocators[r.device], r.status, &r.why)
    except BaseException as failure:
        return failure
    finally:
        free(r)
