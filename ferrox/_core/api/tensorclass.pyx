"""The class `ferrox.Tensor`: what Python asks of a type (operators, conversions, the buffer protocol), autograd state.

Named methods are not written here: `install` puts every row that is a method, and those of methods.pyx, into the class.
The operators behind Python's are rows as well: `resolve` looks them up once, when all rows are there.
"""
cimport cython
from cpython.object cimport PyObject, PyTypeObject, Py_EQ, Py_GT, Py_LE, Py_LT, Py_NE

from ferrox._core.graph import engine, node as graph
from ferrox._core.abi cimport FX_F32
from ferrox._core.dtype cimport FLOATING, INTEGRAL, categories, default_dtype, dtype as _dtype, dtype_name, dtype_object
from ferrox._core.graph.engine cimport run_backward
from ferrox._core.graph.node cimport history_of
from ferrox._core.tensor.interchange cimport export_buffer, plain_operand, release_buffer
from ferrox._core.graph.op cimport Op, registry
from ferrox._core.graph.tracking import adopt
from ferrox._core.ops.family import in_place
from ferrox._core.ops.subscript cimport get_item, set_item
from ferrox._core.ops.shape cimport permute, transpose
from ferrox._core.tensor.base cimport TensorBase, alias, needs_grad, set_data, set_tensor_class, shape_tuple
from ferrox._core.tensor.values cimport element, nested

cdef extern from "Python.h":
    void Py_DECREF(PyObject *o)
    void PyType_Modified(PyTypeObject *type)
    ctypedef struct PyTypeDict "PyTypeObject":
        PyObject *tp_dict
        const char *tp_name

# The operators behind Python's, and their in-place versions.
cdef Op ADD, SUB, MUL, DIV, FLOORDIV, REMAINDER, POW, MATMUL, AND, OR, XOR, LSHIFT, RSHIFT
cdef Op ADD_, SUB_, MUL_, DIV_, FLOORDIV_, REMAINDER_, POW_, AND_, OR_, XOR_, LSHIFT_, RSHIFT_
cdef Op NEG, ABS, INVERT, EQ, NE, LT, LE, GT, GE, UNBIND


cdef PyObject *_absent_entry(PyObject *self, PyObject **args, size_t nargs, PyObject *names) except NULL:
    raise NotImplementedError(f"no operator {(<Op> self).name!r} is in the registry")


cdef Op _row(str name):
    cdef Op op = registry.get(name)
    if op is None:
        op = Op(name)
        op.entry = _absent_entry
    return op


cdef Op _changing(str name):
    return <Op> in_place(registry[name]) if name in registry else _row(name + "_")


def resolve():
    """Look the operators up, once every row is in the registry."""
    global ADD, SUB, MUL, DIV, FLOORDIV, REMAINDER, POW, MATMUL, AND, OR, XOR, LSHIFT, RSHIFT
    global ADD_, SUB_, MUL_, DIV_, FLOORDIV_, REMAINDER_, POW_, AND_, OR_, XOR_, LSHIFT_, RSHIFT_
    global NEG, ABS, INVERT, EQ, NE, LT, LE, GT, GE, UNBIND
    ADD, SUB, MUL, DIV = _row("add"), _row("sub"), _row("mul"), _row("div")
    FLOORDIV, REMAINDER, POW, MATMUL = _row("floor_divide"), _row("remainder"), _row("pow"), _row("matmul")
    AND, OR, XOR = _row("bitwise_and"), _row("bitwise_or"), _row("bitwise_xor")
    LSHIFT, RSHIFT = _row("bitwise_left_shift"), _row("bitwise_right_shift")
    ADD_, SUB_, MUL_, DIV_ = _changing("add"), _changing("sub"), _changing("mul"), _changing("div")
    FLOORDIV_, REMAINDER_, POW_ = _changing("floor_divide"), _changing("remainder"), _changing("pow")
    AND_, OR_, XOR_ = _changing("bitwise_and"), _changing("bitwise_or"), _changing("bitwise_xor")
    LSHIFT_, RSHIFT_ = _changing("bitwise_left_shift"), _changing("bitwise_right_shift")
    NEG, ABS, INVERT = _row("neg"), _row("abs"), _row("bitwise_not")
    EQ, NE, LT, LE, GT, GE = _row("eq"), _row("ne"), _row("lt"), _row("le"), _row("gt"), _row("ge")
    UNBIND = _row("unbind")


cdef inline bint _arithmetic(object value) noexcept:
    return isinstance(value, (TensorBase, float, int))


cdef object _call(Op op, PyObject **args, size_t n):
    cdef PyObject *result = op.entry(<PyObject *> op, args, n, NULL)
    made = <object> result
    Py_DECREF(result)
    return made


cdef object _unary(Op op, object a):
    cdef PyObject *args[1]
    args[0] = <PyObject *> a
    return _call(op, args, 1)


