"""Tensors without operators: a strided view over a storage, and what makes fresh ones and views.

`TensorBase` holds the struct; the class `ferrox.Tensor`, with operators and conversions, derives from it above
(tensorclass.pyx) and registers itself here as `tensor_class`.

Note [Lifetime].  A graph is a chain of owned references tensor -> node -> saved tensor -> node …, possibly a million
long.  `drop` gives a reference up without recursion: while one drop is under way, further ones only push on a stack.
Tensors and nodes are types of the cyclic collector but leave its lists as soon as they are made: a graph has no cycles
of its own, and traversing a million nodes at every collection would cost more than computing them.  A tensor that gets
hooks (Python closures, which can refer back to it) is tracked from then on.
"""
cimport cython
from cpython.number cimport PyNumber_Index
from cpython.object cimport PyObject, PyTypeObject, inquiry, newfunc, traverseproc, visitproc
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

from ferrox._core.abi cimport FX_CONTIGUOUS, FX_CPU, FX_F32, FX_MAX_DIMS, fx_array, fx_itemsize, fx_storage
from ferrox._core.door.device cimport device_object
from ferrox._core.dtype cimport dtype_object
from ferrox._core.memory.storage cimport storage_new, storage_release, storage_retain
from ferrox._core.sizes cimport fx_mul, fx_nbytes, fx_reach, fx_within
from ferrox._core.tensor.size cimport size_of

cdef extern from "Python.h":
    void Py_XINCREF(PyObject *o)
    void Py_DECREF(PyObject *o)
    Py_ssize_t Py_REFCNT(PyObject *o)
    void PyObject_GC_UnTrack(void *o)
    void PyObject_GC_Track(void *o)
    int PyObject_GC_IsTracked(PyObject *o)
    int PyObject_GenericSetAttr(PyObject *o, PyObject *name, PyObject *value) except -1
    object PyObject_GenericGetDict(PyObject *o, void *unused)
    void PyType_Modified(PyTypeObject *type)
    ctypedef struct Attributes "PyTypeObject":
        Py_ssize_t tp_dictoffset
        void *tp_setattro
        PyObject *tp_dict

cdef PyObject **_pending = NULL
cdef Py_ssize_t _pending_count = 0
cdef Py_ssize_t _pending_room = 0
cdef bint _dropping = False
cdef tuple _no_arguments = ()


cdef void drop(PyObject *reference) noexcept:
    """Give up an owned reference (or NULL) in flat stack; see Note [Lifetime]."""
    global _pending, _pending_count, _pending_room, _dropping
    cdef PyObject **grown
    if reference == NULL:
        return
    if Py_REFCNT(reference) > 1:
        Py_DECREF(reference)
        return
    if _dropping:
        if _pending_count == _pending_room:
            grown = <PyObject **> realloc(_pending, sizeof(PyObject *) * <size_t> (2 * _pending_room + 256))
            if grown == NULL:
                Py_DECREF(reference)
                return
            _pending = grown
            _pending_room = 2 * _pending_room + 256
        _pending[_pending_count] = reference
        _pending_count += 1
        return
    _dropping = True
    Py_DECREF(reference)
    while _pending_count:
        _pending_count -= 1
        Py_DECREF(_pending[_pending_count])
    _dropping = False


