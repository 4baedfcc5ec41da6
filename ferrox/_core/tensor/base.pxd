# The tensor's struct, fresh tensors and views.  See tensor/base.pyx.
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t

from ferrox._core.abi cimport fx_array

cdef enum:
    INLINE_DIMS = 4

cdef class TensorBase:
    # What kernels see.  a.dims points at inline_dims up to INLINE_DIMS dimensions; a.storage is owned, NULL where no
    # constructor has filled the tensor.
    cdef fx_array a
    cdef int64_t inline_dims[8]
    cdef PyObject *grad_fn          # the Node that made it, owned; NULL for a leaf
    cdef PyObject *base             # the tensor it is a view of, owned; never itself a view
    cdef object grad_               # the accumulated gradient or None
    cdef object meta                # dict of the rare: hooks, retain_grad, names; None for most
    cdef object __weakref__
    cdef PyObject *attributes       # its `__dict__`, owned; NULL until the user gives it an attribute
    cdef uint32_t output            # which output of grad_fn it is
    cdef uint32_t history           # how often an in-place change gave it a new grad_fn
    cdef uint32_t base_history      # for a view: base.history when its grad_fn was made
    cdef uint8_t requires_grad_     # for a leaf; a tensor with a grad_fn requires grad
    cdef uint8_t unfilled           # `Tensor.__new__` made it: empty until `__init__` or `set_data` give it elements

cdef type tensor_class              # the class that operators return: set by the face above
cdef void set_tensor_class(type cls)
cdef void no_constructor(type cls)

cdef TensorBase new_tensor(int ndim, const int64_t *shape, int dtype, int device_type, int device_index)
cdef TensorBase new_like(TensorBase like, int dtype)
cdef TensorBase reinterpreted_view(TensorBase of, int dtype, int ndim, const int64_t *shape, const int64_t *strides,
                                   int64_t offset)
cdef TensorBase new_view(TensorBase of, int ndim, const int64_t *shape, const int64_t *strides, int64_t offset)
cdef TensorBase alias(TensorBase of)
cdef TensorBase bare(int ndim, const int64_t *shape, const int64_t *strides, int dtype)
# Whether both are on the same device.
cdef inline bint on_one_device(TensorBase a, TensorBase b) noexcept:
    return a.a.device_type == b.a.device_type and a.a.device_index == b.a.device_index
cdef int set_data(TensorBase tensor, TensorBase other) except -1
cdef int update_flags(fx_array *a) except -1
cdef int64_t checked_numel(int ndim, const int64_t *shape, int itemsize) except -1
cdef tuple shape_tuple(fx_array *a)
cdef tuple stride_tuple(fx_array *a)
cdef void drop(PyObject *reference) noexcept
cdef void track(object tensor) noexcept
cdef bint sole(PyObject *tensor, Py_ssize_t held) noexcept
cdef bint unshared(PyObject *container) noexcept

cdef inline int64_t *shape_of(TensorBase t) noexcept:
    return t.a.dims

cdef inline int64_t *strides_of(TensorBase t) noexcept:
    return t.a.dims + t.a.ndim

cdef inline bint is_tensor(object value) noexcept:
    return type(value) is tensor_class or isinstance(value, TensorBase)

cdef inline bint needs_grad(TensorBase t) noexcept:
    return t.grad_fn != NULL or t.requires_grad_

cdef inline int64_t offset_of(TensorBase t) noexcept:
    """Bytes from the start of the storage to the first element."""
    return <char *> t.a.data - <char *> t.a.storage.data
