# One backward's walk over the graph.  See graph/walk.pyx.
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

from ferrox._core.graph.node cimport Node

cdef struct Step:
    PyObject *node          # owned, as is
    PyObject *cotangent     # a tensor, or a list for several outputs
    bint needed             # leads to something asked for

cdef struct Frame:
    PyObject *node          # owned
    uint32_t edge
    bint needed

cdef class Run:
    cdef Step *steps                # inputs before what was made from them
    cdef Py_ssize_t count, room
    cdef Frame *stack
    cdef Py_ssize_t depth, stack_room
    cdef dict table                 # address -> place, of nodes that another run has marked
    cdef dict wanted                # (address of node or leaf, output) of gradients asked for; None for all leaves
    cdef dict captured              # of those, the gradients of nodes' outputs
    cdef dict sums                  # address -> (leaf, its gradient), of leaves whose gradient must be complete first
    cdef list grown                 # leaves whose gradient has a history
    cdef bint retain, create, accumulate

cdef int discover(Run run, Node root) except -1
cdef void close(Run run) noexcept

cdef inline Step *step_of(Run run, PyObject *node) except NULL:
    if (<Node> node).task == <void *> run:
        return run.steps + (<Node> node).place
    return run.steps + <Py_ssize_t> run.table[<size_t> node]
