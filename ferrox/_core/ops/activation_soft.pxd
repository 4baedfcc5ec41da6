# What activations share, and softplus.  See activation_soft.pyx.
from ferrox._core.graph.node cimport Node
from ferrox._core.graph.op cimport Op
from ferrox._core.tensor.base cimport TensorBase

# The second derivative of an activation with the parameters p0, p1, p2.
ctypedef TensorBase (*curvature_fn)(object x, double p0, double p1, double p2)

cdef TensorBase activated(Op op, object input, bint inplace, double p0, double p1, double p2)
cdef object first_vjp(Node n, Op backward, object value, object g)
cdef object second_vjp(Node n, object g, curvature_fn curvature)
cdef TensorBase logsigmoid(object x)
