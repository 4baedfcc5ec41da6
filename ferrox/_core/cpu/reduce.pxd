# The table between the reduction driver (reduce.pyx) and its levelled loops (reduce_loops.pyx, fx/reduce.h).
cdef extern from "fx/reduce_table.h" nogil:
    enum:
        FX_SUM
        FX_NANSUM
        FX_PROD
        FX_AMAX
        FX_AMIN
        FX_COUNT
        FX_SUM_ABS
        FX_SUM_SQUARES
        FX_MAX_ABS
        FX_MIN_ABS
        FX_SUM_POWERS
        FX_ARGMAX
        FX_ARGMIN
        FX_VAR
        FX_LOGSUMEXP
        FX_REDUCTIONS
    ctypedef struct fx_reduce_entry:
        void (*row)(void *state, const void *x, Py_ssize_t n, Py_ssize_t done, const double *p) noexcept nogil
        void (*fold)(void *a, void *b, const void *x, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t n,
                     Py_ssize_t done, const double *p) noexcept nogil
        void (*combine)(void *a, void *b, const void *a2, const void *b2, Py_ssize_t n, Py_ssize_t count,
                        Py_ssize_t count2) noexcept nogil

cdef fx_reduce_entry reducers[15][10]   # by reduction and dtype; NULL where there is none
