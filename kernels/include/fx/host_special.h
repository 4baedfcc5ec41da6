/* Error function, gamma family and powers for the host.  Included by scalar.h; see host_math.h. */
#ifndef FX_HOST_SPECIAL_H
#define FX_HOST_SPECIAL_H
#include "host_math.h"

namespace fx {
namespace host {

/* (1 + 2 t) exp(t^2) erfc(t), t >= 0, in q = (t - k) / (t + k); k = 4 and 2. */
FX_HD double erfcx_shape(double t) {
    double q = (t - 4.0) / (t + 4.0);
    return poly(q, 1.2329951186255526, -0.13962111684056253, 0.015379652102619558, 0.06809705425469323, -0.10103906603629459,
                0.09373283499833023, -0.0663303658124095, 0.03716751553777026, -0.01619773405599449, 0.005031969975753176,
                -0.0007577732973669146, -0.00019925668432389153, 0.00015062169704678355, -2.439924428312988e-05,
                -1.1222046316669005e-05, 5.709784760966506e-06, 2.9377854943443786e-07, -8.254699744871162e-07,
                7.471952780500971e-08, 1.1005996198640057e-07, -1.799947545903142e-08, -1.4091982822555755e-08,
                1.868487385473519e-09, 1.263782858042137e-09); /* 2^-54 */
}
FX_HD float erfcx_shape(float t) {
    float q = (t - 2.0f) / (t + 2.0f);
    return poly(q, 1.27697837f, -0.0927639157f, -0.166031301f, 0.164053649f, -0.0542057231f, -0.00804796629f, 0.00863949116f,
                0.00128244248f, -0.00125137484f, -0.000373059069f, 2.1667789e-05f); /* 2^-25 */
}

/* exp(-t^2), the rounding error of the square included. */
template <class T> FX_HD T exp_minus_square(T t) {
    T p = t * t;
    return exp_sum(-p, -product_error(t, t, p));
}

template <class T> constexpr T erfc_end = T(sizeof(T) == 4 ? 10.1 : 27.3); /* zero beyond */

/* erfc of t >= 0 (or NaN) */
template <class T> FX_HD T erfc_positive(T t) {
    t = t > erfc_end<T> ? erfc_end<T> : t;
    return exp_minus_square(t) * (erfcx_shape(t) / madd(T(2), t, T(1)));
}

FX_HD double erf_near_zero(double x) {
    double z = x * x;
    double p = poly(z, -0.37612638903183754, 0.11283791670955125, -0.026866170645131082, 0.005223977625438469,
                    -0.0008548327023024696, 0.0001205533295270044, -1.4925649082364783e-05, 1.6462076794793398e-06,
                    -1.6365085592631528e-07, 1.4796618901285178e-08, -1.2190356240288263e-09, 8.800680090340625e-11,
                    -4.374621450133858e-12); /* 2^-54 */
    return madd(x, madd(z, p, 0.12837916709551257), x);
}
FX_HD float erf_near_zero(float x) {
    float z = x * x;
    return madd(x, poly(z, 0.128379166f, -0.37612626f, 0.112835944f, -0.0268542115f, 0.00518908724f, -0.00080168643f,
                        7.87587487e-05f), x);
}

template <class T> FX_HD T erf(T x) {
    T a = absolute(x);
    return a < T(1) ? erf_near_zero(x) : copysign(T(1) - erfc_positive(a), x);
}
FX_HD double erfc(double x) {
    double a = absolute(x), tail = erfc_positive(a);
    double y = x < 0.0 ? 2.0 - tail : tail;
    return a < 0.25 ? 1.0 - erf_near_zero(x) : y;
}
FX_HD float erfc(float x) { return float(erfc(double(x))); }

/* The normal distribution function, accurate in both tails. */
template <class T> FX_HD T normal_cdf(T x) {
    T u = x * T(0.70710678118654752440), a = absolute(u), tail = T(0.5) * erfc_positive(a);
    T y = x < T(0) ? tail : T(1) - tail;
    return a < T(0.25) ? madd(T(0.5), erf_near_zero(u), T(0.5)) : y;
}

/* A start by Winitzki's formula, three Halley steps; towards +-1 on erfc, where 1 - |x| is exact. */
FX_HD double erfinv(double x) {
    double a = absolute(x), rest = 1.0 - a, l = log(rest * (1.0 + a)), b = 4.3307467508 + 0.5 * l;
    double y = __builtin_sqrt(absolute(__builtin_sqrt(b * b - l * 6.8027210884) - b));
    for (int step = 0; step < 3; step++) {
        double residual = a < 0.5 ? erf(y) - a : rest - erfc(y);
        double u = residual * 0.88622692545275801365 * exp(y * y);
        y -= u / (1.0 + y * u);
    }
    y = a < 1e-8 ? a * 0.88622692545275801365 : y;
    y = a == 1.0 ? ieee<double>::infinity : y;
    return a <= 1.0 ? copysign(y, x) : not_a_number<double>();
}
FX_HD float erfinv(float x) { return float(erfinv(double(x))); }

inline double lgamma(double x) {
#ifdef __GLIBC__ /* lgamma itself writes the global signgam */
    int sign;
    return ::lgamma_r(x, &sign);
#else
    return ::lgamma(x);
#endif
}
FX_HD float lgamma(float x) { return float(lgamma(double(x))); }

FX_HD double pow(double x, double y) { return __builtin_pow(x, y); }

/* exp2(y log2 |x|) in double carries 50 bits and more wherever the float result is finite and not zero. */
FX_HD float pow(float x, float y) {
    double a = absolute(double(x)), e = double(y) * log2(a);
    double r = exp2(e), t = absolute(double(y)), whole = __builtin_trunc(t);
    bool integral = t == whole, odd = integral && t - 2.0 * __builtin_trunc(0.5 * t) == 1.0;
    r = x < 0.0f && !integral && a <= ieee<float>::max && t <= ieee<float>::max ? not_a_number<double>() : r;
    r = (bit_cast<uint32_t>(x) >> 31) != 0 && odd ? -r : r;
    r = a == 1.0 && t > ieee<float>::max ? 1.0 : r;
    r = x == 1.0f || y == 0.0f ? 1.0 : r;
    return float(r);
}

} // namespace host
} // namespace fx
#endif
