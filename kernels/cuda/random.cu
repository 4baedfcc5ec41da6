/* Random fills on Philox4x32-10: element by element the bits of ferrox/_core/cpu/random.pyx.
 *
 * A thread draws one block of the stream: four words, which are four elements, or two of 64 bits.
 */
#include "elementwise.cuh"
#include "fx/philox.h"
#include "fx/random_args.h"

namespace fx {

/* make(args, words, i, y): the elements from i on that a block of the stream gives, into y. */
template <class T, int each, class Make> __device__ __forceinline__ void fill_blocks(const fx_random_args &a,
                                                                                     Make make) {
    const int64_t step = int64_t(gridDim.x) * blockDim.x, blocks = (a.n + each - 1) / each;
    const int size = fx_itemsize(a.dtype);
    const uint64_t seed = a.state ? a.state[0] : a.seed, offset = a.state ? a.state[1] + a.offset : a.offset;
    const bool together =
        a.dtype == storage<T>::dtype && reinterpret_cast<uintptr_t>(a.out) % sizeof(pack<T, each>) == 0;
    for (int64_t block = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; block < blocks; block += step) {
        const philox_words words = philox_block(seed, offset + uint64_t(block));
        const int64_t i = block * each;
        alignas(sizeof(T) * each) T y[each];
        make(words, i, y);
        if (together && i + each <= a.n) {
            *reinterpret_cast<pack<T, each> *>(a.out + i * size) = *reinterpret_cast<const pack<T, each> *>(y);
            continue;
        }
#pragma unroll
        for (int k = 0; k < each; k++)
            if (i + k < a.n) store(a.out + (i + k) * size, a.dtype, y[k]);
    }
}

__device__ __forceinline__ void uniform_32(const fx_random_args &a) {
    const float low = float(a.a), high = float(a.b);
    const int bits = fx_digits(a.dtype);
    fill_blocks<float, 4>(a, [&](const philox_words &words, int64_t, float *y) {
#pragma unroll
        for (int k = 0; k < 4; k++) {
            y[k] = uniform(unit(words.w[k], bits), low, high);
            /* Rounded to 16 bits, a value may have reached high. */
            if (a.dtype == FX_F16 && !(float16_to_float(float_to_float16(y[k])) < high)) y[k] = low;
            if (a.dtype == FX_BF16 && !(bfloat16_to_float(float_to_bfloat16(y[k])) < high)) y[k] = low;
        }
    });
}
__device__ __forceinline__ void uniform_64(const fx_random_args &a) {
    fill_blocks<double, 2>(a, [&](const philox_words &words, int64_t, double *y) {
#pragma unroll
        for (int k = 0; k < 2; k++) y[k] = uniform(unit(join(words.w[2 * k], words.w[2 * k + 1])), a.a, a.b);
    });
}

__device__ __forceinline__ void normal_32(const fx_random_args &a) {
    const float mean = float(a.a), std = float(a.b);
    fill_blocks<float, 4>(a, [&](const philox_words &words, int64_t, float *y) {
#pragma unroll
        for (int k = 0; k < 4; k += 2) {
            const normal_pair<float> pair = box_muller<float, uint32_t>(words.w[k], words.w[k + 1]);
            y[k] = add(mul(pair.first, std), mean);
            y[k + 1] = add(mul(pair.second, std), mean);
        }
    });
}
__device__ __forceinline__ void normal_64(const fx_random_args &a) {
    fill_blocks<double, 2>(a, [&](const philox_words &words, int64_t, double *y) {
        const normal_pair<double> pair =
            box_muller<double, uint64_t>(join(words.w[0], words.w[1]), join(words.w[2], words.w[3]));
        y[0] = add(mul(pair.first, a.b), a.a);
        y[1] = add(mul(pair.second, a.b), a.a);
    });
}

__device__ __forceinline__ void exponential_32(const fx_random_args &a) {
    const float scale = float(a.b);
    fill_blocks<float, 4>(a, [&](const philox_words &words, int64_t, float *y) {
#pragma unroll
        for (int k = 0; k < 4; k++) y[k] = mul(minus_log(unit_above(words.w[k])), scale);
    });
}
__device__ __forceinline__ void exponential_64(const fx_random_args &a) {
    fill_blocks<double, 2>(a, [&](const philox_words &words, int64_t, double *y) {
#pragma unroll
        for (int k = 0; k < 2; k++) y[k] = mul(minus_log(unit_above(join(words.w[2 * k], words.w[2 * k + 1]))), a.b);
    });
}

__device__ __forceinline__ void bernoulli(const fx_random_args &a) {
    const double *p = reinterpret_cast<const double *>(a.x);
    fill_blocks<uint8_t, 4>(a, [&](const philox_words &words, int64_t i, uint8_t *y) {
#pragma unroll
        for (int k = 0; k < 4; k++) y[k] = happens(words.w[k], p == nullptr ? a.a : i + k < a.n ? p[i + k] : 0.0);
    });
}

__device__ __forceinline__ void integers_32(const fx_random_args &a) {
    const uint32_t range = uint32_t(a.range); /* 0: all of 2^32 */
    fill_blocks<int64_t, 4>(a, [&](const philox_words &words, int64_t, int64_t *y) {
#pragma unroll
        for (int k = 0; k < 4; k++) y[k] = int64_t(a.low + (range ? below(words.w[k], range) : words.w[k]));
    });
}
__device__ __forceinline__ void integers_64(const fx_random_args &a) {
    fill_blocks<int64_t, 2>(a, [&](const philox_words &words, int64_t, int64_t *y) {
#pragma unroll
        for (int k = 0; k < 2; k++) y[k] = int64_t(a.low + below(join(words.w[2 * k], words.w[2 * k + 1]), a.range));
    });
}

/* The keys of a permutation: 64 bits each. */
__device__ __forceinline__ void draws_64(const fx_random_args &a) {
    fill_blocks<int64_t, 2>(a, [&](const philox_words &words, int64_t, int64_t *y) {
#pragma unroll
        for (int k = 0; k < 2; k++) y[k] = int64_t(join(words.w[2 * k], words.w[2 * k + 1]));
    });
}
__device__ __forceinline__ void widen(const fx_random_args &a) {
    const int64_t step = int64_t(gridDim.x) * blockDim.x;
    for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < a.n; i += step)
        reinterpret_cast<int64_t *>(a.out)[i] = reinterpret_cast<const uint32_t *>(a.x)[i];
}

