/* Every elementwise operator, one line each: its name, the dtypes that it is computed in, its value.
 *
 * Include with the macros of the wanted kinds defined; they are undefined at the end, and kinds left undefined vanish.
 *   FX_UNARY(name, dtypes, value)     of x              FX_TEST(name, dtypes, value)      of x, giving bool
 *   FX_BINARY(name, dtypes, value)    of x, y           FX_COMPARE(name, dtypes, value)   of x, y, giving bool
 *   FX_TERNARY(name, dtypes, value)   of x, y, z
 *   FX_GUARDED(name, dtypes, value, fast, limit)   a unary whose vectorised form is valid for |x| <= limit
 *   FX_BOOL(name, other)              on bool, name is what other is on uint8 holding 0 and 1
 * T is the compute type, p0 .. p3 are the call's scalar parameters as T.  Gradients take the incoming gradient as x.
 * Dtypes: REAL float, double; INTEGER int8 .. int64, uint8; NUMBER both; BITS INTEGER and bool; ANY NUMBER and bool.
 * A line of BITS or ANY maps 0 and 1 to 0 and 1, so that the uint8 loop serves bool.
 * A line stands on one line of text: kernels/loops_table.py reads them too.
 */
// clang-format off
#ifndef FX_UNARY
#define FX_UNARY(name, dtypes, value)
#endif
#ifndef FX_GUARDED
#define FX_GUARDED(name, dtypes, value, fast, limit) FX_UNARY(name, dtypes, value)
#endif
#ifndef FX_TEST
#define FX_TEST(name, dtypes, value)
#endif
#ifndef FX_BINARY
#define FX_BINARY(name, dtypes, value)
#endif
#ifndef FX_COMPARE
#define FX_COMPARE(name, dtypes, value)
#endif
#ifndef FX_TERNARY
#define FX_TERNARY(name, dtypes, value)
#endif
#ifndef FX_BOOL
#define FX_BOOL(name, other)
#endif

/* Arithmetic */
FX_UNARY(abs, NUMBER, fx::absolute(x))
FX_UNARY(neg, NUMBER, -x)
FX_UNARY(positive, NUMBER, x)
FX_UNARY(sign, ANY, fx::sign(x))
FX_UNARY(square, NUMBER, x * x)
FX_UNARY(reciprocal, REAL, T(1) / x)
FX_UNARY(sqrt, REAL, fx::sqrt(x))
FX_UNARY(rsqrt, REAL, fx::rsqrt(x))
FX_UNARY(floor, NUMBER, fx::floor(x))
FX_UNARY(ceil, NUMBER, fx::ceil(x))
FX_UNARY(round, NUMBER, fx::round(x))
FX_UNARY(trunc, NUMBER, fx::trunc(x))
FX_UNARY(frac, REAL, x - fx::trunc(x))
FX_UNARY(nan_to_num, ANY, fx::nan_to_num(x, p0, p1, p2))
FX_UNARY(bitwise_not, INTEGER, ~x)

/* Exponentials and logarithms */
FX_UNARY(exp, REAL, fx::exp(x))
FX_UNARY(exp2, REAL, fx::exp2(x))
FX_UNARY(expm1, REAL, fx::expm1(x))
FX_UNARY(log, REAL, fx::log(x))
FX_UNARY(log2, REAL, fx::log2(x))
FX_UNARY(log10, REAL, fx::log10(x))
FX_UNARY(log1p, REAL, fx::log1p(x))

