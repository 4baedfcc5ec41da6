"""Calls of operators: what keywords they take, and what a call that does not fit is told.

Note [Keywords].  A row's function says which keywords there are: the names of its parameters.  Beyond them a call may
use NumPy's names and those of PyTorch that differ (`ALIASES`, `OWN`), and the name of `*dims` for all of it:
`flip(x, dims=[0])` is `flip(x, [0])`.  A call without keywords goes by all this; one whose keywords are parameters
costs a comparison of pointers for each.

Note [Errors of a call].  Functions are called under private names and read their arguments by C types, and what Python
and Cython say when that fails is about those.  `tell` looks at such an error on its way out and says the same in public
names: what the operator got, what it takes.  Errors that already are the operator's, or a user's, pass as they are.
"""
cimport cython

from cpython.object cimport PyObject

cdef extern from "Python.h":
    # Without a check of the result: who calls these passes NULL on.
    PyObject *PyObject_Vectorcall(PyObject *callable, PyObject **args, size_t nargs, PyObject *names)
    PyObject *PyObject_Call(PyObject *callable, PyObject *args, PyObject *keywords)
    size_t PY_VECTORCALL_ARGUMENTS_OFFSET
    PyObject *PyErr_Occurred()
    void PyErr_SetObject(object kind, object value)
    void PyErr_Fetch(PyObject **kind, PyObject **value, PyObject **trace)
    void PyErr_NormalizeException(PyObject **kind, PyObject **value, PyObject **trace)
    void PyErr_Restore(PyObject *kind, PyObject *value, PyObject *trace)
    int PyErr_GivenExceptionMatches(PyObject *given, object kind)
    void Py_XDECREF(PyObject *o)

cdef enum:
    VARARGS = 4
    VARKEYWORDS = 8

# Names that any operator takes for its parameters: NumPy's, as PyTorch's own parser of arguments has them.
cdef dict ALIASES = {"axis": "dim", "keepdims": "keepdim", "x": "input", "a": "input", "x1": "input", "self": "input",
                     "x2": "other"}
# Names that PyTorch has for parameters of single operators, in one of its spellings.
cdef dict OWN = {
    "split": {"split_size": "split_size_or_sections", "split_sizes": "split_size_or_sections", "input": "tensor"},
    "tensor_split": {"sections": "indices_or_sections", "indices": "indices_or_sections",
                     "tensor_indices_or_sections": "indices_or_sections"},
    "swapaxes": {"dim0": "axis0", "dim1": "axis1"},
    "swapaxes_": {"dim0": "axis0", "dim1": "axis1"},
    "swapdims": {"axis0": "dim0", "axis1": "dim1"},
    "where": {"y": "other"},
    "xlogy": {"y": "other"},
    "dot": {"other": "tensor"},
    "isfinite": {"tensor": "input"},
    "isinf": {"tensor": "input"},
    "dropout": {"train": "training"},
    "view": {"dtype": "shape", "size": "shape"},
    "expand": {"size": "sizes"},
    "permute": {"dim": "dims"},
    "copy_": {"other": "src"},
    "random_": {"from": "from_"},
    "uniform_": {"from": "from_"},
    "std": {"ddof": "correction"},
    "var": {"ddof": "correction"},
}


# What NumPy's functions pass to the method of their name although nobody asked for it; dropped where there is no such
# parameter.  `np.std(x)` is `x.std(axis=None, dtype=None, out=None, ddof=0)`.
cdef dict NEUTRAL = {"dtype": None, "out": None, "order": "C"}


cdef str parameter_of(str operator, str name, tuple names):
    cdef str found = <str> ALIASES.get(name)
    if found in names:
        return found
    if name in names:
        return name
    found = None if operator not in OWN else <str> (<dict> OWN[operator]).get(name)
    return found if found in names else None


