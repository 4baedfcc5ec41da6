# Page-locked memory of the host: a cache of blocks that streams copy from and to.  See pinned.pyx.
from ferrox._core.cuda.abi cimport CUstream

# A context must be current.  A block of at least `bytes` bytes; NULL when the driver refuses, after `driver_call`.
cdef void *pinned_take(size_t bytes) noexcept nogil
# It is handed out again once what uses it is done.
cdef void pinned_give(void *block) noexcept nogil
# What the stream has been given by now uses the block that holds an address; False when no block does.
cdef bint pinned_use(const void *address, int device, CUstream stream) noexcept nogil
# The graph of a capture is gone: what it copies from and to is used by a stream that replayed it, if any.
cdef void pinned_forget(unsigned long long capture, bint replayed, CUstream stream) noexcept nogil
# Whether a range lies in a block.
cdef bint pinned_holds(const void *address, size_t bytes) noexcept nogil
