/* Scalar arithmetic of every elementwise operator, for the host compiler and nvcc alike.
 *
 * fx::exp, fx::erf, ... take float or double.  On the host they are the branch-free functions of host_math.h and
 * host_special.h, which vectorise inside a loop; in device code they are the CUDA toolkit's (1-2 ulp too).
 * What is built from them below, and the lines of elementwise.h, is one source for both.
 */
#ifndef FX_SCALAR_H
#define FX_SCALAR_H
#include "bits.h"
#ifndef __CUDA_ARCH__
#include "host_math.h"
#include "host_special.h"
#endif

namespace fx {

#define FX_FUNCTION(name)                                                      \
    FX_HD float name(float x) { return FX_PICK(::name##f(x), host::name(x)); } \
    FX_HD double name(double x) { return FX_PICK(::name(x), host::name(x)); }
FX_FUNCTION(exp)
FX_FUNCTION(exp2)
FX_FUNCTION(expm1)
FX_FUNCTION(log)
FX_FUNCTION(log2)
FX_FUNCTION(log10)
FX_FUNCTION(log1p)
FX_FUNCTION(sinh)
FX_FUNCTION(cosh)
FX_FUNCTION(tanh)
FX_FUNCTION(asin)
FX_FUNCTION(acos)
FX_FUNCTION(atan)
FX_FUNCTION(asinh)
FX_FUNCTION(acosh)
FX_FUNCTION(atanh)
FX_FUNCTION(erf)
FX_FUNCTION(erfc)
FX_FUNCTION(erfinv)
FX_FUNCTION(lgamma)
#undef FX_FUNCTION

/* What the compiler turns into an instruction on either side. */
#define FX_BUILTIN(name, builtin)                                                             \
    FX_HD float name(float x) { return FX_PICK(::builtin##f(x), __builtin_##builtin##f(x)); } \
    FX_HD double name(double x) { return FX_PICK(::builtin(x), __builtin_##builtin(x)); }
FX_BUILTIN(sqrt, sqrt)
FX_BUILTIN(floor, floor)
FX_BUILTIN(ceil, ceil)
FX_BUILTIN(trunc, trunc)
FX_BUILTIN(round, nearbyint)
#undef FX_BUILTIN
/* An integer is whole. */
template <class T> FX_HD T floor(T x) { return x; }
template <class T> FX_HD T ceil(T x) { return x; }
template <class T> FX_HD T trunc(T x) { return x; }
template <class T> FX_HD T round(T x) { return x; }

#define FX_PAIR(name, host_float, host_double)                                                \
    FX_HD float name(float x, float y) { return FX_PICK(::name##f(x, y), host_float(x, y)); } \
    FX_HD double name(double x, double y) { return FX_PICK(::name(x, y), host_double(x, y)); }
FX_PAIR(pow, host::pow, host::pow)
FX_PAIR(atan2, host::atan2, __builtin_atan2)
FX_PAIR(fmod, __builtin_fmodf, __builtin_fmod)
FX_PAIR(nextafter, __builtin_nextafterf, __builtin_nextafter)
#undef FX_PAIR

/* Trigonometry is vectorised for |x| <= FX_CIRCLE only (small_sin, ...); beyond, and for these functions, the library
 * reduces the angle.  The loops look at a block first: see FX_GUARDED in elementwise.h. */
#define FX_CIRCLE 500000
#define FX_CIRCULAR(name)                                                                                          \
    FX_HD float name(float x) {                                                                                    \
        return FX_PICK(::name##f(x), absolute(x) <= FX_CIRCLE ? host::small_##name(x) : float(::name(double(x)))); \
    }                                                                                                              \
    FX_HD double name(double x) {                                                                                  \
        return FX_PICK(::name(x), absolute(x) <= FX_CIRCLE ? host::small_##name(x) : ::name(x));                   \
    }                                                                                                              \
    FX_HD float small_##name(float x) { return FX_PICK(::name##f(x), host::small_##name(x)); }                     \
    FX_HD double small_##name(double x) { return FX_PICK(::name(x), host::small_##name(x)); }
FX_CIRCULAR(sin)
FX_CIRCULAR(cos)
FX_CIRCULAR(tan)
#undef FX_CIRCULAR

/* Classification; an integer is finite. */
template <class T> FX_HD bool isnan(T x) { return x != x; }
template <class T> FX_HD bool isinf(T) { return false; }
FX_HD bool isinf(float x) { return absolute(x) > ieee<float>::max; }
FX_HD bool isinf(double x) { return absolute(x) > ieee<double>::max; }
template <class T> FX_HD bool isfinite(T x) { return !isnan(x) && !isinf(x); }
template <class T> FX_HD bool signbit(T x) { return x < T(0); }
FX_HD bool signbit(float x) { return (bit_cast<uint32_t>(x) >> 31) != 0; }
FX_HD bool signbit(double x) { return (bit_cast<uint64_t>(x) >> 63) != 0; }

/* NaN goes through maximum and minimum, and loses in fmax and fmin. */
template <class T> FX_HD T maximum(T x, T y) { return x > y || x != x ? x : y; }
template <class T> FX_HD T minimum(T x, T y) { return x < y || x != x ? x : y; }
template <class T> FX_HD T fmax(T x, T y) { return x > y || y != y ? x : y; }
template <class T> FX_HD T fmin(T x, T y) { return x < y || y != y ? x : y; }
template <class T> FX_HD T clamp(T x, T low, T high) { return minimum(maximum(x, low), high); }
template <class T> FX_HD T sign(T x) { return T((x > T(0)) - (x < T(0))); }

/* Division.  An integer divided by zero gives 0 here: the caller looks for zero divisors and raises. */
template <class T> FX_HD bool is_minus_one(T y) { return y < T(0) && y == T(-1); } /* not the 255 of uint8 */
template <class T> FX_HD T div_trunc(T x, T y) {
    return y == T(0) ? T(0) : is_minus_one(y) ? T(0 - uint64_t(x)) : T(x / (y == T(0) ? T(1) : y));
}
FX_HD float div_trunc(float x, float y) { return trunc(x / y); }
FX_HD double div_trunc(double x, double y) { return trunc(x / y); }
template <class T> FX_HD T fmod(T x, T y) {
    return y == T(0) || is_minus_one(y) ? T(0) : T(x % (y == T(0) ? T(1) : y));
}
template <class T> FX_HD T remainder(T x, T y) {
    T r = fmod(x, y);
    return r != T(0) && (r < T(0)) != (y < T(0)) ? T(r + y) : r;
}
template <class T> FX_HD T floor_divide_integers(T x, T y) {
    T q = div_trunc(x, y);
    return fmod(x, y) != T(0) && (x < T(0)) != (y < T(0)) ? T(q - 1) : q;
}
template <class T> FX_HD T floor_divide_reals(T x, T y) { /* Python's float_divmod */
    T r = fmod(x, y), q = (x - r) / y, whole, exact = x / y;
    q = r != T(0) && (y < T(0)) != (r < T(0)) ? q - T(1) : q;
    whole = floor(q);
    whole = q - whole > T(0.5) ? whole + T(1) : whole;
    whole = q == T(0) ? copysign(T(0), exact) : whole;
    return y == T(0) ? exact : whole;
}
template <class T> FX_HD T floor_divide(T x, T y) { return floor_divide_integers(x, y); }
FX_HD float floor_divide(float x, float y) { return floor_divide_reals(x, y); }
FX_HD double floor_divide(double x, double y) { return floor_divide_reals(x, y); }

/* Integers to integer powers; a negative power is 0 but of 1 and -1. */
template <class T> FX_HD T pow(T x, T y) {
    if (y < T(0)) return x == T(1) ? T(1) : is_minus_one(x) ? ((y & 1) != 0 ? T(-1) : T(1)) : T(0);
    T r = T(1);
    for (T n = y; n != T(0); n = T(n >> 1)) {
        r = (n & 1) != 0 ? T(r * x) : r;
        x = T(x * x);
    }
    return r;
}

/* Shifts by a negative count or past the width: everything is shifted out. */
template <class T> FX_HD T left_shift(T x, T n) {
    constexpr int width = 8 * sizeof(T);
    return n < T(0) || uint64_t(n) >= uint64_t(width) ? T(0) : T(uint64_t(x) << (uint64_t(n) & (width - 1)));
}
template <class T> FX_HD T right_shift(T x, T n) {
    constexpr int last = 8 * sizeof(T) - 1;
    if (n < T(0) || uint64_t(n) > uint64_t(last)) return T(-1) < T(0) ? T(x >> last) : T(0);
    return T(x >> n); /* arithmetic where T is signed */
}

template <class T> FX_HD T rsqrt(T x) { return T(1) / sqrt(x); }
FX_HD float sigmoid(float x) { return FX_PICK(1.0f / (1.0f + ::expf(-x)), host::sigmoid(x)); }
FX_HD double sigmoid(double x) { return FX_PICK(1.0 / (1.0 + ::exp(-x)), host::sigmoid(x)); }
FX_HD float normal_cdf(float x) { return FX_PICK(::normcdff(x), host::normal_cdf(x)); }
FX_HD double normal_cdf(double x) { return FX_PICK(::normcdf(x), host::normal_cdf(x)); }
template <class T> FX_HD T normal_pdf(T x) { return T(0.39894228040143267794) * exp(T(-0.5) * x * x); }
/* log(1 + exp(x)) */
template <class T> FX_HD T softplus(T x) { return maximum(x, T(0)) + log1p(exp(-absolute(x))); }

template <class T> FX_HD T hypot(T x, T y) {
    T a = absolute(x), b = absolute(y), top = fmax(a, b), bottom = fmin(a, b), r = bottom / top;
    T h = top * sqrt(T(1) + r * r);
    h = top == T(0) || top > ieee<T>::max ? top : h;
    return (isnan(x) || isnan(y)) && !(top > ieee<T>::max) ? x + y : h;
}
FX_HD float hypot(float x, float y) {
    double h = sqrt(double(x) * x + double(y) * y);
    return isinf(x) || isinf(y) ? ieee<float>::infinity : float(h);
}
template <class T> FX_HD T logaddexp(T x, T y) {
    T top = maximum(x, y), d = x == y ? T(0) : -absolute(x - y);
    return isinf(top) && x == y ? x : top + log1p(exp(d));
}
template <class T> FX_HD T logaddexp2(T x, T y) {
    T top = maximum(x, y), d = x == y ? T(0) : -absolute(x - y);
    return isinf(top) && x == y ? x : top + T(1.44269504088896340736) * log1p(exp2(d));
}
template <class T> FX_HD T xlogy(T x, T y) { return isnan(y) ? y : x == T(0) ? T(0) : x * log(y); }
/* 0 of NaN, as PyTorch. */
template <class T> FX_HD T heaviside(T x, T at_zero) { return x == T(0) ? at_zero : T(x > T(0)); }
template <class T> FX_HD T lerp(T x, T y, T weight) {
    return absolute(weight) < T(0.5) ? x + weight * (y - x) : y - (y - x) * (T(1) - weight);
}
template <class T> FX_HD T nan_to_num_real(T x, T nan, T high, T low) {
    return isnan(x) ? nan : x > ieee<T>::max ? high : x < -ieee<T>::max ? low : x;
}
template <class T> FX_HD T nan_to_num(T x, T, T, T) { return x; }
FX_HD float nan_to_num(float x, float nan, float high, float low) { return nan_to_num_real(x, nan, high, low); }
FX_HD double nan_to_num(double x, double nan, double high, double low) { return nan_to_num_real(x, nan, high, low); }

/* sin(pi x), reduced exactly. */
FX_HD double sin_pi(double x) {
    double r = x - 2.0 * round(0.5 * x); /* in [-1, 1] */
    r = r > 0.5 ? 1.0 - r : r < -0.5 ? -1.0 - r : r;
    return small_sin(3.14159265358979323846 * r);
}
FX_HD double sinc(double x) { return x == 0.0 ? 1.0 : isinf(x) ? x - x : sin_pi(x) / (3.14159265358979323846 * x); }
FX_HD float sinc(float x) { return float(sinc(double(x))); }

/* psi: recurrence up to ten, then the asymptotic series (Abramowitz and Stegun 6.3.18); reflection below zero. */
FX_HD double digamma(double x) {
    if (x == 0.0) return copysign(ieee<double>::infinity, -x);
    double y = 0.0;
    if (x < 0.0) {
        if (x == floor(x)) return not_a_number<double>();
        double r = x - round(x); /* the period of tan(pi x), taken off exactly */
        y = -3.14159265358979323846 / small_tan(3.14159265358979323846 * r);
        x = 1.0 - x;
    }
    for (; x < 10.0; x += 1.0) y -= 1.0 / x;
    double z = 1.0 / (x * x);
    double series = z * poly(z, 1.0 / 12, -1.0 / 120, 1.0 / 252, -1.0 / 240, 1.0 / 132, -691.0 / 32760, 1.0 / 12);
    return y + (log(x) - 0.5 / x - series);
}
FX_HD float digamma(float x) { return float(digamma(double(x))); }

/* psi' (Abramowitz and Stegun 6.4.12, 6.4.7) */
FX_HD double trigamma(double x) {
    double sign = 1.0, y = 0.0;
    if (x < 0.5) {
        double s = 3.14159265358979323846 / sin_pi(x);
        sign = -1.0;
        y = -s * s;
        x = 1.0 - x;
    }
    for (; x < 10.0; x += 1.0) y += 1.0 / (x * x);
    double z = 1.0 / (x * x);
    double series = poly(z, 1.0 / 6, -1.0 / 30, 1.0 / 42, -1.0 / 30, 5.0 / 66, -691.0 / 2730, 7.0 / 6);
    return sign * (y + (1.0 / x + 0.5 * z + z / x * series));
}
FX_HD float trigamma(float x) { return float(trigamma(double(x))); }

/* Hurwitz zeta, sum of (k + q)^-s for whole s >= 2: terms up to ten, then Euler and Maclaurin's series. */
FX_HD double hurwitz_zeta(double s, double q) {
    if (q <= 0.0 && q == floor(q)) return ieee<double>::infinity;
    double sum = 0.0;
    for (; q < 10.0; q += 1.0) sum += pow(q, -s);
    double term = pow(q, -s), z = 1.0 / (q * q), rising = s * term / q;
    sum += term * q / (s - 1.0) + 0.5 * term;
    /* B_2k / (2k)! */
    // clang-format off
    const double c[] = {1.0 / 12, -1.0 / 720, 1.0 / 30240, -1.0 / 1209600, 1.0 / 47900160, -691.0 / 1307674368000.0,
                        1.0 / 74724249600.0, -3617.0 / 10670622842880000.0};
    // clang-format on
    for (int k = 0; k < 8; k++) {
        sum += c[k] * rising;
        rising *= (s + 2 * k + 1) * (s + 2 * k + 2) * z;
    }
    return sum;
}

/* The n-th derivative of psi for whole n >= 1 (Abramowitz and Stegun 6.4.10) */
FX_HD double polygamma(double n, double x) {
    if (n == 1.0) return trigamma(x);
    double factorial = 1.0;
    for (double k = 2.0; k <= n && k <= 171.0; k += 1.0) factorial *= k; /* 171! is infinite */
    double y = factorial * hurwitz_zeta(n + 1.0, x);
    return fmod(n, 2.0) == 0.0 ? -y : y;
}
FX_HD float polygamma(float n, float x) { return float(polygamma(double(n), double(x))); }

} // namespace fx
#endif
