# Short-lived device memory for kernels, ordered by this thread's current stream.  See scratch.pyx.
cdef void *scratch(int device, size_t bytes) noexcept nogil         # NULL: there is none; return FX_ERROR_MEMORY
cdef void scratch_free(int device, void *block) noexcept nogil      # once the last launch that uses it is queued
