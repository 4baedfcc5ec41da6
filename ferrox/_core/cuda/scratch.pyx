"""Short-lived device memory for kernels.

It comes from the caching allocator, for work on this thread's current stream: given back once the last launch that uses
it is queued, it is handed out again to whatever comes later on that stream, and to nobody else.
"""
from ferrox._core.cuda.device_memory cimport give, take


cdef void *scratch(int device, size_t bytes) noexcept nogil:
    return take(device, bytes, b"scratch of kernels")


cdef void scratch_free(int device, void *block) noexcept nogil:
    give(device, block)
