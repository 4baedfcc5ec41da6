"""Arithmetic."""
from cpython.bool cimport PyBool_Check
from cpython.float cimport PyFloat_Check
from cpython.object cimport PyObject
from libc.math cimport INFINITY

from ferrox._core.abi cimport FX_BOOL, FX_U8
from ferrox._core.dtype cimport FLOATING, categories, dtype_name
from ferrox._core.graph.engine cimport operators
from ferrox._core.graph.node cimport Node, rule, saved_input, saved_output, wants
from ferrox._core.graph.op cimport Op
from ferrox._core.graph.op import alias_row, row
from ferrox._core.ops.elementwise cimport ALIKE, REAL, SAME, SIGNED, WHOLE, apply1, apply2, apply3, apply_scaled, \
    apply_in_place, as_operand, is_number, promoted
from ferrox._core.ops.family cimport binary, inner, ternary, unary
from ferrox._core.tensor.base cimport TensorBase, new_like
from ferrox._core.tensor.frame cimport nearest_whole, set_to

cdef Op ADD, SUB, MUL, DIV, NEG, SQUARE, RECIPROCAL, SQRT, RSQRT, ABS, SIGN


cdef TensorBase full_like(TensorBase like, double value):
    """A fresh tensor of the same shape and dtype with one value everywhere."""
    cdef TensorBase out = new_like(like, like.a.dtype)
    set_to(out, value)
    return out


cdef object flat_vjp(Node n, object g):
    """The gradient of what is constant between its steps: zero for every input."""
    cdef int i
    if n.n_in == 1:
        return full_like(<TensorBase> g, 0)
    return tuple([full_like(<TensorBase> g, 0) if wants(n, i) else None for i in range(n.n_in)])


# add, sub

cdef object add_vjp(Node n, object g):
    return g, g

ADD = binary("add", SAME, rule(add_vjp), ("", ""), "a + b", "t(3, 4), t(4)", "Sum of two tensors, element by element.")


cdef object sub_vjp(Node n, object g):
    return g, neg(g) if wants(n, 1) else None

SUB = binary("sub", SIGNED, rule(sub_vjp), ("", ""), "a - b", "t(3, 4), t(4)", "Difference of two tensors.")


cdef object axpy_vjp(Node n, object g):
    return g, mul(g, n.params) if wants(n, 1) else None

cdef Op AXPY = inner("axpy", 2, SAME, rule(axpy_vjp), ("", ""))


cdef object _multiplier(str name, str argument, object value, int dtype, bint negated):
    """A multiplier within the range of an integer dtype; negative ones wrap in uint8."""
    if PyFloat_Check(value):
        raise RuntimeError(f"For integral input tensors, argument {argument} must not be a floating point number.")
    if not (-255 if dtype == FX_U8 else nearest_whole(-INFINITY, dtype)) <= value <= nearest_whole(INFINITY, dtype):
        raise RuntimeError(f"[{name}] {argument} {value} cannot be converted to type {dtype_name(dtype)} without "
                           "overflow")
    return -value if negated else int(value)


cdef TensorBase _scaled_sum(Op op, object a, object b, object alpha, bint minus):
    """a + alpha * b, or minus, with PyTorch's rules for alpha."""
    cdef PyObject *inputs[2]
    cdef int dtype
    if not is_number(alpha):
        raise TypeError(f"{op.name}(): argument 'alpha' must be a number, not {type(alpha).__name__}")
    if alpha == 1 and not (PyFloat_Check(alpha) or PyBool_Check(alpha)):
        return apply2(op, a, b)
    a = a if is_number(a) else as_operand(a, op.name)
    b = b if is_number(b) else as_operand(b, op.name)
    inputs[0] = <PyObject *> a
    inputs[1] = <PyObject *> b
    dtype = promoted(inputs, 2)
    if PyBool_Check(alpha) and dtype != FX_BOOL:
        raise RuntimeError("Boolean alpha only supported for Boolean results.")
    if dtype != FX_BOOL or PyFloat_Check(alpha):
        if categories[dtype] == FLOATING:
            factor = -alpha if minus else alpha
        else:
            factor = _multiplier(op.name, "alpha", alpha, dtype, minus)
        return apply_scaled(AXPY, inputs, 2, factor, factor)
    return apply2(op, a, b if alpha else apply2(MUL, b, False))


def _add(input, other, *, alpha=1):
    """Sum of two tensors, element by element: ``input + alpha * other``.

    Parameters
    ----------
    input, other : Tensor or number
        Broadcast against each other.
    alpha : number, optional
        Multiplier of `other`; an integer for integer tensors.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.add(fx.tensor([1.0, 2.0]), fx.tensor([10.0, 20.0]), alpha=0.5)
    tensor([ 6., 12.])
    """
    return _scaled_sum(ADD, input, other, alpha, False)


