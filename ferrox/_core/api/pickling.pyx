"""Pickling and copying of tensors.

Tensors that share memory share it again after loading: a pickle holds a tensor as a window on a `Storage`, and one
Storage object stands for a storage as long as the pickler holds it.  Protocol 5 hands the memory out of band without a
copy where the pickler asks for that.
"""
cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.object cimport PyObject
from libc.stdint cimport int64_t
from libc.string cimport memcpy

from ferrox._core.abi cimport FX_CPU, FX_MAX_DIMS, fx_itemsize, fx_storage
from ferrox._core.door.device cimport as_device, device
from ferrox._core.dtype cimport as_dtype
from ferrox._core.memory.storage cimport storage_new, storage_release, storage_retain
from ferrox._core.sizes cimport fx_reach, fx_within
from ferrox._core.tensor.base cimport TensorBase, bare, no_constructor, offset_of, shape_tuple, stride_tuple, \
    tensor_class
from ferrox._core.tensor.base import as_subclass
from ferrox._core.tensor.frame cimport converted
from ferrox._core.tensor.interchange cimport with_bools
from ferrox._core.tensor.values cimport moved

METHODS = {}
cdef dict _alive = {}       # address of a storage -> its Storage object, which takes itself out when it dies


@cython.binding(False)        # methods that check their self
@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
cdef class Storage:
    """The memory behind tensors, as a pickle or a copy sees it."""
    cdef fx_storage *storage

    def __dealloc__(self):
        if self.storage != NULL:
            _alive.pop(<size_t> self.storage, None)
            storage_release(self.storage)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.storage.data, <Py_ssize_t> self.storage.nbytes, False, flags)

    def __reduce_ex__(self, protocol):
        if protocol < 5:
            return _storage_from, (bytes(self),)
        from pickle import PickleBuffer

        return _storage_from, (PickleBuffer(self),)

    def __deepcopy__(self, memo):
        return _storage_from(self)


cdef Storage _storage_of(fx_storage *storage):
    cdef Storage made
    found = _alive.get(<size_t> storage)
    if found is not None:
        return <Storage> <PyObject *> <size_t> found
    made = Storage.__new__(Storage)
    made.storage = storage_retain(storage)
    _alive[<size_t> storage] = <size_t> <PyObject *> made
    return made


def _storage_from(data):
    """A fresh storage with a copy of the bytes."""
    cdef Storage made = Storage.__new__(Storage)
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        made.storage = storage_new(<size_t> view.len, FX_CPU, 0)
        memcpy(made.storage.data, view.buf, <size_t> view.len)
    finally:
        PyBuffer_Release(&view)
    _alive[<size_t> made.storage] = <size_t> <PyObject *> made
    return made


def _tensor_from(Storage storage, dtype, shape, strides, offset, requires_grad, place="cpu", cls=None):
    """The tensor that a pickle describes; `offset` in bytes."""
    cdef int64_t sizes[FX_MAX_DIMS]
    cdef int64_t steps[FX_MAX_DIMS]
    cdef int d, ndim = len(shape), code = as_dtype(dtype)
    cdef int64_t low, high
    cdef TensorBase tensor
    cdef device where
    if ndim > FX_MAX_DIMS or len(strides) != ndim:
        raise ValueError(f"a tensor of shape {shape} with strides {strides} cannot be made")
    for d in range(ndim):
        sizes[d] = shape[d]
        steps[d] = strides[d]
        if sizes[d] < 0:
            raise ValueError(f"a tensor of shape {shape} cannot be made")
    if not fx_reach(ndim, sizes, steps, fx_itemsize(code), &low, &high) or (
            0 not in shape and not fx_within(offset, low, high, <int64_t> storage.storage.nbytes)):
        raise ValueError(f"a tensor of shape {shape} with strides {strides} lies outside its memory")
    tensor = bare(ndim, sizes, steps, code)
    tensor.a.storage = storage_retain(storage.storage)
    tensor.a.data = storage.storage.data
    if 0 not in shape:
        tensor.a.data = <char *> tensor.a.data + <int64_t> offset
    tensor = with_bools(tensor)
    where = as_device(place)
    if where.type_code != FX_CPU:
        tensor = moved(tensor, where.type_code, where.index_code)
    made = tensor if cls is None else as_subclass(tensor, cls)
    return made.requires_grad_(True) if requires_grad else made


def __reduce_ex__(self, protocol):
    """Pickle a tensor as a window on its storage, without its history."""
    cdef TensorBase x = <TensorBase?> self
    cls = None if type(self) is tensor_class else type(self)
    place = str(x.device)
    if x.a.device_type != FX_CPU:
        x = moved(x, FX_CPU, 0)
    elif x.a.storage.owner != NULL:
        # Foreign memory can be far larger than the window, and read-only.
        x = converted(x, x.a.dtype)
    arguments = (_storage_of(x.a.storage), x.dtype, shape_tuple(&x.a), stride_tuple(&x.a), offset_of(x),
                 self.requires_grad, place, cls)
    state = getattr(self, "__dict__", None)
    return (_tensor_from, arguments, state) if state else (_tensor_from, arguments)


def __setstate__(self, state):
    self.__dict__.update(state)


def __copy__(self):
    """A tensor on the same memory, a leaf."""
    cdef TensorBase x = <TensorBase?> self
    made = as_subclass(x, type(self))
    if self.requires_grad:
        made.requires_grad_(True)
    if getattr(self, "__dict__", None):
        made.__dict__.update(self.__dict__)
    return made


def __deepcopy__(self, memo):
    """A copy with memory of its own; tensors copied together that share memory share the copy's."""
    import copy

    cdef TensorBase x = <TensorBase?> self
    cdef Storage storage
    cdef TensorBase made
    if id(self) in memo:
        return memo[id(self)]
    if x.grad_fn != NULL:
        raise RuntimeError("Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol "
                           "at the moment; use tensor.detach() or clone()")
    if x.a.storage.owner != NULL or x.a.device_type != FX_CPU:
        made = converted(x, x.a.dtype)
        result = made if type(self) is tensor_class else as_subclass(made, type(self))
        if self.requires_grad:
            result.requires_grad_(True)
    else:
        storage = copy.deepcopy(_storage_of(x.a.storage), memo)
        result = _tensor_from(storage, x.dtype, shape_tuple(&x.a), stride_tuple(&x.a), offset_of(x), self.requires_grad,
                              "cpu", None if type(self) is tensor_class else type(self))
    memo[id(self)] = result
    if self.grad is not None:
        result.grad = copy.deepcopy(self.grad, memo)
    if getattr(self, "__dict__", None):
        result.__dict__.update(copy.deepcopy(self.__dict__, memo))
    return result


for _function in (__reduce_ex__, __setstate__, __copy__, __deepcopy__):
    METHODS[_function.__name__] = _function

no_constructor(Storage)
