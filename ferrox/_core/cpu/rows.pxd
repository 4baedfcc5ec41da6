# Helpers of the kernels that work along rows (fx/rows.h), and their way over threads.  Inline only.
from cython.parallel cimport prange
from libc.stdint cimport int64_t, intptr_t
from libc.stdlib cimport free, malloc

from ferrox._core.door cimport threads
from ferrox._core.abi cimport FX_ERROR_MEMORY, FX_F64, FX_OK, FX_CONTIGUOUS, fx_array, fx_call

cdef extern from "fx/rows.h" namespace "fx" nogil:
    int dtype_of(const float *)
    const float *load_row(const void *data, int dtype, int64_t offset, int64_t stride, int64_t n, float *scratch)
    void store_row(const float *x, void *data, int dtype, int64_t offset, int64_t stride, int64_t n)
    void load_one(float *v, const fx_array *a, int64_t i)
    void store_one(float v, const fx_array *a, int64_t i)
    const float *load_flat(const fx_array *a, int64_t start, int64_t n, float *scratch)
    void store_flat(const float *y, const fx_array *a, int64_t start, int64_t n)
    float *target(const fx_array *o, int streamed, int64_t stride, int64_t start, float *scratch)
    void deliver(const fx_array *o, int streamed, int64_t stride, int64_t start, const float *y, int64_t n)
    void load_columns(const fx_array *a, int dim, int64_t first, int64_t rows, int64_t n, float *o, int64_t ldo,
                      float *scratch)
    void store_columns(const float *x, int64_t ldx, const fx_array *a, int64_t first, int64_t rows, int64_t n,
                       float *scratch)
    int dtype_of(const double *)
    const double *load_row(const void *data, int dtype, int64_t offset, int64_t stride, int64_t n, double *scratch)
    void store_row(const double *x, void *data, int dtype, int64_t offset, int64_t stride, int64_t n)
    void load_one(double *v, const fx_array *a, int64_t i)
    void store_one(double v, const fx_array *a, int64_t i)
    const double *load_flat(const fx_array *a, int64_t start, int64_t n, double *scratch)
    void store_flat(const double *y, const fx_array *a, int64_t start, int64_t n)
    double *target(const fx_array *o, int streamed, int64_t stride, int64_t start, double *scratch)
    void deliver(const fx_array *o, int streamed, int64_t stride, int64_t start, const double *y, int64_t n)
    void load_columns(const fx_array *a, int dim, int64_t first, int64_t rows, int64_t n, double *o, int64_t ldo,
                      double *scratch)
    void store_columns(const double *x, int64_t ldx, const fx_array *a, int64_t first, int64_t rows, int64_t n,
                       double *scratch)
    int64_t offset_of(const fx_array *a, int64_t flat, int skip)
    ctypedef struct streamer:
        pass
    void stream_open(streamer *s, void *to)
    void stream_add(streamer *s, const void *from_, size_t bytes)
    void stream_close(streamer *s)

cdef enum:
    GRAIN = 1 << 15          # elements that are worth a second thread
    STREAM_BYTES = 1 << 24   # outputs from this size on are written past the cache

# Rows [begin, end) of the work described by `task`; scratch is the thread's own.
ctypedef void (*row_worker)(void *task, void *scratch, int64_t begin, int64_t end) noexcept nogil


cdef inline int over_rows(row_worker work, void *task, int64_t rows, int64_t elements,
                          size_t scratch_bytes) noexcept nogil:
    """Shares rows out to threads; `elements` (about how many are touched in all) decides whether more than one pays."""
    cdef int64_t count = threads.num_threads, t
    cdef char *scratch = NULL
    cdef size_t each = (scratch_bytes + 127) & ~<size_t> 63
    count = max(<int64_t> 1, min(count, min(rows, elements // GRAIN)))
    if scratch_bytes:
        scratch = <char *> malloc(each * count + 64)
        if scratch == NULL:
            return FX_ERROR_MEMORY
    cdef char *aligned = <char *> ((<intptr_t> scratch + 63) & ~<intptr_t> 63)
    if count == 1:
        work(task, aligned, 0, rows)
    else:
        for t in prange(count, num_threads=count, schedule="static", chunksize=1):
            work(task, aligned + t * each, rows * t // count, rows * (t + 1) // count)
    free(scratch)
    return FX_OK


cdef inline int64_t row_start(const fx_array *a, int64_t row, int dim, int64_t n, int64_t inner) noexcept nogil:
    """Offset of row number `row` along `dim`, rows being counted row-major over the other dimensions."""
    if a.flags & FX_CONTIGUOUS:
        return row * n if inner == 1 else row // inner * n * inner + row % inner
    return offset_of(a, row, dim)
