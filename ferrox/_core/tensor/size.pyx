"""`ferrox.Size`: the shape of a tensor, a tuple that knows how many elements it stands for.

A plain subclass of tuple, so that tuples of sizes and Sizes are equal and hash alike.  Only indexing has a C function
of its own: `x.shape[0]` is in every loop, and a method in Python would make it three times as slow.
"""
from cpython.long cimport PyLong_CheckExact
from cpython.number cimport PyNumber_AsSsize_t, PyNumber_Index
from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport int64_t

ctypedef PyObject *(*binary)(PyObject *a, PyObject *b) except NULL

cdef extern from "Python.h":
    ctypedef struct PyMappingMethods:
        binary mp_subscript
    ctypedef struct Slots "PyTypeObject":
        PyMappingMethods *tp_as_mapping
        PyObject *(*tp_alloc)(PyTypeObject *type, Py_ssize_t n) except NULL
    PyObject *PyLong_FromLongLong(long long value) except NULL
    Py_ssize_t PyTuple_GET_SIZE(PyObject *tuple)
    PyObject *PyTuple_GET_ITEM(PyObject *tuple, Py_ssize_t at)
    void PyTuple_SET_ITEM(PyObject *tuple, Py_ssize_t at, PyObject *item)
    void Py_INCREF(PyObject *o)
    void Py_DECREF(PyObject *o)


class Size(tuple):
    """The sizes of a tensor's dimensions.

    A tuple of ints; slices, sums and multiples of it are Sizes again.

    Parameters
    ----------
    sizes : iterable of int, optional

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.zeros(2, 3).shape.numel()
    6
    >>> fx.Size([2, 3])[1:].numel()
    3
    """

    __slots__ = ()
    __module__ = "ferrox"

    def __new__(cls, sizes=(), /):
        cdef list whole = []
        for i, each in enumerate(sizes):
            if not hasattr(each, "__index__"):
                raise TypeError(f"[Size] takes an iterable of 'int' (item {i} is '{type(each).__name__}')")
            whole.append(PyNumber_Index(each))
        return tuple.__new__(cls, whole)

    def numel(self):
        """The product of the sizes: how many elements a tensor of this shape has."""
        product = 1
        for each in self:
            product = product * each
        return product

    def __add__(self, other):
        if not isinstance(other, tuple):
            raise TypeError(f"[Size] can only concatenate tuple (not {type(other).__name__}) to Size")
        return Size(tuple.__add__(self, other))

    def __radd__(self, other):
        return Size(tuple.__add__(other, self)) if isinstance(other, tuple) else NotImplemented

    def __mul__(self, times):
        made = tuple.__mul__(self, times)
        return made if made is NotImplemented else Size(made)

    __rmul__ = __mul__

    def __reduce__(self):
        return Size, (tuple(self),)


cdef Slots *_size = <Slots *> <PyObject *> Size
cdef binary _tuple_subscript = (<Slots *> <PyObject *> tuple).tp_as_mapping.mp_subscript


cdef PyObject *_subscript(PyObject *self, PyObject *key) except NULL:
    cdef Py_ssize_t at, n
    cdef PyObject *found
    if PyLong_CheckExact(<object> key):
        n = PyTuple_GET_SIZE(self)
        at = PyNumber_AsSsize_t(<object> key, IndexError)
        at += n if at < 0 else 0
        if 0 <= at < n:
            found = PyTuple_GET_ITEM(self, at)
            Py_INCREF(found)
            return found
    found = _tuple_subscript(self, key)
    if not isinstance(<object> key, slice):
        return found
    part = tuple.__new__(Size, <object> found)
    Py_DECREF(found)
    Py_INCREF(<PyObject *> part)
    return <PyObject *> part


_size.tp_as_mapping.mp_subscript = _subscript


cdef object size_of(int ndim, const int64_t *dims):
    """The Size with these sizes."""
    cdef PyObject *made = _size.tp_alloc(<PyTypeObject *> _size, ndim)
    cdef int d
    for d in range(ndim):
        PyTuple_SET_ITEM(made, d, PyLong_FromLongLong(dims[d]))
    size = <object> made
    Py_DECREF(made)
    return size
