/* Reductions of contiguous rows and of columns, with explicit lanes.
 *
 * A state is two cells of eight bytes, a and b: double for floating dtypes, int64 for integers (indices always int64).
 *     row(state, x, n, done)                        folds n contiguous items into one state
 *     fold(a, b, x, stride, rows, n, done)          folds rows of n items into n states
 *     combine(a, b, a2, b2, n, count, count2)       folds n states of count2 items into n states of count items
 * `done` is how many items a state holds already.  The order of the additions depends on n and rows alone, so that
 * every level and every number of threads gives the same bits.
 */
#ifndef FX_REDUCE_H
#define FX_REDUCE_H
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <limits>
#include <type_traits>
#include "abi.h"
#include "reduce_table.h"
#include "scalar.h"

namespace fx {
namespace reduce {

typedef ptrdiff_t size;

/* A row is summed in pieces of SPAN items, columns in pieces of DEPTH rows; what leaves a piece is double or int64. */
enum { SPAN = 16384, DEPTH = 32, STRIP = 256, WIDE_STRIP = 1024, LANE_BYTES = 256 };

#if defined(__AVX512F__)
enum { WIDTH = 64 };
#elif defined(__AVX__)
enum { WIDTH = 32 };
#else
enum { WIDTH = 16 };
#endif

template <class T> struct vector {
    typedef T type __attribute__((vector_size(WIDTH)));
    typedef T loose __attribute__((vector_size(WIDTH), aligned(sizeof(T)), may_alias));
    typedef T half __attribute__((vector_size(WIDTH / 2), aligned(sizeof(T)), may_alias));
};

template <class T> using whole = std::is_integral<T>;
/* What a state is made of. */
template <class T> using cell = std::conditional_t<whole<T>::value, int64_t, double>;

template <class A> static inline typename vector<A>::type load(const A *x) {
    return *(const typename vector<A>::loose *)x;
}
static inline vector<double>::type load_wide(const float *x) {
    return __builtin_convertvector(*(const vector<float>::half *)x, vector<double>::type);
}
template <class A, class T> static inline typename vector<A>::type load_as(const T *x) {
    if constexpr (std::is_same<A, T>::value)
        return load(x);
    else
        return load_wide(x);
}

/* ---- operators, from the lines of reductions.h: step takes an item into an accumulator of type A, merge two
 * accumulators; both on vectors too ---- */

enum form { SUMMED, FOLDED, EXTREME };

#define FX_SUM(name, dtypes, within_, counted, item_, finish)                                                \
    struct name {                                                                                            \
        static constexpr form is = SUMMED;                                                                   \
        template <class A> static constexpr A start = 0;                                                     \
        template <class T> using within = within_; /* the accumulator inside a piece */                      \
        template <class V> static V item(V x, [[maybe_unused]] const double *p) { return item_; }            \
        template <class V> static V step(V a, V x, const double *p) { return counted ? a + item(x, p) : a; } \
        template <class V> static V merge(V a, V b) { return a + b; }                                        \
    };
#define FX_FOLD(name, dtypes, within_, start_, step_, merge_, finish)                                  \
    struct name {                                                                                      \
        static constexpr form is = FOLDED;                                                             \
        template <class A> static constexpr A start = start_;                                          \
        template <class T> using within = within_;                                                     \
        template <class V> static V step(V a, V x, [[maybe_unused]] const double *p) { return step_; } \
        template <class V> static V merge(V a, V b) { return merge_; }                                 \
    };
#define FX_EXTREME(name, dtypes, start_, item_, beats_, finish)                                  \
    struct name {                                                                                \
        static constexpr form is = EXTREME;                                                      \
        template <class A> static constexpr A start = start_;                                    \
        template <class T> using within = T;                                                     \
        template <class V> static V item(V x) { return item_; }                                  \
        template <class V> static auto beats(V x, V a) { return beats_; }                        \
        template <class V> static V merge(V a, V x) { return (beats_) | (x != x) ? x : a; }      \
        template <class V> static V step(V a, V x, const double *) { return merge(a, item(x)); } \
    };
#include "reductions.h"

/* ---- rows ---- */

/* The state of at most SPAN items.  Floating items go into LANE_BYTES of lanes, in two levels of 16 and of
 * SPAN / 16 / lanes steps, and the lanes into a tree of doubles: no addition is deeper than a few dozen. */
template <class Op, class A, class T> static auto piece(const T *x, size n, const double *p) {
    if constexpr (whole<T>::value) {
        A a = Op::template start<A>;
        for (size i = 0; i < n; i++) a = Op::step(a, A(x[i]), p);
        return a;
    } else {
        typedef typename vector<A>::type V;
        constexpr int wide = WIDTH / sizeof(A), count = LANE_BYTES / WIDTH, lanes = wide * count, deep = 16 * lanes;
        V v[count], w[count];
        size i = 0;
#pragma GCC unroll 16
        for (int k = 0; k < count; k++) w[k] = v[k] = V{} + Op::template start<A>;
        for (; i + deep <= n; i += deep) {
#pragma GCC unroll 16
            for (int k = 0; k < count; k++) v[k] = V{} + Op::template start<A>;
            for (size j = i; j < i + deep; j += lanes)
#pragma GCC unroll 16
                for (int k = 0; k < count; k++) v[k] = Op::step(v[k], load_as<A>(x + j + k * wide), p);
#pragma GCC unroll 16
            for (int k = 0; k < count; k++) w[k] = Op::merge(w[k], v[k]);
        }
#pragma GCC unroll 16
        for (int k = 0; k < count; k++) v[k] = V{} + Op::template start<A>;
        for (; i + lanes <= n; i += lanes)
#pragma GCC unroll 16
            for (int k = 0; k < count; k++) v[k] = Op::step(v[k], load_as<A>(x + i + k * wide), p);
#pragma GCC unroll 16
        for (int k = 0; k < count; k++) v[k] = Op::merge(w[k], v[k]);
        A lane[lanes];
        memcpy(lane, v, sizeof lane);
        for (int k = 0; i < n; i++, k++) lane[k] = Op::step(lane[k], A(x[i]), p);
        double total[lanes];
        for (int k = 0; k < lanes; k++) total[k] = lane[k];
        for (int half = lanes / 2; half; half /= 2)
            for (int k = 0; k < half; k++) total[k] = Op::merge(total[k], total[k + half]);
        return total[0];
    }
}

/* The accumulator of a piece: extremes of integers stay in their own width, sums of narrow ones fit 32 bits. */
template <class Op, class T>
using integer_accumulator =
    std::conditional_t<Op::is == EXTREME, T, std::conditional_t<Op::is == SUMMED && sizeof(T) < 4, int32_t, int64_t>>;
template <class Op, class T>
using accumulator = std::conditional_t<whole<T>::value, integer_accumulator<Op, T>, typename Op::template within<T>>;

template <class Op, class T> static cell<T> tree(const T *x, size n, const double *p) {
    if (n <= SPAN) return cell<T>(piece<Op, accumulator<Op, T>>(x, n, p));
    size left = (n / SPAN + 1) / 2 * SPAN;
    return Op::merge(tree<Op, T>(x, left, p), tree<Op, T>(x + left, n - left, p));
}

template <class Op, class T> static void row(void *state, const void *from, size n, size, const double *p) {
    cell<T> *a = (cell<T> *)state;
    *a = Op::merge(*a, tree<Op, T>((const T *)from, n, p));
}

/* Sums of items that only vectorise in loops of their own. */
template <class Op, class T> static void row_by_one(void *state, const void *from, size n, size, const double *p) {
    enum { LANES = 32, PART = 4096 };
    const T *x = (const T *)from;
    double lane[LANES], item[LANES], total[LANES];
    for (size i = 0; i < n; i += PART) {
        size m = n - i < PART ? n - i : PART, j = 0;
        for (int k = 0; k < LANES; k++) lane[k] = 0;
        for (; j + LANES <= m; j += LANES) {
            for (int k = 0; k < LANES; k++) item[k] = Op::item(double(x[i + j + k]), p);
            for (int k = 0; k < LANES; k++) lane[k] += item[k];
        }
        for (int k = 0; j < m; j++, k++) lane[k] += Op::item(double(x[i + j]), p);
        memcpy(total, lane, sizeof total);
        for (int half = LANES / 2; half; half /= 2)
            for (int k = 0; k < half; k++) total[k] += total[k + half];
        *(double *)state += total[0];
    }
}

/* ---- columns ---- */

template <class Op, class T>
static void fold(void *states, void *, const void *from, size stride, size rows, size n, size, const double *p) {
    typedef cell<T> C;
    typedef std::conditional_t<whole<T>::value, int64_t, typename Op::template within<T>> A;
    C *__restrict__ a = (C *)states;
    const T *x = (const T *)from;
    A t[WIDE_STRIP]; /* wide, so that memory is read in long pieces of rows */
    for (size c0 = 0; c0 < n; c0 += WIDE_STRIP) {
        size m = n - c0 < WIDE_STRIP ? n - c0 : WIDE_STRIP;
        for (size r0 = 0; r0 < rows; r0 += DEPTH) {
            size r = r0, last = rows - r0 < DEPTH ? rows : r0 + DEPTH;
            for (size c = 0; c < m; c++) t[c] = Op::template start<A>;
            for (; r + 4 <= last; r += 4) {
                const T *x0 = x + r * stride + c0, *x1 = x0 + stride, *x2 = x1 + stride, *x3 = x2 + stride;
#pragma GCC ivdep
                for (size c = 0; c < m; c++) {
                    A v = Op::step(Op::step(t[c], A(x0[c]), p), A(x1[c]), p);
                    t[c] = Op::step(Op::step(v, A(x2[c]), p), A(x3[c]), p);
                }
            }
            for (; r < last; r++) {
                const T *x0 = x + r * stride + c0;
#pragma GCC ivdep
                for (size c = 0; c < m; c++) t[c] = Op::step(t[c], A(x0[c]), p);
            }
            for (size c = 0; c < m; c++) a[c0 + c] = Op::merge(a[c0 + c], C(t[c]));
        }
    }
}

template <class Op, class C>
static void combine(void *states, void *, const void *others, const void *, size n, size, size) {
    C *a = (C *)states;
    const C *b = (const C *)others;
    for (size i = 0; i < n; i++) a[i] = Op::merge(a[i], b[i]);
}

/* ---- how many are not zero; all and any follow from it ---- */

template <class T> static void row_count(void *state, const void *from, size n, size, const double *) {
    const T *x = (const T *)from;
    int64_t total = 0;
    for (size i = 0; i < n; i += SPAN) {
        int32_t part = 0;
        for (size j = i; j < n && j < i + SPAN; j++) part += x[j] != T(0);
        total += part;
    }
    *(int64_t *)state += total;
}
template <class T>
static void fold_count(void *states, void *, const void *from, size stride, size rows, size n, size, const double *) {
    int64_t *__restrict__ a = (int64_t *)states;
    for (size r = 0; r < rows; r++) {
        const T *x = (const T *)from + r * stride;
        for (size c = 0; c < n; c++) a[c] += x[c] != T(0);
    }
}

/* ---- extreme and where it is: a the value, b its index, -1 before the first ---- */

template <class Op, class T> static void row_arg(void *state, const void *from, size n, size done, const double *p) {
    typedef cell<T> C;
    const T *x = (const T *)from;
    C best = *(C *)state;
    int64_t index = ((int64_t *)state)[1];
    for (size i = 0; i < n; i += SPAN) {
        size m = n - i < SPAN ? n - i : SPAN;
        T value = T(piece<Op, T>(x + i, m, p));
        if (!(index < 0 || Op::beats(C(value), best) || (value != value && best == best))) continue;
        size k = i;
        bool nan = value != value;
        for (; k + 64 <= i + m; k += 64) {
            int hits = 0;
            for (int j = 0; j < 64; j++) hits |= nan ? x[k + j] != x[k + j] : x[k + j] == value;
            if (hits) break;
        }
        while (!(nan ? x[k] != x[k] : x[k] == value)) k++;
        best = C(value);
        index = int64_t(done + k);
    }
    *(C *)state = best;
    ((int64_t *)state)[1] = index;
}

template <class Op, class T>
static void fold_arg(void *states, void *indices, const void *from, size stride, size rows, size n, size done,
                     const double *) {
    typedef cell<T> C;
    C *__restrict__ a = (C *)states;
    int64_t *__restrict__ index = (int64_t *)indices;
    for (size r = 0; r < rows; r++) {
        const T *x = (const T *)from + r * stride;
        int64_t here = int64_t(done + r);
        for (size c = 0; c < n; c++) {
            C v = C(x[c]), old = a[c];
            int64_t i = index[c];
            bool take = bool(i < 0) | Op::beats(v, old) | (bool(v != v) & bool(old == old));
            a[c] = take ? v : old;
            index[c] = take ? here : i;
        }
    }
}

template <class Op, class C>
static void combine_arg(void *states, void *indices, const void *others, const void *other_indices, size n, size count,
                        size) {
    C *a = (C *)states;
    int64_t *index = (int64_t *)indices;
    const C *b = (const C *)others;
    const int64_t *other = (const int64_t *)other_indices;
    for (size i = 0; i < n; i++)
        if (other[i] >= 0 && (index[i] < 0 || Op::beats(b[i], a[i]) || (b[i] != b[i] && a[i] == a[i])))
            a[i] = b[i], index[i] = other[i] + int64_t(count);
}

/* ---- mean and the sum of squared deviations (Chan, Golub and LeVeque 1983): a and b ---- */

/* Of an infinite difference of means it is the sum that is right, as of the elements themselves; nothing yet (a count of
 * zero) has no deviation, whose square might be infinite. */
static inline void join(double *mean, double *m2, double mean2, double m22, double count, double count2) {
    double delta = mean2 - *mean, share = count2 / (count + count2), between = count * share;
    *mean = delta - delta == 0 ? *mean + delta * share : *mean + mean2;
    *m2 += between == 0 ? m22 : m22 + delta * delta * between;
}

struct remainder : sum {
    template <class V> static V step(V a, V x, const double *mean) { return a + (x - *mean); }
};
struct deviation : sum {
    template <class V> static V step(V a, V x, const double *mean) { return a + (x - *mean) * (x - *mean); }
};

template <class T> static void row_var(void *state, const void *from, size n, size done, const double *) {
    const T *x = (const T *)from;
    double *s = (double *)state;
    for (size i = 0; i < n; i += SPAN) {
        size m = n - i < SPAN ? n - i : SPAN;
        double mean = piece<sum, double>(x + i, m, nullptr) / double(m);
        if (sizeof(T) == 8 && mean - mean == 0) mean += piece<remainder, double>(x + i, m, &mean) / double(m);
        join(s, s + 1, mean, piece<deviation, double>(x + i, m, &mean), double(done + i), double(m));
    }
}

/* Groups of rows into chapters, chapters into the state: 16 + rows / 256 joins deep, not rows / 16. */
template <class T>
static void fold_var(void *means, void *squares, const void *from, size stride, size rows, size n, size done,
                     const double *) {
    enum { GROUP = 16, CHAPTER = 256 };
    double *__restrict__ a = (double *)means, *__restrict__ b = (double *)squares;
    double mean[STRIP], m2[STRIP], chapter_mean[STRIP], chapter_m2[STRIP];
    for (size c0 = 0; c0 < n; c0 += STRIP) {
        size m = n - c0 < STRIP ? n - c0 : STRIP;
        for (size begin = 0; begin < rows; begin += CHAPTER) {
            size end = rows - begin < CHAPTER ? rows : begin + CHAPTER;
            for (size c = 0; c < m; c++) chapter_mean[c] = chapter_m2[c] = 0;
            for (size r0 = begin; r0 < end; r0 += GROUP) {
                size last = end - r0 < GROUP ? end : r0 + GROUP;
                double inverse = 1.0 / double(last - r0);
                for (size c = 0; c < m; c++) mean[c] = m2[c] = 0;
                for (size r = r0; r < last; r++) {
                    const T *x = (const T *)from + r * stride + c0;
                    for (size c = 0; c < m; c++) mean[c] += double(x[c]);
                }
                for (size c = 0; c < m; c++) mean[c] *= inverse;
                for (size r = r0; r < last; r++) {
                    const T *x = (const T *)from + r * stride + c0;
                    for (size c = 0; c < m; c++) m2[c] += (double(x[c]) - mean[c]) * (double(x[c]) - mean[c]);
                }
                double count = double(r0 - begin), count2 = double(last - r0);
                for (size c = 0; c < m; c++) join(&chapter_mean[c], &chapter_m2[c], mean[c], m2[c], count, count2);
            }
            double count = double(done + begin), count2 = double(end - begin);
            for (size c = 0; c < m; c++) join(&a[c0 + c], &b[c0 + c], chapter_mean[c], chapter_m2[c], count, count2);
        }
    }
}

static void combine_var(void *means, void *squares, const void *others, const void *other_squares, size n, size count,
                        size count2) {
    if (count2 == 0) return;
    for (size i = 0; i < n; i++)
        join((double *)means + i, (double *)squares + i, ((const double *)others)[i],
             ((const double *)other_squares)[i], double(count), double(count2));
}

/* ---- log of the sum of exponentials: a the maximum, b the sum of exp(x - shift(a)) ---- */

template <class A> static inline A shift(A m) { return m - m == A(0) ? m : A(0); }

struct exponentials : sum {
    /* x - m is exact enough in the dtype of x; the exponentials vectorise in it. */
    template <class T> static double row(const T *x, size n, T m) {
        constexpr int lanes = 64;
        T lane[lanes], e[lanes];
        for (int k = 0; k < lanes; k++) lane[k] = 0;
        size i = 0;
        for (; i + lanes <= n; i += lanes) {
            for (int k = 0; k < lanes; k++) e[k] = fx::exp(x[i + k] - m);
            for (int k = 0; k < lanes; k++) lane[k] += e[k];
        }
        for (int k = 0; i < n; i++, k++) lane[k] += fx::exp(x[i] - m);
        double total = 0;
        for (int k = 0; k < lanes; k++) total += double(lane[k]);
        return total;
    }
};

template <class T> static void row_logsumexp(void *state, const void *from, size n, size, const double *p) {
    const T *x = (const T *)from;
    double *s = (double *)state;
    for (size i = 0; i < n; i += SPAN) {
        size m = n - i < SPAN ? n - i : SPAN;
        double top = amax::merge(s[0], double(piece<amax, T>(x + i, m, p)));
        if (s[1] != 0) s[1] *= ::exp(shift(s[0]) - shift(top));
        s[0] = top;
        s[1] += exponentials::row(x + i, m, T(shift(top)));
    }
}

template <class T>
static void fold_logsumexp(void *tops, void *sums, const void *from, size stride, size rows, size n, size,
                           const double *p) {
    enum { GROUP = 16 };
    double *__restrict__ a = (double *)tops, *__restrict__ b = (double *)sums;
    T top[STRIP], part[STRIP];
    for (size c0 = 0; c0 < n; c0 += STRIP) {
        size m = n - c0 < STRIP ? n - c0 : STRIP;
        for (size r0 = 0; r0 < rows; r0 += GROUP) {
            size last = rows - r0 < GROUP ? rows : r0 + GROUP;
            for (size c = 0; c < m; c++) top[c] = T(a[c0 + c]), part[c] = 0;
            for (size r = r0; r < last; r++) {
                const T *x = (const T *)from + r * stride + c0;
                for (size c = 0; c < m; c++) top[c] = amax::step(top[c], x[c], p);
            }
            for (size c = 0; c < m; c++) {
                double scaled = b[c0 + c] * fx::exp(shift(a[c0 + c]) - double(shift(top[c])));
                b[c0 + c] = b[c0 + c] != 0 ? scaled : 0;
                a[c0 + c] = double(top[c]);
                top[c] = shift(top[c]);
            }
            for (size r = r0; r < last; r++) {
                const T *x = (const T *)from + r * stride + c0;
                for (size c = 0; c < m; c++) part[c] += fx::exp(x[c] - top[c]);
            }
            for (size c = 0; c < m; c++) b[c0 + c] += double(part[c]);
        }
    }
}

static void combine_logsumexp(void *tops, void *sums, const void *other_tops, const void *other_sums, size n, size,
                              size) {
    double *a = (double *)tops, *b = (double *)sums;
    const double *a2 = (const double *)other_tops, *b2 = (const double *)other_sums;
    for (size i = 0; i < n; i++) {
        double top = amax::merge(a[i], a2[i]), left = 0, right = 0;
        if (b[i] != 0) left = b[i] * ::exp(shift(a[i]) - shift(top));
        if (b2[i] != 0) right = b2[i] * ::exp(shift(a2[i]) - shift(top));
        a[i] = top, b[i] = left + right;
    }
}

/* ---- the table ---- */

template <class C> static int64_t bits(C cell) {
    int64_t kept;
    memcpy(&kept, &cell, sizeof kept);
    return kept;
}
template <class Op, class T> static fx_reduce_entry plain() {
    return {row<Op, T>, fold<Op, T>, combine<Op, cell<T>>, {bits(cell<T>(Op::template start<cell<T>>)), 0}, 1, 0, 0};
}
template <class Op, class T> static fx_reduce_entry by_one() {
    return {row_by_one<Op, T>, fold<Op, T>, combine<Op, double>, {0, 0}, 1, 0, 0};
}
template <class Op, class T> static fx_reduce_entry place() {
    const int64_t start = bits(cell<T>(Op::template start<cell<T>>));
    return {row_arg<Op, T>, fold_arg<Op, T>, combine_arg<Op, cell<T>>, {start, -1}, 2, 0, 1};
}
/* Those of states written by hand, by the names of their lines. */
template <class T> static fx_reduce_entry count() {
    return {row_count<T>, fold_count<T>, combine<sum, int64_t>, {0, 0}, 1, 1, 0};
}
template <class T> static fx_reduce_entry var() { return {row_var<T>, fold_var<T>, combine_var, {0, 0}, 2, 0, 0}; }
template <class T> static fx_reduce_entry logsumexp() {
    const int64_t start = bits(amax::start<double>);
    return {row_logsumexp<T>, fold_logsumexp<T>, combine_logsumexp, {start, 0}, 2, 0, 0};
}

template <class T, bool floating> static void fill_dtype(fx_reduce_entry (*table)[FX_DTYPES], int dtype) {
    constexpr bool REAL = floating, NUMBER = true;
#define FX_ENTER(name, dtypes, entry) \
    if constexpr (dtypes) table[FX_REDUCE_##name][dtype] = entry;
#define FX_SUM(name, dtypes, ...) FX_ENTER(name, dtypes, (plain<reduce::name, T>()))
#define FX_SUM_BY_ONE(name, dtypes, ...) FX_ENTER(name, dtypes, (by_one<reduce::name, T>()))
#define FX_FOLD(name, dtypes, ...) FX_ENTER(name, dtypes, (plain<reduce::name, T>()))
#define FX_EXTREME(name, dtypes, ...) FX_ENTER(name, dtypes, (plain<reduce::name, T>()))
#define FX_PLACE(name, dtypes, of, finish) FX_ENTER(name, dtypes, (place<of, T>()))
#define FX_STATES(name, dtypes, ...) FX_ENTER(name, dtypes, reduce::name<T>())
#include "reductions.h"
#undef FX_ENTER
}
/* Halves are cast to float, and have no loops. */
template <class T> static void fill_type(fx_reduce_entry (*table)[FX_DTYPES]) {
    typedef dtype<T> D;
    if constexpr (!D::floating || D::sum == D::code) fill_dtype<T, D::floating>(table, D::code);
}
static void fill_table(fx_reduce_entry (*table)[FX_DTYPES]) {
    fill_dtype<uint8_t, false>(table, FX_BOOL); /* holds 0 or 1 */
#define FX_FILL(code, suffix, name, type, ...) fill_type<type>(table);
    FX_EACH_INTEGRAL(FX_FILL)
    FX_EACH_FLOATING(FX_FILL)
#undef FX_FILL
}

} // namespace reduce
} // namespace fx
#endif
