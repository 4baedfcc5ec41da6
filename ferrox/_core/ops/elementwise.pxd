# Applying elementwise operators: dtype rule, broadcasting, output, record.  See elementwise.pyx.
from cpython.object cimport PyObject
from libc.stdint cimport int64_t

from ferrox._core.abi cimport fx_array
from ferrox._core.graph.op cimport Op
from ferrox._core.tensor.base cimport TensorBase

# Dtype rules (Op.kind).
cdef enum:
    SAME = 0        # the promoted dtype of the inputs
    REAL = 1        # the same, but integers become the default floating-point dtype
    TEST = 2        # computed in the promoted dtype, the result is bool
    WHOLE = 3       # the promoted dtype, but bool becomes int64
    SIGNED = 4      # the promoted dtype; no operand may be bool
    ALIKE = 5       # tensors of one dtype only

# What in-place changes of views and operands on several devices need of operators above; they fill it in.
cdef struct view_operators:
    TensorBase (*conform)(TensorBase result, TensorBase target)
    TensorBase (*scatter_view)(TensorBase base, TensorBase geometry, TensorBase value)
    TensorBase (*view_again)(TensorBase base, TensorBase geometry)
    TensorBase (*common_device)(str name, PyObject **inputs, int n, list held)

cdef view_operators in_place_operators

# Parameters of a kernel beside its operands.  In integer arithmetic `whole` counts if `exact`, else the nearest to
# `real` that the dtype has.
cdef enum:
    PARAMETERS = 4

cdef struct parameters:
    double real[4]
    int64_t whole[4]
    bint exact

cdef TensorBase apply(Op op, PyObject **inputs, int n, TensorBase out, const parameters *params, object kept)
cdef TensorBase apply_scaled(Op op, PyObject **inputs, int n, object factor, object kept)
cdef TensorBase apply1(Op op, object x)
cdef TensorBase apply1p(Op op, object x, double p0, double p1, double p2, object kept)
cdef TensorBase apply2(Op op, object x, object y)
cdef TensorBase apply2p(Op op, object x, object y, double p0, double p1, double p2, object kept)
cdef TensorBase apply3(Op op, object x, object y, object z)
cdef TensorBase apply3p(Op op, object x, object y, object z, double p0, double p1, double p2, object kept)
cdef object apply_in_place(Op op, PyObject **inputs, int n)
cdef object assign(Op op, TensorBase target, TensorBase result)
cdef int rebase(TensorBase target, TensorBase result) except -1
cdef int check_leaf(TensorBase target) except -1
cdef int take_history(TensorBase target, TensorBase source) except -1
cdef TensorBase shadow(TensorBase tensor)
cdef TensorBase shadow_for(Op op, TensorBase tensor)
cdef int check_out(Op op, TensorBase result, object out) except -1
cdef TensorBase deliver(Op op, TensorBase result, object out)
cdef TensorBase as_operand(object value, str name)
cdef bint is_number(object value) noexcept
cdef int promoted(PyObject **inputs, int n) except -1
cdef int broadcast_more(str name, int ndim, int64_t *shape, TensorBase t) except -1
cdef int broadcast(str name, fx_array *a, fx_array *b, int64_t *shape) except -1
