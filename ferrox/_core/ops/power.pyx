"""Powers."""
from cpython.float cimport PyFloat_Check
from libc.math cimport INFINITY

from ferrox._core.abi cimport FX_F64
from ferrox._core.dtype cimport FLOATING, categories
from ferrox._core.graph.node cimport Node, rule, saved_input, saved_output, wants
from ferrox._core.graph.op cimport Op
from ferrox._core.graph.op import row
from ferrox._core.ops.arithmetic cimport full_like, mul, reciprocal, rsqrt, sqrt, square, sub
from ferrox._core.ops.elementwise cimport SAME, apply2, apply2p, as_operand, is_number
from ferrox._core.ops.family cimport inner
from ferrox._core.ops.logic cimport both, either, eq, ge, isnan, where
from ferrox._core.ops.pointwise cimport log
from ferrox._core.ops.shape cimport to_dtype
from ferrox._core.tensor.base cimport TensorBase


# g e x^(e - 1), zero where e is

cdef object pow_scalar_backward_vjp(Node n, object g):
    cdef object x = saved_input(n, 1)
    cdef double e = n.params
    if e == 0:
        return (full_like(<TensorBase> g, 0) if wants(n, 0) else None,
                full_like(<TensorBase> g, 0) if wants(n, 1) else None)
    return (_power_slope(g, x, e) if wants(n, 0) else None,
            _power_slope(mul(mul(g, saved_input(n, 0)), e), x, e - 1) if wants(n, 1) else None)

cdef Op POW_SCALAR_BACKWARD = inner("pow_scalar_backward", 2, SAME, rule(pow_scalar_backward_vjp), ("1", "01"))


cdef TensorBase _power_slope(object g, object x, double e):
    return apply2p(POW_SCALAR_BACKWARD, g, x, e, 0, 0, e)


cdef object pow_vjp(Node n, object g):
    cdef object x = saved_input(n, 0), e = saved_input(n, 1), dx = None, de = None
    if wants(n, 0):
        if isinstance(e, TensorBase):
            # 0 x^-1 is 0, for x = 0 and NaN too.
            base = where(both(eq(e, 0), either(eq(x, 0), isnan(x))), 1, x) if isinstance(x, TensorBase) else x
            dx = mul(g, mul(e, power(base, sub(e, 1))))
        else:
            dx = _power_slope(g, x, e)
    if wants(n, 1):
        de = mul(g, saved_output(n, 0))
        if isinstance(x, TensorBase):
            # 0^e is flat for e >= 0; the logarithm of one in the place of the base says so without making NaN.
            x = to_dtype(<TensorBase> x, (<TensorBase> de).a.dtype)
            de = mul(de, log(where(both(eq(x, 0), ge(e, 0)), 1, x)))
        elif x == 0:
            de = mul(de, where(ge(e, 0), full_like(<TensorBase> e, 0), -INFINITY))
        else:
            de = mul(de, _log_of_number(x))
    return dx, de


cdef object _log_of_number(double x):
    from math import log, nan

    return log(x) if x > 0 else nan


def _pow(input, exponent):
    """`input` to the power of `exponent`, element by element.

    Parameters
    ----------
    input, exponent : Tensor or number
        Broadcast against each other; at least one is a tensor.

    Returns
    -------
    Tensor

    Raises
    ------
    RuntimeError
        For an integer tensor and a negative integer exponent.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.pow(fx.tensor([1.0, 2.0, 3.0]), 2)
    tensor([1., 4., 9.])
    >>> fx.pow(2, fx.tensor([1, 2, 3]))
    tensor([2, 4, 8])
    """
    return power(input, exponent)

cdef Op POW = row("pow", function=_pow, out=True, inputs=2, kind=SAME, rule=rule(pow_vjp), needs=("01", "01o"),
                  reference="np.power(x, exponent)",
                  sample=["(t(3, 4, low=0.3), t(4))", "(t(3, 4), 3)", "(t(3, 4), 2)"], method=True, inplace=True)


cdef TensorBase power(object x, object e):
    cdef bint floating
    if is_number(e) and isinstance(x, TensorBase):
        floating = categories[(<TensorBase> x).a.dtype] == FLOATING
        if e < 0 and not floating and not PyFloat_Check(e):
            raise RuntimeError("[pow] Integers to negative integer powers are not allowed.")
        if floating or not PyFloat_Check(e):
            if e == 2:
                return square(x)
            if e == 0.5:
                return sqrt(x)
            if e == -1:
                return reciprocal(x)
            if e == -0.5:
                return rsqrt(x)
    return apply2(POW, x, e)


def _float_power(input, exponent):
    """`input` to the power of `exponent`, computed in float64.

    Parameters
    ----------
    input, exponent : Tensor or number
        Broadcast against each other; at least one is a tensor.
    out : Tensor, optional
        Where the result goes; float64.

    Returns
    -------
    Tensor
        Of dtype float64.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.float_power(fx.tensor([2, 4]), -1)
    tensor([0.5000, 0.2500], dtype=ferrox.float64)
    """
    return power(_double(input), _double(exponent))


cdef object _double(object x):
    return float(x) if is_number(x) else to_dtype(as_operand(x, "float_power"), FX_F64)

cdef Op FLOAT_POWER = row("float_power", function=_float_power, composite=True, reference="np.float_power(x, exponent)",
                          out=True, sample="t(3, 4, low=0.3), t(4)", method=True, inplace=True)
