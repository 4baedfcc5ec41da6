/* float16 and bfloat16 as 16 bits, to float and back: round to nearest even, branch-free, subnormals, infinities and
 * NaN kept. On the host integer arithmetic and one float addition only, which any compiler vectorises; on the GPU one
 * instruction. Both give the same bits, but for those of a NaN. */
#ifndef FX_HALF_H
#define FX_HALF_H
#include "bits.h"
#include "dtypes.h"

namespace fx {

FX_HD float float16_to_float(uint16_t h) {
#ifdef __CUDA_ARCH__
    float converted;
    asm("cvt.f32.f16 %0, %1;" : "=f"(converted) : "h"(h));
    return converted;
#else
    uint32_t sign = uint32_t(h & 0x8000u) << 16, rest = uint32_t(h & 0x7fffu) << 13;
    /* 2^112 moves the exponent from bias 15 to bias 127, and normalises the subnormals; it cannot reach infinity. */
    float y = bit_cast<float>(rest) * 0x1p112f;
    uint32_t special = bit_cast<uint32_t>(y) | 0x7f800000u;
    return bit_cast<float>((rest >= 0x0f800000u ? special : bit_cast<uint32_t>(y)) | sign);
#endif
}

FX_HD uint16_t float_to_float16(float x) {
#ifdef __CUDA_ARCH__
    uint16_t converted;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(converted) : "f"(x));
    return converted;
#else
    uint32_t u = bit_cast<uint32_t>(x), a = u & 0x7fffffffu;
    /* Subnormal results: adding 1/2 leaves them, rounded by the addition, in the low bits. */
    uint32_t small = bit_cast<uint32_t>(bit_cast<float>(a) + 0.5f) - 0x3f000000u;
    uint32_t normal = (a - 0x38000000u + 0x0fffu + ((a >> 13) & 1u)) >> 13;
    uint32_t y = a < 0x38800000u ? small : normal;
    y = a >= 0x477ff000u ? 0x7c00u : y; /* 65520 and up round to infinity */
    y = a > 0x7f800000u ? 0x7e00u | ((a >> 13) & 0x3ffu) : y;
    return uint16_t(y | ((u >> 16) & 0x8000u));
#endif
}

FX_HD float bfloat16_to_float(uint16_t h) { return bit_cast<float>(uint32_t(h) << 16); }

FX_HD uint16_t float_to_bfloat16(float x) {
#ifdef __CUDA_ARCH__
    uint16_t converted;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(converted) : "f"(x));
    return converted;
#else
    uint32_t u = bit_cast<uint32_t>(x), rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    return uint16_t((u & 0x7fffffffu) > 0x7f800000u ? (u >> 16) | 0x40u : rounded);
#endif
}

using float16 = ::fx_float16;
using bfloat16 = ::fx_bfloat16;

/* Conversion between any two dtypes.  A real goes to a small integer by way of int32 (modulo 2^n, as PyTorch); to bool
 * by != 0. */
template <class To, class From> struct conversion {
    static FX_HD To convert(From x) { return To(x); }
};
template <class To> struct conversion<To, float16> {
    static FX_HD To convert(float16 x) { return conversion<To, float>::convert(float16_to_float(x.bits)); }
};
template <class To> struct conversion<To, bfloat16> {
    static FX_HD To convert(bfloat16 x) { return conversion<To, float>::convert(bfloat16_to_float(x.bits)); }
};
template <class From> struct conversion<float16, From> {
    static FX_HD float16 convert(From x) { return {float_to_float16(float(x))}; }
};
template <class From> struct conversion<bfloat16, From> {
    static FX_HD bfloat16 convert(From x) { return {float_to_bfloat16(float(x))}; }
};
template <> struct conversion<float16, float16> {
    static FX_HD float16 convert(float16 x) { return x; }
};
template <> struct conversion<bfloat16, bfloat16> {
    static FX_HD bfloat16 convert(bfloat16 x) { return x; }
};
template <> struct conversion<float16, bfloat16> {
    static FX_HD float16 convert(bfloat16 x) { return {float_to_float16(bfloat16_to_float(x.bits))}; }
};
template <> struct conversion<bfloat16, float16> {
    static FX_HD bfloat16 convert(float16 x) { return {float_to_bfloat16(float16_to_float(x.bits))}; }
};
#define FX_WRAP(To, From)                                          \
    template <> struct conversion<To, From> {                      \
        static FX_HD To convert(From x) { return To(int32_t(x)); } \
    };
FX_WRAP(uint8_t, float)
FX_WRAP(uint8_t, double)
FX_WRAP(int8_t, float)
FX_WRAP(int8_t, double)
FX_WRAP(int16_t, float)
FX_WRAP(int16_t, double)
#undef FX_WRAP

template <class To, class From> FX_HD void convert_to(To *o, From x) { *o = conversion<To, From>::convert(x); }
template <class Pointer, class From> FX_HD void convert(Pointer o, ptrdiff_t i, From x) { convert_to(o + i, x); }

} // namespace fx
#endif
