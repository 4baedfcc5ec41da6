/* Error function, gamma family and powers for the host.  Included by scalar.h; see host_math.h. */
#ifndef FX_HOST_SPECIAL_H
#define FX_HOST_SPECIAL_H
#include "host_math.h"

namespace fx {
namespace host {

/* exp(t^2) erfc(t), t >= 0, as a polynomial in (t - 4) / (t + 4), over t + 4 */
FX_HD double erfcx(double t) {
    double d = 1.0 / (t + 4.0), q = (t - 4.0) * d;
    double p =
        poly(q, 1.095995661000491, -0.976548729080882, 0.7732087022652374, -0.5408538313132368, 0.33085158787799085,
             -0.1740109372398645, 0.07638151490993866, -0.02637005334154019, 0.006112055646301874,
             -0.0002809588544600414, -0.00045505260369331697, 0.00017681276235889215, -3.6355961487298794e-06,
             -1.8860729646756052e-05, 4.6958644741193655e-06, 1.4240059955447907e-06, -8.494215484449161e-07,
             -7.568853688031865e-08, 1.2867215146802265e-07, 1.6999320255878013e-09, -1.9098527570864875e-08,
             -9.158831426055293e-10, 2.2681123161281883e-09, 4.805436123800187e-10); /* 2^-54 */
    return p * d;
}

/* Phi(-t) / exp(-t^2 / 2), t >= 0, in the same way */
FX_HD double normal_tail(double t) {
    double d = 1.0 / (t + 5.0), q = (t - 5.0) * d;
    double p =
        poly(q, 0.769193049750063, -0.6653825028900568, 0.4953056159699761, -0.31353315667128745, 0.165020366170407,
             -0.06911863870687796, 0.020795066799263514, -0.002993376761869819, -0.0007978693893305411,
             0.0005448989927514259, -5.937580714388442e-05, -4.976245604190882e-05, 1.6681638804574405e-05,
             3.979804173386487e-06, -2.770718710638578e-06, -3.3457168518762366e-07, 4.3629064090553406e-07,
             4.017437024956601e-08, -7.014166310084986e-08, -8.552611101250977e-09, 1.079825246371386e-08,
             2.219870630710777e-09, -1.1615537585916113e-09, -3.817298417417635e-10); /* 2^-54 */
    return p * d;
}
FX_HD float normal_tail(float t) {
    float d = 1.0f / (t + 4.0f), q = (t - 4.0f) * d;
    float p = poly(q, 0.755285144f, -0.607896626f, 0.387136668f, -0.186522886f, 0.0604065657f, -0.00752799958f,
                   -0.00352461915f, 0.00157044071f, 0.000197302521f, -0.000121891775f); /* 2^-25 */
    return p * d;
}

/* erfc of t >= 0 (or NaN), the rounding error of the square included. */
FX_HD double erfc_positive(double t) {
    t = t > 27.3 ? 27.3 : t; /* zero from there on */
    double p = t * t;
    return exp_down(-p, -product_error(t, t, p)) * erfcx(t);
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
    return madd(x,
                poly(z, 0.128379166f, -0.37612626f, 0.112835944f, -0.0268542115f, 0.00518908724f, -0.00080168643f,
                     7.87587487e-05f),
                x);
}

FX_HD double erf(double x) {
    double a = absolute(x), small = erf_near_zero(x), large = 1.0 - erfc_positive(a);
    return a < 1.0 ? small : copysign(large, x);
}
/* 1 - exp(log(erfc)) above one, where an error of the exponential counts for little. */
FX_HD float erf(float x) {
    float a = absolute(x), t = a > 3.95f ? 3.95f : a, small = erf_near_zero(x);
    float e = t * poly(t, 1.12894964f, 0.633998334f, 0.108052574f, -0.0252778754f, 0.00436004577f, -0.000512112805f,
                       3.60812555e-05f, -1.13602641e-06f); /* 2^-24 */
    reduced<float> r = reduce_ln2(-e);
    float large = 1.0f - exp_mantissa(r) * power_of_two(r.n);
    return a < 1.0f ? small : copysign(large, x);
}
FX_HD double erfc(double x) {
    double a = absolute(x), tail = erfc_positive(a);
    double y = x < 0.0 ? 2.0 - tail : tail;
    return a < 0.25 ? 1.0 - erf_near_zero(x) : y;
}
FX_HD float erfc(float x) { return float(erfc(double(x))); }

/* The normal distribution function, accurate in both tails. */
template <class T> FX_HD T normal_cdf(T x) {
    constexpr T end = T(sizeof(T) == 4 ? 14.3 : 38.6); /* zero and one beyond */
    T a = absolute(x), t = a > end ? end : a, h = T(0.5) * t, p = h * t;
    T tail = exp_down(-p, -product_error(h, t, p)) * normal_tail(t);
    return x < T(0) ? tail : T(1) - tail;
}

/* erfinv(x) / x in w = -log(1 - x^2), beyond 6.25 in its root: M. Giles, Approximating the erfinv function, 2010. */
FX_HD double erfinv(double x) {
    double a = absolute(x), w = -log((1.0 - a) * (1.0 + a)), s = __builtin_sqrt(w), u = w - 3.125, v = s - 3.25,
           z = s - 5.125;
    double centre = poly(u, 1.6536545626831027, 0.24015818242558834, -0.006033670871426851, -0.0007407025341546431,
                         0.00018673420801981186, -1.3882523393957483e-05, -1.3654691758785656e-06, 4.23478816822246e-07,
                         -2.907039127564132e-08, -4.1126604371632185e-09, 1.051223377050429e-09, -5.414303283919504e-11,
                         -1.2978805369932567e-11, 2.6305268312595175e-12, -8.071925938990003e-14,
                         -4.0020031087558364e-14, 6.5213335115021726e-15, -3.940188122305892e-17,
                         -1.2215637192403407e-16, 1.5510787009903712e-17, 6.075050702066834e-19, -3.473479388854313e-19,
                         1.9992599888638634e-20, 3.1940155481372204e-21, -3.5932028927063025e-22); /* 2^-53 */
    double side = poly(v, 3.0838856104922208, 1.0052589676941652, 0.00537091455357168, -0.003751208508215561,
                       0.0024914420969817607, -0.0016882755357337071, 0.0009532893637435638, -0.00035503780975963814,
                       2.4031257015092525e-05, 6.828708654753377e-05, -4.731898412011245e-05, 1.2465167157087251e-05,
                       2.9257291901789823e-06, -3.986084395214756e-06, 1.4987130784186127e-06, -2.7004219280868947e-08,
                       -2.713451105439456e-07, 1.3104351499972014e-07, 6.969241977629694e-10, -1.5102695423335065e-08);
    double end = poly(z, 4.9761913900163, 1.0102562759886626, -0.00021259950370243848, -0.00017993907258273095,
                      6.469075784980005e-05, -1.6589895202454618e-05, 3.7475770105931528e-06, -7.962392093991709e-07,
                      1.6935912259771184e-07, -4.155464276082123e-08, 1.446743952095764e-08, -6.975466768308583e-09,
                      3.6670700126525677e-09, -1.7660454170113896e-09, 7.137860072704944e-10, -2.4899637870012457e-10,
                      7.810938261198494e-11, -7.711110707471003e-12, -1.017023886820903e-11, 3.7200474843457825e-12);
    double y = w < 6.25 ? centre : w < 16.0 ? side : end;
    y = a < 1e-8 ? 0.88622692545275801365 : y;
    return a == 1.0 ? copysign(ieee<double>::infinity, x) : x * y;
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
