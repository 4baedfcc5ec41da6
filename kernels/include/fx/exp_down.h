/* exp for arguments that are not positive, as softmax and attention have after the maximum is taken off: one range
 * check and one scaling instead of three.  Results below the smallest normal number are 0, as at -inf; NaN stays.
 * At most 1 ulp.
 */
#ifndef FX_EXP_DOWN_H
#define FX_EXP_DOWN_H
#include <stdint.h>
#include <string.h>

namespace fx {

inline float exp_down(float x) {
    const float magic = 12582912.f; /* 1.5 * 2^23: adding it rounds to an integer, held in the low bits */
    float t = x * 1.44269504088896341f + magic, n = t - magic;
    float r = x - n * 0.693145752f;
    r = r - n * 1.42860677e-6f;
    float p = 1.393364518e-3f;
    p = p * r + 8.363176671e-3f;
    p = p * r + 4.166646496e-2f;
    p = p * r + 1.666657700e-1f;
    p = p * r + 0.5f;
    p = p * (r * r) + r + 1.f;
    uint32_t bits;
    memcpy(&bits, &t, 4);
    bits = (bits << 23) + 0x3f800000u;
    float scale;
    memcpy(&scale, &bits, 4);
    float y = p * scale;
    return x < -87.33654f ? 0.f : y;
}

inline double exp_down(double x) {
    const double magic = 6755399441055744.0; /* 1.5 * 2^52 */
    double t = x * 1.4426950408889634 + magic, n = t - magic;
    double r = x - n * 6.93147180369123816490e-01;
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
    p = p * (r * r) + r + 1.;
    uint64_t bits;
    memcpy(&bits, &t, 8);
    bits = (bits << 52) + 0x3ff0000000000000u;
    double scale;
    memcpy(&scale, &bits, 8);
    double y = p * scale;
    return x < -708.396 ? 0. : y;
}

}  // namespace fx
#endif
