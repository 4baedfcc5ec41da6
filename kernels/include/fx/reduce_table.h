/* The reductions of reductions.h as tables, for the drivers (cpu/reduce.pyx, cuda/reduce.pyx); and what the CPU's driver
 * shares with its levelled loops (reduce.h).  C, no Python.h. */
#ifndef FX_REDUCE_TABLE_H
#define FX_REDUCE_TABLE_H
#include <stddef.h>
#include <stdint.h>

/* What becomes of a state: as it is, times the parameter, all or any (of a count), roots, the index alone or beside its
 * value, a variance and its mean, a logarithm.  The kernel of a hidden one has another name. */
enum fx_reduce_finish {
    FX_FINISH_PLAIN,
    FX_FINISH_SCALE,
    FX_FINISH_ALL,
    FX_FINISH_ANY,
    FX_FINISH_ROOT,
    FX_FINISH_POWER,
    FX_FINISH_INDEX,
    FX_FINISH_WITH_INDEX,
    FX_FINISH_DEVIATION,
    FX_FINISH_LOG,
    FX_FINISH_HIDDEN
};

enum fx_reduction {
#define FX_SUM(name, ...) FX_REDUCE_##name,
#define FX_FOLD(name, ...) FX_REDUCE_##name,
#define FX_EXTREME(name, ...) FX_REDUCE_##name,
#define FX_PLACE(name, ...) FX_REDUCE_##name,
#define FX_STATES(name, ...) FX_REDUCE_##name,
#include "reductions.h"
    FX_REDUCTIONS
};

/* By kernel, hidden ones included; ends with a NULL. */
typedef struct fx_reduce_kernel {
    const char *name;
    int reduction, finish;
} fx_reduce_kernel;
__attribute__((unused)) static const fx_reduce_kernel fx_reduce_kernels[] = {
#define FX_SUM(name, dtypes, within, counted, item, finish) {#name, FX_REDUCE_##name, FX_FINISH_##finish},
#define FX_FOLD(name, dtypes, within, start, step, merge, finish) {#name, FX_REDUCE_##name, FX_FINISH_##finish},
#define FX_EXTREME(name, dtypes, start, item, beats, finish) {#name, FX_REDUCE_##name, FX_FINISH_##finish},
#define FX_PLACE(name, dtypes, of, finish) {#name, FX_REDUCE_##name, FX_FINISH_##finish},
#define FX_STATES(name, dtypes, source, bytes, finish) {#name, FX_REDUCE_##name, FX_FINISH_##finish},
#define FX_ALSO(kernel, reduction, finish) {#kernel, FX_REDUCE_##reduction, FX_FINISH_##finish},
#include "reductions.h"
    {NULL, 0, 0}};

/* By reduction: what the GPU's driver looks for.  Bytes of a state of double or int64, and of one of float. */
typedef struct fx_reduce_family {
    const char *name, *source;
    int integers, bytes, float_bytes;
} fx_reduce_family;
#define FX_TAKES_REAL 0
#define FX_TAKES_NUMBER 1
#define FX_FLOAT_T 4
#define FX_FLOAT_double 8
__attribute__((unused)) static const fx_reduce_family fx_reduce_families[] = {
#define FX_SUM(name, dtypes, ...) {#name, "sums", FX_TAKES_##dtypes, 8, 8},
#define FX_FOLD(name, dtypes, within, ...) {#name, "sums", FX_TAKES_##dtypes, 8, FX_FLOAT_##within},
#define FX_EXTREME(name, dtypes, ...) {#name, "extremes", FX_TAKES_##dtypes, 8, 4},
#define FX_PLACE(name, dtypes, ...) {#name, "extremes", FX_TAKES_##dtypes, 16, 16},
#define FX_STATES(name, dtypes, source, bytes, finish) {#name, #source, FX_TAKES_##dtypes, bytes, bytes},
#include "reductions.h"
};

typedef struct fx_reduce_entry {
    /* n contiguous items into one state; `done` items are in it already */
    void (*row)(void *state, const void *x, ptrdiff_t n, ptrdiff_t done, const double *p);
    /* rows of n items into n states, whose first and second cells lie in a and b */
    void (*fold)(void *a, void *b, const void *x, ptrdiff_t stride, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t done,
                 const double *p);
    /* n states of count2 later items into n states of count items */
    void (*combine)(void *a, void *b, const void *a2, const void *b2, ptrdiff_t n, ptrdiff_t count, ptrdiff_t count2);
    int64_t start[2]; /* the cells of a state of no items, as bits */
    int cells; /* 2 where the second is used */
    int whole; /* the first is int64 whatever the items are */
    int ordered; /* the items have to come in their order */
} fx_reduce_entry;

#ifdef __cplusplus
#include "bits.h"
namespace fx {
/* What every value of T beats, and what beats every value. */
template <class T> FX_HD constexpr T least() {
    constexpr uint64_t sign = uint64_t(1) << (8 * sizeof(T) - 1);
    if constexpr (T(0.5) != T(0))
        return -ieee<T>::infinity;
    else
        return T(T(-1) < T(0) ? sign : 0);
}
template <class T> FX_HD constexpr T greatest() {
    constexpr uint64_t sign = uint64_t(1) << (8 * sizeof(T) - 1);
    if constexpr (T(0.5) != T(0))
        return ieee<T>::infinity;
    else
        return T(T(-1) < T(0) ? ~sign : ~uint64_t(0));
}
} // namespace fx
#endif
#endif