@cython.binding(False)        # methods that check their self
@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
cdef class Binder:
    """The keywords of one function."""

    def __init__(self, str name, function):
        code = getattr(function, "__code__", None)
        self.name = name
        self.function = function
        if code is None or hasattr(function, "__wrapped__"):
            self.names = ()
            self.open = True
            return
        first, last = code.co_posonlyargcount, code.co_argcount
        named = last + code.co_kwonlyargcount
        every = code.co_varnames[first:named]
        self.names = tuple([name for name in every if ALIASES.get(name) not in every])
        self.ahead = last - first
        self.star = code.co_varnames[named] if code.co_flags & VARARGS else None
        self.open = (code.co_flags & VARKEYWORDS) != 0

    cdef str canonical(self, str name):
        """The parameter that a keyword stands for; None when there is none."""
        cdef str found = parameter_of(self.name, name, self.names if self.star is None else (*self.names, self.star))
        return name if found is None and self.open else found

    cdef PyObject *call(self, PyObject **args, size_t nargs, PyObject *names) noexcept:
        """The function's result, or NULL with an error set."""
        cdef Py_ssize_t i, k, n = len(<tuple> names), known = len(self.names)
        if not self.open:
            for i in range(n):
                for k in range(known):
                    if <PyObject *> (<tuple> names)[i] == <PyObject *> self.names[k]:
                        break
                else:
                    return self._rebound(args, <Py_ssize_t> (nargs & ~PY_VECTORCALL_ARGUMENTS_OFFSET), <tuple> names)
        return PyObject_Vectorcall(<PyObject *> self.function, args, nargs, names)

    cdef PyObject *_rebound(self, PyObject **args, Py_ssize_t given, tuple names) noexcept:
        try:
            positional, keywords = self._bound([<object> args[i] for i in range(given)],
                                               [<object> args[given + i] for i in range(len(names))], names)
        except BaseException as error:
            PyErr_SetObject(type(error), error)
            return NULL
        return PyObject_Call(<PyObject *> self.function, <PyObject *> positional, <PyObject *> keywords)

    def _bound(self, list positional, list values, tuple names):
        """Positional arguments and keywords, under the names of the parameters."""
        cdef dict keywords = {}, said = {}
        for name, value in zip(names, values):
            into = self.canonical(name)
            if into is None and name in NEUTRAL and type(value) is type(NEUTRAL[name]) and value == NEUTRAL[name]:
                continue
            if into is None:
                raise TypeError(f"[{self.name}] got an unexpected keyword argument {name!r}")
            if into in keywords:
                raise TypeError(f"[{self.name}] got both {said[into]!r} and {name!r}, which are one argument")
            keywords[into] = value
            said[into] = name
        if self.star is not None and self.star in keywords:
            # What stands before *star goes by position, then star's own.
            for name in self.names[len(positional):self.ahead]:
                if name not in keywords:
                    raise TypeError(f"[{self.name}] missing argument {name!r}")
                positional.append(keywords.pop(name))
            if len(positional) > self.ahead:
                raise TypeError(f"[{self.name}] got {said[self.star]!r} by position and by keyword")
            positional.append(keywords.pop(self.star))
        return tuple(positional), keywords


# What a call that does not fit is told

cdef str _BINDING = r"(?s)^(\w+\.)?\w+\(\) ((takes|needs|got an unexpected|got multiple|missing) .*)$"
cdef str _OTHER_TYPE = \
    r"(?:Cannot convert (\w+) to|incorrect type \(expected .*, got) (?:(\w+)\)|[\w.]+)$"
cdef str _NO_ATTRIBUTE = r"^'(\w+)' object has no attribute '\w+'$"


cdef str signature_of(object op):
    """The operator as it is called: `flip(input, *dims)`."""
    import inspect

    try:
        signature = inspect.signature(op)
    except (TypeError, ValueError):
        return <str> op.name
    shown = [each for each in signature.parameters.values() if not each.name.startswith("_")]
    return op.name + str(signature.replace(parameters=shown))


cdef str _kind(object value):
    """The type of an argument, and of what is in it."""
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple) and value:
        kinds = list(dict.fromkeys([type(each).__name__ for each in value[:8]]))
        return f"{type(value).__name__} of {', '.join(kinds)}"
    return "None" if value is None else type(value).__name__


cdef str _called(object op, list positional, dict keywords):
    cdef list parts = [_kind(each) for each in positional]
    parts += [f"{name}={_kind(value)}" for name, value in keywords.items()]
    return f"{op.name}({', '.join(parts)})"


