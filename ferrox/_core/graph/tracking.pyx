"""What the cyclic collector sees of graphs.

Note [Tracking].  Tensors and nodes leave the collector's lists as soon as they are made (Note [Lifetime],
tensor/base.pyx).  What lets a graph refer back to itself is known when it comes: a hook, the context of an operator
written in Python, a hook on saved values, a gradient with a history of its own.  From then on

- the node or tensor that holds it is tracked, and so are the nodes made from that, and their outputs (`Node.tracked`,
  `attach` in node.pyx): a cycle through it can only come back by way of those;
- what was made from it before is reached through what the hook holds: `adopt` follows a function's closure, a method's
  object, containers and attributes down to tensors, and tracks the graph between these and the hook.  A node is younger
  than those it was made from, so that nothing older than the hook's node is looked at.

Graphs without any of these are never looked at.
"""
from cpython.object cimport PyObject, PyTypeObject, inquiry, traverseproc, visitproc
from libc.stdint cimport uint32_t, uint64_t

from functools import partial as _partial
from types import FunctionType as _Function, MethodType as _Method, ModuleType as _Module

from ferrox._core.graph.node cimport Node
from ferrox._core.graph.op cimport Op
from ferrox._core.tensor.base cimport TensorBase, drop, track

cdef extern from "Python.h":
    void Py_INCREF(PyObject *o)

cdef enum:
    DEEPEST = 4         # how far a hook's holdings are followed to a tensor
    LONGEST = 1000      # containers with more elements are not looked into


cdef list _held_by(object value):
    """What a hook, or something it holds, holds itself."""
    cdef list found = []
    if isinstance(value, _Function):
        found.extend(value.__defaults__ or ())
        found.extend((value.__kwdefaults__ or {}).values())
        for cell in value.__closure__ or ():
            try:
                found.append(cell.cell_contents)
            except ValueError:      # not assigned yet: what comes is younger than the hook
                pass
    elif isinstance(value, _Method):
        found = [value.__self__, value.__func__]
    elif isinstance(value, _partial):
        found = [value.func, *value.args, *value.keywords.values()]
    elif isinstance(value, dict):
        found = list(value.values()) if len(value) <= LONGEST else []
    elif isinstance(value, (list, tuple, set)):
        found = list(value) if len(value) <= LONGEST else []
    elif not isinstance(value, (type, _Module)) and isinstance(getattr(value, "__dict__", None), dict):
        found = list(value.__dict__.values())
    return found


cdef int _follow_tensor(TensorBase tensor, list pending) except -1:
    track(tensor)
    if tensor.grad_fn != NULL:
        pending.append((<object> tensor.grad_fn, 0))
    if tensor.base != NULL:
        pending.append((<object> tensor.base, 0))
    if tensor.grad_ is not None:
        pending.append((tensor.grad_, 0))
    return 0


cdef int _follow_node(Node node, list pending) except -1:
    cdef uint32_t i
    track(node)
    node.tracked = 1
    for i in range(node.n_in + node.n_saved):
        if node.slot[i] == NULL:
            continue
        value = <object> node.slot[i]
        if isinstance(value, (TensorBase, Node)):
            pending.append((value, 0))
        elif hasattr(value, "tensors"):     # what an operator written in Python keeps
            pending.append((value.tensors(), DEEPEST - 1))
    return 0


def adopt(holders, uint64_t since):
    """Let the collector see the graph behind what `holders`, a sequence, hold; nothing of it older than `since`."""
    cdef list pending = [(each, 0) for each in holders]
    cdef dict seen = {}         # by address, kept alive: no other value gets the address meanwhile
    while pending:
        value, depth = pending.pop()
        if id(value) in seen:
            continue
        if type(value) is Node:
            if (<Node> value).sequence < since:
                continue
            seen[id(value)] = value
            _follow_node(<Node> value, pending)
        elif isinstance(value, TensorBase):
            seen[id(value)] = value
            _follow_tensor(<TensorBase> value, pending)
        elif depth < DEEPEST:
            seen[id(value)] = value
            pending.extend([(each, depth + 1) for each in _held_by(value)])


# References that Cython does not know of.
cdef traverseproc _traverse_attributes
cdef inquiry _clear_attributes


cdef int _traverse(PyObject *self, visitproc visit, void *arg) noexcept:
    cdef Node node = <Node> self
    cdef int status = _traverse_attributes(self, visit, arg)
    cdef uint32_t i
    if node.slot != NULL:
        for i in range(node.n_in + node.n_saved):
            if status == 0 and node.slot[i] != NULL:
                status = visit(node.slot[i], arg)
    return status


cdef int _clear(PyObject *self) noexcept:
    cdef Node node = <Node> self
    cdef PyObject *reference
    cdef uint32_t i
    cdef Op op = node.op
    node.released = 1       # whoever still reaches it from a finalizer is told so
    _clear_attributes(<object> self)
    node.op = op
    if node.slot != NULL:
        for i in range(node.n_in + node.n_saved):
            reference = node.slot[i]
            node.slot[i] = NULL
            drop(reference)
    return 0


_traverse_attributes = (<PyTypeObject *> Node).tp_traverse
_clear_attributes = (<PyTypeObject *> Node).tp_clear
(<PyTypeObject *> Node).tp_traverse = <traverseproc> _traverse
(<PyTypeObject *> Node).tp_clear = <inquiry> _clear
