# Sorting of pairs, prefix sums, and how the families that follow values launch.  See order.pyx.
from libc.stdint cimport int64_t, uint32_t

from ferrox._core.abi cimport fx_array, fx_call
from ferrox._core.cuda.module cimport cuda_kernel

cdef extern from "fx/order_args.h" nogil:
    enum:
        FX_SHORT_ROW
        FX_TILE

# Pairs of a key (4 or 8 bytes) and a value below 2^32: two buffers of each, the pairs in number `at`.
cdef struct pairs:
    void *keys[2]
    uint32_t *values[2]
    int at
    int key_bytes
    void *block                 # what all of it was cut from

# Enough for rows of n pairs; FX_ERROR_MEMORY otherwise.
cdef int open_pairs(pairs *p, int device, int64_t n, int64_t rows, int key_bytes) noexcept nogil
cdef void close_pairs(pairs *p, int device) noexcept nogil
# Put each row in order of the lowest `bits` of its keys, equal keys as they stood.  Without `given` values, they are
# the positions in the row.  The result is a status.
cdef int sort_pairs(pairs *p, int device, int64_t n, int64_t rows, int bits, bint given) noexcept nogil
# Replace counts [sequences][n] by the sums of those before, and write the sum of each to totals.
cdef int prefix_sums(int device, int64_t *counts, int64_t *totals, int64_t sequences, int64_t n) noexcept nogil

# Launch with `blocks` of 256 threads, or as many as keep the device busy; the kernel takes as many rounds as it needs.
cdef int launch_blocks(cuda_kernel *kernel, int device, int64_t blocks, void *args) noexcept nogil
cdef inline int launch_elements(cuda_kernel *kernel, int device, int64_t n, void *args) noexcept nogil:
    return launch_blocks(kernel, device, (n + 255) // 256, args)
cdef int set_bytes(int device, void *to, int value, size_t bytes) noexcept nogil
# Run a kernel of this device by its number over out, x.
cdef int run_unary(int kernel, fx_array *out, fx_array *x, int dtype) noexcept nogil
# The number of bits of a number.
cdef inline int bits_of(int64_t value) noexcept nogil:
    cdef int bits = 0
    while value >> bits and bits < 63:
        bits += 1
    return bits
cdef inline int64_t blocks_for(int64_t n, int64_t each) noexcept nogil:
    return (n + each - 1) // each
# Write a message to the call; returns the status.
cdef int refused(fx_call *call, int status, const char *message) noexcept nogil
