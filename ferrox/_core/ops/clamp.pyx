"""The larger, the smaller, and values held between bounds.

At a tie, maximum and minimum give half of the gradient to each operand; fmax, fmin and the clamps give all of it to the
first one.  As PyTorch.
"""
from cpython.float cimport PyFloat_Check
from libc.math cimport INFINITY

from ferrox._core.door.backend cimport kernel_id
from ferrox._core.dtype cimport FLOATING, categories
from ferrox._core.graph.node cimport Node, rule, saved_input, wants
from ferrox._core.graph.op cimport Op
from ferrox._core.graph.op import alias_row, row
from ferrox._core.ops.arithmetic cimport full_like
from ferrox._core.ops.elementwise cimport SAME, apply1p, apply2, apply2p, apply3, is_number
from ferrox._core.ops.family cimport binary, inner
from ferrox._core.ops.logic cimport both, either, ge, gt, isnan, le, lt, where
from ferrox._core.tensor.base cimport TensorBase


# maximum, minimum, fmax, fmin

cdef object _half_backward_vjp(Node n, object g):
    return (apply3(n.op, g, saved_input(n, 1), saved_input(n, 2)) if wants(n, 0) else None,
            full_like(<TensorBase> g, 0) if wants(n, 1) else None,
            full_like(<TensorBase> g, 0) if wants(n, 2) else None)

cdef Op MAXIMUM_BACKWARD = inner("maximum_backward", 3, SAME, rule(_half_backward_vjp), ("12", "", ""))
cdef Op MINIMUM_BACKWARD = inner("minimum_backward", 3, SAME, rule(_half_backward_vjp), ("12", "", ""))


cdef object maximum_vjp(Node n, object g):
    cdef object a = saved_input(n, 0), b = saved_input(n, 1)
    return (apply3(MAXIMUM_BACKWARD, g, a, b) if wants(n, 0) else None,
            apply3(MAXIMUM_BACKWARD, g, b, a) if wants(n, 1) else None)


cdef object minimum_vjp(Node n, object g):
    cdef object a = saved_input(n, 0), b = saved_input(n, 1)
    return (apply3(MINIMUM_BACKWARD, g, a, b) if wants(n, 0) else None,
            apply3(MINIMUM_BACKWARD, g, b, a) if wants(n, 1) else None)


cdef object _first_where(Node n, object g, object chosen):
    return where(chosen, g, 0) if wants(n, 0) else None, where(chosen, 0, g) if wants(n, 1) else None


cdef object fmax_vjp(Node n, object g):
    cdef object a = saved_input(n, 0), b = saved_input(n, 1)
    return _first_where(n, g, either(ge(a, b), isnan(b)))


cdef object fmin_vjp(Node n, object g):
    cdef object a = saved_input(n, 0), b = saved_input(n, 1)
    return _first_where(n, g, either(le(a, b), isnan(b)))


cdef Op _extremum(str name, object gradient, str doc):
    cdef Op op = binary(name, SAME, gradient, "01", f"np.{name}(a, b)", "t(3, 4), t(4)", doc)
    op.row["inplace"] = False
    return op

cdef Op MAXIMUM = _extremum("maximum", rule(maximum_vjp), "The larger of two elements; NaN if one of them is.")
cdef Op MINIMUM = _extremum("minimum", rule(minimum_vjp), "The smaller of two elements; NaN if one of them is.")
_extremum("fmax", rule(fmax_vjp), "The larger of two elements; the other one where one is NaN.")
_extremum("fmin", rule(fmin_vjp), "The smaller of two elements; the other one where one is NaN.")


# clamp

cdef object clamp_min_vjp(Node n, object g):
    cdef object x = saved_input(n, 0), low = saved_input(n, 1)
    return (where(ge(x, low), g, 0) if wants(n, 0) else None, where(lt(x, low), g, 0) if wants(n, 1) else None)


cdef object clamp_max_vjp(Node n, object g):
    cdef object x = saved_input(n, 0), high = saved_input(n, 1)
    return (where(le(x, high), g, 0) if wants(n, 0) else None, where(gt(x, high), g, 0) if wants(n, 1) else None)