def _sub(input, other, *, alpha=1):
    """Difference of two tensors: ``input - alpha * other``.

    Parameters
    ----------
    input, other : Tensor or number
        Broadcast against each other; not both bool.
    alpha : number, optional
        Multiplier of `other`; an integer for integer tensors.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.sub(fx.tensor([1, 2]), fx.tensor([1, 1]), alpha=2)
    tensor([-1,  0])
    """
    return _scaled_sum(SUB, input, other, alpha, True)


def _rsub(input, other, *, alpha=1):
    """`other` minus `alpha` times `input`: `sub` with its operands exchanged.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.rsub(fx.tensor([1.0, 2.0]), 10.0)
    tensor([9., 8.])
    """
    return _scaled_sum(SUB, other, input, alpha, True)

ADD.function = _add
SUB.function = _sub
row("rsub", function=_rsub, composite=True, reference="other - x", sample="t(3, 4), t(4)")


# mul, div

cdef object mul_vjp(Node n, object g):
    return (mul(g, saved_input(n, 1)) if wants(n, 0) else None,
            mul(g, saved_input(n, 0)) if wants(n, 1) else None)

MUL = binary("mul", SAME, rule(mul_vjp), ("1", "0"), "a * b", "t(3, 4), t(4)",
             "Product of two tensors, element by element.")


cdef object div_vjp(Node n, object g):
    cdef object b = saved_input(n, 1)
    return (div(g, b) if wants(n, 0) else None,
            neg(div(mul(g, saved_output(n, 0)), b)) if wants(n, 1) else None)

DIV = binary("div", REAL, rule(div_vjp), ("1", "1o"), "a / b", "t(3, 4), t(4, low=0.5)", "Quotient of two tensors.")
cdef Op FLOOR_DIVIDE = binary("floor_divide", SAME, rule(flat_vjp), ("", ""), "np.floor_divide(a, b)",
                              "t(3, 4), t(4, low=0.5)", "Quotient of two tensors, rounded down.")
cdef Op DIV_TRUNC = inner("div_trunc", 2, SAME, rule(flat_vjp), ("", ""))


