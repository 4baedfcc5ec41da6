# The memory of devices: a caching allocator each.  See device_memory.pyx.
from libc.stdint cimport int64_t

from ferrox._core.cuda.abi cimport CUstream
from ferrox._core.cuda.capturing cimport capture_record

# Memory for work on this thread's current stream; NULL when there is none, and `refusal` then says why.  `tag` says who
# asks, and lives for ever; it may be NULL.
cdef void *take(int device, size_t bytes, const char *tag) noexcept nogil
# Say who asked for a block, where nobody has yet.
cdef void label(int device, void *block, const char *tag) noexcept nogil
# What is queued by now on the current stream may still use it.
cdef void give(int device, void *block) noexcept nogil
# A stream's requests on a device are served from the private pool of a capture from now on; HOST_MEMORY, or FX_OK.
cdef int draw_on_pool(capture_record *record, int device, CUstream stream) noexcept nogil
cdef void end_uses(const capture_record *record) noexcept nogil
cdef void release_uses(const capture_record *record) noexcept nogil
# The exception of this thread's last refusal, once; None when there was none.
cdef object refusal()
# Bytes that the allocator of a device has handed out in all, and that are in use.
cdef void usage(int device, int64_t *taken, int64_t *in_use) noexcept nogil
