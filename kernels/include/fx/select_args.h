/* What the kernels of kernels/cuda/select.cu are launched with; filled by ferrox/_core/cuda/select.pyx.  C. */
#ifndef FX_SELECT_ARGS_H
#define FX_SELECT_ARGS_H
#include <stdint.h>

#define FX_NONZERO_DIMS 64
#define FX_SHARED_BINS 4096 /* counted in shared memory first */

typedef struct fx_mask_args {
    const void *x;       /* what is tested, or taken */
    const uint8_t *mask;
    void *out;
    const void *src;
    int64_t *before;     /* [tile]: true elements in it, then in those before; behind them the total */
    void *fault;
    uint64_t kept;       /* the bits that make an element true */
    int64_t n, tiles, limit; /* limit: elements of out, or of src */
    int32_t kernel, ndim;
    int64_t size[FX_NONZERO_DIMS];
} fx_mask_args;

typedef struct fx_bins_args {
    const void *x;
    const int64_t *weights; /* or NULL: ones */
    int64_t *counts;
    void *out;
    void *fault;
    double low, high;
    int64_t n, bins;
    int32_t kernel, unused;
} fx_bins_args;

typedef struct fx_runs_args {
    const void *x;
    const int64_t *indices; /* or NULL */
    void *values;
    int64_t *inverse; /* or NULL */
    int64_t *starts, *counts; /* or NULL */
    int64_t *before; /* [tile], as above */
    int64_t n, tiles, runs;
} fx_runs_args;

#endif