def _div(input, other, *, rounding_mode=None):
    """Quotient of two tensors, element by element.

    Parameters
    ----------
    input, other : Tensor or number
        Broadcast against each other; integers are divided as floating-point numbers unless a rounding mode is given.
    rounding_mode : {None, "trunc", "floor"}, optional
        Round towards zero (as C) or down (as Python's ``//``).

    Returns
    -------
    Tensor

    Raises
    ------
    RuntimeError
        For an unknown rounding mode, and when integers are divided by zero with one.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.div(fx.tensor([-7, 7]), 2)
    tensor([-3.5000,  3.5000])
    >>> fx.div(fx.tensor([-7, 7]), 2, rounding_mode="trunc")
    tensor([-3,  3])
    >>> fx.div(fx.tensor([-7, 7]), 2, rounding_mode="floor")
    tensor([-4,  3])
    """
    if rounding_mode is None:
        return apply2(DIV, input, other)
    if rounding_mode == "trunc":
        return apply2(DIV_TRUNC, input, other)
    if rounding_mode == "floor":
        return apply2(FLOOR_DIVIDE, input, other)
    raise RuntimeError(f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found {rounding_mode!r}")

DIV.function = _div


cdef object remainder_vjp(Node n, object g):
    return g, neg(mul(g, apply2(FLOOR_DIVIDE, saved_input(n, 0), saved_input(n, 1)))) if wants(n, 1) else None

binary("remainder", SAME, rule(remainder_vjp), ("", "01"),
       "(lambda m: np.where((m != 0) & ((m < 0) != (b < 0)), m + b, m))(np.fmod(a, b))",
       "t(3, 4, low=3, high=4), t(4, low=0.3, high=0.7)",
       "Remainder of the division rounded down, as Python's %: it has the sign of the divisor.")


cdef object fmod_vjp(Node n, object g):
    return g, neg(mul(g, apply2(DIV_TRUNC, saved_input(n, 0), saved_input(n, 1)))) if wants(n, 1) else None

binary("fmod", SAME, rule(fmod_vjp), ("", "01"), "np.fmod(a, b)", "t(3, 4, low=3, high=4), t(4, low=0.3, high=0.7)",
       "Remainder of the division rounded towards zero, as C's fmod: it has the sign of the dividend.")


# addcmul, addcdiv, lerp

cdef object addcmul_vjp(Node n, object g):
    cdef object scaled = mul(g, n.params) if n.params != 1 and (wants(n, 1) or wants(n, 2)) else g
    return (g, mul(scaled, saved_input(n, 2)) if wants(n, 1) else None,
            mul(scaled, saved_input(n, 1)) if wants(n, 2) else None)


cdef TensorBase _scaled3(Op op, object a, object b, object c, object value):
    cdef PyObject *inputs[3]
    inputs[0] = <PyObject *> a
    inputs[1] = <PyObject *> b
    inputs[2] = <PyObject *> c
    return apply_scaled(op, inputs, 3, value, value)


def _addcmul(input, tensor1, tensor2, *, value=1):
    """``input + value * tensor1 * tensor2``, element by element.

    Parameters
    ----------
    input, tensor1, tensor2 : Tensor
        Broadcast against each other.
    value : number, optional
        Multiplier of the product.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.addcmul(fx.tensor([1.0]), fx.tensor([2.0]), fx.tensor([3.0]), value=10)
    tensor([61.])
    """
    cdef PyObject *inputs[3]
    cdef int dtype
    input, tensor1, tensor2 = [each if is_number(each) else as_operand(each, "addcmul")
                               for each in (input, tensor1, tensor2)]
    inputs[0], inputs[1], inputs[2] = <PyObject *> input, <PyObject *> tensor1, <PyObject *> tensor2
    dtype = promoted(inputs, 3)
    if categories[dtype] != FLOATING:
        value = _multiplier("addcmul", "value", int(value), dtype, False)
    return _scaled3(ADDCMUL, input, tensor1, tensor2, value)

cdef Op ADDCMUL = row("addcmul", function=_addcmul, inputs=3, kind=SAME, rule=rule(addcmul_vjp), needs=("", "2", "1"),
                      out=True,
                      reference="x + value * tensor1 * tensor2", sample="call(t(3, 4), t(4), t(3, 1), value=0.5)",
                      method=True, inplace=True)


cdef object addcdiv_vjp(Node n, object g):
    cdef object b = saved_input(n, 2)
    cdef object quotient = div(mul(g, n.params) if n.params != 1 else g, b)
    return (g, quotient if wants(n, 1) else None,
            neg(mul(quotient, div(saved_input(n, 1), b))) if wants(n, 2) else None)


def _addcdiv(input, tensor1, tensor2, *, value=1):
    """``input + value * tensor1 / tensor2``, element by element.

    Parameters
    ----------
    input, tensor1, tensor2 : Tensor
        Broadcast against each other, of floating-point dtype.
    value : number, optional
        Multiplier of the quotient.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.addcdiv(fx.tensor([1.0]), fx.tensor([6.0]), fx.tensor([3.0]), value=10)
    tensor([21.])
    """
    return _scaled3(ADDCDIV, input, tensor1, tensor2, value)

cdef Op ADDCDIV = row("addcdiv", function=_addcdiv, inputs=3, kind=SAME, rule=rule(addcdiv_vjp), needs=("", "2", "12"),
                      out=True, reference="x + value * tensor1 / tensor2",
                      sample="call(t(3, 4), t(4), t(3, 1, low=0.5), value=0.5)", method=True, inplace=True)


cdef object lerp_vjp(Node n, object g):
    cdef object weight = saved_input(n, 2) if wants(n, 0) or wants(n, 1) else None
    return (mul(g, sub(1, weight) if isinstance(weight, TensorBase) else 1 - weight) if wants(n, 0) else None,
            mul(g, weight) if wants(n, 1) else None,
            mul(g, sub(saved_input(n, 1), saved_input(n, 0))) if wants(n, 2) else None)

cdef Op LERP = ternary("lerp", ALIKE, rule(lerp_vjp), ("2", "2", "01"),
                       "np.where(np.abs(weight) < 0.5, x + weight * (end - x), end - (end - x) * (1 - weight))",
                       "t(3, 4), t(4), t(3, 1, low=0, high=1)",
                       "Linear interpolation, `input + weight * (end - input)`; `weight` is a tensor or a number.")
LERP.row["arguments"] = ("input", "end", "weight")


# neg, abs, sign, powers

cdef object neg_vjp(Node n, object g):
    return neg(g)

NEG = unary("neg", SAME, rule(neg_vjp), "", "-x", "t(3, 4)", "Each element with its sign changed.")


cdef object positive_vjp(Node n, object g):
    return g

cdef Op POSITIVE = unary("positive", SAME, rule(positive_vjp), "", "+x", "t(3, 4)", "The same values; bool is refused.")
POSITIVE.row["inplace"] = False


cdef object abs_backward_vjp(Node n, object g):
    return (apply2(ABS_BACKWARD, g, saved_input(n, 1)) if wants(n, 0) else None,
            full_like(<TensorBase> g, 0) if wants(n, 1) else None)

cdef Op ABS_BACKWARD = inner("abs_backward", 2, SAME, rule(abs_backward_vjp), ("1", ""))


cdef object abs_vjp(Node n, object g):
    return apply2(ABS_BACKWARD, g, saved_input(n, 0))

ABS = unary("abs", SAME, rule(abs_vjp), "0", "np.abs(x)", "t(3, 4)", "Absolute value of each element.")
SIGN = unary("sign", SAME, rule(flat_vjp), "", "np.where(np.isnan(x), 0, np.sign(x))", "t(3, 4)",
             "-1, 0 or 1 by the sign of each element.")


cdef object square_vjp(Node n, object g):
    return mul(g, mul(saved_input(n, 0), 2))

SQUARE = unary("square", WHOLE, rule(square_vjp), "0", "x * x", "t(3, 4)", "Square of each element.")


cdef object reciprocal_backward_vjp(Node n, object g):
    cdef object y = saved_input(n, 1)
    return (apply2(RECIPROCAL_BACKWARD, g, y) if wants(n, 0) else None,
            mul(mul(mul(g, saved_input(n, 0)), y), -2) if wants(n, 1) else None)

cdef Op RECIPROCAL_BACKWARD = inner("reciprocal_backward", 2, SAME, rule(reciprocal_backward_vjp), ("1", "01"))


cdef object reciprocal_vjp(Node n, object g):
    return apply2(RECIPROCAL_BACKWARD, g, saved_output(n, 0))

RECIPROCAL = unary("reciprocal", REAL, rule(reciprocal_vjp), "o", "1 / x", "t(3, 4, low=0.3)", "One over each element.")


cdef object sqrt_backward_vjp(Node n, object g):
    cdef object y = saved_input(n, 1)
    return (apply2(SQRT_BACKWARD, g, y) if wants(n, 0) else None,
            mul(mul(g, saved_input(n, 0)), div(-0.5, square(y))) if wants(n, 1) else None)

cdef Op SQRT_BACKWARD = inner("sqrt_backward", 2, SAME, rule(sqrt_backward_vjp), ("1", "01"))


cdef object sqrt_vjp(Node n, object g):
    return apply2(SQRT_BACKWARD, g, saved_output(n, 0))

SQRT = unary("sqrt", REAL, rule(sqrt_vjp), "o", "np.sqrt(x)", "t(3, 4, low=0.2)", "Square root of each element.")


cdef object rsqrt_backward_vjp(Node n, object g):
    cdef object y = saved_input(n, 1)
    return (apply2(RSQRT_BACKWARD, g, y) if wants(n, 0) else None,
            mul(mul(mul(g, saved_input(n, 0)), square(y)), -1.5) if wants(n, 1) else None)

cdef Op RSQRT_BACKWARD = inner("rsqrt_backward", 2, SAME, rule(rsqrt_backward_vjp), ("1", "01"))


cdef object rsqrt_vjp(Node n, object g):
    return apply2(RSQRT_BACKWARD, g, saved_output(n, 0))

RSQRT = unary("rsqrt", REAL, rule(rsqrt_vjp), "o", "1 / np.sqrt(x)", "t(3, 4, low=0.2)",
              "One over the square root of each element.")


cdef TensorBase add(object a, object b):
    return apply2(ADD, a, b)

cdef TensorBase sub(object a, object b):
    return apply2(SUB, a, b)

cdef TensorBase mul(object a, object b):
    return apply2(MUL, a, b)

cdef TensorBase div(object a, object b):
    return apply2(DIV, a, b)

cdef TensorBase neg(object a):
    return apply1(NEG, a)

cdef TensorBase absolute(object a):
    return apply1(ABS, a)

cdef TensorBase sign(object a):
    return apply1(SIGN, a)

cdef TensorBase square(object a):
    return apply1(SQUARE, a)

cdef TensorBase reciprocal(object a):
    return apply1(RECIPROCAL, a)

cdef TensorBase sqrt(object a):
    return apply1(SQRT, a)

cdef TensorBase rsqrt(object a):
    return apply1(RSQRT, a)

cdef TensorBase lerp(object a, object b, object weight):
    return apply3(LERP, a, b, weight)

for _name, _of in (("subtract", "sub"), ("multiply", "mul"), ("divide", "div"), ("true_divide", "div"),
                   ("negative", "neg"), ("absolute", "abs"), ("sgn", "sign")):
    alias_row(_name, _of)


cdef TensorBase _engine_add(TensorBase a, TensorBase b):
    return apply2(ADD, a, b)


cdef int _engine_add_into(TensorBase a, TensorBase b) except -1:
    cdef PyObject *inputs[2]
    inputs[0] = <PyObject *> a
    inputs[1] = <PyObject *> b
    apply_in_place(ADD, inputs, 2)
    return 0


operators.add = _engine_add
operators.add_into = _engine_add_into
