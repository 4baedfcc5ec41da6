"""Hooks on saved values (`autograd.graph.saved_tensors_hooks`): a node keeps what `pack_hook` returned, and the
gradient rule reads what `unpack_hook` makes of it.  Recomputation (`utils.checkpoint`) and offloading are built on
this.
"""
cimport cython
from cpython.object cimport PyObject

from ferrox._core.tensor.base cimport TensorBase, alias, needs_grad

cdef extern from *:
    """
    static __thread PyObject *fx_pack_hooks = NULL;
    """
    PyObject *fx_pack_hooks     # (pack, unpack) of this thread, owned, or NULL

cdef extern from "Python.h":
    void Py_XINCREF(PyObject *o)
    void Py_XDECREF(PyObject *o)


@cython.final
@cython.binding(False)        # methods that check their self
@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
cdef class Packed:
    """A saved value as a hook packed it."""


cdef bint packing() noexcept:
    return fx_pack_hooks != NULL


def set_hooks(hooks):
    """Set the pair (pack, unpack) of this thread, or None.  Returns what was set before."""
    global fx_pack_hooks
    cdef PyObject *held = fx_pack_hooks
    before = None if held == NULL else <object> held
    fx_pack_hooks = NULL if hooks is None else <PyObject *> hooks
    Py_XINCREF(fx_pack_hooks)
    Py_XDECREF(held)
    return before


cdef object pack(TensorBase tensor):
    global fx_pack_hooks
    cdef Packed made = Packed.__new__(Packed)
    cdef object pair = <object> fx_pack_hooks
    set_hooks(None)
    try:
        made.packed = pair[0](alias(tensor) if needs_grad(tensor) else tensor)
    finally:
        set_hooks(pair)
    made.unpack = pair[1]
    return made


cdef TensorBase unpack(Packed value):
    cdef object hook = value.unpack, packed = value.packed     # a backward elsewhere may free what the node saved
    result = hook(packed)
    if not isinstance(result, TensorBase):
        raise TypeError("Output of saved tensor unpack_hook expected to be a Tensor but got result of type "
                        f"{type(result).__name__}")
    return <TensorBase> result