/* Circular and hyperbolic functions */
FX_GUARDED(sin, REAL, fx::sin(x), fx::small_sin(x), FX_CIRCLE)
FX_GUARDED(cos, REAL, fx::cos(x), fx::small_cos(x), FX_CIRCLE)
FX_GUARDED(tan, REAL, fx::tan(x), fx::small_tan(x), FX_CIRCLE)
FX_UNARY(asin, REAL, fx::asin(x))
FX_UNARY(acos, REAL, fx::acos(x))
FX_UNARY(atan, REAL, fx::atan(x))
FX_UNARY(sinh, REAL, fx::sinh(x))
FX_UNARY(cosh, REAL, fx::cosh(x))
FX_UNARY(tanh, REAL, fx::tanh(x))
FX_UNARY(asinh, REAL, fx::asinh(x))
FX_UNARY(acosh, REAL, fx::acosh(x))
FX_UNARY(atanh, REAL, fx::atanh(x))
FX_UNARY(sinc, REAL, fx::sinc(x))
FX_UNARY(unit_gap, REAL, (T(1) - x) * (T(1) + x))

/* Special functions */
FX_UNARY(sigmoid, REAL, fx::sigmoid(x))
FX_UNARY(erf, REAL, fx::erf(x))
FX_UNARY(erfc, REAL, fx::erfc(x))
FX_UNARY(erfinv, REAL, fx::erfinv(x))
FX_UNARY(lgamma, REAL, fx::lgamma(x))
FX_UNARY(digamma, REAL, fx::digamma(x))
FX_UNARY(trigamma, REAL, fx::trigamma(x))
FX_UNARY(polygamma, REAL, fx::polygamma(p0, x))
FX_UNARY(logit, REAL, fx::log(x / (T(1) - x)))

/* Tests */
FX_TEST(isnan, ANY, fx::isnan(x))
FX_TEST(isinf, ANY, fx::isinf(x))
FX_TEST(isfinite, ANY, fx::isfinite(x))
FX_TEST(isposinf, ANY, fx::isinf(x) && x > T(0))
FX_TEST(isneginf, ANY, fx::isinf(x) && x < T(0))
FX_TEST(signbit, ANY, fx::signbit(x))
FX_TEST(logical_not, ANY, x == T(0))

/* Two operands */
FX_BINARY(add, NUMBER, x + y)
FX_BINARY(sub, NUMBER, x - y)
FX_BINARY(mul, ANY, x * y)
FX_BINARY(div, REAL, x / y)
FX_BINARY(axpy, NUMBER, x + p0 * y)
FX_BINARY(floor_divide, NUMBER, fx::floor_divide(x, y))
FX_BINARY(div_trunc, NUMBER, fx::div_trunc(x, y))
FX_BINARY(remainder, NUMBER, fx::remainder(x, y))
FX_BINARY(fmod, NUMBER, fx::fmod(x, y))
FX_BINARY(pow, NUMBER, fx::pow(x, y))
FX_BINARY(maximum, ANY, fx::maximum(x, y))
FX_BINARY(minimum, ANY, fx::minimum(x, y))
FX_BINARY(fmax, ANY, fx::fmax(x, y))
FX_BINARY(fmin, ANY, fx::fmin(x, y))
FX_BINARY(atan2, REAL, fx::atan2(x, y))
FX_BINARY(hypot, REAL, fx::hypot(x, y))
FX_BINARY(copysign, REAL, fx::copysign(x, y))
FX_BINARY(nextafter, REAL, fx::nextafter(x, y))
FX_BINARY(ldexp, REAL, x * fx::exp2(y))
FX_BINARY(logaddexp, REAL, fx::logaddexp(x, y))
FX_BINARY(logaddexp2, REAL, fx::logaddexp2(x, y))
FX_BINARY(xlogy, REAL, fx::xlogy(x, y))
FX_BINARY(heaviside, ANY, fx::heaviside(x, y))
FX_BINARY(bitwise_and, BITS, x & y)
FX_BINARY(bitwise_or, BITS, x | y)
FX_BINARY(bitwise_xor, BITS, x ^ y)
FX_BINARY(left_shift, INTEGER, fx::left_shift(x, y))
FX_BINARY(right_shift, INTEGER, fx::right_shift(x, y))
FX_BOOL(add, logical_or)
FX_BOOL(bitwise_not, logical_not)