@cython.freelist(512)
@cython.binding(False)        # methods that check their self
@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
cdef class TensorBase:
    """The part of a tensor that knows no operator."""

    def __init__(self):
        raise TypeError(f"cannot create {type(self).__name__!r} instances; derive from ferrox.Tensor")

    def __dealloc__(self):
        if self.a.storage != NULL:
            storage_release(self.a.storage)
            self.a.storage = NULL
        if self.grad_fn != NULL:
            drop(self.grad_fn)
            self.grad_fn = NULL
        if self.base != NULL:
            drop(self.base)
            self.base = NULL
        if self.attributes != NULL:
            Py_DECREF(self.attributes)
            self.attributes = NULL
        if self.a.dims != NULL and self.a.dims != self.inline_dims:
            free(self.a.dims)

    @property
    def shape(self):
        """Sizes of the dimensions, a `ferrox.Size`: a tuple of ints."""
        return size_of(self.a.ndim, self.a.dims)

    def size(self, dim=None):
        """Sizes as a `ferrox.Size`, or the size of one dimension."""
        if dim is None:
            return size_of(self.a.ndim, self.a.dims)
        return shape_of(self)[self._dim(dim)]

    def stride(self, dim=None):
        """Strides in elements as a tuple, or the stride of one dimension."""
        if dim is None:
            return stride_tuple(&self.a)
        return strides_of(self)[self._dim(dim)]

    def _dim(self, dim):
        cdef int64_t d = PyNumber_Index(dim)
        if not -self.a.ndim <= d < self.a.ndim:
            raise IndexError(f"Dimension out of range (expected to be in range of [{-self.a.ndim}, {self.a.ndim - 1}], "
                             f"but got {d})")
        return d + self.a.ndim if d < 0 else d

    @property
    def dtype(self):
        return dtype_object(self.a.dtype)

    @property
    def device(self):
        return device_object(self.a.device_type, self.a.device_index)

    @property
    def ndim(self):
        return self.a.ndim

    def dim(self):
        """Number of dimensions."""
        return self.a.ndim

    ndimension = dim

    def numel(self):
        """Number of elements."""
        return self.a.numel

    nelement = numel

    def element_size(self):
        """Bytes per element."""
        return fx_itemsize(self.a.dtype)

    @property
    def itemsize(self):
        return fx_itemsize(self.a.dtype)

    @property
    def nbytes(self):
        """Bytes of all elements, without gaps."""
        return self.a.numel * fx_itemsize(self.a.dtype)

    def data_ptr(self):
        """Address of the first element."""
        return <size_t> self.a.data

    def storage_offset(self):
        """Elements from the start of the storage to the first element."""
        return offset_of(self) // fx_itemsize(self.a.dtype)

    @property
    def is_cuda(self):
        return self.a.device_type == 1

    @property
    def is_cpu(self):
        return self.a.device_type == 0

    def is_floating_point(self):
        return self.dtype.is_floating_point

    def is_complex(self):
        return False

    def is_contiguous(self):
        """Whether elements lie in row-major order without gaps."""
        return (self.a.flags & FX_CONTIGUOUS) != 0

    @property
    def is_leaf(self):
        """Whether no operator recorded for gradients made it."""
        return self.grad_fn == NULL

    @property
    def _version(self):
        return self.a.storage.version

    @property
    def _base(self):
        if self.base == NULL:
            return None
        return <object> self.base


cdef TensorBase _blank():
    cdef TensorBase tensor = <TensorBase> _raw_new(tensor_class, <PyObject *> _no_arguments, NULL)
    PyObject_GC_UnTrack(<void *> tensor)
    return tensor


cdef inline int _give_dims(TensorBase tensor, int ndim) except -1:
    tensor.a.ndim = ndim
    if ndim <= INLINE_DIMS:
        tensor.a.dims = tensor.inline_dims
        return 0
    if ndim > FX_MAX_DIMS:
        raise RuntimeError(f"a tensor has at most {FX_MAX_DIMS} dimensions, got {ndim}")
    tensor.a.dims = <int64_t *> malloc(2 * sizeof(int64_t) * <size_t> ndim)
    if tensor.a.dims == NULL:
        raise MemoryError()
    return 0


cdef int _refuse_shape(int ndim, const int64_t *shape) except -1:
    cdef int d
    sizes = tuple([shape[d] for d in range(ndim)])
    if min(sizes, default=0) < 0:
        raise RuntimeError(f"sizes must not be negative, got {sizes}")
    raise RuntimeError(f"a tensor of shape {sizes} is too large: its size in bytes overflows")


cdef int64_t checked_numel(int ndim, const int64_t *shape, int itemsize) except -1:
    """The product of the sizes; RuntimeError when one is negative or the bytes do not fit 63 bits."""
    cdef int64_t numel, bytes
    if not fx_nbytes(ndim, shape, itemsize, &numel, &bytes):
        _refuse_shape(ndim, shape)
    return numel


