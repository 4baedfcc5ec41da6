"""The CPU backend: its memory, and the modules that provide its kernels.  Importing this module registers both."""
from libc.stdlib cimport free
from libc.string cimport memcpy

from ferrox._core.abi cimport FX_CPU, fx_backend
from ferrox._core.door.backend cimport provide_backend

cdef extern from "<stdlib.h>" nogil:
    void *aligned_alloc(size_t alignment, size_t size)

# Who gives and takes back what is smaller than two huge pages.  jemalloc is faster there and slower above.
cdef extern from *:
    """
    #ifdef FX_JEMALLOC
    #define JEMALLOC_NO_DEMANGLE  /* je_mallocx, whatever prefix the library was built with */
    #include <jemalloc/jemalloc.h>
    #define fx_block_allocate(bytes) je_mallocx(bytes, MALLOCX_ALIGN(64))
    #define fx_block_release(block, bytes) je_sdallocx(block, bytes, MALLOCX_ALIGN(64))
    #else
    #define fx_block_allocate(bytes) aligned_alloc(64, ((bytes) + 63) & ~(size_t)63)
    #define fx_block_release(block, bytes) free(block)
    #endif
    """
    void *fx_block_allocate(size_t bytes) nogil
    void fx_block_release(void *block, size_t bytes) nogil

cdef extern from "<sys/mman.h>" nogil:
    int madvise(void *address, size_t length, int advice)
    int MADV_HUGEPAGE

cdef enum:
    HUGE = 1 << 21  # a huge page; large blocks are aligned to it and ask for them

cdef fx_backend _backend


cdef void *_allocate(size_t bytes, int device) noexcept nogil:
    cdef void *block
    if bytes < 2 * HUGE:
        return fx_block_allocate(bytes)
    bytes = (bytes + HUGE - 1) & ~(<size_t> HUGE - 1)
    block = aligned_alloc(HUGE, bytes)
    if block != NULL:
        madvise(block, bytes, MADV_HUGEPAGE)
    return block


cdef void _release(void *block, size_t bytes, int device) noexcept nogil:
    if bytes < 2 * HUGE:
        fx_block_release(block, bytes)
    else:
        free(block)


cdef int _copy(void *to, int to_device, const void *from_, int from_device, size_t bytes, int wait) noexcept nogil:
    memcpy(to, from_, bytes)
    return 0


cdef int _synchronise(int device) noexcept nogil:
    return 0


_backend.name = b"cpu"
_backend.allocate = _allocate
_backend.release = _release
_backend.copy = _copy
_backend.synchronise = _synchronise
provide_backend(FX_CPU, &_backend)
