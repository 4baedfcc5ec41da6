"""Arithmetic."""
from ferrox._core.engine cimport operators
from ferrox._core.graph cimport Node, rule, saved_input, saved_output, wants
from ferrox._core.op cimport Op
from ferrox._core.ops.elementwise cimport REAL, SAME, apply1, apply2, apply_in_place
from ferrox._core.ops.family cimport binary, unary
from ferrox._core.tensor cimport TensorBase

from cpython.object cimport PyObject

cdef Op ADD, SUB, MUL, DIV, NEG


cdef object add_vjp(Node n, object g):
    return g, g

ADD = binary("add", SAME, rule(add_vjp), ("", ""), "a + b", "t(3, 4), t(4)", "Sum of two tensors, element by element.")


cdef object sub_vjp(Node n, object g):
    return g, neg(g) if wants(n, 1) else None

SUB = binary("sub", SAME, rule(sub_vjp), ("", ""), "a - b", "t(3, 4), t(4)", "Difference of two tensors.")


cdef object mul_vjp(Node n, object g):
    return (mul(g, saved_input(n, 1)) if wants(n, 0) else None,
            mul(g, saved_input(n, 0)) if wants(n, 1) else None)

MUL = binary("mul", SAME, rule(mul_vjp), ("1", "0"), "a * b", "t(3, 4), t(4)", "Product of two tensors, element by element.")


cdef object div_vjp(Node n, object g):
    cdef object b = saved_input(n, 1)
    return (div(g, b) if wants(n, 0) else None,
            neg(div(mul(g, saved_output(n, 0)), b)) if wants(n, 1) else None)

DIV = binary("div", REAL, rule(div_vjp), ("1", "1o"), "a / b", "t(3, 4), t(4, low=0.5)", "Quotient of two tensors.")


cdef object neg_vjp(Node n, object g):
    return neg(g)

NEG = unary("neg", SAME, rule(neg_vjp), "", "-x", "t(3, 4)", "Each element with its sign changed.")


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