/* Before a graph is replayed: where its draws begin. */
__device__ __forceinline__ void begin(const fx_random_args &a) {
    uint64_t *state = reinterpret_cast<uint64_t *>(a.out);
    state[0] = a.seed;
    state[1] = a.offset;
}

template <class T> __device__ __forceinline__ void drop(const fx_random_args &a) {
    const int size = fx_itemsize(a.dtype);
    const T scale = T(a.b);
    fill_blocks<T, 4>(a, [&](const philox_words &words, int64_t i, T *y) {
#pragma unroll
        for (int k = 0; k < 4; k++) {
            if (i + k >= a.n) continue;
            const bool kept = happens(words.w[k], a.a);
            a.mask[i + k] = kept;
            y[k] = kept ? mul(load<T>(a.x + (i + k) * size, a.dtype, a.dtype), scale) : T(0);
        }
    });
}

} // namespace fx

#define FX_KERNEL(name, body)                                                                                     \
    extern "C" __global__ void __launch_bounds__(256) name(const __grid_constant__ fx_random_args a) { body(a); } \
    FX_EXPORT(name)
FX_KERNEL(random_uniform_32, fx::uniform_32)
FX_KERNEL(random_uniform_64, fx::uniform_64)
FX_KERNEL(random_normal_32, fx::normal_32)
FX_KERNEL(random_normal_64, fx::normal_64)
FX_KERNEL(random_exponential_32, fx::exponential_32)
FX_KERNEL(random_exponential_64, fx::exponential_64)
FX_KERNEL(random_bernoulli_32, fx::bernoulli)
FX_KERNEL(random_integers_32, fx::integers_32)
FX_KERNEL(random_integers_64, fx::integers_64)
FX_KERNEL(random_draws_64, fx::draws_64)
FX_KERNEL(random_widen, fx::widen)
FX_KERNEL(random_begin, fx::begin)
FX_KERNEL(dropout_32, fx::drop<float>)
FX_KERNEL(dropout_64, fx::drop<double>)
