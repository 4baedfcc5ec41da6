/* The random stream: Philox4x32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011),
 * counter-based, so that any element can be drawn alone and CPU and GPU, at any number of threads, give the same bits.
 *
 * A block is four words, philox(counter, seed): counter = (low, high word of offset + block number, 0, 0), key = (low,
 * high word of seed).  A fill of n elements from `offset` maps element i so: 32-bit draws  word i % 4 of block i / 4
 * advance the offset by (n + 3) / 4 64-bit draws  words 2 (i % 2) (low) and 2 (i % 2) + 1 (high) of block i / 2 advance
 * by (n + 1) / 2 Normal values are drawn in pairs (Box-Muller): elements 2 j and 2 j + 1 from the draws 2 j and 2 j
 * + 1.
 *
 * What is made of the bits uses the strict operations below only (no contraction to fma; host sources that include this
 * file are compiled with -ffp-contract=off), so that it too is the same everywhere.
 */
#ifndef FX_PHILOX_H
#define FX_PHILOX_H
#include "bits.h"

namespace fx {

FX_HD float mul(float a, float b) { return FX_PICK(__fmul_rn(a, b), a * b); }
FX_HD double mul(double a, double b) { return FX_PICK(__dmul_rn(a, b), a * b); }
FX_HD float add(float a, float b) { return FX_PICK(__fadd_rn(a, b), a + b); }
FX_HD double add(double a, double b) { return FX_PICK(__dadd_rn(a, b), a + b); }
FX_HD float divide(float a, float b) { return FX_PICK(__fdiv_rn(a, b), a / b); }
FX_HD double divide(double a, double b) { return FX_PICK(__ddiv_rn(a, b), a / b); }
FX_HD float root(float a) { return FX_PICK(__fsqrt_rn(a), __builtin_sqrtf(a)); }
FX_HD double root(double a) { return FX_PICK(__dsqrt_rn(a), __builtin_sqrt(a)); }
template <class T> FX_HD T strict_poly(T, T c) { return c; }
template <class T, class... Rest> FX_HD T strict_poly(T x, T c, Rest... rest) {
    return add(mul(strict_poly(x, T(rest)...), x), c);
}

struct philox_words {
    uint32_t w[4];
};

FX_HD philox_words philox(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0, uint32_t k1) {
#ifdef __CUDACC__
#pragma unroll
#else
#pragma GCC unroll 10
#endif
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = uint64_t(0xd2511f53u) * c0, p1 = uint64_t(0xcd9e8d57u) * c2;
        c0 = uint32_t(p1 >> 32) ^ c1 ^ k0;
        c2 = uint32_t(p0 >> 32) ^ c3 ^ k1;
        c1 = uint32_t(p1);
        c3 = uint32_t(p0);
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    return {{c0, c1, c2, c3}};
}

FX_HD philox_words philox_block(uint64_t seed, uint64_t block) {
    return philox(uint32_t(block), uint32_t(block >> 32), 0, 0, uint32_t(seed), uint32_t(seed >> 32));
}

FX_HD uint64_t join(uint32_t low, uint32_t high) { return uint64_t(high) << 32 | low; }

/* [0, 1): the top 24 or 53 bits, fewer for float16 (11) and bfloat16 (8), which hold no more. */
FX_HD float unit(uint32_t w, int bits = 24) {
    return mul(float(int32_t(w >> 8 >> (24 - bits))), 1.0f / float(1 << bits));
}
FX_HD double unit(uint64_t w) {
    /* 52 bits below one as a mantissa, the 53rd added: no conversion of 64-bit integers, which AVX2 lacks */
    double high = bit_cast<double>(w >> 12 | 0x3ff0000000000000u), low = (w & 0x800) != 0 ? 0x1p-53 : 0.0;
    return add(add(high, -1.0), low);
}
/* (0, 1], for logarithms */
FX_HD float unit_above(uint32_t w) {
    return add(mul(float(int32_t(w >> 8)), 0x1p-24f), mul(float(int32_t((w & 0xff) + 1)), 0x1p-32f));
}
FX_HD double unit_above(uint64_t w) { return add(1.0, -unit(w)); }

/* low <= value < high */
template <class T> FX_HD T uniform(T u, T low, T high) {
    T y = add(low, mul(add(high, -low), u));
    return y < high ? y : low;
}

/* -log(u), 0 < u <= 1: u = 2^k (1 + f), log(1 + f) = 2 s + s^3 R(s^2), s = f / (2 + f). */
FX_HD float minus_log(float u) {
    uint32_t ix = bit_cast<uint32_t>(u) + (0x3f800000u - 0x3f3504f3u);
    float k = float(int32_t(ix >> 23) - 127), f = add(bit_cast<float>((ix & 0x7fffffu) + 0x3f3504f3u), -1.0f);
    float s = divide(f, add(2.0f, f)), z = mul(s, s);
    float r = mul(mul(z, s), strict_poly(z, 0.666666687f, 0.400001258f, 0.285503983f, 0.233419433f));
    return -add(mul(k, 0.693147182f), add(mul(2.0f, s), r));
}
FX_HD double minus_log(double u) {
    uint64_t ix = bit_cast<uint64_t>(u) + (0x3ff0000000000000u - 0x3fe6a09e667f3bcdu);
    double k = bit_cast<double>(ix >> 52 | 0x4330000000000000u) - (4503599627370496.0 + 1023.0);
    double f = add(bit_cast<double>((ix & 0xfffffffffffffu) + 0x3fe6a09e667f3bcdu), -1.0);
    double s = divide(f, add(2.0, f)), z = mul(s, s);
    double r =
        mul(mul(z, s), strict_poly(z, 0.6666666666666666, 0.4000000000000094, 0.2857142857076445, 0.2222222240054776,
                                   0.18181794700897794, 0.15386290534659228, 0.13267418596469616, 0.13100721383550756));
    return -add(mul(k, 0.69314718055994530942), add(mul(2.0, s), r));
}

FX_HD float sine(float r) {
    float z = mul(r, r);
    return add(mul(mul(z, r), strict_poly(z, -0.166666672f, 0.00833333191f, -0.000198400827f, 2.72493139e-06f)), r);
}
FX_HD float cosine(float r) {
    float z = mul(r, r);
    return add(mul(z, strict_poly(z, -0.5f, 0.0416666679f, -0.00138888881f, 2.48005963e-05f, -2.73004474e-07f)), 1.0f);
}
FX_HD double sine(double r) {
    double z = mul(r, r);
    return add(mul(mul(z, r), strict_poly(z, -0.16666666666666666, 0.008333333333333331, -0.00019841269841265017,
                                          2.755731921930192e-06, -2.505210621952189e-08, 1.605852957226768e-10,
                                          -7.586576588161299e-13)),
               r);
}
FX_HD double cosine(double r) {
    double z = mul(r, r);
    return add(mul(z, strict_poly(z, -0.5, 0.041666666666666664, -0.0013888888888887382, 2.480158729874307e-05,
                                  -2.7557317260008837e-07, 2.087614382799289e-09, -1.1382456778047061e-11)),
               1.0);
}

template <class T> struct normal_pair {
    T first, second;
};

/* Two independent standard normal values: radius sqrt(-2 log u), u of the first draw, angle of the second draw: its two
 * top bits choose the quadrant, the rest an angle in [-pi / 4, pi / 4). */
template <class T, class W> FX_HD normal_pair<T> box_muller(W first, W second) {
    constexpr int top = 8 * sizeof(W) - 2;
    T radius = root(mul(T(2), minus_log(unit_above(first))));
    T angle = mul(add(unit(W(second << 2)), T(-0.5)), T(1.57079632679489661923));
    T s = sine(angle), c = cosine(angle);
    W quadrant = second >> top;
    bool swap = (quadrant & 1) != 0;
    T x = swap ? s : c, y = swap ? c : s;
    x = ((quadrant + 1) & 2) != 0 ? -x : x;
    y = (quadrant & 2) != 0 ? -y : y;
    return {mul(radius, x), mul(radius, y)};
}

/* [0, range): the high part of the product; its bias is below range / 2^32 or range / 2^64. */
FX_HD uint32_t below(uint32_t w, uint32_t range) { return uint32_t(uint64_t(w) * range >> 32); }
FX_HD uint64_t below(uint64_t w, uint64_t range) {
#if defined(__CUDA_ARCH__)
    return __umul64hi(w, range);
#elif defined(__SIZEOF_INT128__)
    return uint64_t((unsigned __int128)w * range >> 64);
#else
    uint64_t a = w >> 32, b = w & 0xffffffffu, c = range >> 32, d = range & 0xffffffffu, t = b * d;
    uint64_t m = a * d + (t >> 32), v = b * c + (m & 0xffffffffu);
    return a * c + (m >> 32) + (v >> 32);
#endif
}

/* True with probability p, exactly to 2^-32. */
FX_HD bool happens(uint32_t w, double p) { return mul(double(int32_t(w ^ 0x80000000u)) + 2147483648.0, 0x1p-32) < p; }

} // namespace fx
#endif
