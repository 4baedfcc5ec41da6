"""Loops of one operand: o = f(x; p), and o = f(x) with a bool result.

Each loop is written once; the fused types instantiate it for the operators and dtypes of the generated table.  The
operator's type is a struct of the scalar parameters, so that it arrives in the place of p; the copy lets them stay in
registers.  The pointer types carry restrict: o may still be x itself, since an element is read before it is written.
"""
from ferrox._core.cpu.loops cimport *

include "loops_table.pxi"


cdef void unary(operand o, operand x, void *y, void *z, unary_op *p, Py_ssize_t n) noexcept nogil:
    cdef unary_op op = p[0]
    cdef Py_ssize_t i
    for i in range(n):
        o[i] = apply1(op, x[i])


cdef void test(u8p o, operand x, void *y, void *z, test_op *p, Py_ssize_t n) noexcept nogil:
    cdef test_op op = p[0]
    cdef Py_ssize_t i
    for i in range(n):
        o[i] = test1(op, x[i])


register()
