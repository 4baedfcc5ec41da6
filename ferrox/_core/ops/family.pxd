# Rows of elementwise operators, and how they are called from Python.  See family.pyx.
from ferrox._core.graph.op cimport Op

cdef Op unary(str name, int kind, object rule, object needs, str reference, str sample, str doc)
cdef Op binary(str name, int kind, object rule, object needs, str reference, str sample, str doc)
cdef Op ternary(str name, int kind, object rule, object needs, str reference, str sample, str doc)
cdef Op inner(str name, int inputs, int kind, object rule, object needs)
