# What hooks see of a backward, and may change.  See graph/hooked.pyx.
from ferrox._core.graph.node cimport Node
from ferrox._core.tensor.base cimport TensorBase

cdef object leaf_hooks(TensorBase leaf, object g)
cdef int after_accumulation(TensorBase leaf) except -1
cdef object tensor_hooks(Node node, object g)
cdef object node_prehooks(Node node, object g)
cdef object node_hooks(Node node, object result, object g)
