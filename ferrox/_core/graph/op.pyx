"""Operators and their registry.

A row makes one `Op` and puts it into `registry`; functions, Tensor methods, stubs, the docs table and the tests are all
derived from there.  An `Op` is callable through vectorcall and binds as a method, so that `fx.exp(x)` and `x.exp()` are
the same object.
"""
cimport cython
from cpython.object cimport PyObject, PyTypeObject

from ferrox._core.door.backend cimport kernel_id
from ferrox._core.graph.binding cimport Binder, tell

cdef extern from "Python.h":
    unsigned long Py_TPFLAGS_HAVE_VECTORCALL
    unsigned long Py_TPFLAGS_METHOD_DESCRIPTOR
    PyObject *PyObject_Vectorcall(PyObject *callable, PyObject **args, size_t nargs, PyObject *names)
    PyObject *PyVectorcall_Call(PyObject *callable, PyObject *tuple, PyObject *dict) except NULL
    PyObject *PyMethod_New(PyObject *function, PyObject *self) except NULL
    void Py_DECREF(PyObject *o)
    void PyType_Modified(PyTypeObject *type)
    ctypedef struct PyTypeSlots "PyTypeObject":
        Py_ssize_t tp_vectorcall_offset
        unsigned long tp_flags
        void *tp_call

registry = {}


cdef PyObject *call_function(PyObject *self, PyObject **args, size_t nargs, PyObject *names) except NULL:
    """What an operator's function gives for a call; see graph/binding.pyx for keywords and errors."""
    cdef PyObject *made
    if names == NULL:
        made = PyObject_Vectorcall(<PyObject *> (<Op> self).function, args, nargs, NULL)
    else:
        made = binder_of(<Op> self).call(args, nargs, names)
    if made == NULL:
        tell(<Op> self, (<Op> self).function, args, nargs, names)
    return made


cdef Binder binder_of(Op op):
    """The keywords of the operator's function."""
    if op.binder is None:
        op.binder = Binder(op.name, op.function)
    return <Binder> op.binder


cdef PyObject *_unset_entry(PyObject *self, PyObject **args, size_t nargs, PyObject *names) except NULL:
    return python_entry(self, args, nargs, names)


@cython.binding(False)        # methods that check their self
@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
cdef class Op:
    """An operator: a forward computation together with its gradient.

    Every built-in operator is an instance.  For one of your own, derive from it, give `forward` and `vjp`, and call an
    instance; the engine, the viewer and `gradcheck` treat it like a built-in.

    forward(self, *inputs, **params)
        Computes with tensors, unrecorded, and returns a tensor or a tuple of tensors.
    vjp(self, ctx, *cotangents)
        Returns the gradient for each positional input of `forward` (a tensor, or None), or the one gradient of a single
        input.  `ctx.inputs`, `ctx.outputs` and `ctx.params` are what forward got and gave; `ctx.needs_input_grad` says
        which gradients are asked for.  Written with operators, it is differentiable itself.
    saves : sequence of str, optional
        What a node keeps for `vjp`, ("inputs", "outputs") by default; naming less keeps less memory.
    reference, sample : str, optional
        A NumPy expression of `forward`'s arguments (and `np`), and a Python expression giving arguments to try, for
        the checks in `ferrox.testing.check`.

    Examples
    --------
    >>> import ferrox as fx
    >>> class Cube(fx.Op):
    ...     def forward(self, x):
    ...         return x * x * x
    ...     def vjp(self, ctx, g):
    ...         x, = ctx.inputs
    ...         return g * 3 * x * x
    >>> cube = Cube()
    >>> x = fx.tensor(2.0, requires_grad=True)
    >>> cube(x).backward()
    >>> x.grad
    tensor(12.)
    """

    def __cinit__(self):
        self.entry = _unset_entry
        self.name = type(self).__name__     # for a subclass whose __init__ does not come here
        self.kernel = -1
        self.row = {}

    def __init__(self, name=None):
        self.name = name or type(self).__name__

    def __call__(self, *args, **kwargs):
        # Reached by subclasses only: heap types take tp_call from here and do not inherit vectorcall (CPython < 3.12).
        cdef PyObject *result = PyVectorcall_Call(<PyObject *> self, <PyObject *> args, <PyObject *> kwargs)
        value = <object> result
        Py_DECREF(result)
        return value

    def __get__(self, instance, owner):
        # An operator of the user's is no method: `self.cube(x)` of a module whose class has it as an attribute gets x.
        if instance is None or self.entry == _unset_entry:
            return self
        cdef PyObject *bound = PyMethod_New(<PyObject *> self, <PyObject *> instance)
        method = <object> bound
        Py_DECREF(bound)
        return method

    @property
    def __name__(self):
        return self.name.rpartition(".")[2]

    @property
    def __qualname__(self):
        return self.__name__

    @property
    def __doc__(self):
        doc = self.row.get("doc", "")
        if self.row.get("out") and "\n    out :" not in doc:
            doc += "\n\n    With `out`, a tensor (or as many as there are results), the result is written there."
        return doc

    @property
    def __module__(self):
        namespace = self.row.get("namespace")
        return "ferrox" if namespace is None else f"ferrox.{namespace}"

    @property
    def __signature__(self):
        import inspect

        if self.function is not None:
            signature = inspect.signature(self.function)
            if self.row.get("out"):
                out = inspect.Parameter("out", inspect.Parameter.KEYWORD_ONLY, default=None)
                return signature.replace(parameters=[*signature.parameters.values(), out])
            if isinstance(self.function, Op):       # the in-place form of that operator
                return signature.replace(parameters=[each for name, each in signature.parameters.items()
                                                     if name not in ("out", "inplace")])
            return signature
        names = self.row.get("arguments")
        if names is None:
            signature = inspect.signature(self.forward)
            return signature
        kind = inspect.Parameter
        parameters = [kind(each, kind.POSITIONAL_OR_KEYWORD) for each in names]
        parameters.append(kind("out", kind.KEYWORD_ONLY, default=None))
        return inspect.Signature(parameters)

    @property
    def differentiable(self):
        """Whether it has a gradient rule."""
        return self.vjp != NULL

    @property
    def reference(self):
        """NumPy expression of the result, for the tests."""
        return self.row.get("reference")

    @property
    def sample(self):
        """Inputs to try, for the tests."""
        return self.row.get("sample")

    def __repr__(self):
        return f"<ferrox operator {self.name}>"

    def __reduce__(self):
        if registry.get(self.name) is self:
            return _by_name, (self.name,)
        return object.__reduce_ex__(self, 2)


