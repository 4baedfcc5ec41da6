# What everybody has to know of captures: whether one is under way, and what is then not possible.  See capturing.pyx.
from libc.stdint cimport uint64_t

from ferrox._core.cuda.abi cimport CUresult, CUstream

cdef enum:
    CAPTURE_GLOBAL = 0      # CUstreamCaptureMode
    CAPTURE_THREAD_LOCAL = 1
    CAPTURE_RELAXED = 2
    CAPTURE_STREAMS = 32    # that allocate during one capture

cdef struct capture_use:
    int device
    CUstream stream

cdef struct capture_record:
    unsigned long long id   # the driver's number of it, never given again
    uint64_t pool
    int device
    CUstream stream         # where it began
    void *owner             # the CUDAGraph; borrowed
    int n_uses              # streams that draw on the pool
    capture_use uses[CAPTURE_STREAMS]
    capture_record *next

# How many captures of Ferrox's are under way: 0 nearly always, and then nothing else needs to be asked.
cdef int captures

cdef void capture_opened(capture_record *record) noexcept nogil
cdef void capture_closed(capture_record *record) noexcept nogil
# For the next four a context must be current.
# The capture that a stream belongs to, NULL for none of Ferrox's.
cdef capture_record *capture_of(CUstream stream) noexcept nogil
# 0, or CUDA_CAPTURING: the host may not wait for a stream, or a device, that is being captured.
cdef CUresult may_wait(CUstream stream) noexcept nogil
cdef CUresult may_wait_for_device(int device) noexcept nogil
# Calls that the driver takes for unsafe during a capture, of any thread, and that do not harm it stand between these.
cdef int relax() noexcept nogil
cdef void restore(int mode) noexcept nogil
# Whether a capture under way draws on a pool.
cdef bint pool_captures(uint64_t pool) noexcept nogil
# The state in device memory that this thread's last reserved random numbers come from; NULL outside of captures.
cdef void *captured_state() noexcept nogil
cdef void set_captured_state(void *state) noexcept nogil
