/* Reductions of contiguous rows in a fixed number of lanes: they vectorise, and their order of summation is the same at
 * every vector width.  Partial sums of a few thousand elements are added up in double.  C++, host only.
 */
#ifndef FX_LANES_H
#define FX_LANES_H
#include <math.h>

#include "exp_down.h"

namespace fx {

template <class T> struct plain_type {
    using type = T;
};
template <class T> using given = typename plain_type<T>::type; /* takes no part in the deduction of T */

enum { LANES = 32, SHORT_LANES = 8, SUM_BLOCK = 4096 };

template <class T> inline T fold_short(const T *s) {
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

template <class T> inline T fold(T *s) {
    for (int j = 0; j < SHORT_LANES; j++) s[j] = (s[j] + s[j + 16]) + (s[j + 8] + s[j + 24]);
    return fold_short(s);
}

/* The sum of f(0) .. f(n - 1). */
template <class T, class F> inline double lane_sum(int64_t n, F f) {
    T s[LANES];
    double total = 0;
    int64_t i = 0;
    while (n - i >= LANES) {
        const int64_t stop = n - i > SUM_BLOCK ? i + SUM_BLOCK : n;
        for (int j = 0; j < LANES; j++) s[j] = 0;
        for (; i + LANES <= stop; i += LANES)
            for (int j = 0; j < LANES; j++) s[j] += f(i + j);
        total += fold(s);
    }
    if (n - i >= SHORT_LANES) {
        for (int j = 0; j < SHORT_LANES; j++) s[j] = 0;
        for (; i + SHORT_LANES <= n; i += SHORT_LANES)
            for (int j = 0; j < SHORT_LANES; j++) s[j] += f(i + j);
        total += fold_short(s);
    }
    T rest = 0;
    for (; i < n; i++) rest += f(i);
    return total + rest;
}

template <class T> inline double row_sum(const T *x, int64_t n) {
    return lane_sum<T>(n, [=](int64_t i) { return x[i]; });
}

template <class T> inline double dot_row(const T *x, const T *y, int64_t n) {
    return lane_sum<T>(n, [=](int64_t i) { return x[i] * y[i]; });
}

/* Sum of (x - centre)^2. */
template <class T> inline double square_sum(const T *x, given<T> centre, int64_t n) {
    return lane_sum<T>(n, [=](int64_t i) { return (x[i] - centre) * (x[i] - centre); });
}

/* Sum of g (x - centre). */
template <class T> inline double dot_centred(const T *g, const T *x, given<T> centre, int64_t n) {
    return lane_sum<T>(n, [=](int64_t i) { return g[i] * (x[i] - centre); });
}

/* The largest element; NaN is passed over (it reappears in whatever is computed from the row). */
template <class T> inline T row_max(const T *x, int64_t n) {
    auto larger = [](T a, T b) { return a > b ? a : b; };
    T top = -INFINITY, m[LANES];
    int64_t i = 0;
    if (n < SHORT_LANES) {
        for (; i < n; i++) top = larger(x[i], top);
        return top;
    }
    for (int j = 0; j < LANES; j++) m[j] = -INFINITY;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) m[j] = larger(x[i + j], m[j]);
    for (int w = LANES / 2; w >= SHORT_LANES; w /= 2)
        for (int j = 0; j < w; j++) m[j] = larger(m[j + w], m[j]);
    for (; i + SHORT_LANES <= n; i += SHORT_LANES)
        for (int j = 0; j < SHORT_LANES; j++) m[j] = larger(x[i + j], m[j]);
    i = n - SHORT_LANES; /* what is left, together with elements already seen */
    for (int j = 0; j < SHORT_LANES; j++) m[j] = larger(x[i + j], m[j]);
    for (int w = SHORT_LANES / 2; w; w /= 2)
        for (int j = 0; j < w; j++) m[j] = larger(m[j + w], m[j]);
    return m[0];
}

/* y = exp(x - top), top being the largest element; returns its sum.  y and x do not overlap. */
template <class T> inline double exp_row(const T *x, given<T> top, T *y, int64_t n) {
    T s[LANES];
    double total = 0;
    int64_t i = 0;
    while (n - i >= LANES) {
        const int64_t stop = n - i > SUM_BLOCK ? i + SUM_BLOCK : n;
        for (int j = 0; j < LANES; j++) s[j] = 0;
        for (; i + LANES <= stop; i += LANES)
            for (int j = 0; j < LANES; j++) s[j] += y[i + j] = exp_down(x[i + j] - top);
        total += fold(s);
    }
    if (i == n) return total;
    for (int j = 0; j < SHORT_LANES; j++) s[j] = 0;
    for (; i + SHORT_LANES <= n; i += SHORT_LANES)
        for (int j = 0; j < SHORT_LANES; j++) s[j] += y[i + j] = exp_down(x[i + j] - top);
    if (i < n && n >= SHORT_LANES) { /* the last ones again together with what is left, counted once */
        const int seen = (int)(i - (n - SHORT_LANES));
        i = n - SHORT_LANES;
        for (int j = 0; j < SHORT_LANES; j++) {
            const T e = y[i + j] = exp_down(x[i + j] - top);
            s[j] += j >= seen ? e : 0;
        }
    } else {
        for (; i < n; i++) s[0] += y[i] = exp_down(x[i] - top);
    }
    return total + fold_short(s);
}

template <class T> inline double exp_sum(const T *x, given<T> top, int64_t n) {
    T block[256];
    double total = 0;
    for (int64_t i = 0; i < n; i += 256) total += exp_row<T>(x + i, top, block, n - i < 256 ? n - i : 256);
    return total;
}

/* Sums of g w and of g w (x - centre); w may be NULL for ones. */
template <class T>
inline void gradient_sums(const T *g, const T *x, const T *w, given<T> centre, int64_t n, double *plain,
                          double *product) {
    T s[LANES], p[LANES];
    auto sums = [&](auto weighted) {
        *plain = *product = 0;
        if (n < LANES) {
            T a = 0, b = 0;
            for (int64_t i = 0; i < n; i++) {
                const T v = weighted(i);
                a += v;
                b += v * (x[i] - centre);
            }
            *plain = a;
            *product = b;
            return;
        }
        for (int64_t i = 0; i < n;) {
            const int64_t stop = n - i > SUM_BLOCK ? i + SUM_BLOCK : n;
            for (int j = 0; j < LANES; j++) s[j] = p[j] = 0;
            for (; i + LANES <= stop; i += LANES)
                for (int j = 0; j < LANES; j++) {
                    const T v = weighted(i + j);
                    s[j] += v;
                    p[j] += v * (x[i + j] - centre);
                }
            for (int j = 0; i < stop; i++, j++) {
                const T v = weighted(i);
                s[j] += v;
                p[j] += v * (x[i] - centre);
            }
            *plain += fold(s);
            *product += fold(p);
        }
    };
    if (w)
        sums([=](int64_t i) { return g[i] * w[i]; });
    else
        sums([=](int64_t i) { return g[i]; });
}

} // namespace fx
#endif
