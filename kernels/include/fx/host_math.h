/* Elementary functions for the host: branch-free, so that a loop over them vectorises.  Included by scalar.h.
 *
 * A function written as a template serves float and double alike; where only the double exists, the float comes from it
 * (correctly rounded but for rare double roundings).  Polynomials are near-minimax (Chebyshev interpolation in 50
 * digits); their relative error stands beside them.  Infinities, NaN, signed zeros and subnormals follow IEEE 754 / C
 * Annex F.
 */
#ifndef FX_HOST_MATH_H
#define FX_HOST_MATH_H
#include "bits.h"
#include <math.h>

namespace fx {
namespace host {

/* exp and its kin: x = n ln 2 + r + c, |r| <= ln 2 / 2, c the rounding error of r. */
template <class T> struct reduced {
    T n, r, c;
};

template <class T> FX_HD reduced<T> reduce_ln2(T x);
template <> FX_HD reduced<float> reduce_ln2(float x) {
    float n = nearest(x * 1.44269504f), hi = madd(-n, 0.693145751953125f, x), r = madd(-n, 1.42860677e-6f, hi);
    return {n, r, madd(-n, 1.42860677e-6f, hi - r)};
}
template <> FX_HD reduced<double> reduce_ln2(double x) {
    double n = nearest(x * 1.4426950408889634), hi = madd(-n, 6.93147180369123816490e-01, x);
    double r = madd(-n, 1.90821492927058770002e-10, hi);
    return {n, r, madd(-n, 1.90821492927058770002e-10, hi - r)};
}

/* (exp(r) - 1 - r) / r^2 */
FX_HD float exp_tail(float r) {
    return poly(r, 0.5f, 0.166666672f, 0.0416665524f, 0.00833332073f, 0.00139262504f,
                0.000198827736f); /* 2^-23 in r^3 */
}
FX_HD double exp_tail(double r) {
    return poly(r, 0.5, 0.16666666666666669, 0.041666666666666664, 0.008333333333330039, 0.0013888888888886537,
                0.00019841269863171557, 2.4801587317228724e-05, 2.7557268276905696e-06, 2.7557282838800484e-07,
                2.5100472505694996e-08, 2.09112987659402e-09); /* 2^-53 in r^3 */
}

template <class T> constexpr T exp_top = T(sizeof(T) == 4 ? 90.0 : 711.0);       /* overflows, halved too */
template <class T> constexpr T exp_bottom = T(sizeof(T) == 4 ? -104.5 : -746.0); /* underflows to zero */

/* exp(r + c) 2^-n of a reduced argument */
template <class T> FX_HD T exp_mantissa(reduced<T> a) { return T(1) + (a.r + madd(a.r * a.r, exp_tail(a.r), a.c)); }

/* exp(x) 2^shift */
template <class T> FX_HD T exp_scaled(T x, T shift) {
    x = x > exp_top<T> ? exp_top<T> : x;
    reduced<T> a = reduce_ln2(x < exp_bottom<T> ? exp_bottom<T> : x);
    return scale(exp_mantissa(a), a.n + shift);
}
template <class T> FX_HD T exp(T x) { return exp_scaled(x, T(0)); }

/* exp(x), x <= 0 */
template <class T> FX_HD T exp_down(T x) {
    reduced<T> a = reduce_ln2(x < exp_bottom<T> ? exp_bottom<T> : x);
    return scale_down(exp_mantissa(a), a.n);
}
/* exp(x + error), exp_bottom <= x <= 0, error of the order of x's rounding: large enough for exp(x) error to differ
 * from error. */
template <class T> FX_HD T exp_down(T x, T error) {
    reduced<T> a = reduce_ln2(x);
    T c = a.c + error, tail = a.r * a.r * exp_tail(a.r), rest = madd(c, a.r + tail, c);
    return scale_down(T(1) + (a.r + (tail + rest)), a.n);
}

template <class T> FX_HD T exp2(T x) {
    T bound = T(sizeof(T) == 4 ? 160 : 1100);
    x = x > bound ? bound : x;
    x = x < -bound ? -bound : x;
    T n = nearest(x), f = x - n, r = f * T(0.693147180559945309417);
    T c =
        product_error(f, T(0.693147180559945309417), r) + f * T(0.693147180559945309417L - T(0.693147180559945309417));
    T y = scale(T(1) + (r + madd(r * r, exp_tail(r), c)), n);
    return y;
}

/* y - 1 of y = exp(x), as 2 (2^(n-1) p + 2^(n-1) - 1/2): no overflow before the result's own. */
template <class T> FX_HD T expm1(T x) {
    constexpr T top = T(sizeof(T) == 4 ? 89 : 710); /* overflows */
    T t = x > top ? top : x;
    t = t < T(-50) ? T(-50) : t;
    reduced<T> a = reduce_ln2(t);
    T p = a.r + madd(a.r * a.r, exp_tail(a.r), a.c), s = power_of_two(a.n - T(1));
    T y = T(2) * madd(s, p, s - T(0.5));
    y = a.n == T(0) ? p : y;
    return x == T(0) ? x : y;
}

FX_HD float sinh_tail(float z) {
    return poly(z, 0.166666672f, 0.00833333936f, 0.000198381022f, 2.80628024e-06f);
} /* 2^-25 */
FX_HD double sinh_tail(double z) {
    return poly(z, 0.16666666666666666, 0.008333333333333333, 0.00019841269841269773, 2.755731922404034e-06,
                2.505210836405804e-08, 1.6059048396350562e-10, 7.646625361656533e-13,
                2.8445264169928503e-15); /* 2^-54 */
}
template <class T> FX_HD T sinh(T x) {
    T a = absolute(x), z = x * x, e = exp_scaled(a, T(-1)), large = e - T(0.25) / e,
      small = madd(z * a, sinh_tail(z), a);
    return copysign(a > T(1) ? large : small, x); /* e is half of exp, which overflows later than exp */
}
template <class T> FX_HD T cosh(T x) {
    T a = absolute(x), e = exp_scaled(a, T(-1));
    return e + T(0.25) / e;
}

FX_HD double tanh(double x) {
    double a = absolute(x), e = expm1(2.0 * (a > 20.0 ? 20.0 : a)), y = e / (e + 2.0);
    return copysign(y, x);
}
/* A polynomial below one, 1 - 2 / (exp(2 x) + 1) above. */
FX_HD float tanh(float x) {
    float a = absolute(x), z = x * x, t = a > 10.0f ? 10.0f : a;
    reduced<float> d = reduce_ln2(2.0f * t);
    float e = (1.0f + madd(d.r * d.r, exp_tail(d.r), d.r)) * power_of_two(d.n);
    float large = 1.0f - 2.0f / (e + 1.0f);
    float tail = poly(z, -0.333333313f, 0.133331284f, -0.0539347902f, 0.0216601156f, -0.00821892172f, 0.0025104594f,
                      -0.000420695491f); /* 2^-24 */
    float small = madd(z * tail, a, a);
    return copysign(a < 1.0f ? small : large, x);
}

/* exp(-|x|) or 1, over 1 + exp(-|x|); what the addition and the division lost goes into the quotient. */
template <class T> FX_HD T sigmoid(T x) {
    T e = exp_down(-absolute(x)), d = T(1) + e, lost = e - (d - T(1)), top = x < T(0) ? e : T(1), y = top / d;
    T rest = madd(-y, lost, -product_error(y, d, top));
    return madd(rest, madd(T(-0.5), e, T(1)), y); /* 1 - e / 2 is near enough to 1 / d */
}

/* Logarithms: x = 2^k (1 + f), sqrt(1/2) <= 1 + f < sqrt(2); log(1 + f) = f - f^2 / 2 + s (f^2 / 2 + R), s = f / (2 +
 * f). */
template <class T> struct logarithm {
    T k, f, half_square, tail;
};

FX_HD float log_remainder(float z) {
    return z * poly(z, 0.666666687f, 0.400001258f, 0.285503983f, 0.233419433f);
} /* 2^-25 */
FX_HD double log_remainder(double z) {
    return z * poly(z, 0.6666666666666666, 0.4000000000000094, 0.2857142857076445, 0.2222222240054776,
                    0.18181794700897794, 0.15386290534659228, 0.13267418596469616, 0.13100721383550756); /* 2^-54 */
}

FX_HD float exponent_value(uint32_t e) { return float(int32_t(e)); }
FX_HD double exponent_value(uint64_t e) { return bit_cast<double>(e | 0x4330000000000000u) - 4503599627370496.0; }

/* Of a positive finite x. */
template <class T> FX_HD logarithm<T> split_log(T x) {
    using F = ieee<T>;
    using B = typename F::bits;
    bool tiny = x < F::smallest_normal;
    x = tiny ? x * T(B(1) << F::mantissa) : x;
    B low = bit_cast<B>(T(0.70710678118654752440)), ix = bit_cast<B>(x) + (bit_cast<B>(T(1)) - low);
    T k = exponent_value(B(ix >> F::mantissa)) - (tiny ? T(F::bias + F::mantissa) : T(F::bias));
    T f = bit_cast<T>((ix & ((B(1) << F::mantissa) - 1)) + low) - T(1);
    T s = f / (T(2) + f), half_square = T(0.5) * f * f;
    return {k, f, half_square, s * (half_square + log_remainder(s * s))};
}

template <class T> FX_HD T log_specials(T x, T y) {
    y = x > ieee<T>::max ? x : y;
    y = x == T(0) ? -ieee<T>::infinity : y;
    return x >= T(0) ? y : not_a_number<T>();
}

template <class T> constexpr T ln2_hi = T(sizeof(T) == 4 ? 0.693145751953125 : 6.93147180369123816490e-01);
template <class T> constexpr T ln2_lo = T(sizeof(T) == 4 ? 1.428606820309417e-06 : 1.90821492927058770002e-10);

template <class T> FX_HD T log(T x) {
    logarithm<T> a = split_log(x);
    T y = madd(a.k, ln2_hi<T>, a.f - (a.half_square - madd(a.k, ln2_lo<T>, a.tail)));
    return log_specials(x, y);
}

template <class T> FX_HD T log1p(T x) {
    T u = T(1) + x;
    logarithm<T> a = split_log(u);
    T lost = x < T(1) ? x - (u - T(1)) : T(1) - (u - x); /* of the addition, exactly */
    T c = lost / u;
    T y = madd(a.k, ln2_hi<T>, a.f - (a.half_square - (a.tail + madd(a.k, ln2_lo<T>, c))));
    y = log_specials(u, y);
    return absolute(x) < T(sizeof(T) == 4 ? 0x1p-25 : 0x1p-54) ? x : y;
}

/* log(x) / log(base) as a sum of a head with 21 bits to spare and a tail, so that exact powers come out exact
 * (FreeBSD's e_log2.c). */
FX_HD double log_in_base(double x, double inv_hi, double inv_lo, double k_hi, double k_lo) {
    logarithm<double> a = split_log(x);
    double hi = bit_cast<double>(bit_cast<uint64_t>(a.f - a.half_square) & 0xffffffff00000000u);
    double lo = ((a.f - hi) - a.half_square) + a.tail;
    double head = hi * inv_hi, tail = madd(lo, inv_hi, madd(lo + hi, inv_lo, a.k * k_lo)), whole = a.k * k_hi,
           w = whole + head;
    return log_specials(x, (tail + ((whole - w) + head)) + w);
}
FX_HD double log2(double x) { return log_in_base(x, 1.44269504072144627571e+00, 1.67517131648865118353e-10, 1.0, 0.0); }
FX_HD double log10(double x) {
    return log_in_base(x, 4.34294481878168880939e-01, 2.50829467116452752298e-11, 3.01029995663611771306e-01,
                       3.69423907715893078616e-13);
}
FX_HD float log2(float x) { return float(log2(double(x))); }
FX_HD float log10(float x) { return float(log10(double(x))); }

/* Trigonometry: x = n pi / 2 + r + c by pi / 2 in pieces of 33 bits, exact products for |x| <= circle. */
constexpr double circle = 500000.0;

struct angle {
    double r, c;
    uint64_t quadrant;
};

FX_HD angle reduce_angle(double x) {
    double shifted = madd(x, 0.63661977236758134308, ieee<double>::magic), n = shifted - ieee<double>::magic;
    double t = madd(-n, 1.57079632673412561417e+00, x);                       /* exact */
    double w = n * 6.07710050630396597660e-11, u = t - w, lost = (t - u) - w; /* 66 bits */
    double w2 = n * 2.02226624871116645580e-21, v = u - w2;                   /* 99 bits */
    lost += (u - v) - w2;
    lost = madd(-n, 8.47842766036889956997e-32, lost);
    double r = v + lost;
    return {r, (v - r) + lost, bit_cast<uint64_t>(shifted)};
}

FX_HD double sin_near_zero(double r, double c) {
    double z = r * r, tail = poly(z, 0.008333333333333331, -0.00019841269841265017, 2.755731921930192e-06,
                                  -2.505210621952189e-08, 1.605852957226768e-10, -7.586576588161299e-13); /* 2^-54 */
    return r + (z * r * madd(z, tail, -0.16666666666666666) + madd(z, -0.5 * c, c));
}
FX_HD double cos_near_zero(double r, double c) {
    double z = r * r, h = 0.5 * z, w = 1.0 - h;
    double tail = z * z *
                  poly(z, 0.041666666666666664, -0.0013888888888887382, 2.480158729874307e-05, -2.7557317260008837e-07,
                       2.087614382799289e-09, -1.1382456778047061e-11); /* 2^-54 */
    return w + (((1.0 - w) - h) + (tail - r * c));
}

/* sin(x + shift pi / 2) */
FX_HD double sin_shifted(double x, uint64_t shift) {
    angle a = reduce_angle(x);
    uint64_t q = a.quadrant + shift;
    double s = sin_near_zero(a.r, a.c), c = cos_near_zero(a.r, a.c);
    uint64_t odd = 0 - (q & 1); /* a mask: a conditional on 64-bit integers costs more in AVX2 */
    uint64_t y = (bit_cast<uint64_t>(s) & ~odd) | (bit_cast<uint64_t>(c) & odd);
    return bit_cast<double>(y ^ ((q & 2) << 62));
}
FX_HD double small_sin(double x) { return x == 0.0 ? x : sin_shifted(x, 0); }
FX_HD double small_cos(double x) { return sin_shifted(x, 1); }
FX_HD double small_tan(double x) {
    angle a = reduce_angle(x);
    double s = sin_near_zero(a.r, a.c), c = cos_near_zero(a.r, a.c);
    bool odd = (a.quadrant & 1) != 0;
    double y = (odd ? -c : s) / (odd ? s : c);
    return x == 0.0 ? x : y;
}

/* The float needs 33 + 53 bits of pi / 2 only, and float polynomials. */
FX_HD float sin_shifted(float x, uint32_t shift) {
    double shifted = madd(double(x), 0.63661977236758134308, ieee<double>::magic), n = shifted - ieee<double>::magic;
    float r = float(madd(-n, 6.07710050650619224932e-11, madd(-n, 1.57079632673412561417e+00, double(x))));
    uint32_t q = uint32_t(bit_cast<uint64_t>(shifted)) + shift;
    float z = r * r;
    float s = madd(z * r, poly(z, -0.166666672f, 0.00833333191f, -0.000198400827f, 2.72493139e-06f), r); /* 2^-25 */
    float c = madd(z, poly(z, -0.5f, 0.0416666679f, -0.00138888881f, 2.48005963e-05f, -2.73004474e-07f), 1.0f);
    uint32_t odd = 0 - (q & 1), y = (bit_cast<uint32_t>(s) & ~odd) | (bit_cast<uint32_t>(c) & odd);
    return bit_cast<float>(y ^ ((q & 2) << 30));
}
FX_HD float small_sin(float x) { return x == 0.0f ? x : sin_shifted(x, 0); }
FX_HD float small_cos(float x) { return sin_shifted(x, 1); }
FX_HD float small_tan(float x) { return float(small_tan(double(x))); }

/* pi / 4 (how many times) + atan((a - shift) / (1 + a shift)). */
FX_HD double atan(double x) {
    double a = absolute(x);
    bool far = a > 2.41421356237309504880, near = a <= 0.41421356237309504880;
    double top = far ? -1.0 : near ? a : a - 1.0, bottom = far ? a : near ? 1.0 : a + 1.0;
    double hi = far ? 1.57079632679489655800e+00 : near ? 0.0 : 7.85398163397448278999e-01;
    double lo = far ? 6.12323399573676603587e-17 : near ? 0.0 : 3.06161699786838301793e-17;
    double t = top / bottom, z = t * t;
    double tail = z * poly(z, -0.3333333333333333, 0.19999999999999993, -0.1428571428571149, 0.11111111110751482,
                           -0.0909090906681608, 0.07692306729194887, -0.06666641869131, 0.058819230561117215,
                           -0.052580202726370956, 0.047192591881298325, -0.04103887546452554, 0.030622995545065763,
                           -0.013905374525048309); /* 2^-54 */
    return copysign(hi + (t + madd(t, tail, lo)), x);
}
FX_HD float atan(float x) { return float(atan(double(x))); }

/* In float's precision only: the quotient of doubles is rounded once before atan sees it. */
FX_HD float atan2(float y, float x) {
    double a = absolute(y), b = absolute(x);
    bool both_infinite = a > ieee<float>::max && b > ieee<float>::max;
    double quotient = a == 0.0 ? 0.0 : both_infinite ? 1.0 : a / b;
    double t = atan(quotient);
    t = copysign(1.0f, x) < 0.0f ? 3.14159265358979323846 - t : t;
    return (x != x || y != y) ? x + y : copysign(float(t), y);
}

/* (asin(s) / s - 1) / z, z = s^2 <= 1/4 */
FX_HD double asin_tail(double z) {
    return poly(z, 0.16666666666666666, 0.07499999999999991, 0.04464285714288356, 0.030381944441346388,
                0.022372159280670934, 0.017352757444179745, 0.013965010669333295, 0.011549075679420895,
                0.009792863988470036, 0.008135014192099346, 0.008799140456930877, 0.0003664940764282979,
                0.022586112434717368, -0.024063914418825147, 0.03074452694691634); /* 2^-54 */
}

struct half_angle {
    double a, s, c, tail; /* sqrt(z) = s + c for a > 1/2, asin's tail at z times z */
};
FX_HD half_angle split_asin(double x) {
    double a = absolute(x), z = a > 0.5 ? 0.5 * (1.0 - a) : a * a, s = __builtin_sqrt(z);
    s = a > 0.5 ? s : a;
    double p = s * s, c = a > 0.5 ? ((z - p) - product_error(s, s, p)) / (2.0 * s) : 0.0;
    c = z == 0.0 ? 0.0 : c;
    return {a, s, c, z * asin_tail(z)};
}
FX_HD double asin(double x) {
    half_angle h = split_asin(x);
    double y = madd(h.s, h.tail, h.s);
    double far = 1.57079632679489655800e+00 - (2.0 * h.s - (6.12323399573676603587e-17 - 2.0 * madd(h.s, h.tail, h.c)));
    return copysign(h.a > 0.5 ? far : y, x);
}
FX_HD double acos(double x) {
    half_angle h = split_asin(x);
    double y = madd(h.s, h.tail, h.c), near_one = 2.0 * (h.s + y);
    double near_minus_one = 3.14159265358979311600e+00 - (2.0 * h.s - (1.22464679914735317723e-16 - 2.0 * y));
    double s = copysign(h.s, x);
    double middle = 1.57079632679489655800e+00 - (s - (6.12323399573676603587e-17 - s * h.tail));
    return h.a <= 0.5 ? middle : x > 0.0 ? near_one : near_minus_one;
}
FX_HD float asin(float x) { return float(asin(double(x))); }
FX_HD float acos(float x) { return float(acos(double(x))); }

FX_HD double asinh(double x) {
    double a = absolute(x), t = a < 1e100 ? a : 1.0, z = t * t;
    double near = log1p(t + z / (1.0 + __builtin_sqrt(z + 1.0))), far = log(a) + 0.69314718055994530942;
    return copysign(a < 1e8 ? near : far, x);
}
FX_HD double acosh(double x) {
    double t = x - 1.0, far = log(x) + 0.69314718055994530942;
    double near = log1p(t + __builtin_sqrt(madd(t, t, 2.0 * t)));
    return x >= 1.0 ? (x < 1e8 ? near : far) : not_a_number<double>();
}
FX_HD double atanh(double x) {
    double a = absolute(x);
    return copysign(0.5 * log1p(2.0 * a / (1.0 - a)), x);
}
FX_HD float asinh(float x) { return float(asinh(double(x))); }
FX_HD float acosh(float x) { return float(acosh(double(x))); }
FX_HD float atanh(float x) { return float(atanh(double(x))); }

} // namespace host
} // namespace fx
#endif
