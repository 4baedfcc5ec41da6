"""Loops of two operands: o = f(x, y; p), and comparisons, whose result is bool.  See loops_unary.pyx."""
from ferrox._core.cpu.loops cimport *

include "loops_table.pxi"


cdef void binary(operand o, operand x, operand y, void *z, binary_op *p, Py_ssize_t n) noexcept nogil:
    cdef binary_op op = p[0]
    cdef Py_ssize_t i
    for i in range(n):
        o[i] = apply2(op, x[i], y[i])


cdef void compare(u8p o, operand x, operand y, void *z, compare_op *p, Py_ssize_t n) noexcept nogil:
    cdef compare_op op = p[0]
    cdef Py_ssize_t i
    for i in range(n):
        o[i] = test2(op, x[i], y[i])


register()
