/* What the reduction driver (cpu/reduce.pyx) and its levelled loops (reduce.h) share.  C, no Python.h. */
#ifndef FX_REDUCE_TABLE_H
#define FX_REDUCE_TABLE_H
#include <stddef.h>

// clang-format off
enum fx_reduction {
    FX_SUM, FX_NANSUM, FX_PROD, FX_AMAX, FX_AMIN, FX_COUNT, FX_SUM_ABS, FX_SUM_SQUARES, FX_MAX_ABS, FX_MIN_ABS,
    FX_SUM_POWERS, FX_ARGMAX, FX_ARGMIN, FX_VAR, FX_LOGSUMEXP, FX_REDUCTIONS
};
// clang-format on

typedef struct fx_reduce_entry {
    /* n contiguous items into one state; `done` items are in it already */
    void (*row)(void *state, const void *x, ptrdiff_t n, ptrdiff_t done, const double *p);
    /* rows of n items into n states, whose first and second cells lie in a and b */
    void (*fold)(void *a, void *b, const void *x, ptrdiff_t stride, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t done,
                 const double *p);
    /* n states of count2 later items into n states of count items */
    void (*combine)(void *a, void *b, const void *a2, const void *b2, ptrdiff_t n, ptrdiff_t count, ptrdiff_t count2);
} fx_reduce_entry;
#endif
