/* What layer and batch normalisation share: sums of gradients over many rows, in two stages.
 *
 * The first leaves double states of [chunks, columns] in `partial` (_sums, _moments), the second merges the chunks.
 */
#ifndef FX_NORM_CUH
#define FX_NORM_CUH
#include "fx/rows_args.h"
#include "rows.cuh"

namespace fx {

struct pair_sum {
    double plain, product;
};
struct add_pairs {
    __device__ __forceinline__ pair_sum operator()(const pair_sum &x, const pair_sum &y) const {
        return {x.plain + y.plain, x.product + y.product};
    }
};

/* Element i of a vector of any floating dtype, most likely that of the arithmetic. */
template <class T> __device__ __forceinline__ T statistic(const void *p, int dtype, int64_t i, T otherwise) {
    if (!p) return otherwise;
    return dtype == dtype_of<T> ? static_cast<const T *>(p)[i] : load_by_dtype<T>(p, i, dtype);
}

/* The second stage for gradients: dweight and dbias, and both sums to the states of chunk 0 for what comes after. */
__device__ __forceinline__ void merge_gradients(const fx_norm_args &a, int by_rstd, void *shared) {
    pair_sum *partial = static_cast<pair_sum *>(a.partial);
    each_column(
        1, a.chunks, a.channels, a.chunks, 8, pair_sum{0, 0}, static_cast<pair_sum *>(shared),
        [&](pair_sum &s, int64_t at, int64_t, int64_t) { s = add_pairs()(s, partial[at]); }, add_pairs(),
        [&](pair_sum s, const column_share &c) {
            if (!c.leads) return;
            const double rstd = by_rstd ? statistic<double>(a.rstd, a.rstd_dtype, c.column, 1.0) : 1.0;
            if (a.dweight) store_by(a.dweight, c.column, a.dweight_dtype, s.product * rstd);
            if (a.dbias) store_by(a.dbias, c.column, a.dbias_dtype, s.plain);
            partial[a.chunks * a.channels + c.column] = s;
        });
}

} // namespace fx

#define FX_NORM(suffix, type, name, slots)                         \
    extern "C" __global__ void __launch_bounds__(FX_THREADS)       \
        name##_##suffix(const __grid_constant__ fx_norm_args a) {  \
        __shared__ __align__(16) unsigned char shared[24 * slots]; \
        fx::name<type>(a, shared);                                 \
    }                                                              \
    FX_EXPORT(name##_##suffix)
#endif
