/* What the kernels of kernels/cuda/sort.cu and search.cu are launched with; filled by ferrox/_core/cuda/sort.pyx and
 * search.pyx.  C.
 *
 * Element i of row r of x stands at ((r / inner) n + i) inner + r % inner; the results are laid out in the same way,
 * `count` to a row.  Keys are made of elements as fx::key_of of keys.cuh says.
 */
#ifndef FX_SORT_ARGS_H
#define FX_SORT_ARGS_H
#include <stdint.h>

typedef struct fx_key_kind {
    uint64_t sign, infinity; /* of the dtype's bits; infinity is 0 for what is no float */
    uint64_t flip;           /* all bits of the dtype for a descending order */
} fx_key_kind;

typedef struct fx_sort_args {
    const void *x;
    void *values;     /* or NULL */
    int64_t *indices; /* or NULL */
    void *keys;
    const uint32_t *positions; /* of the sorted pairs in their row of x */
    fx_key_kind kind;
    int64_t n, rows, inner;
    int64_t pairs;        /* in a row of keys and positions */
    int64_t first, count; /* the ranks that are written */
    int64_t width;        /* of a row in shared memory */
} fx_sort_args;

/* The element of rank k of each row, and what is not greater. */
typedef struct fx_select_args {
    const void *x;
    void *values;
    int64_t *indices;
    void *keys; /* of the least k, as they stand in x */
    uint32_t *positions;
    uint64_t *bound;  /* [row]: the bits of the key that are known */
    uint32_t *left;   /* [row]: its rank among those that agree in these bits */
    uint32_t *counts; /* [row][256] of the next digit */
    int64_t *tiles_before; /* [row][less, equal][tile] */
    fx_key_kind kind;
    int64_t n, rows, inner, tiles, k;
    int32_t shift, unused;
} fx_select_args;

typedef struct fx_search_args {
    int64_t *out;
    const void *sequence, *values;
    int64_t n, length; /* of the sequence */
    int64_t row;       /* values that share a sequence; 0 when all do */
    int32_t right, unused;
} fx_search_args;

#endif
