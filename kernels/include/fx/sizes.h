/* Arithmetic on shapes, strides, offsets, counts and bytes that cannot wrap.  C, host only, no Python.h.
 *
 * The checked functions return 1 and write the result, or return 0 where it does not fit into int64.
 */
#ifndef FX_SIZES_H
#define FX_SIZES_H
#include <stdint.h>

#define FX_FITS(function, a, b, result) (!__builtin_##function##_overflow((int64_t)(a), (int64_t)(b), result))

static inline int fx_add(int64_t a, int64_t b, int64_t *sum) { return FX_FITS(add, a, b, sum); }
static inline int fx_sub(int64_t a, int64_t b, int64_t *difference) { return FX_FITS(sub, a, b, difference); }
static inline int fx_mul(int64_t a, int64_t b, int64_t *product) { return FX_FITS(mul, a, b, product); }

/* The nearest value that fits: for bounds that are compared or clamped next. */
static inline int64_t fx_add_clamped(int64_t a, int64_t b) {
    int64_t sum;
    return fx_add(a, b, &sum) ? sum : b < 0 ? INT64_MIN : INT64_MAX;
}
static inline int64_t fx_sub_clamped(int64_t a, int64_t b) {
    int64_t difference;
    return fx_sub(a, b, &difference) ? difference : b > 0 ? INT64_MIN : INT64_MAX;
}

/* Groups of `by` that n >= 0 makes, the last of which may be smaller. */
static inline int64_t fx_ceiling(int64_t n, int64_t by) { return n / by + (n % by != 0); }

/* The elements of a shape, and the bytes of a contiguous array of it.  It fits when the sizes that are not 0 do: strides
 * are made of them. */
static inline int fx_nbytes(int ndim, const int64_t *shape, int64_t itemsize, int64_t *numel, int64_t *bytes) {
    int64_t product = 1;
    int empty = 0;
    for (int d = 0; d < ndim; d++) {
        if (shape[d] == 0)
            empty = 1;
        else if (shape[d] < 0 || !fx_mul(product, shape[d], &product))
            return 0;
    }
    if (!fx_mul(product, itemsize, bytes)) return 0;
    *numel = empty ? 0 : product;
    if (empty) *bytes = 0;
    return 1;
}

/* How far a window reaches, in bytes: from its first element down to the first byte of the lowest one (low <= 0), and
 * up to the end of the highest (high).  Both are 0 for a window without elements. */
static inline int fx_reach(int ndim, const int64_t *shape, const int64_t *strides, int64_t itemsize, int64_t *low,
                           int64_t *high) {
    int64_t below = 0, above = itemsize, step, span;
    int empty = 0;
    for (int d = 0; d < ndim; d++) {
        if (shape[d] == 0) empty = 1;
        if (shape[d] <= 1) continue;
        if (!fx_mul(strides[d], itemsize, &step) || !fx_mul(shape[d] - 1, step, &span)) return 0;
        if (!fx_add(span < 0 ? below : above, span, span < 0 ? &below : &above)) return 0;
    }
    *low = empty ? 0 : below;
    *high = empty ? 0 : above;
    return 1;
}

/* Whether the window that begins `offset` bytes into memory of `size` bytes lies within it. */
static inline int fx_within(int64_t offset, int64_t low, int64_t high, int64_t size) {
    int64_t first, end;
    return fx_add(offset, low, &first) && fx_add(offset, high, &end) && first >= 0 && end <= size;
}

/* A stride multiplied by a step that is taken at most once from `size` elements: where it would not fit, it is not
 * used, and stays. */
static inline int64_t fx_scaled_stride(int64_t stride, int64_t step, int64_t size, int64_t itemsize) {
    int64_t scaled, bytes;
    if (size > 1) return stride * step;
    return fx_mul(stride, step, &scaled) && fx_mul(scaled, itemsize, &bytes) ? scaled : stride;
}
#endif
