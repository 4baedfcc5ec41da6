"""Loops whose vectorised form holds for |x| up to a limit: a block with
a larger argument (or NaN) goes element by element.
"""
from ferrox._core.cpu.loops cimport *

include "loops_table.pxi"

cdef enum:
    BLOCK = 512


cdef void guarded_block(operand o, operand x, guarded_op *p, Py_ssize_t n) noexcept nogil:
    cdef guarded_op op = p[0]
    cdef Py_ssize_t i
    cdef int rare = 0
    for i in range(n):
        rare |= outside(op, x[i])
    if rare:
        for i in range(n):
            o[i] = apply1(op, x[i])
    else:
        for i in range(n):
            o[i] = apply_fast(op, x[i])


cdef void guarded(operand o, operand x, void *y, void *z, guarded_op *p, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t start = 0
    while start < n:
        guarded_block(o + start, x + start, p, min(<Py_ssize_t> BLOCK, n - start))
        start += BLOCK


register()
