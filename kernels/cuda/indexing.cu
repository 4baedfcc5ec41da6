/* Reading and writing through index arrays.
 *
 * Note [Which write stays]
 * Where indices repeat, the last position in their order is the one that is written, as on the CPU.  It is found first:
 * as the greatest of all that point to a place (integer atomics, which give the same in any order), or, where there are
 * many more places than positions, as the last of its run once the keys are sorted.
 */
#include "indexed.cuh"

namespace fx {

/* `each(p, k, e)` for all elements, e their place in y. */
template <class Each> __device__ __forceinline__ void each_of_y(const fx_index_args &a, Each each) {
    for (int64_t e = first_element(); e < a.m * a.q; e += all_threads()) {
        if (a.q == 1) {
            each(e, int64_t(0), e);
            continue;
        }
        const int64_t line = quotient(e, a.inner), before = a.inner == a.q ? 0 : quotient(line, a.m);
        each(line - before * a.m, before * a.inner + (e - line * a.inner), e);
    }
}

template <class W> __device__ __forceinline__ void index_read(const fx_index_args &a) {
    each_of_y(a, [&](int64_t p, int64_t k, int64_t e) {
        int64_t offset, key;
        W value{};
        if (locate(a, p, &offset, &key)) value = static_cast<const W *>(a.x)[offset + offset_in(a.kept, k)];
        static_cast<W *>(a.y)[e] = value;
    });
}

template <class W, bool owned> __device__ __forceinline__ void index_write(const fx_index_args &a) {
    each_of_y(a, [&](int64_t p, int64_t k, int64_t e) {
        int64_t offset, key;
        if (!locate(a, p, &offset, &key)) return;
        if (owned && a.owners[key] != int32_t(p)) return;
        static_cast<W *>(a.x)[offset + offset_in(a.kept, k)] = static_cast<const W *>(a.y)[a.single ? 0 : e];
    });
}

__device__ __forceinline__ void index_own(const fx_index_args &a) {
    for (int64_t p = first_element(); p < a.m; p += all_threads()) {
        int64_t offset, key;
        if (locate(a, p, &offset, &key)) atomicMax(a.owners + key, int32_t(p));
    }
}

template <class K> __device__ __forceinline__ void index_keys(const fx_index_args &a) {
    for (int64_t p = first_element(); p < a.m; p += all_threads()) {
        int64_t offset, key;
        static_cast<K *>(a.keys)[p] = K(locate(a, p, &offset, &key) ? key : a.limit);
    }
}

template <class W, class K> __device__ __forceinline__ void index_write_sorted(const fx_index_args &a) {
    const K *keys = static_cast<const K *>(a.keys);
    for (int64_t e = first_element(); e < a.m * a.q; e += all_threads()) {
        const int64_t s = a.q == 1 ? e : quotient(e, a.q), k = e - s * a.q;
        const K key = keys[s];
        if (key >= K(a.limit) || (s + 1 < a.m && keys[s + 1] == key)) continue;
        const int64_t from = offset_in_y(a.positions[s], k, a.m, a.q, a.inner);
        static_cast<W *>(a.x)[offset_in(a.indexed, int64_t(key)) + offset_in(a.kept, k)] =
            static_cast<const W *>(a.y)[from];
    }
}

} // namespace fx

#define FX_KERNEL(name, ...)                                                                          \
    extern "C" __global__ void __launch_bounds__(256) name(const __grid_constant__ fx_index_args a) { \
        __VA_ARGS__(a);                                                                               \
    }                                                                                                 \
    FX_EXPORT(name)
#define FX_WORDS(size, word)                                                       \
    FX_KERNEL(index_read_##size, fx::index_read<word>)                             \
    FX_KERNEL(index_write_##size, fx::index_write<word, false>)                    \
    FX_KERNEL(index_write_owned_##size, fx::index_write<word, true>)               \
    FX_KERNEL(index_write_sorted32_##size, fx::index_write_sorted<word, uint32_t>) \
    FX_KERNEL(index_write_sorted64_##size, fx::index_write_sorted<word, uint64_t>)
FX_WORDS(1, uint8_t)
FX_WORDS(2, uint16_t)
FX_WORDS(4, uint32_t)
FX_WORDS(8, uint64_t)
FX_WORDS(16, uint4)
FX_KERNEL(index_own, fx::index_own)
FX_KERNEL(index_keys_32, fx::index_keys<uint32_t>)
FX_KERNEL(index_keys_64, fx::index_keys<uint64_t>)
