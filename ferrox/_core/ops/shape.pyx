"""Views and movement of dimensions.

Every view goes through `view_as`: it shares the storage, records itself, and remembers the tensor that it is a view of,
so that an in-place change through it reaches that tensor's history (elementwise.pyx, Note [In place]).
"""
from cpython.number cimport PyNumber_Index
from cpython.object cimport PyObject
from libc.stdint cimport int64_t

from ferrox._core.abi cimport FX_CONTIGUOUS, FX_MAX_DIMS
from ferrox._core.graph.engine cimport operators
from ferrox._core.graph.node cimport Node, grad_enabled, record, rule
from ferrox._core.graph.op cimport Op
from ferrox._core.graph.op import row
from ferrox._core.tensor.base cimport TensorBase, needs_grad, new_like, new_view, shape_of, shape_tuple, strides_of
from ferrox._core.tensor.frame cimport converted, set_to

cdef extern from "Python.h":
    void Py_INCREF(PyObject *o)


cdef TensorBase view_as(Op op, TensorBase x, int ndim, const int64_t *shape, const int64_t *strides, int64_t offset,
                        object params):
    cdef PyObject *inputs[1]
    cdef TensorBase base, out = new_view(x, ndim, shape, strides, offset)
    if grad_enabled():
        if needs_grad(x):
            inputs[0] = <PyObject *> x
            record(op, inputs, 1, out, params)
        base = <TensorBase> x.base if x.base != NULL else x
        out.base = <PyObject *> base
        Py_INCREF(out.base)
        out.base_history = base.history
    return out


cdef int read_sizes(str name, object sizes, int64_t *into) except -1:
    """Sizes from a sequence of ints; returns how many."""
    cdef int n = 0
    for size in sizes:
        if n == FX_MAX_DIMS:
            raise RuntimeError(f"[{name}] a tensor has at most {FX_MAX_DIMS} dimensions")
        into[n] = PyNumber_Index(size)
        n += 1
    return n


cdef int read_dim(object dim, int ndim) except -1:
    """A dimension number, counted from the end when negative."""
    cdef int64_t d = PyNumber_Index(dim)
    cdef int n = ndim if ndim else 1
    if not -n <= d < n:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {d})")
    return <int> (d + n if d < 0 else d)


cdef int64_t read_int(str name, str argument, object value) except? -1:
    """An argument that must be a whole number; a float is refused, not cut off."""
    if not hasattr(value, "__index__"):
        raise TypeError(f"{name}(): argument '{argument}' must be int, not {type(value).__name__}")
    return PyNumber_Index(value)


def _sizes(tuple args):
    """`f(2, 3)` and `f((2, 3))` alike."""
    if len(args) == 1 and not hasattr(args[0], "__index__"):
        return tuple(args[0])
    return args


# contiguous, clone, to: copies.

cdef object identity_vjp(Node n, object g):
    return g


cdef TensorBase _copied(Op op, TensorBase x, int dtype):
    cdef PyObject *inputs[1]
    cdef TensorBase out = converted(x, dtype)
    if grad_enabled() and needs_grad(x):
        inputs[0] = <PyObject *> x
        record(op, inputs, 1, out, None)
    return out


def _clone(input, *, memory_format=None):
    """A copy with memory of its own, in the graph."""
    return _copied(CLONE, <TensorBase?> input, (<TensorBase> input).a.dtype)

cdef Op CLONE = row("clone", function=_clone, rule=rule(identity_vjp), reference="x.copy()", sample="t(3, 4)",
                    method=True)
cdef Op TO = row("_to_dtype", rule=rule(identity_vjp), public=False, doc="A copy in another dtype.")


cdef TensorBase contiguous(TensorBase x):
    if x.a.flags & FX_CONTIGUOUS:
        return x
    return _copied(CLONE, x, x.a.dtype)


cdef TensorBase to_dtype(TensorBase x, int dtype):
    return x if x.a.dtype == dtype else _copied(TO, x, dtype)


# reshape, view

