"""Functions of one element or two: exponentials, circles, rounding, special functions."""
from libc.math cimport INFINITY

from ferrox._core.abi cimport FX_DTYPES, fx_is_floating
from ferrox._core.graph.node cimport Node, rule, saved_input, saved_output, wants
from ferrox._core.graph.op cimport Op
from ferrox._core.graph.op import alias_row, row
from ferrox._core.ops.arithmetic cimport absolute, add, div, flat_vjp, full_like, mul, neg, reciprocal, rsqrt, sign, \
    square, sub
from ferrox._core.ops.clamp cimport clamp_numbers
from ferrox._core.ops.elementwise cimport ALIKE, REAL, SAME, apply1, apply1p, apply2, assign, shadow_for
from ferrox._core.ops.family cimport binary, inner, unary
from ferrox._core.ops.logic cimport both, eq, isfinite, le, lt, where
from ferrox._core.ops.shape cimport read_int
from ferrox._core.dtype cimport FLOATING, categories, dtype_object
from ferrox._core.dtype import finfo
from ferrox._core.tensor.base cimport TensorBase

cdef double PI = 3.141592653589793
cdef double LN2 = 0.6931471805599453
cdef double LN10 = 2.302585092994046
cdef double TWO_OVER_ROOT_PI = 1.1283791670955126
cdef double HALF_ROOT_PI = 0.886226925452758


# Exponentials and logarithms

cdef object exp_vjp(Node n, object g):
    return mul(g, saved_output(n, 0))

cdef Op EXP = unary("exp", REAL, rule(exp_vjp), "o", "np.exp(x)", "t(3, 4)", "e to the power of each element.")


cdef object exp2_vjp(Node n, object g):
    return mul(mul(g, saved_output(n, 0)), LN2)

cdef Op EXP2 = unary("exp2", REAL, rule(exp2_vjp), "o", "np.exp2(x)", "t(3, 4)", "2 to the power of each element.")


cdef object expm1_backward_vjp(Node n, object g):
    cdef object x = saved_input(n, 1)
    return (apply2(EXPM1_BACKWARD, g, x) if wants(n, 0) else None,
            apply2(EXPM1_BACKWARD, mul(g, saved_input(n, 0)), x) if wants(n, 1) else None)

cdef Op EXPM1_BACKWARD = inner("expm1_backward", 2, SAME, rule(expm1_backward_vjp), ("1", "01"))


cdef object expm1_vjp(Node n, object g):
    # Of the input: one plus the output has lost what the output lost near minus one.
    return apply2(EXPM1_BACKWARD, g, saved_input(n, 0))

unary("expm1", REAL, rule(expm1_vjp), "0", "np.expm1(x)", "t(3, 4)",
      "e to the power of each element, minus one, exact near zero.")


cdef object log_vjp(Node n, object g):
    return div(g, saved_input(n, 0))

cdef Op LOG = unary("log", REAL, rule(log_vjp), "0", "np.log(x)", "t(3, 4, low=0.2)",
                    "Natural logarithm of each element.")


cdef object log2_vjp(Node n, object g):
    return div(g, mul(saved_input(n, 0), LN2))

unary("log2", REAL, rule(log2_vjp), "0", "np.log2(x)", "t(3, 4, low=0.2)", "Logarithm of each element to base 2.")


cdef object log10_vjp(Node n, object g):
    return div(g, mul(saved_input(n, 0), LN10))

unary("log10", REAL, rule(log10_vjp), "0", "np.log10(x)", "t(3, 4, low=0.2)", "Logarithm of each element to base 10.")


cdef object log1p_backward_vjp(Node n, object g):
    cdef object x = saved_input(n, 1)
    return (apply2(LOG1P_BACKWARD, g, x) if wants(n, 0) else None,
            neg(mul(mul(g, saved_input(n, 0)), square(reciprocal(add(x, 1))))) if wants(n, 1) else None)

cdef Op LOG1P_BACKWARD = inner("log1p_backward", 2, SAME, rule(log1p_backward_vjp), ("1", "01"))


cdef object log1p_vjp(Node n, object g):
    return apply2(LOG1P_BACKWARD, g, saved_input(n, 0))

