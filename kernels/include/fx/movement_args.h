/* What the kernels of kernels/cuda/movement.cu are launched with; filled by ferrox/_core/cuda/movement.pyx.  C. */
#ifndef FX_MOVEMENT_ARGS_H
#define FX_MOVEMENT_ARGS_H
#include <stdint.h>

#define FX_WHERE_DIMS 40 /* dimensions of size 2 and more that an array can have */
#define FX_CAT_INPUTS 64

typedef struct fx_where_args {
    void *out;
    const uint8_t *condition;
    const void *x, *y;
    uint64_t value[2]; /* of x, y without data */
    int64_t n;
    int32_t ndim;
    int32_t together; /* four elements per access: one dimension without gaps, aligned */
    int64_t size[FX_WHERE_DIMS]; /* innermost first */
    int64_t stride[FX_WHERE_DIMS][4]; /* of out, condition, x, y, in elements */
} fx_where_args;

typedef struct fx_cat_args {
    void *out;
    int64_t outer, row; /* rows of the output, and words in each */
    const void *x[FX_CAT_INPUTS];
    int64_t size[FX_CAT_INPUTS], start[FX_CAT_INPUTS]; /* words of an input in a row, and of those before */
} fx_cat_args;

typedef struct fx_triangle_args {
    void *out;
    const void *x;
    int64_t n, rows, columns, k;
    int32_t upper, unused;
} fx_triangle_args;

typedef struct fx_range_args {
    char *out;
    int64_t n, first, by; /* of integers */
    double start, step, end;
    int32_t dtype, form; /* 0 integers, 1 from the start, 2 from both ends */
} fx_range_args;

#endif