cdef object reshape_vjp(Node n, object g):
    return reshape(<TensorBase> g, n.params)


cdef int _infer(str name, TensorBase x, int ndim, int64_t *shape) except -1:
    """Replace a -1 in shape and check that it holds x's elements."""
    cdef int64_t known = 1
    cdef int d, unknown = -1
    given = tuple([shape[d] for d in range(ndim)])
    for d in range(ndim):
        if shape[d] == -1:
            if unknown >= 0:
                raise RuntimeError(f"[{name}] only one dimension can be inferred, got {given}")
            unknown = d
        elif shape[d] < 0:
            raise RuntimeError(f"[{name}] invalid shape dimension {shape[d]}")
        else:
            known *= shape[d]
    if unknown >= 0:
        if known == 0:
            raise RuntimeError(f"[{name}] cannot reshape tensor of {x.a.numel} elements into shape {given} because the "
                               "unspecified dimension size -1 can be any value and is ambiguous")
        shape[unknown] = x.a.numel // known
        known *= shape[unknown]
    if known != x.a.numel:
        raise RuntimeError(f"[{name}] shape '{list(given)}' is invalid for input of size {x.a.numel}")
    return 0


cdef bint _view_strides(TensorBase x, int ndim, const int64_t *shape, int64_t *strides) noexcept:
    """Strides under which `shape` is a view of x; False when there are none."""
    cdef int64_t *old = shape_of(x)
    cdef int64_t *old_strides = strides_of(x)
    cdef int64_t step = 1, chunk_numel = 1, view_numel = 1, base
    cdef int d, v = ndim - 1
    if x.a.flags & FX_CONTIGUOUS or x.a.numel == 0:
        for d in range(ndim - 1, -1, -1):
            strides[d] = step
            if shape[d] > 1:
                step *= shape[d]
        return True
    base = old_strides[x.a.ndim - 1]
    for d in range(x.a.ndim - 1, -1, -1):
        chunk_numel *= old[d]
        # The chunk [d …] ends where its dimensions stop being one evenly strided run.
        if d == 0 or (old[d - 1] != 1 and old_strides[d - 1] != chunk_numel * base):
            while v >= 0 and (view_numel < chunk_numel or shape[v] == 1):
                strides[v] = view_numel * base
                view_numel *= shape[v]
                v -= 1
            if view_numel != chunk_numel:
                return False
            if d > 0:
                base = old_strides[d - 1]
                chunk_numel = 1
                view_numel = 1
    return v < 0


cdef TensorBase viewed(Op op, TensorBase x, object sizes, bint must_view):
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int64_t strides[FX_MAX_DIMS]
    cdef int ndim = read_sizes(op.name, sizes, shape)
    _infer(op.name, x, ndim, shape)
    if not _view_strides(x, ndim, shape, strides):
        if must_view:
            raise RuntimeError("view size is not compatible with input tensor's size and stride (at least one "
                               f"dimension spans across two contiguous subspaces): shape {shape_tuple(&x.a)}. Use "
                               ".reshape(...) instead.")
        x = contiguous(x)
        _view_strides(x, ndim, shape, strides)
    return view_as(op, x, ndim, shape, strides, 0, shape_tuple(&x.a) if needs_grad(x) else None)


def _reshape(input, *shape):
    """The same elements in another shape: a view where strides allow, else a copy.  One size may be -1."""
    return viewed(RESHAPE, <TensorBase?> input, _sizes(shape), False)

cdef Op RESHAPE = row("reshape", function=_reshape, rule=rule(reshape_vjp), reference="x.reshape(shape)",
                      sample="t(3, 4), (2, 6)", method=True)


cdef TensorBase reshape(TensorBase x, object shape):
    return viewed(RESHAPE, x, shape, False)


# permute and its kin

cdef TensorBase permuted(Op op, TensorBase x, list order):
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int64_t strides[FX_MAX_DIMS]
    cdef int d, at
    for d in range(x.a.ndim):
        at = order[d]
        shape[d] = shape_of(x)[at]
        strides[d] = strides_of(x)[at]
    return view_as(op, x, x.a.ndim, shape, strides, 0, order)


