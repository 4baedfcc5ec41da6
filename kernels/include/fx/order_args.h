/* What the kernels of kernels/cuda/order.cu are launched with; filled by ferrox/_core/cuda/order.pyx.  C.
 *
 * Rows of n pairs each, one behind the other: a key, and a value below 2^32 (or none: the position in the row).
 */
#ifndef FX_ORDER_ARGS_H
#define FX_ORDER_ARGS_H
#include <stdint.h>

enum {
    FX_RADIX_BITS = 8,
    FX_RADIX_TILE = 16 << 10, /* bytes of keys in a tile, which a block takes at a time */
    FX_SHORT_ROW = 2048,      /* pairs that one block sorts in shared memory */
    FX_SHORT_PREFIX = 256, /* counts of a sequence up to which a warp adds them up, and beyond which a block does */
    FX_TILE = 2048 /* elements of a tile of scan.cuh */
};

typedef struct fx_radix_args {
    const void *keys;
    const uint32_t *values; /* NULL: positions */
    void *keys_out;
    uint32_t *values_out;
    uint32_t *counts; /* [row][digit][tile]: how many; then how many of the same digit stand before */
    uint32_t *totals; /* [row][digit] */
    int64_t n, rows, tiles;
    int32_t shift, bits;
} fx_radix_args;

typedef struct fx_prefix_args {
    void *counts; /* [sequence][n]; replaced by the sums of those before */
    void *totals; /* [sequence] */
    int64_t sequences, n;
} fx_prefix_args;

typedef struct fx_short_args {
    const void *keys;
    const uint32_t *values;
    void *keys_out;
    uint32_t *values_out;
    int64_t n, rows;
    int64_t width; /* the power of two that n is padded to */
} fx_short_args;

#endif