cdef Op CLAMP_MIN = binary("clamp_min", SAME, rule(clamp_min_vjp), "01", "np.maximum(a, b)", "t(3, 4), t(4)",
                           "Each element, but at least `min`.")
cdef Op CLAMP_MAX = binary("clamp_max", SAME, rule(clamp_max_vjp), "01", "np.minimum(a, b)", "t(3, 4), t(4)",
                           "Each element, but at most `max`.")
CLAMP_MIN.kernel = kernel_id("maximum")
CLAMP_MIN.row["arguments"] = ("input", "min")
CLAMP_MAX.kernel = kernel_id("minimum")
CLAMP_MAX.row["arguments"] = ("input", "max")


cdef object clamp_backward_vjp(Node n, object g):
    return (apply2p(CLAMP_BACKWARD, g, saved_input(n, 1), n.params[0], n.params[1], 0, n.params)
            if wants(n, 0) else None,
            full_like(<TensorBase> g, 0) if wants(n, 1) else None)

cdef Op CLAMP_BACKWARD = inner("clamp_backward", 2, SAME, rule(clamp_backward_vjp), ("1", ""))


cdef object clamp_scalar_vjp(Node n, object g):
    return apply2p(CLAMP_BACKWARD, g, saved_input(n, 0), n.params[0], n.params[1], 0, n.params)

cdef Op CLAMP_SCALAR = inner("clamp_scalar", 1, SAME, rule(clamp_scalar_vjp), "0")


cdef TensorBase clamp_numbers(object x, double low, double high):
    """A floating-point tensor held between two numbers, which may be infinite."""
    return apply1p(CLAMP_SCALAR, x, low, high, 0, (low, high))


cdef object clamp_vjp(Node n, object g):
    cdef object x = saved_input(n, 0), low = saved_input(n, 1), high = saved_input(n, 2)
    return (where(both(ge(x, low), le(x, high)), g, 0) if wants(n, 0) else None,
            where(both(lt(x, low), lt(low, high)), g, 0) if wants(n, 1) else None,
            where(either(gt(x, high), lt(high, low)), g, 0) if wants(n, 2) else None)


def _clamp(input, min=None, max=None):
    """Each element of `input`, but at least `min` and at most `max`.

    Parameters
    ----------
    input : Tensor
    min, max : number or Tensor, optional
        The bounds; None for no bound, but not both.  Where min is above max, the result is max.

    Returns
    -------
    Tensor
        Of the dtype that input and bounds promote to.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.clamp(fx.tensor([-1.0, 0.5, 2.0]), 0, 1)
    tensor([0.0000, 0.5000, 1.0000])
    """
    return clamp(input, min, max)

cdef Op CLAMP = row("clamp", function=_clamp, out=True, inputs=3, kind=SAME, rule=rule(clamp_vjp), needs=("012",),
                    reference="np.clip(x, min, max)",
                    sample=["(t(3, 4), -0.5, 1)", "(t(3, 4), None, 0.25)",
                            "(t(3, 4), t(4, low=-2, high=-0.5), t(3, 1, low=0.5))"],
                    method=True, inplace=True)


cdef bint _exact(object bound) noexcept:
    """Whether a bound of an integer tensor is an integer that a double holds."""
    return bound is None or (not PyFloat_Check(bound) and -(1 << 53) <= bound <= 1 << 53)


cdef TensorBase clamp(object input, object low, object high):
    cdef TensorBase x = <TensorBase?> input
    if low is None and high is None:
        raise RuntimeError("[clamp] At least one of 'min' or 'max' must not be None")
    if (low is None or is_number(low)) and (high is None or is_number(high)):
        if categories[x.a.dtype] == FLOATING or (x.a.dtype and _exact(low) and _exact(high)):
            return clamp_numbers(x, -INFINITY if low is None else low, INFINITY if high is None else high)
    if high is None:
        return apply2(CLAMP_MIN, x, low)
    if low is None:
        return apply2(CLAMP_MAX, x, high)
    return apply3(CLAMP, x, low, high)


alias_row("clip", "clamp")