cdef TensorBase new_tensor(int ndim, const int64_t *shape, int dtype, int device_type, int device_index):
    """A fresh contiguous tensor; its elements are not initialised."""
    cdef TensorBase tensor = _blank()
    cdef int64_t step = 1
    cdef int d
    cdef int64_t numel
    _give_dims(tensor, ndim)
    if ndim == 1 and 0 <= shape[0] < (<int64_t> 1 << 48):
        numel = shape[0]
        tensor.a.dims[0] = numel
        tensor.a.dims[1] = 1
    else:
        numel = checked_numel(ndim, shape, fx_itemsize(dtype))
        d = ndim - 1
        while d >= 0:
            tensor.a.dims[d] = shape[d]
            tensor.a.dims[ndim + d] = step
            if shape[d] > 1:
                step *= shape[d]
            d -= 1
    tensor.a.storage = storage_new(<size_t> (numel * fx_itemsize(dtype)), device_type, device_index)
    tensor.a.data = tensor.a.storage.data
    tensor.a.numel = numel
    tensor.a.dtype = dtype
    tensor.a.flags = FX_CONTIGUOUS
    tensor.a.device_type = device_type
    tensor.a.device_index = device_index
    return tensor


cdef TensorBase new_like(TensorBase like, int dtype):
    """A fresh contiguous tensor of another's shape and device."""
    return new_tensor(like.a.ndim, like.a.dims, dtype, like.a.device_type, like.a.device_index)


cdef int64_t UNUSED_STRIDE = <int64_t> 1 << 58

cdef int update_flags(fx_array *a) except -1:
    """Set numel and FX_CONTIGUOUS from dims; RuntimeError for sizes that no tensor has."""
    cdef int64_t *shape = a.dims
    cdef int64_t *strides = a.dims + a.ndim
    cdef int64_t step = 1, bytes
    cdef int d
    if not fx_nbytes(a.ndim, shape, fx_itemsize(a.dtype), &a.numel, &bytes):
        _refuse_shape(a.ndim, shape)
    for d in range(a.ndim):
        if shape[d] <= 1 and not -UNUSED_STRIDE < strides[d] < UNUSED_STRIDE:
            strides[d] = 1      # it takes no step, and must not overflow in bytes
    a.flags = FX_CONTIGUOUS
    if a.numel <= 1:
        return 0
    for d in range(a.ndim - 1, -1, -1):
        if shape[d] != 1:
            if strides[d] != step:
                a.flags = 0
                return 0
            step *= shape[d]
    return 0


cdef TensorBase reinterpreted_view(TensorBase of, int dtype, int ndim, const int64_t *shape, const int64_t *strides,
                                   int64_t offset):
    """A window on the same storage, read as `dtype`; `offset` in its elements from the first element of `of`.

    Every view is made here, and none reaches out of its storage.
    """
    cdef TensorBase tensor = _blank()
    cdef int64_t low, high, first, item = fx_itemsize(dtype)
    _give_dims(tensor, ndim)
    memcpy(tensor.a.dims, shape, sizeof(int64_t) * <size_t> ndim)
    memcpy(tensor.a.dims + ndim, strides, sizeof(int64_t) * <size_t> ndim)
    tensor.a.dtype = dtype
    update_flags(&tensor.a)
    if not fx_reach(ndim, shape, strides, item, &low, &high) or not fx_mul(offset, item, &first) or (
            tensor.a.numel and not fx_within(<char *> of.a.data - <char *> of.a.storage.data + first, low, high,
                                             <int64_t> of.a.storage.nbytes)):
        raise RuntimeError(f"a view of shape {shape_tuple(&tensor.a)} with strides {stride_tuple(&tensor.a)}, which "
                           f"begins {offset} elements after its tensor, does not lie within the storage of "
                           f"{of.a.storage.nbytes} bytes")
    tensor.a.storage = storage_retain(of.a.storage)
    tensor.a.data = <char *> of.a.data + first
    tensor.a.device_type = of.a.device_type
    tensor.a.device_index = of.a.device_index
    return tensor


