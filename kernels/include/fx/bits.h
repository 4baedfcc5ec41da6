/* What every scalar header starts from: the function macro, bit casts, rounding by a magic constant, Horner's scheme.
 */
#ifndef FX_BITS_H
#define FX_BITS_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* FX_HD marks a function of both sides; FX_PICK(device, host) chooses the expression of the side being compiled. */
#ifdef __CUDACC__
#define FX_HD __host__ __device__ __forceinline__
#else
#define FX_HD inline __attribute__((always_inline))
#endif
#ifdef __CUDA_ARCH__
#define FX_PICK(device, host) device
#else
#define FX_PICK(device, host) host
#endif

#if defined(__CUDA_ARCH__) || defined(__FMA__) || defined(__aarch64__)
#define FX_HAS_FMA 1
#else
#define FX_HAS_FMA 0
#endif

namespace fx {

template <class To, class From> FX_HD To bit_cast(From x) {
    static_assert(sizeof(To) == sizeof(From), "bit_cast between types of different size");
    To y;
    memcpy(&y, &x, sizeof y);
    return y;
}

template <class T> struct ieee;

template <> struct ieee<float> {
    using bits = uint32_t;
    static constexpr int mantissa = 23;
    static constexpr bits bias = 127, mask = 0x7fffffffu;
    static constexpr float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer, kept in the low bits */
    static constexpr float infinity = __builtin_huge_valf(), max = 3.40282346638528859812e+38f,
                           smallest_normal = 0x1p-126f;
};

template <> struct ieee<double> {
    using bits = uint64_t;
    static constexpr int mantissa = 52;
    static constexpr bits bias = 1023, mask = 0x7fffffffffffffffu;
    static constexpr double magic = 6755399441055744.0;
    static constexpr double infinity = __builtin_huge_val(), max = 1.79769313486231570815e+308,
                            smallest_normal = 0x1p-1022;
};

template <class T> FX_HD T not_a_number() { return ieee<T>::infinity - ieee<T>::infinity; }

/* Integers and bool have no sign of zero and no NaN, so the plain comparisons serve them. */
template <class T> FX_HD T absolute(T x) { return x < T(0) ? T(-x) : x; }
FX_HD float absolute(float x) { return bit_cast<float>(bit_cast<uint32_t>(x) & 0x7fffffffu); }
FX_HD double absolute(double x) { return bit_cast<double>(bit_cast<uint64_t>(x) & 0x7fffffffffffffffu); }

template <class T> FX_HD T copysign(T magnitude, T sign) {
    using B = typename ieee<T>::bits;
    return bit_cast<T>((bit_cast<B>(magnitude) & ieee<T>::mask) | (bit_cast<B>(sign) & ~ieee<T>::mask));
}

/* a * b + c, in one rounding where the machine has an instruction for it. */
#if FX_HAS_FMA
FX_HD float madd(float a, float b, float c) { return FX_PICK(::fmaf(a, b, c), __builtin_fmaf(a, b, c)); }
FX_HD double madd(double a, double b, double c) { return FX_PICK(::fma(a, b, c), __builtin_fma(a, b, c)); }
#else
FX_HD float madd(float a, float b, float c) { return a * b + c; }
FX_HD double madd(double a, double b, double c) { return a * b + c; }
#endif

/* The rounding error of p = a * b. */
FX_HD float product_error(float a, float b, float p) {
#if FX_HAS_FMA
    return madd(a, b, -p);
#else
    return float(double(a) * b - p);
#endif
}
FX_HD double product_error(double a, double b, double p) {
#if FX_HAS_FMA
    return madd(a, b, -p);
#else /* Dekker's product on halves cut by a mask, which cannot overflow */
    double a1 = bit_cast<double>(bit_cast<uint64_t>(a) & 0xfffffffff8000000u), a2 = a - a1;
    double b1 = bit_cast<double>(bit_cast<uint64_t>(b) & 0xfffffffff8000000u), b2 = b - b1;
    return ((a1 * b1 - p) + a1 * b2 + a2 * b1) + a2 * b2;
#endif
}

/* c0 + c1 x + c2 x^2 + ...: Horner's scheme on the even and odd coefficients after the first, in four chains when there
 * are many. A loop iteration is a chain of dependent operations that the processor overlaps with few others; shorter
 * chains, more overlap. */
template <class T> FX_HD T every_other(T, T c) { return c; }
template <class T> FX_HD T every_other(T, T c, T) { return c; }
template <class T, class... Rest> FX_HD T every_other(T z, T c, T, Rest... rest) {
    return madd(every_other(z, T(rest)...), z, c);
}

template <class T> FX_HD T every_fourth(T, T c) { return c; }
template <class T> FX_HD T every_fourth(T, T c, T) { return c; }
template <class T> FX_HD T every_fourth(T, T c, T, T) { return c; }
template <class T> FX_HD T every_fourth(T, T c, T, T, T) { return c; }
template <class T, class... Rest> FX_HD T every_fourth(T q, T c, T, T, T, Rest... rest) {
    return madd(every_fourth(q, T(rest)...), q, c);
}

template <class T> FX_HD T poly_chains(T, T c) { return c; }
template <class T> FX_HD T poly_chains(T x, T c0, T c1) { return madd(x, c1, c0); }
template <class T> FX_HD T poly_chains(T x, T c0, T c1, T c2) { return madd(x, madd(x, c2, c1), c0); }
template <class T, class... Rest> FX_HD T poly_chains(T x, T c0, T c1, T c2, T c3, Rest... rest) {
    T z = x * x;
    if constexpr (sizeof...(rest) < 9) {
        return madd(x, every_other(z, c1, c2, c3, T(rest)...), every_other(z, c0, c1, c2, c3, T(rest)...));
    } else {
        T q = z * z, even = madd(z, every_fourth(q, c2, c3, T(rest)...), every_fourth(q, c0, c1, c2, c3, T(rest)...));
        return madd(x, madd(z, every_fourth(q, c3, T(rest)...), every_fourth(q, c1, c2, c3, T(rest)...)), even);
    }
}
template <class T, class... Rest> FX_HD T poly(T x, T c, Rest... rest) {
    return madd(x, poly_chains(x, T(rest)...), c);
}

/* Nearest integer (ties to even) of |x| < 2^(mantissa - 1). */
template <class T> FX_HD T nearest(T x) { return (x + ieee<T>::magic) - ieee<T>::magic; }

/* 2^n for an integral n in the normal range of exponents: the bias comes with the magic constant. */
template <class T> FX_HD T power_of_two(T n) {
    using B = typename ieee<T>::bits;
    return bit_cast<T>(B(bit_cast<B>(n + (ieee<T>::magic + T(ieee<T>::bias))) << ieee<T>::mantissa));
}

/* x 2^n for x near one and any n that gives overflow or underflow at worst: one rounding. */
template <class T> FX_HD T scale(T x, T n) {
    constexpr T middle = T(sizeof(T) == 4 ? 64 : 512);
    bool low = n < T(0);
    T factor = power_of_two(n + (low ? middle : -middle));
    return x * factor * (low ? (sizeof(T) == 4 ? T(0x1p-64) : T(0x1p-512)) : (sizeof(T) == 4 ? T(0x1p64) : T(0x1p512)));
}

/* The same for n <= 0. */
template <class T> FX_HD T scale_down(T x, T n) {
    constexpr T middle = T(sizeof(T) == 4 ? 64 : 512);
    return x * power_of_two(n + middle) * (sizeof(T) == 4 ? T(0x1p-64) : T(0x1p-512));
}

} // namespace fx
#endif