/* Comparisons */
FX_COMPARE(eq, ANY, x == y)
FX_COMPARE(ne, ANY, x != y)
FX_COMPARE(lt, ANY, x < y)
FX_COMPARE(le, ANY, x <= y)
FX_COMPARE(gt, ANY, x > y)
FX_COMPARE(ge, ANY, x >= y)
FX_COMPARE(logical_and, ANY, (x != T(0)) & (y != T(0)))
FX_COMPARE(logical_or, ANY, (x != T(0)) | (y != T(0)))
FX_COMPARE(logical_xor, ANY, (x != T(0)) ^ (y != T(0)))

/* Three operands */
FX_TERNARY(addcmul, NUMBER, x + p0 * y * z)
FX_TERNARY(addcdiv, REAL, x + p0 * y / z)
FX_TERNARY(lerp, REAL, fx::lerp(x, y, z))
FX_TERNARY(clamp, NUMBER, fx::clamp(x, y, z))
FX_TERNARY(fma, NUMBER, x * y + z)

/* Activations */
FX_UNARY(relu, NUMBER, x < T(0) ? T(0) : x)
FX_UNARY(relu6, NUMBER, x < T(0) ? T(0) : x > T(6) ? T(6) : x)
FX_UNARY(clamp_scalar, NUMBER, fx::clamp(x, p0, p1))
FX_UNARY(leaky_relu, REAL, x > T(0) ? x : x * p0)
FX_UNARY(elu, REAL, x <= T(0) ? fx::expm1(x * p2) * (p0 * p1) : x * p1)
FX_UNARY(celu, REAL, x <= T(0) ? p0 * fx::expm1(x / p0) : x)
FX_UNARY(gelu_erf, REAL, x * fx::normal_cdf(x))
FX_UNARY(gelu_tanh, REAL, x * fx::sigmoid(T(1.59576912160573071176) * (x + T(0.044715) * x * x * x)))
FX_UNARY(silu, REAL, x * fx::sigmoid(x))
FX_UNARY(mish, REAL, fx::mish(x))
FX_UNARY(softplus, REAL, x * p0 > p1 ? x : fx::softplus(x * p0) / p0)
FX_UNARY(softsign, REAL, x / (T(1) + fx::absolute(x)))
FX_UNARY(hardtanh, NUMBER, x < p0 ? p0 : x > p1 ? p1 : x)
FX_UNARY(hardsigmoid, REAL, fx::hardsigmoid(x))
FX_UNARY(hardswish, REAL, x * fx::hardsigmoid(x))
FX_UNARY(logsigmoid, REAL, fx::minimum(x, T(0)) - fx::log1p(fx::exp(-fx::absolute(x))))
FX_UNARY(tanhshrink, REAL, x - fx::tanh(x))
FX_UNARY(softshrink, REAL, x > p0 ? x - p0 : x < -p0 ? x + p0 : x * T(0))
FX_UNARY(hardshrink, REAL, x >= -p0 && x <= p0 ? T(0) : x)
FX_UNARY(threshold, NUMBER, x <= p0 ? p1 : x)
FX_BINARY(prelu, REAL, x > T(0) ? x : x * y)

