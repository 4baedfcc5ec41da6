# Few long rows, cut into pieces to have blocks for a whole device (fx_pieces of fx/rows_args.h).  Inline only.
from libc.stdint cimport int64_t

from ferrox._core.abi cimport FX_ERROR_MEMORY, FX_OK
from ferrox._core.cuda.module cimport cuda_kernel
from ferrox._core.cuda.rows cimport ENOUGH, PLENTY, REGISTER_ROW, THREADS, ceiling, run_blocks
from ferrox._core.cuda.rows_args cimport fx_pieces
from ferrox._core.cuda.scratch cimport scratch, scratch_free

cdef enum:
    LONG_ROW = 32768        # elements from which on a row counts as long


cdef inline int64_t cut_rows(fx_pieces *by, int64_t rows, int64_t n) noexcept nogil:
    """Pieces of long rows, where there are few of them; by the shape alone.  Returns how many there are in all."""
    by.count, by.merging = 1, 0
    if n >= LONG_ROW and rows < ENOUGH // 2:
        by.count = min(min(ceiling(PLENTY, rows), n // REGISTER_ROW), <int64_t> THREADS)
    by.size = max(<int64_t> 1, ceiling(ceiling(n, by.count), REGISTER_ROW)) * REGISTER_ROW
    by.count = max(<int64_t> 1, ceiling(n, by.size))
    return rows * by.count


cdef inline int run_long_rows(cuda_kernel *kernel, int device, int64_t rows, int64_t n, size_t state, fx_pieces *by,
                              void *args) noexcept nogil:
    """`each_long_row` of rows.cuh, by one launch or two; `by` is in `args`, and `state` the bytes of a state."""
    cdef int64_t pieces = cut_rows(by, rows, n)
    cdef int status
    if by.count == 1:
        return run_blocks(kernel, device, rows, args)
    by.partial = scratch(device, <size_t> pieces * state)
    if by.partial == NULL:
        return FX_ERROR_MEMORY
    status = run_blocks(kernel, device, pieces, args)
    if status == FX_OK:
        by.merging = 1
        status = run_blocks(kernel, device, pieces, args)
    scratch_free(device, by.partial)
    return status
