/* Where an array lies in memory, and whether two share some of it.  C.
 *
 * Two strided windows share a byte if there are indices with
 *     a + sum(i_d * stride_d) + u  =  b + sum(j_d * stride_d) + v,    u, v within an element:
 * a bounded equation in whole numbers.  Brought to positive coefficients, largest first, it is solved by trying for each
 * coefficient the few counts that leave a rest which the smaller ones can still make up.  With the layouts that occur
 * one or two counts remain each time; should it take more than FX_OVERLAP_STEPS, the windows count as sharing.
 */
#ifndef FX_OVERLAP_H
#define FX_OVERLAP_H
#include "abi.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FX_OVERLAP_STEPS 4096

typedef struct fx_terms {
    int n, steps;
    int64_t coefficient[2 * FX_MAX_DIMS + 1], bound[2 * FX_MAX_DIMS + 1]; /* by coefficient, falling */
    int64_t most[2 * FX_MAX_DIMS + 2];                                   /* of the terms from here on */
} fx_terms;

/* The bytes from *low to before *high hold every element. */
static inline void fx_extent(const fx_array *a, const char **low, const char **high) {
    int itemsize = fx_itemsize(a->dtype);
    *low = *high = (const char *)a->data;
    if (a->numel == 0) return;
    if (a->flags & FX_CONTIGUOUS) {
        *high += a->numel * itemsize;
        return;
    }
    for (int d = 0; d < a->ndim; d++) {
        int64_t reach = (a->dims[d] - 1) * a->dims[a->ndim + d] * itemsize;
        *(reach < 0 ? low : high) += reach;
    }
    *high += itemsize;
}

/* Whether both are the very same elements in the same order, so that each is read before it is written. */
static inline int fx_same_window(const fx_array *a, const fx_array *b) {
    if (a->data != b->data || a->dtype != b->dtype || a->ndim != b->ndim || a->numel != b->numel) return 0;
    for (int d = 0; d < a->ndim; d++)
        if (a->dims[d] != b->dims[d] || (a->dims[d] > 1 && a->dims[a->ndim + d] != b->dims[b->ndim + d])) return 0;
    return 1;
}

static inline void fx_add_term(fx_terms *t, int64_t coefficient, int64_t bound) {
    int at = 0;
    if (bound <= 0 || coefficient == 0) return;
    while (at < t->n && t->coefficient[at] > coefficient) at++;
    if (at < t->n && t->coefficient[at] == coefficient) {
        t->bound[at] += bound;
        return;
    }
    for (int k = t->n++; k > at; k--) {
        t->coefficient[k] = t->coefficient[k - 1];
        t->bound[k] = t->bound[k - 1];
    }
    t->coefficient[at] = coefficient;
    t->bound[at] = bound;
}

/* Whether the terms from `at` on can make up `rest`. */
static inline int fx_can_make(fx_terms *t, int at, int64_t rest) {
    if (rest < 0 || rest > t->most[at]) return 0;
    if (at == t->n) return 1; /* most is 0 here, and so is the rest */
    if (++t->steps > FX_OVERLAP_STEPS) return 1;
    int64_t c = t->coefficient[at], high = rest / c, low = rest - t->most[at + 1];
    low = low <= 0 ? 0 : (low + c - 1) / c;
    if (high > t->bound[at]) high = t->bound[at];
    for (int64_t count = high; count >= low; count--)
        if (fx_can_make(t, at + 1, rest - count * c)) return 1;
    return 0;
}

static inline int fx_solvable(fx_terms *t, int64_t sum) {
    t->most[t->n] = 0;
    for (int k = t->n - 1; k >= 0; k--) t->most[k] = t->most[k + 1] + t->coefficient[k] * t->bound[k];
    return fx_can_make(t, 0, sum);
}

/* Whether two elements of one window share memory.  Where every stride leads beyond all that the smaller ones reach, no
 * two do.  Else two indices meet if the differences in each dimension, not all zero, cancel: for each dimension in turn
 * the first with one, which may be taken as positive. */
static inline int fx_overlaps_itself(const fx_array *a) {
    int64_t size[FX_MAX_DIMS], stride[FX_MAX_DIMS], reach = 0;
    int n = 0, nested = 0;
    fx_terms t;
    if (a->flags & FX_CONTIGUOUS || a->numel <= 1) return 0;
    for (int d = 0; d < a->ndim; d++) { /* by stride, rising */
        int64_t step = a->dims[a->ndim + d];
        int at = n;
        if (a->dims[d] == 1) continue;
        if (step == 0) return 1;
        if (step < 0) step = -step;
        for (n++; at > 0 && stride[at - 1] > step; at--) {
            stride[at] = stride[at - 1];
            size[at] = size[at - 1];
        }
        stride[at] = step;
        size[at] = a->dims[d];
    }
    for (int k = 0; k < n; k++) {
        nested |= stride[k] <= reach;
        reach += (size[k] - 1) * stride[k];
    }
    for (int k = n - 1; nested && k >= 0; k--) {
        int64_t sum = -stride[k];
        t.n = t.steps = 0;
        fx_add_term(&t, stride[k], size[k] - 2);
        for (int j = 0; j < k; j++) {
            fx_add_term(&t, stride[j], 2 * (size[j] - 1));
            sum += (size[j] - 1) * stride[j];
        }
        if (fx_solvable(&t, sum)) return 1;
    }
    return 0;
}

/* Whether two arrays share memory. */
static inline int fx_overlap(const fx_array *a, const fx_array *b) {
    const char *a_low, *a_high, *b_low, *b_high;
    fx_terms t;
    if (a->numel == 0 || b->numel == 0) return 0;
    if (a->storage && b->storage && a->storage != b->storage && !a->storage->owner && !b->storage->owner)
        return 0; /* blocks of their own; foreign memory may come in twice */
    if (a->device_type != b->device_type || a->device_index != b->device_index) return 0;
    fx_extent(a, &a_low, &a_high);
    fx_extent(b, &b_low, &b_high);
    if (a_high <= b_low || b_high <= a_low) return 0;
    if (a->flags & b->flags & FX_CONTIGUOUS) return 1;
    /* From the lowest byte of a upwards, from the highest of b downwards: they meet, or not. */
    t.n = t.steps = 0;
    for (int side = 0; side < 2; side++) {
        const fx_array *x = side ? b : a;
        int item = fx_itemsize(x->dtype);
        fx_add_term(&t, 1, item - 1);
        if (x->flags & FX_CONTIGUOUS) {
            fx_add_term(&t, item, x->numel - 1);
            continue;
        }
        for (int d = 0; d < x->ndim; d++) {
            int64_t stride = x->dims[x->ndim + d] * item;
            fx_add_term(&t, stride < 0 ? -stride : stride, x->dims[d] - 1);
        }
    }
    return fx_solvable(&t, b_high - 1 - a_low);
}

#ifdef __cplusplus
}
#endif
#endif
