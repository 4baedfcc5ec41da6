# Graph nodes, recording, saved values.  See graph/node.pyx.
from cpython.object cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from ferrox._core.graph.op cimport Op
from ferrox._core.tensor.base cimport TensorBase
from ferrox._core.tensor.frame cimport frame

cdef enum:
    NODE_SLOTS = 4
    NODE_DIMS = 3

# The gradient rule of an operator.  `g` is the cotangent of the output (a tuple for several outputs, None where one has
# none); the result is the gradient of the input, or a tuple of one for each input, None where it is not needed.
ctypedef object (*vjp_fn)(Node node, object g)

cdef class Node:
    cdef Op op
    cdef PyObject **slot            # [edges: a Node, a leaf tensor, or NULL for each input][saved values]
    cdef PyObject *inline_slot[4]
    cdef uint32_t *tail             # [which output of the edge's node][version at saving]
    cdef uint32_t inline_tail[4]
    cdef object params              # what forward left for the gradient besides saved values
    cdef object meta                # dict of the rare: hooks, traceback; None for most
    cdef void *task                 # the backward that has marked it, and
    cdef Py_ssize_t place           # where among its steps it stands
    cdef uint32_t saved             # mask: bit i is input i, bit OUTPUT_BIT + k is output k
    cdef uint32_t n_in
    cdef uint32_t n_out
    cdef int32_t device_index       # of the (first) output, as what follows
    cdef uint8_t dtype, ndim, device_type
    cdef uint8_t n_saved            # at most one for each bit of the mask
    cdef uint8_t released           # saved values are gone
    cdef uint8_t persist            # saved values outlive backward
    cdef uint8_t tracked            # seen by the cyclic collector, as are the tensors and nodes made from it
    cdef int64_t *shape
    cdef int64_t inline_shape[3]
    cdef uint64_t sequence

cdef struct node_totals:
    int64_t alive       # nodes in the process
    int64_t reads       # saved values that gradients have read
    uint64_t made       # nodes ever

cdef node_totals totals

cdef bint grad_enabled() noexcept
cdef void set_grad(bint on) noexcept
cdef Node record(Op op, PyObject **inputs, int n, TensorBase out, object params)
cdef Node record_many(Op op, PyObject **inputs, int n, tuple outs, object params)
cdef inline Node record_frame(Op op, frame *f, TensorBase out, object params):
    """`record` for a call whose inputs are those of its frame."""
    return record(op, f.inputs, f.call.n_in, out, params) if f.wants_grad else None
cdef inline Node record_frame_many(Op op, frame *f, tuple outs, object params):
    """`record_many` for a call whose inputs are those of its frame."""
    return record_many(op, f.inputs, f.call.n_in, outs, params) if f.wants_grad else None
cdef object saved_input(Node node, int i)
cdef object saved_output(Node node, int k)
cdef bint wants(Node node, int i) noexcept
cdef void release_saved(Node node) noexcept
cdef int check_alive(Node node) except -1
cdef int check_version(Node node, TensorBase tensor, uint32_t expected, str what) except -1
cdef object with_history(Node node, int i, TensorBase tensor)
cdef object rule(vjp_fn function)
cdef tuple shape_of_node(Node node)
cdef Node history_of(TensorBase tensor)
cdef void attach(TensorBase tensor, Node node, uint32_t output) noexcept
cdef int take_over(TensorBase tensor, PyObject *node, uint32_t output) except -1
cdef int retain(TensorBase tensor) except -1

# Views: the operators above give these two, so that an in-place change through a view reaches its base.
ctypedef TensorBase (*view_again_fn)(TensorBase base, TensorBase geometry)
cdef view_again_fn view_again
