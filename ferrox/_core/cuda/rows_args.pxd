# The arguments of kernels along rows, as their drivers fill them.
from libc.stdint cimport int32_t, int64_t, uint8_t

cdef extern from "fx/rows_args.h" nogil:
    ctypedef struct fx_pieces:
        void *partial
        int64_t count, size
        int32_t merging
    ctypedef struct fx_softmax_args:
        const void *x
        const void *y
        void *out
        int64_t outer, n, inner
        int32_t group, log
        fx_pieces pieces
    ctypedef struct fx_norm_args:
        const void *x
        const void *g
        const void *weight
        const void *bias
        void *y
        void *mean
        void *rstd
        void *running_mean
        void *running_var
        void *dweight
        void *dbias
        void *partial
        int64_t rows, n, channels, chunk, chunks, count
        double eps, momentum
        int32_t group, centred, training
        uint8_t weight_dtype, bias_dtype, mean_dtype, rstd_dtype, running_mean_dtype, running_var_dtype, \
            dweight_dtype, dbias_dtype
        fx_pieces pieces
    ctypedef struct fx_loss_args:
        const void *x
        const void *weight
        const void *g
        const double *all_weights
        const int64_t *target
        void *out
        void *lse
        void *sample_weight
        void *fault
        int64_t outer, n, inner, ignored
        double smoothing
        int32_t group, kernel
        uint8_t weight_dtype, g_dtype, out_dtype, lse_dtype, sample_weight_dtype
        fx_pieces pieces
    ctypedef struct fx_scan_args:
        const void *x
        const void *a
        void *out
        void *index
        void *states
        int64_t outer, n, inner, chunk, chunks
        int32_t reverse, group, totals, carried