unary("log1p", REAL, rule(log1p_vjp), "0", "np.log1p(x)", "t(3, 4, low=-0.8)",
      "log(1 + x) of each element, exact near zero.")


# Circular and hyperbolic functions

cdef object sin_vjp(Node n, object g):
    return mul(g, apply1(COS, saved_input(n, 0)))


cdef object cos_vjp(Node n, object g):
    return neg(mul(g, apply1(SIN, saved_input(n, 0))))

cdef Op SIN = unary("sin", REAL, rule(sin_vjp), "0", "np.sin(x)", "t(3, 4)", "Sine of each element, in radians.")
cdef Op COS = unary("cos", REAL, rule(cos_vjp), "0", "np.cos(x)", "t(3, 4)", "Cosine of each element, in radians.")


cdef object tan_vjp(Node n, object g):
    return mul(g, add(square(saved_output(n, 0)), 1))

unary("tan", REAL, rule(tan_vjp), "o", "np.tan(x)", "t(3, 4, low=-1.2, high=1.2)",
      "Tangent of each element, in radians.")


cdef object unit_gap_vjp(Node n, object g):
    return mul(g, mul(saved_input(n, 0), -2))

# 1 - x^2 by its factors, which keep their digits near the ends.
cdef Op UNIT_GAP = inner("unit_gap", 1, SAME, rule(unit_gap_vjp), "0")


cdef object asin_vjp(Node n, object g):
    return mul(g, rsqrt(apply1(UNIT_GAP, saved_input(n, 0))))

unary("asin", REAL, rule(asin_vjp), "0", "np.arcsin(x)", "t(3, 4, low=-0.9, high=0.9)", "Inverse sine of each element.")


cdef object acos_vjp(Node n, object g):
    return neg(mul(g, rsqrt(apply1(UNIT_GAP, saved_input(n, 0)))))

unary("acos", REAL, rule(acos_vjp), "0", "np.arccos(x)", "t(3, 4, low=-0.9, high=0.9)",
      "Inverse cosine of each element.")


cdef object atan_vjp(Node n, object g):
    return div(g, add(square(saved_input(n, 0)), 1))

unary("atan", REAL, rule(atan_vjp), "0", "np.arctan(x)", "t(3, 4)", "Inverse tangent of each element.")


cdef object sinh_vjp(Node n, object g):
    return mul(g, apply1(COSH, saved_input(n, 0)))


cdef object cosh_vjp(Node n, object g):
    return mul(g, apply1(SINH, saved_input(n, 0)))

cdef Op SINH = unary("sinh", REAL, rule(sinh_vjp), "0", "np.sinh(x)", "t(3, 4)", "Hyperbolic sine of each element.")
cdef Op COSH = unary("cosh", REAL, rule(cosh_vjp), "0", "np.cosh(x)", "t(3, 4)", "Hyperbolic cosine of each element.")


cdef object tanh_backward_vjp(Node n, object g):
    cdef object y = saved_input(n, 1)
    return (apply2(TANH_BACKWARD, g, y) if wants(n, 0) else None,
            mul(mul(mul(g, saved_input(n, 0)), y), -2) if wants(n, 1) else None)

cdef Op TANH_BACKWARD = inner("tanh_backward", 2, SAME, rule(tanh_backward_vjp), ("1", "01"))


cdef object tanh_vjp(Node n, object g):
    return apply2(TANH_BACKWARD, g, saved_output(n, 0))

cdef Op TANH = unary("tanh", REAL, rule(tanh_vjp), "o", "np.tanh(x)", "t(3, 4)", "Hyperbolic tangent of each element.")


cdef object asinh_vjp(Node n, object g):
    return div(g, apply2(HYPOT, saved_input(n, 0), 1))

unary("asinh", REAL, rule(asinh_vjp), "0", "np.arcsinh(x)", "t(3, 4)", "Inverse hyperbolic sine of each element.")


cdef object acosh_vjp(Node n, object g):
    # Two roots, as the square of a large element has none.
    cdef object x = absolute(saved_input(n, 0))
    return mul(mul(g, rsqrt(sub(x, 1))), rsqrt(add(x, 1)))

unary("acosh", REAL, rule(acosh_vjp), "0", "np.arccosh(x)", "t(3, 4, low=1.2, high=4)",
      "Inverse hyperbolic cosine of each element.")