cdef TensorBase new_view(TensorBase of, int ndim, const int64_t *shape, const int64_t *strides, int64_t offset):
    """Another window on the same storage; `offset` in elements from the first element of `of`."""
    return reinterpreted_view(of, of.a.dtype, ndim, shape, strides, offset)


cdef TensorBase alias(TensorBase of):
    """The same window on the same storage, without history."""
    cdef TensorBase tensor = new_view(of, of.a.ndim, of.a.dims, of.a.dims + of.a.ndim, 0)
    return tensor


cdef TensorBase bare(int ndim, const int64_t *shape, const int64_t *strides, int dtype):
    """A tensor with dimensions but no storage yet: for memory that comes from elsewhere."""
    cdef TensorBase tensor = _blank()
    _give_dims(tensor, ndim)
    memcpy(tensor.a.dims, shape, sizeof(int64_t) * <size_t> ndim)
    memcpy(tensor.a.dims + ndim, strides, sizeof(int64_t) * <size_t> ndim)
    tensor.a.dtype = dtype
    update_flags(&tensor.a)
    return tensor


cdef int set_data(TensorBase tensor, TensorBase other) except -1:
    """Make `tensor` a window on `other`'s storage; history stays."""
    if tensor is other:
        return 0
    cdef fx_storage *old = tensor.a.storage
    cdef int64_t *dims = tensor.a.dims
    storage_retain(other.a.storage)
    if dims != NULL and dims != tensor.inline_dims:
        free(dims)
    tensor.a = other.a
    _give_dims(tensor, other.a.ndim)
    memcpy(tensor.a.dims, other.a.dims, 2 * sizeof(int64_t) * <size_t> other.a.ndim)
    tensor.a.storage = other.a.storage
    tensor.unfilled = 0
    if old != NULL:
        storage_release(old)
    return 0


def as_subclass(TensorBase tensor, type cls):
    """A tensor of class `cls` on the same storage, a leaf without history; `cls` derives from `ferrox.Tensor`."""
    if not issubclass(cls, TensorBase):
        raise TypeError(f"[as_subclass] {cls!r} does not derive from ferrox.Tensor")
    cdef TensorBase made = <TensorBase> _raw_new(cls, <PyObject *> _no_arguments, NULL)
    set_data(made, tensor)
    return made


cdef tuple shape_tuple(fx_array *a):
    cdef int d
    if a.ndim == 2:
        return (a.dims[0], a.dims[1])
    if a.ndim == 1:
        return (a.dims[0],)
    return tuple([a.dims[d] for d in range(a.ndim)])


cdef tuple stride_tuple(fx_array *a):
    cdef int d
    return tuple([a.dims[a.ndim + d] for d in range(a.ndim)])


cdef bint sole(PyObject *tensor, Py_ssize_t held) noexcept:
    """Whether the caller, who knows of `held` references to `tensor`, may write into it or give it away: nobody else
    holds the tensor, no other tensor and no owner of foreign memory sees its elements, and none of them share a place.

    The one place where references are counted to decide that; who is unsure of `held` passes less, and copies.
    """
    cdef TensorBase t = <TensorBase> tensor     # one more reference
    cdef int d
    if Py_REFCNT(tensor) != held + 1 or t.a.storage.references != 1 or t.a.storage.owner != NULL:
        return False
    if not t.a.flags & FX_CONTIGUOUS:
        for d in range(t.a.ndim):
            if strides_of(t)[d] == 0 and t.a.dims[d] > 1:
                return False
    return True


cdef bint unshared(PyObject *container) noexcept:
    """Whether the caller's is the only reference to a tuple, which then holds its tensors for `sole`."""
    return Py_REFCNT(container) == 1


cdef void track(object tensor) noexcept:
    """Let the cyclic collector see a tensor: it now holds Python objects that may refer back to it."""
    if not PyObject_GC_IsTracked(<PyObject *> tensor):
        PyObject_GC_Track(<void *> tensor)


