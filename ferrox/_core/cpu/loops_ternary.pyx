"""Loops of three operands: o = f(x, y, z; p).  See loops_unary.pyx."""
from ferrox._core.cpu.loops cimport *

include "loops_table.pxi"


cdef void ternary(operand o, operand x, operand y, operand z, ternary_op *p, Py_ssize_t n) noexcept nogil:
    cdef ternary_op op = p[0]
    cdef Py_ssize_t i
    for i in range(n):
        o[i] = apply3(op, x[i], y[i], z[i])


register()
