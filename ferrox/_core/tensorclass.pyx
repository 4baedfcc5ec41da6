"""The class `ferrox.Tensor`: the number protocol and the conversions of Python, over the operators.

Named methods are not written here: `install` puts every row that is a method into the class.
"""
from cpython.object cimport PyObject, PyTypeObject, Py_EQ, Py_GE, Py_GT, Py_LE, Py_LT, Py_NE

from ferrox._core import engine, graph
from ferrox._core.graph cimport history_of, note_change
from ferrox._core.op cimport Op, registry
from ferrox._core.ops.elementwise cimport apply2, apply_in_place
from ferrox._core cimport tensor as tensor_module
from ferrox._core.tensor cimport TensorBase, drop, needs_grad, shape_tuple, track
from ferrox._core.engine cimport run_backward
from ferrox._core.dtype cimport FLOATING, categories, dtype_name

cdef extern from "Python.h":
    void PyType_Modified(PyTypeObject *type)
    ctypedef struct PyTypeDict "PyTypeObject":
        PyObject *tp_dict

# The operators behind Python's, by slot.
cdef Op ADD = registry["add"], SUB = registry["sub"], MUL = registry["mul"], DIV = registry["div"]


cdef inline bint _arithmetic(object value) noexcept:
    return isinstance(value, (TensorBase, float, int))


cdef object _binary(Op op, object a, object b):
    if not _arithmetic(a) or not _arithmetic(b):
        return NotImplemented
    return apply2(op, a, b)


cdef object _in_place(Op op, object a, object b):
    cdef PyObject *inputs[2]
    if not _arithmetic(b):
        return NotImplemented
    inputs[0] = <PyObject *> a
    inputs[1] = <PyObject *> b
    return apply_in_place(op, inputs, 2)


cdef class Tensor(TensorBase):
    """A multi-dimensional array that can record how it was computed.

    Make one with `ferrox.tensor`, `ferrox.zeros`, …; this class is not called.
    """

    def __add__(a, b):
        return _binary(ADD, a, b)

    def __sub__(a, b):
        return _binary(SUB, a, b)

    def __mul__(a, b):
        return _binary(MUL, a, b)

    def __truediv__(a, b):
        return _binary(DIV, a, b)

    def __neg__(self):
        return registry["neg"](self)

    def __iadd__(self, other):
        return _in_place(ADD, self, other)

    @property
    def requires_grad(self):
        """Whether gradients flow to this tensor."""
        return needs_grad(self)

    @requires_grad.setter
    def requires_grad(self, value):
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad=True):
        """Say whether this leaf wants a gradient; returns the tensor."""
        if self.grad_fn != NULL:
            if not requires_grad:
                raise RuntimeError("you can only change requires_grad flags of leaf variables.")
            return self
        if requires_grad and categories[self.a.dtype] != FLOATING:
            raise RuntimeError(f"only Tensors of floating point dtype can require gradients, got {dtype_name(self.a.dtype)}")
        (<TensorBase> self).requires_grad_ = bool(requires_grad)
        return self

    @property
    def grad(self):
        """The accumulated gradient, or None."""
        return self.grad_

    @grad.setter
    def grad(self, value):
        if value is not None:
            if not isinstance(value, TensorBase):
                raise TypeError(f"assigned grad expected to be a Tensor or None but got {type(value).__name__}")
            if shape_tuple(&(<TensorBase> value).a) != shape_tuple(&self.a):
                raise RuntimeError(f"assigned grad has shape {value.shape}, the tensor has shape {self.shape}")
        self.grad_ = value

    @property
    def grad_fn(self):
        """The node that made it, or None for a leaf."""
        return history_of(self)

    def backward(self, gradient=None, retain_graph=None, create_graph=False, inputs=None):
        """Add the gradients of this tensor to the `.grad` of the leaves; see `ferrox.autograd.backward`."""
        if inputs is None and (gradient is None or isinstance(gradient, TensorBase)):
            run_backward((self,), (gradient,), create_graph if retain_graph is None else retain_graph, create_graph,
                         None, True)
        else:
            engine.backward(self, gradient, retain_graph, create_graph, inputs)

    def register_hook(self, hook):
        """Call `hook(grad)` when this tensor's gradient is computed; what it returns, if not None, replaces it."""
        return graph.tensor_hook(self, hook)


def install(str name, object value):
    """Put a method into the class; for rows."""
    (<dict> (<PyTypeDict *> <PyObject *> Tensor).tp_dict)[name] = value
    PyType_Modified(<PyTypeObject *> Tensor)


tensor_module.tensor_class = Tensor
