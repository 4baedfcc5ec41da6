# The caching allocator: what may be asked of it.  See allocator.pyx for its policy.
from libc.stdint cimport uint64_t

from ferrox._core.cuda.contract cimport fx_memory_source, fx_out_of_memory, fx_snapshot, fx_statistics
from ferrox._core.cuda.allocator_state cimport fx_allocator

# Streams are identities: a handle must not come to mean another stream while memory is cached for it.
# A tag (who asks: an operator's name, a user's label) is a C string that lives as long as the allocator, or NULL.
# Statuses are those of kernels/include/fx/abi.h, HOST_MEMORY, and the source's own.  Any thread may call, without the
# GIL.
cdef fx_allocator *allocator_new(const fx_memory_source *source) noexcept nogil
cdef void allocator_destroy(fx_allocator *a) noexcept nogil
# `why` may be NULL; it is filled on failure, and its snapshot is then the caller's to free (heap.free_snapshot).
cdef int allocator_allocate(fx_allocator *a, size_t nbytes, void *stream, const char *tag, void **pointer,
                            fx_out_of_memory *why) noexcept nogil
cdef int allocator_release(fx_allocator *a, void *pointer) noexcept nogil
# Say who asked for the block in use at an address, where that is not known yet.
cdef void allocator_label(fx_allocator *a, void *pointer, const char *tag) noexcept nogil
cdef int allocator_record_stream(fx_allocator *a, void *pointer, void *stream) noexcept nogil
cdef size_t allocator_empty_cache(fx_allocator *a) noexcept nogil
cdef int allocator_begin_pool(fx_allocator *a, uint64_t number, void *stream, bint any_stream) noexcept nogil
cdef int allocator_end_pool(fx_allocator *a, uint64_t number) noexcept nogil
cdef int allocator_release_pool(fx_allocator *a, uint64_t number) noexcept nogil
cdef size_t allocator_limit(fx_allocator *a) noexcept nogil
cdef void allocator_set_limit(fx_allocator *a, size_t limit) noexcept nogil
cdef void allocator_statistics(fx_allocator *a, fx_statistics *copy) noexcept nogil
cdef void allocator_reset(fx_allocator *a, bint peaks, bint sums) noexcept nogil
# Free the copy with heap.free_snapshot.
cdef bint allocator_snapshot(fx_allocator *a, fx_snapshot *copy) noexcept nogil
