#ifndef FX_SCALAR_ROWS_H
#define FX_SCALAR_ROWS_H
#include <math.h>
#include <stdint.h>
#include <string.h>
namespace fx {
inline float exp(float x) {
    float c = x < -104.f ? -104.f : x;
    c = c > 89.f ? 89.f : c;
    float n = (c * 1.44269504088896341f + 12582912.f) - 12582912.f;
    float r = c - n * 0.693145752f;
    r = r - n * 1.42860677e-6f;
    float p = 1.37805939e-3f;
    p = p * r + 8.37312452e-3f;
    p = p * r + 4.16695364e-2f;
    p = p * r + 1.66664720e-1f;
    p = p * r + 4.99999851e-1f;
    p = p * r * r + r + 1.f;
    int32_t k = (int32_t)n, h = k >> 1;
    int32_t a = (h + 127) << 23, b = (k - h + 127) << 23;
    float fa, fb;
    memcpy(&fa, &a, 4);
    memcpy(&fb, &b, 4);
    float y = p * fa * fb;
    return x != x ? x : y;
}
inline double exp(double x) {
    double c = x < -746. ? -746. : x;
    c = c > 710. ? 710. : c;
    double t = c * 1.4426950408889634 + 6755399441055744.0, n = t - 6755399441055744.0;
    double r = c - n * 6.93147180369123816490e-01;
    r = r - n * 1.90821492927058770002e-10;
    double p = 1. / 6227020800.;
    p = p * r + 1. / 479001600.;
    p = p * r + 1. / 39916800.;
    p = p * r + 1. / 3628800.;
    p = p * r + 1. / 362880.;
    p = p * r + 1. / 40320.;
    p = p * r + 1. / 5040.;
    p = p * r + 1. / 720.;
    p = p * r + 1. / 120.;
    p = p * r + 1. / 24.;
    p = p * r + 1. / 6.;
    p = p * r + 0.5;
    p = p * r * r + r + 1.;
    int64_t bits;
    memcpy(&bits, &t, 8);
    int64_t k = (int64_t)((uint64_t)bits << 13) >> 13; /* low bits of t hold n */
    int64_t h = k >> 1;
    int64_t a = (h + 1023) << 52, b = (k - h + 1023) << 52;
    double fa, fb;
    memcpy(&fa, &a, 8);
    memcpy(&fb, &b, 8);
    double y = p * fa * fb;
    return x != x ? x : y;
}
inline float log(float x) { return ::logf(x); }
inline double log(double x) { return ::log(x); }
inline float sqrt(float x) { return ::sqrtf(x); }
inline double sqrt(double x) { return ::sqrt(x); }
}
#endif
