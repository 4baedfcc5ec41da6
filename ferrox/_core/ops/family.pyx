"""Families of operators: one constructor per family, one entry from Python per family.

A row of an elementwise operator is one call:

    EXP = unary("exp", REAL, rule(exp_vjp), "o", "np.exp(x)", "t(3, 4)", "e to the power of each element.")

that is: name (also of its kernel), dtype rule, gradient rule, what the rule reads (Note [Saved values] in
graph/node.pyx), NumPy reference, sample for the tests, first line of the documentation.  `fx.exp(input, *, out=None)`,
the method `exp`, the in-place method `exp_`, the stub, the docs table and the tests all come from it.
"""
from cpython.object cimport PyObject

from ferrox._core.graph.binding cimport parameter_of
from ferrox._core.graph.op cimport Op, call_function, entry_fn, registry
from ferrox._core.graph.op import row
from ferrox._core.ops.elementwise cimport apply, apply_in_place, assign, check_out, deliver, shadow_for
from ferrox._core.tensor.base cimport TensorBase

cdef extern from "Python.h":
    void Py_DECREF(PyObject *o)
    void Py_INCREF(PyObject *o)
    PyObject **PySequence_Fast_ITEMS(PyObject *sequence)
    PyObject *PyObject_VectorcallDict(PyObject *callable, PyObject **args, size_t nargs, PyObject *keywords) except NULL
    size_t PY_VECTORCALL_ARGUMENTS_OFFSET

cdef dict EXTREMES = {"max": "amax", "min": "amin"}
cdef tuple ARGUMENTS = ((), ("input",), ("input", "other"), ("input", "tensor1", "tensor2"))


cdef inline PyObject *_owned(object value) noexcept:
    Py_INCREF(<PyObject *> value)
    return <PyObject *> value


cdef int _parse(Op op, PyObject **args, Py_ssize_t given, PyObject *names, PyObject **inputs, PyObject **out) except -1:
    """Sort positional and keyword arguments into inputs and out; 1 when the row's function has to look at the call."""
    cdef int i, n = op.inputs
    cdef tuple arguments = <tuple> op.row["arguments"]
    out[0] = NULL
    if given > n:
        if op.function is not None:
            return 1
        raise TypeError(f"[{op.name}] takes {n} positional arguments, got {given}; it takes {_form(op)}")
    for i in range(n):
        inputs[i] = args[i] if i < given else NULL
    if names != NULL:
        i = <int> given
        for name in <tuple> names:
            if name == "out":
                out[0] = args[i]
            elif name in arguments and inputs[arguments.index(name)] == NULL:
                inputs[<int> arguments.index(name)] = args[i]
            elif op.function is not None:
                return 1
            else:
                place = _place_of(op, arguments, name)
                if inputs[place] != NULL:
                    raise TypeError(f"[{op.name}] got {name!r} twice: by position and by keyword, or under two names")
                inputs[place] = args[i]
            i += 1
    for i in range(n):
        if inputs[i] == NULL:
            raise TypeError(f"[{op.name}] missing argument {arguments[i]!r}; it takes {_form(op)}")
    if out[0] == <PyObject *> None:
        out[0] = NULL
    if out[0] != NULL and not isinstance(<object> out[0], TensorBase):
        raise TypeError(f"{op.name}(): argument 'out' must be Tensor, not {type(<object> out[0]).__name__}")
    return 0


cdef str _form(Op op):
    return f"{op.name}({', '.join(op.row['arguments'])}, *, out=None)"


cdef int _place_of(Op op, tuple arguments, str name) except -1:
    """Which input a keyword stands for."""
    cdef str known = parameter_of(op.name, name, arguments)
    if known is None:
        raise TypeError(f"[{op.name}] got an unexpected keyword argument {name!r}; it takes {_form(op)}")
    return <int> arguments.index(known)


cdef PyObject *elementwise_entry(PyObject *self, PyObject **args, size_t nargs, PyObject *names) except NULL:
    """`op(*inputs, out=None)`."""
    cdef Op op = <Op> self
    cdef PyObject *inputs[4]
    cdef PyObject *out = NULL
    cdef Py_ssize_t given = <Py_ssize_t> (nargs & ~PY_VECTORCALL_ARGUMENTS_OFFSET)
    cdef int i
    if names == NULL and given == op.inputs:
        for i in range(<int> given):
            inputs[i] = args[i]
    elif _parse(op, args, given, names, inputs, &out):
        return delivering_entry(self, args, nargs, names)
    if out == NULL:
        return _owned(apply(op, inputs, op.inputs, None, NULL, None))
    return _owned(apply(op, inputs, op.inputs, <TensorBase> out, NULL, None))


cdef object _without_out(PyObject *self, list positional, dict keywords):
    cdef list every = positional + list(keywords.values())
    cdef tuple names = tuple(keywords)
    cdef PyObject *made = call_function(self, PySequence_Fast_ITEMS(<PyObject *> every), <size_t> len(positional),
                                        <PyObject *> names if names else NULL)
    result = <object> made
    Py_DECREF(made)
    return result