cdef object _binary(Op op, object a, object b):
    cdef PyObject *args[2]
    if not _arithmetic(a):
        a = plain_operand(a)
        if a is None:
            return NotImplemented
    if not _arithmetic(b):
        b = plain_operand(b)
        if b is None:
            return NotImplemented
    args[0] = <PyObject *> a
    args[1] = <PyObject *> b
    return _call(op, args, 2)


cdef TensorBase _legacy(tuple args, object device):
    """What `Tensor(*args)` holds."""
    cdef _dtype float32 = dtype_object(FX_F32)
    if all([isinstance(each, int) and not isinstance(each, bool) for each in args]):
        return registry["empty"](args if args else (0,), dtype=float32, device=device)
    if len(args) != 1 or isinstance(args[0], (bool, int, float)):
        raise TypeError("[Tensor] expected sizes, or one sequence of values; `ferrox.tensor` takes numbers")
    if isinstance(args[0], TensorBase):
        return args[0].detach() if device is None else args[0].detach().to(device)
    return registry["tensor"](args[0], dtype=float32, device=device)


@cython.binding(False)        # methods that check their self
@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
cdef class Tensor(TensorBase):
    """A multi-dimensional array that can record how it was computed.

    Make one with `ferrox.tensor`, `ferrox.zeros`, ….  Called as PyTorch's class, with sizes it gives a tensor of
    float32 that is not initialised, with a sequence or an array one of its values; `device` says where.
    """

    __array_priority__ = 1000   # arrays leave mixed arithmetic to the tensor

    def __init__(self, *args, device=None, **unknown):
        if not self.unfilled:       # of a subclass whose __new__ has taken the arguments
            return
        if unknown:
            raise TypeError(f"[Tensor] got an unexpected keyword argument {next(iter(unknown))!r}")
        set_data(self, _legacy(args, device))

    # Arithmetic

    def __add__(a, b):
        return _binary(ADD, a, b)

    def __sub__(a, b):
        return _binary(SUB, a, b)

    def __mul__(a, b):
        return _binary(MUL, a, b)

    def __truediv__(a, b):
        return _binary(DIV, a, b)

    def __floordiv__(a, b):
        return _binary(FLOORDIV, a, b)

    def __mod__(a, b):
        return _binary(REMAINDER, a, b)

    def __divmod__(a, b):
        return _binary(FLOORDIV, a, b), _binary(REMAINDER, a, b)

    def __pow__(a, b, modulo):
        if modulo is not None:
            return NotImplemented
        return _binary(POW, a, b)

    def __matmul__(a, b):
        return _binary(MATMUL, a, b)

    def __and__(a, b):
        return _binary(AND, a, b)

    def __or__(a, b):
        return _binary(OR, a, b)

    def __xor__(a, b):
        return _binary(XOR, a, b)

    def __lshift__(a, b):
        return _binary(LSHIFT, a, b)

    def __rshift__(a, b):
        return _binary(RSHIFT, a, b)

    def __iadd__(self, other):
        return _binary(ADD_, self, other)

    def __isub__(self, other):
        return _binary(SUB_, self, other)

    def __imul__(self, other):
        return _binary(MUL_, self, other)

    def __itruediv__(self, other):
        return _binary(DIV_, self, other)

    def __ifloordiv__(self, other):
        return _binary(FLOORDIV_, self, other)

    def __imod__(self, other):
        return _binary(REMAINDER_, self, other)

    def __ipow__(self, other, modulo):
        return _binary(POW_, self, other)

    def __iand__(self, other):
        return _binary(AND_, self, other)

    def __ior__(self, other):
        return _binary(OR_, self, other)

    def __ixor__(self, other):
        return _binary(XOR_, self, other)

    def __ilshift__(self, other):
        return _binary(LSHIFT_, self, other)

    def __irshift__(self, other):
        return _binary(RSHIFT_, self, other)

    def __neg__(self):
        return _unary(NEG, self)

    def __pos__(self):
        return self

    def __abs__(self):
        return _unary(ABS, self)

    def __invert__(self):
        return _unary(INVERT, self)

    def __richcmp__(self, other, int how):
        return _binary(EQ if how == Py_EQ else NE if how == Py_NE else LT if how == Py_LT else LE if how == Py_LE
                       else GT if how == Py_GT else GE, self, other)

    def __hash__(self):
        return <Py_hash_t> (<size_t> <PyObject *> self >> 4)

    # One element

    def __bool__(self):
        if self.a.numel != 1:
            what = "more than one value" if self.a.numel else "no values"
            raise RuntimeError(f"Boolean value of Tensor with {what} is ambiguous")
        return bool(element(self))

    def __int__(self):
        return int(element(self))

    def __float__(self):
        return float(element(self))

    def __complex__(self):
        return complex(element(self))

    def __index__(self):
        if self.a.numel != 1 or categories[self.a.dtype] > INTEGRAL:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(element(self))

    # A container

    def __len__(self):
        if self.a.ndim == 0:
            raise TypeError("len() of a 0-d tensor")
        return self.a.dims[0]

    def __getitem__(self, index):
        return get_item(self, index)

    def __setitem__(self, index, value):
        set_item(self, index, value)

    def __iter__(self):
        if self.a.ndim == 0:
            raise TypeError("iteration over a 0-d tensor")
        return iter(_unary(UNBIND, self))

    def __contains__(self, value):
        if not _arithmetic(value) and plain_operand(value) is None:
            raise RuntimeError("Tensor.__contains__ only supports Tensor or scalar, but you passed in a "
                               f"{type(value).__name__}.")
        return bool(_binary(EQ, self, value).any())

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        export_buffer(self, buffer, flags)
        buffer.obj = self

    def __releasebuffer__(self, Py_buffer *buffer):
        release_buffer(buffer)

    # Text

    def __repr__(self):
        from ferrox._core.api import printing

        plain = type(self) is Tensor or getattr(type(self), "_prints_as_tensor", False)
        return printing.text(self, dtype_object(default_dtype), "tensor" if plain else type(self).__name__)

    def _repr_html_(self):
        from ferrox._core.api import printing

        return printing.html(self, repr(self))

    def _nested(self, edge):
        """Nested lists of the elements; see values.pyx."""
        return nested(self, edge)

    def __format__(self, spec):
        if self.a.ndim == 0 and type(self) is Tensor:
            return format(element(self), spec)
        return object.__format__(self, spec)

    # Transposition

    @property
    def T(self):
        """A view with the dimensions in reverse order."""
        if self.a.ndim == 2:
            return transpose(self, 0, 1)
        return permute(self, range(self.a.ndim - 1, -1, -1))

    @property
    def mT(self):
        """A view with the last two dimensions exchanged."""
        if self.a.ndim < 2:
            raise RuntimeError("tensor.mT is only supported on matrices or batches of matrices. "
                               f"Got {self.a.ndim}-D tensor.")
        return transpose(self, self.a.ndim - 2, self.a.ndim - 1)

    @property
    def H(self):
        """The transpose of a matrix."""
        if self.a.ndim != 0 and self.a.ndim != 2:
            raise RuntimeError(f"tensor.H is only supported on matrices (2-D tensors). Got {self.a.ndim}-D tensor.")
        return self.T

    @property
    def mH(self):
        """A view with the last two dimensions exchanged."""
        return self.mT

    # Autograd

    @property
    def data(self):
        """The same elements outside the graph; assigning gives this tensor another's elements."""
        return alias(self)

    @data.setter
    def data(self, value):
        if not isinstance(value, TensorBase):
            raise TypeError(f"Variable data has to be a tensor, but got {type(value).__name__}")
        if needs_grad(self) and categories[(<TensorBase> value).a.dtype] != FLOATING:
            raise RuntimeError("data set to a tensor that requires gradients must be floating point or complex dtype")
        set_data(self, value)

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
                raise RuntimeError("you can only change requires_grad flags of leaf variables. If you want to use a "
                                   "computed variable in a subgraph that doesn't require differentiation use "
                                   "var_no_grad = var.detach().")
            return self
        if requires_grad and categories[self.a.dtype] != FLOATING:
            raise RuntimeError("only Tensors of floating point dtype can require gradients, got "
                               f"{dtype_name(self.a.dtype)}")
        (<TensorBase> self).requires_grad_ = bool(requires_grad)
        return self

    @property
    def grad(self):
        """The accumulated gradient, or None."""
        return self.grad_

    @grad.setter
    def grad(self, value):
        cdef TensorBase given
        if value is not None:
            if not isinstance(value, TensorBase):
                raise TypeError("assigned grad expected to be a Tensor or None but got grad of type "
                                f"{type(value).__name__}")
            given = <TensorBase> value
            if given is self:
                raise RuntimeError("can't assign Variable as its own grad")
            if given.a.dtype != self.a.dtype:
                raise RuntimeError(f"assigned grad has dtype {dtype_name(given.a.dtype)}, the tensor has dtype "
                                   f"{dtype_name(self.a.dtype)}")
            if given.a.device_type != self.a.device_type or given.a.device_index != self.a.device_index:
                raise RuntimeError(f"assigned grad is on {value.device}, the tensor on {self.device}")
            if shape_tuple(&given.a) != shape_tuple(&self.a):
                raise RuntimeError(f"assigned grad has shape {value.shape}, the tensor has shape {self.shape}")
        self.grad_ = value
        if value is not None and needs_grad(given):
            adopt((self,), 0)

    @grad.deleter
    def grad(self):
        self.grad_ = None

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


set_tensor_class(Tensor)


# Public names.  What Python and Cython say about a type in their own errors is its C name, so that is the public one.
cdef list _type_names = []


def publish(type cls, str name):
    """Give a compiled class the name that users know it by."""
    _type_names.append(name.encode())
    (<PyTypeDict *> <PyObject *> cls).tp_name = _type_names[-1]
    PyType_Modified(<PyTypeObject *> cls)


publish(TensorBase, "ferrox.Tensor")
publish(Tensor, "ferrox.Tensor")
publish(_dtype, "ferrox.dtype")
publish(Op, "ferrox.Op")