# The collector's view of the references that Cython does not know of.
cdef traverseproc _traverse_attributes
cdef inquiry _clear_attributes


cdef int _traverse(PyObject *self, visitproc visit, void *arg) noexcept:
    cdef int status = _traverse_attributes(self, visit, arg)
    if status == 0 and (<TensorBase> self).grad_fn != NULL:
        status = visit((<TensorBase> self).grad_fn, arg)
    if status == 0 and (<TensorBase> self).base != NULL:
        status = visit((<TensorBase> self).base, arg)
    if status == 0 and (<TensorBase> self).attributes != NULL:
        status = visit((<TensorBase> self).attributes, arg)
    return status


cdef int _clear(PyObject *self) noexcept:
    cdef PyObject *reference
    _clear_attributes(<object> self)
    reference = (<TensorBase> self).grad_fn
    (<TensorBase> self).grad_fn = NULL
    drop(reference)
    reference = (<TensorBase> self).base
    (<TensorBase> self).base = NULL
    drop(reference)
    reference = (<TensorBase> self).attributes
    (<TensorBase> self).attributes = NULL
    drop(reference)
    return 0


_traverse_attributes = (<PyTypeObject *> TensorBase).tp_traverse
_clear_attributes = (<PyTypeObject *> TensorBase).tp_clear
(<PyTypeObject *> TensorBase).tp_traverse = <traverseproc> _traverse
(<PyTypeObject *> TensorBase).tp_clear = <inquiry> _clear
tensor_class = TensorBase


# Attributes of the user's.  Cython would make a dict for every tensor: this one is made when something is put in.

cdef int _set_attribute(PyObject *self, PyObject *name, PyObject *value) except -1:
    PyObject_GenericSetAttr(self, name, value)
    if (<TensorBase> self).attributes != NULL:
        track(<object> self)
    return 0


cdef TensorBase _probe = TensorBase.__new__(TensorBase)
(<Attributes *> <PyObject *> TensorBase).tp_dictoffset = <char *> &_probe.attributes - <char *> <PyObject *> _probe
(<Attributes *> <PyObject *> TensorBase).tp_setattro = <void *> _set_attribute
(<dict> (<Attributes *> <PyObject *> TensorBase).tp_dict)["__dict__"] = property(
    lambda self: PyObject_GenericGetDict(<PyObject *> self, NULL), doc="The attributes that the user gave it.")
PyType_Modified(<PyTypeObject *> TensorBase)


# Tensors made from Python by `__new__`: empty until they are filled.  `_blank` goes past this.
cdef newfunc _raw_new = (<PyTypeObject *> TensorBase).tp_new


cdef object _new_from_python(type cls, PyObject *args, PyObject *kwargs):
    cdef TensorBase made = <TensorBase> _raw_new(cls, args, kwargs)
    made.a.storage = storage_new(0, FX_CPU, 0)
    made.a.data = made.a.storage.data
    made.a.dtype = FX_F32
    made.a.device_type = FX_CPU
    made.a.device_index = 0
    _give_dims(made, 1)
    made.a.dims[0] = 0
    made.a.dims[1] = 1
    update_flags(&made.a)
    made.unfilled = 1
    return made


cdef void no_constructor(type cls):
    """Let only the core make instances of a class: one that Python made would be a shell."""
    (<PyTypeObject *> cls).tp_new = NULL
    (<dict> (<Attributes *> <PyObject *> cls).tp_dict).pop("__new__", None)
    PyType_Modified(<PyTypeObject *> cls)


cdef void set_tensor_class(type cls):
    """Make `cls` the class that operators return."""
    global tensor_class, _raw_new
    tensor_class = cls
    _raw_new = (<PyTypeObject *> cls).tp_new
    (<PyTypeObject *> cls).tp_new = <newfunc> _new_from_python
    del (<dict> (<Attributes *> <PyObject *> TensorBase).tp_dict)["__new__"]    # what is left refuses
    PyType_Modified(<PyTypeObject *> TensorBase)
