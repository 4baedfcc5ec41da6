"""The nodes that one backward walks, in order, and what it keeps for each.

Note [Runs].  What a run knows of the nodes it walks is its own: it owns a reference to each, and their cotangents, from
when it finds them to its end, so that no hook and no other thread can take them away.  A node only remembers the run
that marked it first and where among that run's steps it stands; another run that meets it meanwhile, in another thread
or in a hook, looks it up in a table of its own.
"""
cimport cython
from cpython.object cimport PyObject
from libc.stdlib cimport free, realloc

from ferrox._core.graph.node cimport Node
from ferrox._core.tensor.base cimport drop

cdef extern from "Python.h":
    void Py_INCREF(PyObject *o)


@cython.final
@cython.freelist(8)
cdef class Run:
    """One backward; see Note [Runs]."""

    def __dealloc__(self):
        free(self.steps)
        free(self.stack)


cdef int _enter(Run run, PyObject *node) except -1:
    """Begin to look at a node."""
    if run.depth == run.stack_room:
        grown = realloc(run.stack, sizeof(Frame) * <size_t> (2 * run.stack_room + 64))
        if grown == NULL:
            raise MemoryError()
        run.stack = <Frame *> grown
        run.stack_room = 2 * run.stack_room + 64
    if (<Node> node).task == NULL:
        (<Node> node).task = <void *> run
    else:
        if run.table is None:
            run.table = {}
        run.table[<size_t> node] = -1
    Py_INCREF(node)
    run.stack[run.depth].node = node
    run.stack[run.depth].edge = 0
    run.stack[run.depth].needed = run.wanted is None
    run.depth += 1
    return 0


cdef int _leave(Run run, PyObject *node, bint needed) except -1:
    """The node on top of the stack comes behind its inputs' nodes."""
    cdef Step *step
    if run.count == run.room:
        grown = realloc(run.steps, sizeof(Step) * <size_t> (2 * run.room + 64))
        if grown == NULL:
            raise MemoryError()
        run.steps = <Step *> grown
        run.room = 2 * run.room + 64
    if (<Node> node).task == <void *> run:
        (<Node> node).place = run.count
    else:
        run.table[<size_t> node] = run.count
    step = run.steps + run.count
    step.node = node
    step.cotangent = NULL
    step.needed = needed
    run.count += 1
    run.depth -= 1
    return 0


cdef inline bint _entered(Run run, PyObject *node) except -1:
    return (<Node> node).task == <void *> run or (run.table is not None and <size_t> node in run.table)


cdef int discover(Run run, Node root) except -1:
    """Append the nodes behind `root` to run.steps, inputs first."""
    cdef Frame *frame
    cdef PyObject *node
    cdef PyObject *target
    cdef bint leads
    if _entered(run, <PyObject *> root):
        return 0
    _enter(run, <PyObject *> root)
    while run.depth:
        frame = &run.stack[run.depth - 1]
        node = frame.node
        if frame.edge == (<Node> node).n_in:
            _leave(run, node, frame.needed)
            continue
        target = (<Node> node).slot[frame.edge]
        if target != NULL:
            leads = False
            if type(<object> target) is Node:
                if not _entered(run, target):
                    _enter(run, target)     # moves the frame; this edge is looked at again on the way back
                    continue
                leads = step_of(run, target).needed
            if run.wanted is not None and not leads:
                leads = (<size_t> target, (<Node> node).tail[frame.edge]) in run.wanted
            frame.needed = frame.needed or leads
        frame.edge += 1
    return 0


cdef void close(Run run) noexcept:
    """Give up what the run owns of the graph."""
    cdef Py_ssize_t k
    cdef PyObject *node
    while run.depth:
        run.depth -= 1
        node = run.stack[run.depth].node
        if (<Node> node).task == <void *> run:
            (<Node> node).task = NULL
        drop(node)
    for k in range(run.count):
        if (<Node> run.steps[k].node).task == <void *> run:
            (<Node> run.steps[k].node).task = NULL
    while run.count:
        run.count -= 1
        drop(run.steps[run.count].cotangent)
        drop(run.steps[run.count].node)