cdef PyObject *delivering_entry(PyObject *self, PyObject **args, size_t nargs, PyObject *names) except NULL:
    """A row's function, and `out=` on top of it: a tensor, or a sequence of them where there are several results."""
    cdef Op op = <Op> self
    cdef Py_ssize_t given = <Py_ssize_t> (nargs & ~PY_VECTORCALL_ARGUMENTS_OFFSET)
    cdef dict keywords
    cdef list positional
    cdef object out
    cdef int i
    if names == NULL or "out" not in <tuple> names:
        return call_function(self, args, nargs, names)
    positional = [<object> args[i] for i in range(<int> given)]
    keywords = {(<tuple> names)[i]: <object> args[given + i] for i in range(<int> len(<tuple> names))}
    out = keywords.pop("out")
    if out is None and "axis" in keywords and op.name in EXTREMES:
        # np.max(x, axis=0) calls x.max(axis=0, out=None), and wants values alone.
        return PyObject_VectorcallDict(<PyObject *> registry[EXTREMES[op.name]],
                                       PySequence_Fast_ITEMS(<PyObject *> positional), <size_t> len(positional),
                                       <PyObject *> keywords)
    result = _without_out(self, positional, keywords)
    if out is None:
        return _owned(result)
    if isinstance(result, TensorBase):
        return _owned(deliver(op, <TensorBase> result, out))
    if not isinstance(out, (tuple, list)):
        raise TypeError(f"{op.name}(): argument 'out' must be tuple of Tensors, not {type(out).__name__}")
    if len(out) != len(result):
        raise TypeError(f"{op.name}(): argument 'out' must have {len(result)} Tensors, got {len(out)}")
    for made, target in zip(result, out):
        check_out(op, <TensorBase> made, target)
    delivered = [deliver(op, <TensorBase> made, target) for made, target in zip(result, out)]
    return _owned(result._make(delivered) if hasattr(result, "_make") else tuple(delivered))


cdef PyObject *in_place_entry(PyObject *self, PyObject **args, size_t nargs, PyObject *names) except NULL:
    """`op_(self, …)`: the operator `op` into its first argument."""
    cdef Op op = <Op> (<Op> self).function
    cdef PyObject *inputs[4]
    cdef PyObject *out = NULL
    cdef Py_ssize_t given = <Py_ssize_t> (nargs & ~PY_VECTORCALL_ARGUMENTS_OFFSET)
    cdef int i
    if given == 0 or not isinstance(<object> args[0], TensorBase):
        raise TypeError(f"{op.name}_() is a method of a tensor")
    if op.entry == <entry_fn> elementwise_entry and not _parse_or_defer(op, args, given, names, inputs, &out):
        if out != NULL:
            _no_out(op)
        return _owned(apply_in_place(op, inputs, op.inputs))
    if names != NULL and "out" in <tuple> names:
        _no_out(op)
    # An operator with arguments of its own: compute it on a shadow and assign.
    cdef list stand_ins = [shadow_for(op, <TensorBase> args[0])]
    for i in range(1, <int> given):
        stand_ins.append(<object> args[i])
    cdef dict keywords = {}
    if names != NULL:
        for i in range(<int> len(<tuple> names)):
            keywords[(<tuple> names)[i]] = <object> args[given + i]
    return _owned(assign(op, <TensorBase> args[0], <TensorBase?> op(*stand_ins, **keywords)))


cdef int _no_out(Op op) except -1:
    raise TypeError(f"{op.name}_() got an unexpected keyword argument 'out'")


cdef int _parse_or_defer(Op op, PyObject **args, Py_ssize_t given, PyObject *names, PyObject **inputs,
                         PyObject **out) except -1:
    return _parse(op, args, given, names, inputs, out)


cdef Op _elementwise(str name, int inputs, int kind, object rule, object needs, str reference, str sample, str doc):
    cdef Op op = row(name, inputs=inputs, kind=kind, rule=rule, needs=(needs,) if isinstance(needs, str) else needs,
                     reference=reference, sample=sample, doc=doc, arguments=ARGUMENTS[inputs], method=True,
                     inplace=True, out=True, family="elementwise")
    op.entry = elementwise_entry
    return op


cdef Op unary(str name, int kind, object rule, object needs, str reference, str sample, str doc):
    return _elementwise(name, 1, kind, rule, needs, reference, sample, doc)


cdef Op binary(str name, int kind, object rule, object needs, str reference, str sample, str doc):
    return _elementwise(name, 2, kind, rule, needs, reference, sample, doc)


cdef Op ternary(str name, int kind, object rule, object needs, str reference, str sample, str doc):
    return _elementwise(name, 3, kind, rule, needs, reference, sample, doc)


cdef Op inner(str name, int inputs, int kind, object rule, object needs):
    """An elementwise operator that only gradient rules call (a fused gradient), tested by the gradients it serves."""
    cdef Op op = row(name, inputs=inputs, kind=kind, rule=rule, needs=(needs,) if isinstance(needs, str) else needs,
                     doc="A fused gradient; see the operator it is named after.",
                     arguments=("grad", "input", "other")[:inputs], public=False, family="inner")
    op.entry = elementwise_entry
    return op


def with_out(Op op):
    """Give a row that says out=True the argument `out`."""
    op.entry = delivering_entry


def in_place(Op op):
    """The in-place method of an operator, `op_`: generic, or the function that its row names."""
    if callable(op.row["inplace"]):
        return op.row["inplace"]
    cdef Op made = Op(op.name + "_")
    made.function = op
    made.entry = in_place_entry
    made.row["doc"] = f"In-place version of `{op.name}`."
    return made
