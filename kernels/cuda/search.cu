/* searchsorted: a binary search for each value, with the comparisons of the CPU. */
#include "elementwise.cuh"
#include "fx/sort_args.h"

namespace fx {

template <class S> __device__ __forceinline__ void search(const fx_search_args &a) {
    using T = typename storage<S>::compute;
    const int64_t step = int64_t(gridDim.x) * blockDim.x;
    for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < a.n; i += step) {
        const S *sequence = static_cast<const S *>(a.sequence) + (a.row ? i / a.row * a.length : 0);
        T v;
        convert_to(&v, static_cast<const S *>(a.values)[i]);
        int64_t begin = 0, end = a.length;
        while (begin < end) {
            const int64_t middle = begin + (end - begin) / 2;
            T at;
            convert_to(&at, sequence[middle]);
            if (!(a.right ? at > v : at >= v)) /* not <: NaN goes where it goes in PyTorch */
                begin = middle + 1;
            else
                end = middle;
        }
        a.out[i] = begin;
    }
}

} // namespace fx

#define FX_SEARCH(code, suffix, name, type, ...)                          \
    extern "C" __global__ void __launch_bounds__(256)                     \
        searchsorted_##suffix(const __grid_constant__ fx_search_args a) { \
        fx::search<type>(a);                                              \
    }                                                                     \
    FX_EXPORT(searchsorted_##suffix)
FX_EACH_INTEGRAL(FX_SEARCH)
FX_EACH_FLOATING(FX_SEARCH)