cdef object atanh_vjp(Node n, object g):
    return div(g, apply1(UNIT_GAP, saved_input(n, 0)))

unary("atanh", REAL, rule(atanh_vjp), "0", "np.arctanh(x)", "t(3, 4, low=-0.9, high=0.9)",
      "Inverse hyperbolic tangent of each element.")


cdef object sinc_vjp(Node n, object g):
    # (cos(pi x) - sinc(x)) / x, and near zero, where its terms cancel, the series.  Each branch reads a harmless number
    # in place of the other's elements, so that no NaN arises in the one that is not taken.
    cdef object x = saved_input(n, 0), near = lt(absolute(x), 0.25), far = where(near, 1, x), inside = where(near, x, 0)
    cdef object squared = square(mul(inside, PI)), series = None
    cdef double factor = 1
    cdef int k
    for k in range(10, 0, -1):
        # -pi^2 x / 3 (1 - t / 10 (1 - t / 28 (...))), t = (pi x)^2
        factor = -1.0 / ((2 * k + 2) * (2 * k + 3)) * (k + 1) / k
        series = mul(squared, factor) if series is None else mul(mul(squared, factor), series)
        series = add(series, 1)
    series = mul(mul(inside, -PI * PI / 3), series)
    slope = div(sub(apply1(COS, mul(far, PI)), apply1(SINC, far)), far)
    return mul(g, where(near, series, slope))

cdef Op SINC = unary("sinc", REAL, rule(sinc_vjp), "0",
                     "np.where((x != 0) & (x == np.round(x)) & np.isfinite(x), np.copysign(0, x), np.sinc(x))",
                     "t(3, 4)", "sin(pi x) / (pi x) of each element, 1 at zero.")


cdef object atan2_vjp(Node n, object g):
    cdef object a = saved_input(n, 0), b = saved_input(n, 1), d = add(square(a), square(b))
    d = div(g, where(eq(d, 0), INFINITY, d))
    return mul(d, b) if wants(n, 0) else None, neg(mul(d, a)) if wants(n, 1) else None

binary("atan2", REAL, rule(atan2_vjp), "01", "np.arctan2(a, b)", "t(3, 4), t(4)",
       "Angle of the point (other, input), in radians between -pi and pi.")


def _deg2rad(input):
    """Angles from degrees to radians.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.deg2rad(fx.tensor([180.0]))
    tensor([3.1416])
    """
    return mul(input, PI / 180)


def _rad2deg(input):
    """Angles from radians to degrees.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.rad2deg(fx.tensor([0.0]))
    tensor([0.])
    """
    return mul(input, 180 / PI)

cdef Op DEG2RAD = row("deg2rad", function=_deg2rad, composite=True, reference="np.deg2rad(x)", sample="t(3, 4)",
                      out=True, method=True, inplace=True)
cdef Op RAD2DEG = row("rad2deg", function=_rad2deg, composite=True, reference="np.rad2deg(x)", sample="t(3, 4)",
                      out=True, method=True, inplace=True)


# Rounding

unary("floor", SAME, rule(flat_vjp), "", "np.floor(x)", "t(3, 4)", "Each element rounded down.")
unary("ceil", SAME, rule(flat_vjp), "", "np.ceil(x)", "t(3, 4)", "Each element rounded up.")
unary("trunc", SAME, rule(flat_vjp), "", "np.trunc(x)", "t(3, 4)", "Each element rounded towards zero.")
cdef Op ROUND = unary("round", SAME, rule(flat_vjp), "", "np.round(x)", "t(3, 4)",
                      "Each element rounded to the nearest integer, halves to even.")


def _round(input, *, decimals=0):
    """Each element rounded to the nearest integer, or to a number of decimals; halves to even.

    Parameters
    ----------
    input : Tensor
    decimals : int, optional
        Decimals to keep; negative for tens, hundreds, …

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.round(fx.tensor([0.5, 1.5, 2.6]))
    tensor([0., 2., 3.])
    >>> fx.round(fx.tensor([125.0]), decimals=-1)
    tensor([120.])
    """
    cdef TensorBase x = <TensorBase?> input
    cdef double scale
    if decimals == 0:
        return apply1(ROUND, x)
    if categories[x.a.dtype] != FLOATING:
        raise NotImplementedError(f"[round] decimals need a floating-point tensor, got {x.dtype}")
    scale = 10.0 ** abs(decimals)
    if decimals > 0:
        return div(apply1(ROUND, mul(x, scale)), scale)
    return mul(apply1(ROUND, div(x, scale)), scale)

