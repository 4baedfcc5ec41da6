"""What a Function computed in forward and keeps for backward, when the gradient is itself differentiated."""
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

from ferrox._core.graph.node cimport Node, attach, record
from ferrox._core.graph.op cimport Op
from ferrox._core.tensor.base cimport TensorBase, alias, needs_grad

cdef extern from "Python.h":
    ctypedef struct PyTupleItems "PyTupleObject":
        PyObject *ob_item[1]


cdef object _vjp(Node n, object g):
    operator, what = n.params
    raise RuntimeError(
        f"[{operator}] differentiating twice: {what} was computed in forward, where nothing is recorded, and so its "
        "gradient is not known. Return it as an output and pass it to save_for_backward, or compute it in backward "
        "from what is saved; if it is a constant, pass it to mark_non_differentiable.")

cdef Op _UNRECORDED = Op("unrecorded")
_UNRECORDED.vjp = <void *> _vjp


cdef TensorBase unrecorded(Node node, TensorBase tensor, str what):
    """`tensor`, which a Function computed in forward, as something whose gradient is an error: see `_vjp`."""
    cdef list inputs = []
    cdef tuple held
    cdef TensorBase made, stand_in
    cdef uint32_t i
    if needs_grad(tensor):
        return tensor
    for i in range(node.n_in):
        if node.slot[i] == NULL:
            continue
        if type(<object> node.slot[i]) is not Node:
            inputs.append(<object> node.slot[i])
            continue
        stand_in = alias(tensor)
        attach(stand_in, <Node> <object> node.slot[i], node.tail[i])
        inputs.append(stand_in)
    made = alias(tensor)
    held = tuple(inputs)
    record(_UNRECORDED, (<PyTupleItems *> <PyObject *> held).ob_item, <int> len(held), made, (node.op.name, what))
    return made
