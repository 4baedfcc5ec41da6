# How a call with keywords reaches an operator's function.  See binding.pyx.
from cpython.object cimport PyObject

cdef class Binder:
    cdef str name               # public name of the operator
    cdef object function
    cdef tuple names            # parameters that take a keyword, in order
    cdef int ahead              # how many of them may be given by position
    cdef str star               # the parameter that takes any number of arguments, or None
    cdef bint open              # it takes keywords of any name

    cdef str canonical(self, str name)
    # Both give NULL with an error set, for `tell` to look at.
    cdef PyObject *call(self, PyObject **args, size_t nargs, PyObject *names) noexcept
    cdef PyObject *_rebound(self, PyObject **args, Py_ssize_t given, tuple names) noexcept

# The parameter, of `names`, that a keyword of an operator stands for; None when there is none.
cdef str parameter_of(str operator, str name, tuple names)
cdef str signature_of(object op)
cdef int tell(object op, object function, PyObject **args, size_t nargs, PyObject *names) except -1