ROUND.function = _round


cdef object frac_vjp(Node n, object g):
    return g

unary("frac", SAME, rule(frac_vjp), "", "x - np.trunc(x)", "t(3, 4)", "What each element has beyond its integer part.")


# Signs, exponents, values that are not finite

cdef object copysign_vjp(Node n, object g):
    return (mul(g, mul(sign(saved_input(n, 0)), sign(saved_output(n, 0)))) if wants(n, 0) else None,
            full_like(<TensorBase> g, 0) if wants(n, 1) else None)

binary("copysign", REAL, rule(copysign_vjp), ("0o", ""), "np.copysign(a, b)", "t(3, 4), t(4)",
       "The magnitude of `input` with the sign of `other`.")


cdef object hypot_vjp(Node n, object g):
    cdef object scaled = saved_output(n, 0)
    return (mul(g, div(saved_input(n, 0), scaled)) if wants(n, 0) else None,
            mul(g, div(saved_input(n, 1), scaled)) if wants(n, 1) else None)

cdef Op HYPOT = binary("hypot", SAME, rule(hypot_vjp), ("0o", "1o"), "np.hypot(a, b)", "t(3, 4), t(4)",
                       "Length of the hypotenuse, sqrt(input^2 + other^2).")


cdef object ldexp_vjp(Node n, object g):
    return (mul(g, apply1(EXP2, saved_input(n, 1))) if wants(n, 0) else None,
            mul(mul(g, saved_output(n, 0)), LN2) if wants(n, 1) else None)

binary("ldexp", REAL, rule(ldexp_vjp), ("1", "o"), "a * np.exp2(b)", "t(3, 4), t(4)",
       "`input` times 2 to the power of `other`.")


cdef object heaviside_vjp(Node n, object g):
    return (full_like(<TensorBase> g, 0) if wants(n, 0) else None,
            where(eq(saved_input(n, 0), 0), g, 0) if wants(n, 1) else None)

cdef Op HEAVISIDE = binary("heaviside", ALIKE, rule(heaviside_vjp), ("", "0"),
                           "np.where(np.isnan(a), 0, np.heaviside(a, b))", "t(3, 4), t(4)",
                           "Step function: 0 below zero, 1 above, `values` at zero.")
HEAVISIDE.row["arguments"] = ("input", "values")


cdef object nan_to_num_vjp(Node n, object g):
    return where(isfinite(saved_input(n, 0)), g, 0)


def _nan_to_num(input, nan=None, posinf=None, neginf=None):
    """`input` with its NaN and infinite elements replaced by numbers.

    Parameters
    ----------
    input : Tensor
    nan : number, optional
        In place of NaN; 0 by default.
    posinf, neginf : number, optional
        In place of the infinities; by default the largest and smallest numbers of the dtype.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.nan_to_num(fx.tensor([float("nan"), float("inf"), 1.0]), posinf=9.0)
    tensor([0., 9., 1.])
    """
    cdef TensorBase x = <TensorBase?> input
    cdef double largest = LARGEST[x.a.dtype]
    return apply1p(NAN_TO_NUM, x, 0 if nan is None else nan, largest if posinf is None else posinf,
                   -largest if neginf is None else neginf, None)

cdef Op NAN_TO_NUM = row("nan_to_num", function=_nan_to_num, out=True, inputs=1, kind=SAME, rule=rule(nan_to_num_vjp),
                         needs=("0",), reference="np.nan_to_num(x)", sample="t(3, 4)", method=True, inplace=True)


cdef double[FX_DTYPES] LARGEST
for _code in range(FX_DTYPES):
    LARGEST[<int> _code] = finfo(dtype_object(_code)).max if fx_is_floating(_code) else 1


# Logarithms of sums, products with logarithms

