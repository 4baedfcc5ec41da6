# The tables of the reductions (fx/reduce_table.h), and the loops of the chosen CPU level (reduce_loops.pyx).
from libc.stdint cimport int64_t

from ferrox._core.abi cimport FX_DTYPES

cdef extern from "fx/reduce_table.h" nogil:
    enum:
        FX_REDUCE_sum
        FX_REDUCE_nansum
        FX_REDUCE_sum_abs
        FX_REDUCE_sum_squares
        FX_REDUCE_sum_powers
        FX_REDUCE_max_abs
        FX_REDUCE_min_abs
        FX_REDUCE_count
        FX_REDUCTIONS
    enum:
        FX_FINISH_PLAIN
        FX_FINISH_SCALE
        FX_FINISH_ALL
        FX_FINISH_ANY
        FX_FINISH_ROOT
        FX_FINISH_POWER
        FX_FINISH_INDEX
        FX_FINISH_WITH_INDEX
        FX_FINISH_DEVIATION
        FX_FINISH_LOG
        FX_FINISH_HIDDEN
    ctypedef struct fx_reduce_kernel:
        const char *name
        int reduction, finish
    const fx_reduce_kernel *fx_reduce_kernels
    ctypedef struct fx_reduce_entry:
        void (*row)(void *state, const void *x, Py_ssize_t n, Py_ssize_t done, const double *p) noexcept nogil
        void (*fold)(void *a, void *b, const void *x, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t n,
                     Py_ssize_t done, const double *p) noexcept nogil
        void (*combine)(void *a, void *b, const void *a2, const void *b2, Py_ssize_t n, Py_ssize_t count,
                        Py_ssize_t count2) noexcept nogil
        int64_t start[2]
        int cells, whole, ordered

cdef fx_reduce_entry reducers[FX_REDUCTIONS][FX_DTYPES]   # NULL where a reduction is not defined for a dtype