cdef object permute_vjp(Node n, object g):
    cdef list inverse = [0] * len(<list> n.params)
    cdef int d = 0
    for at in <list> n.params:
        inverse[<int> at] = d
        d += 1
    return permuted(PERMUTE, <TensorBase> g, inverse)


def _permute(input, *dims):
    """A view with the dimensions in another order."""
    return permute(<TensorBase?> input, _sizes(dims))

cdef Op PERMUTE = row("permute", function=_permute, rule=rule(permute_vjp), reference="np.transpose(x, dims)",
                      sample="t(2, 3, 4), (2, 0, 1)", method=True)


cdef TensorBase permute(TensorBase x, object dims):
    cdef list order = [read_dim(d, x.a.ndim) for d in dims]
    if sorted(order) != list(range(x.a.ndim)):
        raise RuntimeError(f"[permute] dims {tuple(dims)} are not a permutation of the {x.a.ndim} dimensions")
    return permuted(PERMUTE, x, order)


def _transpose(input, dim0, dim1):
    """A view with two dimensions exchanged."""
    cdef TensorBase x = <TensorBase?> input
    return transpose(x, read_dim(dim0, x.a.ndim), read_dim(dim1, x.a.ndim))

cdef Op TRANSPOSE = row("transpose", function=_transpose, rule=rule(permute_vjp),
                        reference="np.swapaxes(x, dim0, dim1)", sample="t(2, 3, 4), 0, -1", method=True)


cdef TensorBase transpose(TensorBase x, int dim0, int dim1):
    cdef list order = list(range(x.a.ndim))
    if x.a.ndim:
        order[dim0], order[dim1] = order[dim1], order[dim0]
    return permuted(TRANSPOSE, x, order)


# expand; the engine sums the cotangent back to the input's shape

def _expand(input, *sizes):
    """A view in which dimensions of size 1 are repeated without copying; -1 keeps a size."""
    return expand(<TensorBase?> input, _sizes(sizes))

cdef Op EXPAND = row("expand", function=_expand, rule=rule(identity_vjp), reference="np.broadcast_to(x, sizes)",
                     sample="t(3, 1), (2, 3, 4)", method=True)


cdef TensorBase expand(TensorBase x, object sizes):
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int64_t strides[FX_MAX_DIMS]
    cdef int ndim = read_sizes("expand", sizes, shape), d, own
    if ndim < x.a.ndim:
        raise RuntimeError(f"[expand] the number of sizes provided ({ndim}) must be greater or equal to the number of "
                           f"dimensions in the tensor ({x.a.ndim})")
    for d in range(ndim):
        own = d - (ndim - x.a.ndim)
        if own < 0:
            if shape[d] < 0:
                raise RuntimeError(f"[expand] the expanded size of the tensor ({shape[d]}) isn't allowed in a leading, "
                                   f"non-existing dimension {d}")
            strides[d] = 0
        elif shape[d] == -1 or shape[d] == shape_of(x)[own]:
            shape[d] = shape_of(x)[own]
            strides[d] = strides_of(x)[own]
        elif shape_of(x)[own] == 1 and shape[d] >= 0:
            strides[d] = 0
        else:
            raise RuntimeError(f"[expand] The expanded size of the tensor ({shape[d]}) must match the existing size "
                               f"({shape_of(x)[own]}) at non-singleton dimension {d}. Target sizes: {tuple(sizes)}. "
                               f"Tensor sizes: {shape_tuple(&x.a)}")
    return view_as(EXPAND, x, ndim, shape, strides, 0, None)


# What the engine asks for.

cdef TensorBase _ones_like(TensorBase like):
    cdef TensorBase out = new_like(like, like.a.dtype)
    set_to(out, 1)
    return out


cdef TensorBase _engine_copy(TensorBase of):
    return _copied(CLONE, of, of.a.dtype)


operators.ones_like = _ones_like
operators.copy = _engine_copy
