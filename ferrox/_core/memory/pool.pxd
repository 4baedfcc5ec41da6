# A caching pool over an injected source of memory.  See pool.pyx.
ctypedef void *(*source_allocate)(size_t bytes, int device) noexcept nogil
ctypedef void (*source_release)(void *block, size_t bytes, int device) noexcept nogil

cdef enum:
    BINS = 256

cdef struct bin_stack:
    void **blocks
    int count
    int room

cdef class Pool:
    cdef source_allocate allocate_source
    cdef source_release release_source
    cdef int device
    cdef readonly str name
    cdef bin_stack bins[BINS]
    cdef public size_t limit
    cdef public size_t cache_limit
    cdef readonly size_t in_use, cached, peak
    cdef readonly size_t taken      # all bytes ever handed out
    cdef readonly unsigned long long allocations, hits, releases, flushes

cdef void *pool_allocate(Pool pool, size_t bytes) except NULL
cdef void pool_release(Pool pool, void *block, size_t bytes) noexcept