cdef str _no_tensor(object op, str kind, list positional, dict keywords):
    """Which argument, or which element of one, is of the type that is no tensor; None when none is."""
    cdef tuple names = _names_of(op)
    cdef list given = [(names[i] if i < len(names) else None, each) for i, each in enumerate(positional)]
    for name, value in [*given, *keywords.items()]:
        which = "an argument" if name is None else f"argument {name!r}"
        if type(value).__name__ == kind:
            return f"{which} must be Tensor, not {'None' if value is None else kind}"
        if isinstance(value, (list, tuple)):
            for i, each in enumerate(value):
                if type(each).__name__ == kind:
                    return f"element {i} of {which} must be Tensor, not {'None' if each is None else kind}"
    return None


cdef tuple _names_of(object op):
    import inspect

    try:
        return tuple(inspect.signature(op).parameters)
    except (TypeError, ValueError):
        return ()


def _told(op, error, list positional, dict keywords):
    """The error in public words; None for one that has them already."""
    import re       # not at the import of Ferrox

    cdef str text = str(error)
    binding = re.match(_BINDING, text)
    if binding is not None and (isinstance(error, TypeError)):
        if not text.startswith(op.name + "()") or "given)" in text or "argument" in text:
            said = binding.group(2)
            return f"[{op.name}] {said}; called as {_called(op, positional, keywords)}, it takes {signature_of(op)}"
    wanted = re.match(r"^\[([\w.]+)\] expected a tensor.*, got (\w+)$", text)
    if wanted is not None and wanted.group(1) == op.name:
        said = _no_tensor(op, wanted.group(2), positional, keywords)
        return None if said is None else f"[{op.name}] {said}; called as {_called(op, positional, keywords)}"
    if isinstance(error, TypeError) and (text.startswith("[") or re.match(r"^\w+\(\)", text)):
        if text.startswith(f"[{op.name}] got ") and "; " not in text:
            return f"{text}; it takes {signature_of(op)}"
        return None
    other = re.search(_OTHER_TYPE, text)
    if other is not None:
        kind = other.group(1) or other.group(2)
        said = _no_tensor(op, kind, positional, keywords) if text.endswith("Tensor") or "Tensor," in text else None
        return f"[{op.name}] {said or text}; called as {_called(op, positional, keywords)}"
    if isinstance(error, AttributeError):
        missing = re.match(_NO_ATTRIBUTE, text)
        said = None if missing is None else _no_tensor(op, missing.group(1), positional, keywords)
        return None if said is None else f"[{op.name}] {said}; called as {_called(op, positional, keywords)}"
    return f"[{op.name}] {text}; called as {_called(op, positional, keywords)}, it takes {signature_of(op)}"


cdef bint _from_python(object trace):
    """Whether an error comes out of a function written in Python, such as one of the user's."""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return not trace.tb_frame.f_code.co_filename.endswith((".pyx", ".pxd"))


cdef int tell(object op, object function, PyObject **args, size_t nargs, PyObject *names) except -1:
    """With an error set: put one in public words in its place, if it has none.  See Note [Errors of a call]."""
    cdef PyObject *kind
    cdef PyObject *value
    cdef PyObject *trace
    cdef Py_ssize_t i, given = <Py_ssize_t> (nargs & ~PY_VECTORCALL_ARGUMENTS_OFFSET)
    cdef str said = None
    if PyErr_Occurred() == NULL or not (PyErr_GivenExceptionMatches(PyErr_Occurred(), TypeError)
                                        or PyErr_GivenExceptionMatches(PyErr_Occurred(), AttributeError)):
        return 0
    PyErr_Fetch(&kind, &value, &trace)
    PyErr_NormalizeException(&kind, &value, &trace)
    if type(<object> value) in (TypeError, AttributeError) and (trace == NULL or not _from_python(<object> trace)):
        said = _told(op, <object> value, [<object> args[i] for i in range(given)],
                     {} if names == NULL else {name: <object> args[given + i] for i, name in enumerate(<tuple> names)})
    if said is None:
        PyErr_Restore(kind, value, trace)
        return 0
    Py_XDECREF(kind)
    Py_XDECREF(value)
    Py_XDECREF(trace)
    raise TypeError(said)