def _by_name(str name):
    return registry[name]


cdef uint32_t _mask(str text) except? 0xffffffff:
    cdef uint32_t mask = 0
    for letter in text:
        mask |= <uint32_t> 1 << (OUTPUT_BIT + "opq".index(letter) if letter in "opq" else int(letter))
    return mask


def row(str name, *, str namespace=None, function=None, str kernel=None, int inputs=0, int kind=0, rule=None, needs=(),
        **more):
    """Make the operator `name` and enter it into the registry.

    Parameters
    ----------
    name : str
        Public name.
    namespace : str, optional
        Where the function lives when it is not `ferrox` itself: "linalg" makes it `ferrox.linalg.name`, and
        `linalg.name` its name in the registry and in messages.  A method keeps the short name.
    function : callable, optional
        The Python-visible implementation, for operators that are not elementwise.
    kernel : str, optional
        The kernel it launches; its own name by default.
    rule : object
        The gradient rule, `rule(cdef function)` of graph/node.pyx; None for an operator without a gradient.
    needs : sequence of str
        For each input, what its gradient reads: digits are inputs, "o" is the output, "p" and "q" the second and third.
    more
        reference, sample, doc, method, inplace, out, aliases, arguments, public: see `ferrox._core.ops`.
    """
    if namespace is not None:
        name = f"{namespace}.{name}"
    cdef Op op = Op(name)
    cdef int i
    if name in registry:
        raise RuntimeError(f"operator {name!r} has two rows")
    op.kernel = kernel_id(kernel or name)
    op.inputs = inputs
    op.kind = kind
    op.row = more
    if namespace is not None:
        more["namespace"] = namespace
    if function is not None:
        op.function = function
        op.entry = call_function
        more.setdefault("doc", function.__doc__)
    if rule is not None:
        op.vjp = <void *> <size_t> rule
    for i in range(MAX_NEEDS):
        op.needs[i] = _mask(needs[min(i, len(needs) - 1)]) if needs else 0
    registry[name] = op
    return op


cdef void _set_slots():
    cdef PyTypeSlots *slots = <PyTypeSlots *> <PyObject *> Op
    cdef Op probe = Op.__new__(Op)
    slots.tp_vectorcall_offset = <char *> &probe.entry - <char *> <PyObject *> probe
    slots.tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR
    slots.tp_call = <void *> PyVectorcall_Call
    PyType_Modified(<PyTypeObject *> <PyObject *> slots)


_set_slots()


def method(str name, function):
    """A method of Tensor that is no operator, called as operators are; it is not in the registry."""
    cdef Op op = Op(name)
    op.function = function
    op.entry = call_function
    op.row = {"doc": function.__doc__}
    return op


def alias_row(str name, str of, *, str namespace=None):
    """A second public name for an operator (`multiply` for `mul`), or its name in a namespace (`special.expit`)."""
    registry[name if namespace is None else f"{namespace}.{name}"] = registry[of]


def operators():
    """The registry: every operator by its public name."""
    return registry