cdef object _shares(Node n, object g, double scale):
    """The shares of two operands in a logarithm of a sum; equal infinities share alike, and none of nothing."""
    cdef object a = saved_input(n, 0), b = saved_input(n, 1), out = saved_output(n, 0)
    cdef object d = where(both(eq(a, b), eq(absolute(out), INFINITY)), 0, sub(a, b))
    d = d if scale == 1 else mul(d, scale)
    g = where(eq(out, -INFINITY), 0, g)
    return (mul(g, apply1(SIGMOID, d)) if wants(n, 0) else None,
            mul(g, apply1(SIGMOID, neg(d))) if wants(n, 1) else None)


cdef object logaddexp_vjp(Node n, object g):
    return _shares(n, g, 1)

cdef Op _named = binary("logaddexp", SAME, rule(logaddexp_vjp), "01o", "np.logaddexp(a, b)", "t(3, 4), t(4)",
                        "log(exp(input) + exp(other)), without overflow.")
_named.row["inplace"] = False


cdef object logaddexp2_vjp(Node n, object g):
    return _shares(n, g, LN2)

_named = binary("logaddexp2", SAME, rule(logaddexp2_vjp), "01o", "np.logaddexp2(a, b)", "t(3, 4), t(4)",
                "log2(2^input + 2^other), without overflow.")
_named.row["inplace"] = False


cdef object xlogy_vjp(Node n, object g):
    cdef object x = saved_input(n, 0), y = saved_input(n, 1), dx = None
    if wants(n, 0):
        if not isinstance(y, TensorBase):
            y = full_like(<TensorBase> x, y)
        dx = mul(g, apply1(LOG, where(both(eq(x, 0), le(y, 0)), 1, y)))
    return dx, mul(g, div(x, y)) if wants(n, 1) else None

cdef Op XLOGY = binary("xlogy", REAL, rule(xlogy_vjp), ("01", "01"), "sp.xlogy(a, b)", "t(3, 4), t(4, low=0.2)",
                       "`input` times the logarithm of `other`; 0 where `input` is 0.")


# Special functions

cdef object sigmoid_backward_vjp(Node n, object g):
    cdef object y = saved_input(n, 1)
    return (apply2(SIGMOID_BACKWARD, g, y) if wants(n, 0) else None,
            mul(mul(g, saved_input(n, 0)), sub(1, mul(y, 2))) if wants(n, 1) else None)

cdef Op SIGMOID_BACKWARD = inner("sigmoid_backward", 2, SAME, rule(sigmoid_backward_vjp), ("1", "01"))


cdef object sigmoid_vjp(Node n, object g):
    return apply2(SIGMOID_BACKWARD, g, saved_output(n, 0))

cdef Op SIGMOID = unary("sigmoid", REAL, rule(sigmoid_vjp), "o", "sp.expit(x)", "t(3, 4)",
                        "Logistic function, 1 / (1 + exp(-x)), of each element.")


cdef object logit_backward_vjp(Node n, object g):
    cdef object x, slope
    if not wants(n, 1):
        return apply2(LOGIT_BACKWARD, g, saved_input(n, 1)), None
    x = saved_input(n, 1)
    slope = apply2(LOGIT_BACKWARD, 1, x)
    return (apply2(LOGIT_BACKWARD, g, x) if wants(n, 0) else None,
            mul(mul(g, saved_input(n, 0)), mul(square(slope), sub(mul(x, 2), 1))))

cdef Op LOGIT_BACKWARD = inner("logit_backward", 2, SAME, rule(logit_backward_vjp), ("1", "01"))


cdef object logit_vjp(Node n, object g):
    return apply2(LOGIT_BACKWARD, g, saved_input(n, 0))


def _logit(input, eps=None):
    """log(x / (1 - x)) of each element: the inverse of `sigmoid`.

    Parameters
    ----------
    input : Tensor
    eps : float, optional
        Clamp the elements to [eps, 1 - eps] first; otherwise those outside [0, 1] give NaN.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.logit(fx.tensor([0.5, 1.0]), eps=0.5)
    tensor([0., 0.])
    """
    cdef object x = <TensorBase?> input
    if eps is not None:
        x = clamp_numbers(x if categories[(<TensorBase> x).a.dtype] == FLOATING else mul(x, 1.0), eps, 1 - <double> eps)
    return apply1(LOGIT, x)

