/* What the kernels of kernels/cuda/indexing.cu and accumulate.cu are launched with; filled by
 * ferrox/_core/cuda/index_walk.pyx.  C.
 *
 * Index arrays have `m` positions.  At each of them stand `q` elements: the dims of x that are not indexed.  Element k
 * of position p is, in x, at (sum of index * stride) + base(p) + kept(k), and in y, where the positions stand between
 * the first kept dims and the last, at (k / inner * m + p) * inner + k % inner.  The key of a position is the number of
 * the place in x that it points to: (sum of index * key_stride) + base(p); that place begins at indexed(key) in x.
 * Everything is counted in elements, or in words where these are wider.
 */
#ifndef FX_INDEX_ARGS_H
#define FX_INDEX_ARGS_H
#include <stdint.h>

#define FX_INDICES 32
#define FX_LAYOUT_DIMS 40

/* The number of an element, row by row, to its offset; innermost dimension first. */
typedef struct fx_layout {
    int64_t ndim;
    int64_t size[FX_LAYOUT_DIMS], stride[FX_LAYOUT_DIMS];
} fx_layout;

typedef struct fx_index_args {
    void *x, *y;
    const int64_t *index[FX_INDICES];
    int64_t size[FX_INDICES], stride[FX_INDICES], key_stride[FX_INDICES];
    void *fault;
    int64_t m, q, inner;
    void *keys;      /* 32 or 64 bits */
    int64_t limit;   /* no key; that of a position whose index is out of range */
    int32_t *owners; /* [key]: the last position that points there */
    const uint32_t *positions; /* in the order of the keys */
    int32_t k;       /* index arrays */
    int32_t wrap;    /* negative indices count from the end */
    int32_t single;  /* y is one element for all */
    int32_t kernel;
    fx_layout base, kept, indexed;
} fx_index_args;

/* cpu/index_walk.pyx: ADD and so on */
enum fx_action { FX_ACTION_ADD, FX_ACTION_MULTIPLY, FX_ACTION_MAXIMUM, FX_ACTION_MINIMUM };

enum { FX_CHUNK = 64 };

typedef struct fx_accumulate_args {
    void *x;
    const void *y;
    const void *keys; /* sorted */
    const uint32_t *positions;
    void *chunks, *superchunks; /* see Note [Runs] in accumulate.cu */
    int64_t m, q, inner, limit;
    int64_t step; /* a thread takes the elements k, k + step, ... below q, four at most */
    double alpha, start_real;
    int64_t alpha_whole, start_whole;
    int32_t action, wide; /* wide: keys of 64 bits */
    int32_t from_start;   /* begin with `start` instead of what is in x */
    int32_t mean, single, unused;
    fx_layout kept, indexed;
} fx_accumulate_args;

#endif