/* Gradients from the input: x the incoming gradient, y the input */
FX_BINARY(abs_backward, REAL, x * fx::sign(y))
FX_BINARY(threshold_backward, REAL, y <= p0 ? T(0) : x)
FX_BINARY(clamp_backward, REAL, y >= p0 && y <= p1 ? x : T(0))
FX_BINARY(leaky_relu_backward, REAL, y > T(0) ? x : x * p0)
FX_BINARY(elu_backward, REAL, y <= T(0) ? x * (p0 * p1 * p2) * fx::exp(y * p2) : x * p1)
FX_BINARY(celu_backward, REAL, y <= T(0) ? x * fx::exp(y / p0) : x)
FX_BINARY(gelu_erf_backward, REAL, x * (fx::normal_cdf(y) + y * fx::normal_pdf(y)))
FX_BINARY(gelu_tanh_backward, REAL, x * fx::gelu_tanh_slope(y))
FX_BINARY(silu_backward, REAL, x * fx::silu_slope(y))
FX_BINARY(mish_backward, REAL, x * fx::mish_slope(y))
FX_BINARY(softplus_backward, REAL, y * p0 > p1 ? x : x * fx::sigmoid(y * p0))
FX_BINARY(softsign_backward, REAL, x / ((T(1) + fx::absolute(y)) * (T(1) + fx::absolute(y))))
FX_BINARY(hardtanh_backward, REAL, y <= p0 || y >= p1 ? T(0) : x)
FX_BINARY(hardsigmoid_backward, REAL, y > T(-3) && y < T(3) ? x / T(6) : T(0))
FX_BINARY(hardswish_backward, REAL, y <= T(-3) ? T(0) : y < T(3) ? x * (y / T(3) + T(0.5)) : x)
FX_BINARY(logsigmoid_backward, REAL, x * fx::sigmoid(-y))
FX_BINARY(softshrink_backward, REAL, y >= -p0 && y <= p0 ? T(0) : x)
FX_BINARY(hardshrink_backward, REAL, y >= -p0 && y <= p0 ? T(0) : x)
FX_BINARY(log1p_backward, REAL, x / (T(1) + y))
FX_BINARY(expm1_backward, REAL, x * fx::exp(y))
FX_BINARY(pow_scalar_backward, REAL, p0 == T(0) ? T(0) : x * (p0 * fx::pow(y, p0 - T(1))))

FX_BINARY(prelu_weight_backward, REAL, y > T(0) ? T(0) : x * y)
FX_BINARY(logit_backward, REAL, y < T(0) || y > T(1) ? fx::not_a_number<T>() : x / (y * (T(1) - y)))

/* Gradients of the first of two operands: x the incoming gradient, y and z the operands; halves at a tie */
FX_TERNARY(maximum_backward, REAL, y == z ? x / T(2) : y < z ? T(0) : x)
FX_TERNARY(minimum_backward, REAL, y == z ? x / T(2) : y > z ? T(0) : x)
FX_TERNARY(prelu_backward, REAL, y > T(0) ? x : x * z)

/* Gradients from the output: x the incoming gradient, y the output */
FX_BINARY(tanh_backward, REAL, x * (T(1) - y * y))
FX_BINARY(sigmoid_backward, REAL, x * ((T(1) - y) * y))
FX_BINARY(sqrt_backward, REAL, x / (T(2) * y))
FX_BINARY(rsqrt_backward, REAL, T(-0.5) * x * (y * y * y))
FX_BINARY(reciprocal_backward, REAL, -x * (y * y))

/* Elementwise losses: x the prediction, y the target.
 * Their gradients: x the incoming gradient, y the prediction, z the target. */
FX_BINARY(mse, REAL, (x - y) * (x - y))
FX_BINARY(l1, REAL, fx::absolute(x - y))
FX_BINARY(smooth_l1, REAL, fx::smooth_l1(x - y, p0))
FX_BINARY(huber, REAL, fx::huber(x - y, p0))
FX_BINARY(bce, REAL, fx::bce(x, y))
FX_BINARY(bce_with_logits, REAL, fx::bce_with_logits(x, y))
FX_TERNARY(mse_backward, REAL, T(2) * (y - z) * x)
FX_TERNARY(l1_backward, REAL, x * fx::sign(y - z))
FX_TERNARY(smooth_l1_backward, REAL, y - z <= -p0 ? -x : y - z >= p0 ? x : x * (y - z) / p0)
FX_TERNARY(huber_backward, REAL, y - z <= -p0 ? -x * p0 : y - z >= p0 ? x * p0 : x * (y - z))
FX_TERNARY(bce_backward, REAL, x * (y - z) / fx::maximum((T(1) - y) * y, T(1e-12)))
FX_TERNARY(bce_with_logits_backward, REAL, x * fx::bce_with_logits_slope(y, z))

#undef FX_UNARY
#undef FX_GUARDED
#undef FX_TEST
#undef FX_BINARY
#undef FX_COMPARE
#undef FX_TERNARY
#undef FX_BOOL
// clang-format on
