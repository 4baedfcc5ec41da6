/* Elements as unsigned keys of the same order: NaN of either sign the greatest, -0 and 0 one key (cpu/order.pyx). */
#ifndef FX_KEYS_CUH
#define FX_KEYS_CUH
#include "fx/sort_args.h"
#include <type_traits>

namespace fx {

/* R: the element's bits, as unsigned; keys are of 32 or 64 bits. */
template <class R> using key_type = std::conditional_t<sizeof(R) == 8, uint64_t, uint32_t>;

template <class R> __device__ __forceinline__ key_type<R> key_of(R u, const fx_key_kind &kind) {
    const R sign = R(kind.sign), infinity = R(kind.infinity);
    R key = u ^ sign;
    if (infinity) {
        const R magnitude = u & R(~sign);
        key = u & sign ? R(~u) : R(u | sign);
        if (magnitude == 0) key = sign;
        if (magnitude > infinity) key = R(~R(0));
    }
    return R(key ^ R(kind.flip));
}

/* The element of a key; false where several elements share it. */
template <class R> __device__ __forceinline__ bool element_of(key_type<R> from, const fx_key_kind &kind, R *u) {
    const R sign = R(kind.sign), key = R(from) ^ R(kind.flip);
    *u = key ^ sign;
    if (kind.infinity == 0) return true;
    if (key == sign || key == R(~R(0))) return false;
    if (!(key & sign)) *u = R(~key);
    return true;
}

/* Where element i of a row stands. */
__device__ __forceinline__ int64_t place_of(int64_t row, int64_t i, int64_t n, int64_t inner) {
    return inner == 1 ? row * n + i : (row / inner * n + i) * inner + row % inner;
}

} // namespace fx
#endif