cdef Op LOGIT = row("logit", function=_logit, out=True, inputs=1, kind=REAL, rule=rule(logit_vjp), needs=("0",),
                    reference="sp.logit(x)", sample="t(3, 4, low=0.1, high=0.9)", method=True, inplace=True)


cdef object erf_vjp(Node n, object g):
    return mul(g, mul(apply1(EXP, neg(square(saved_input(n, 0)))), TWO_OVER_ROOT_PI))


cdef object erfc_vjp(Node n, object g):
    return mul(g, mul(apply1(EXP, neg(square(saved_input(n, 0)))), -TWO_OVER_ROOT_PI))


cdef object erfinv_vjp(Node n, object g):
    return mul(g, mul(apply1(EXP, square(saved_output(n, 0))), HALF_ROOT_PI))

unary("erf", REAL, rule(erf_vjp), "0", "sp.erf(x)", "t(3, 4)", "Error function of each element.")
unary("erfc", REAL, rule(erfc_vjp), "0", "sp.erfc(x)", "t(3, 4)", "One minus the error function of each element.")
unary("erfinv", REAL, rule(erfinv_vjp), "o", "np.copysign(sp.erfinv(x), x)", "t(3, 4, low=-0.9, high=0.9)",
      "Inverse error function of each element.")


cdef object lgamma_vjp(Node n, object g):
    return mul(g, apply1(DIGAMMA, saved_input(n, 0)))


cdef object digamma_vjp(Node n, object g):
    return mul(g, _polygamma_of(1, saved_input(n, 0)))

cdef Op LGAMMA = unary("lgamma", REAL, rule(lgamma_vjp), "0",
                       "np.where(np.isinf(x), np.inf, np.where(np.abs(x) < 1e-300, -np.log(np.abs(x)), sp.gammaln(x)))",
                       "t(3, 4, low=0.3, high=4)",
                       "Logarithm of the absolute value of the gamma function.")
cdef Op DIGAMMA = unary("digamma", REAL, rule(digamma_vjp), "0", "sp.digamma(x)", "t(3, 4, low=0.3, high=4)",
                        "Logarithmic derivative of the gamma function.")


cdef object polygamma_vjp(Node n, object g):
    return mul(g, _polygamma_of(n.params + 1, saved_input(n, 0)))


cdef TensorBase _polygamma_of(object order, object x):
    return apply1p(POLYGAMMA, x, order, 0, 0, order)


def _polygamma(n, input):
    """The n-th derivative of the digamma function.

    Parameters
    ----------
    n : int
        Order, not negative.
    input : Tensor

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.polygamma(1, fx.tensor([1.0]))
    tensor([1.6449])
    """
    n = read_int("polygamma", "n", n)
    if n < 0:
        raise RuntimeError("polygamma(n, x) does not support negative n.")
    return apply1(DIGAMMA, input) if n == 0 else _polygamma_of(n, input)


def _polygamma_method(self, n):
    """The n-th derivative of the digamma function at each element; see `ferrox.polygamma`."""
    return _polygamma(n, self)


def _polygamma_in_place(self, n):
    """In-place version of `polygamma`."""
    return assign(POLYGAMMA, <TensorBase?> self, _polygamma(n, shadow_for(POLYGAMMA, <TensorBase?> self)))

cdef Op POLYGAMMA = row("polygamma", function=_polygamma, inputs=1, kind=REAL, rule=rule(polygamma_vjp), needs=("0",),
                        out=True, reference="sp.polygamma(n, input)", sample="1, t(3, 4, low=0.5, high=4)",
                        method=_polygamma_method, inplace=_polygamma_in_place)

for _name, _of in (("arcsin", "asin"), ("arccos", "acos"), ("arctan", "atan"), ("arctan2", "atan2"),
                   ("arcsinh", "asinh"), ("arccosh", "acosh"), ("arctanh", "atanh"), ("fix", "trunc")):
    alias_row(_name, _of)


cdef TensorBase exp(object x):
    return apply1(EXP, x)

cdef TensorBase log(object x):
    return apply1(LOG, x)

cdef TensorBase tanh(object x):
    return apply1(TANH, x)

cdef TensorBase sigmoid(object x):
    return apply1(SIGMOID, x)
