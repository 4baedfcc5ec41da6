# Walking of strided, broadcast, mixed-dtype operands in blocks that stay in the L1 cache.  See blocks.pyx.
from libc.stdint cimport int64_t, uint8_t

from ferrox._core.abi cimport fx_array, fx_scalar
from ferrox._core.cpu.table cimport fx_loop

cdef enum:
    BLOCK_BYTES = 8192   # scratch of one operand
    PARALLEL_MIN = 32768  # elements from which a second thread pays


# loop over arrays[0] (out) and up to three inputs; dtypes[0] is what the loop writes, dtypes[1:] what it reads.
# Inputs are broadcast against out.  With loop NULL the one input, of out's dtype, is copied.  Returns an fx_status.
cdef int run_blocks(fx_array **arrays, int n_in, fx_loop loop, const uint8_t *dtypes, const fx_scalar *p) noexcept nogil

# to[r, c] = from[r, c] in items of `size` bytes; strides in items.
cdef void move_tile(void *to, Py_ssize_t trs, Py_ssize_t tcs, const void *source, Py_ssize_t srs, Py_ssize_t scs,
                    Py_ssize_t rows, Py_ssize_t cols, int size) noexcept nogil
