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
    PyObject *fx_pack_hooks     # (pack, unpack) of this thread, or NULL; borrowed from who set it


@cython.final
cdef class Packed:
    """A saved value as a hook packed it."""


cdef bint packing() noexcept:
    return fx_pack_hooks != NULL


def set_hooks(hooks):
    """Set the pair (pack, unpack) of this thread, or None; the caller keeps it alive.  Returns what was set before."""
    global fx_pack_hooks
    before = None if fx_pack_hooks == NULL else <object> fx_pack_hooks
    fx_pack_hooks = NULL if hooks is None else <PyObject *> hooks
    return before


cdef object pack(TensorBase tensor):
    global fx_pack_hooks
    cdef PyObject *hooks = fx_pack_hooks
    cdef Packed made = Packed()
    cdef object pair = <object> hooks
    fx_pack_hooks = NULL
    try:
        made.packed = pair[0](alias(tensor) if needs_grad(tensor) else tensor)
    finally:
        fx_pack_hooks = hooks
    made.unpack = pair[1]
    return made


cdef TensorBase unpack(Packed value):
    result = value.unpack(value.packed)
    if not isinstance(result, TensorBase):
        raise TypeError("Output of saved tensor unpack_hook expected to be a Tensor but got result of type "
                        f"{type(result).__name__}")
    return <TensorBase> result
