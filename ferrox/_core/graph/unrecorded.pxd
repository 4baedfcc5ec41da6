# Values without a history whose gradient would be missed.  See graph/unrecorded.pyx.
from ferrox._core.graph.node cimport Node
from ferrox._core.tensor.base cimport TensorBase

cdef TensorBase unrecorded(Node node, TensorBase tensor, str what)
