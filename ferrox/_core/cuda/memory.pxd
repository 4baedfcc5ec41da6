# The caching allocator as a Python object.  See memory.pyx.
from ferrox._core.cuda.contract cimport fx_out_of_memory
from ferrox._core.cuda.allocator_state cimport fx_allocator

cdef class CachingAllocator:
    cdef fx_allocator *state
    cdef readonly object source

cdef const char *label(object tag) except? NULL
cdef int raise_allocation(fx_allocator *a, int status, fx_out_of_memory *why) except -1
