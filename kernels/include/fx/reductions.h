/* Every reduction, one line each: what the loops of the CPU (reduce.h), the kernels of the GPU (kernels/cuda/reduce_*.cu)
 * and the drivers of both read.
 *
 * Include with the macros of the wanted kinds defined; they are undefined at the end, and kinds left undefined vanish.
 *   FX_SUM(name, dtypes, within, counted, item, finish)       the sum of `item`, of x, where `counted` holds
 *   FX_SUM_BY_ONE(name, dtypes, within, counted, item, finish)   the same, where `item` is not for vectors
 *   FX_FOLD(name, dtypes, within, start, step, merge, finish)    a, which begins at `start`; `step` takes x in, `merge` b
 *   FX_EXTREME(name, dtypes, start, item, beats, finish)      the `item`, of x, that beats all others a; NaN wins
 *   FX_PLACE(name, dtypes, of, finish)                        where the extreme `of` is, the first of several
 *   FX_STATES(name, dtypes, source, bytes, finish)            by hand: reduce.h, and kernels/cuda/reduce_<source>.cu
 *   FX_ALSO(kernel, reduction, finish)                        one more kernel over a reduction
 * Each line but FX_ALSO gives the kernel of its own name, unless it is HIDDEN.  Dtypes: REAL, or NUMBER with integers
 * and bool.  within: what accumulates inside a piece, T the dtype itself, or double; pieces are joined in double, integers
 * in int64.  Expressions are of values or vectors of them; A is the accumulator's type, p[0] the call's parameter.
 * finish: what becomes of a state at the end (fx_reduce_finish).
 * A line stands on one line of text.
 */
// clang-format off
#ifndef FX_SUM
#define FX_SUM(name, dtypes, within, counted, item, finish)
#endif
#ifndef FX_SUM_BY_ONE
#define FX_SUM_BY_ONE(name, dtypes, within, counted, item, finish) FX_SUM(name, dtypes, within, counted, item, finish)
#endif
#ifndef FX_FOLD
#define FX_FOLD(name, dtypes, within, start, step, merge, finish)
#endif
#ifndef FX_EXTREME
#define FX_EXTREME(name, dtypes, start, item, beats, finish)
#endif
#ifndef FX_PLACE
#define FX_PLACE(name, dtypes, of, finish)
#endif
#ifndef FX_STATES
#define FX_STATES(name, dtypes, source, bytes, finish)
#endif
#ifndef FX_ALSO
#define FX_ALSO(kernel, reduction, finish)
#endif

FX_SUM(sum, NUMBER, T, true, x, SCALE)
FX_SUM(nansum, REAL, T, x == x, x, SCALE)
FX_SUM(sum_abs, REAL, T, true, x < 0 ? -x : x, HIDDEN)
FX_SUM(sum_squares, REAL, double, true, x * x, PLAIN)
FX_SUM_BY_ONE(sum_powers, REAL, double, true, fx::pow(fx::absolute(x), p[0]), HIDDEN)
FX_FOLD(prod, NUMBER, double, 1, a * x, a * b, PLAIN)
FX_EXTREME(amax, NUMBER, fx::least<A>(), x, x > a, PLAIN)
FX_EXTREME(amin, NUMBER, fx::greatest<A>(), x, x < a, PLAIN)
FX_EXTREME(max_abs, REAL, 0, x < 0 ? -x : x, x > a, HIDDEN)
FX_EXTREME(min_abs, REAL, fx::greatest<A>(), x < 0 ? -x : x, x < a, HIDDEN)
FX_PLACE(argmax, NUMBER, amax, INDEX)
FX_PLACE(argmin, NUMBER, amin, INDEX)
FX_STATES(count, NUMBER, sums, 8, HIDDEN)
FX_STATES(var, REAL, moments, 24, DEVIATION)
FX_STATES(logsumexp, REAL, moments, 16, LOG)

FX_ALSO(all, count, ALL)
FX_ALSO(any, count, ANY)
FX_ALSO(count_nonzero, count, PLAIN)
FX_ALSO(norm, sum_powers, POWER)
FX_ALSO(max_dim, argmax, WITH_INDEX)
FX_ALSO(min_dim, argmin, WITH_INDEX)

#undef FX_SUM
#undef FX_SUM_BY_ONE
#undef FX_FOLD
#undef FX_EXTREME
#undef FX_PLACE
#undef FX_STATES
#undef FX_ALSO
// clang-format on
