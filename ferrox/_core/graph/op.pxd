# The operator: one class for the built-in rows and for the user's own.  See op.pyx.
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

ctypedef PyObject *(*entry_fn)(PyObject *self, PyObject **args, size_t nargs, PyObject *names) except NULL

cdef enum:
    MAX_NEEDS = 8           # inputs after the eighth need what the eighth needs
    OUTPUT_BIT = 16         # in a needs mask: bit i is input i, bit OUTPUT_BIT + k is output k

cdef class Op:
    cdef entry_fn entry                 # the vectorcall slot
    cdef readonly str name
    cdef int kernel                     # its number at the door, -1 when it runs no kernel of its own
    cdef int inputs                     # number of operands of an elementwise operator
    cdef int kind                       # dtype rule of an elementwise operator
    cdef void *vjp                      # the gradient rule (graph/node.pxd, vjp_fn), NULL when there is none
    cdef uint32_t needs[8]              # what the gradient of input i needs to be kept
    cdef object function                # the Python-visible implementation behind `entry`, where there is one
    cdef object binder                  # the keywords of `function`, once a call had any: graph/binding.pyx
    cdef readonly dict row              # what the row says besides: doc, signature, reference, sample, …

cdef entry_fn python_entry             # what a user's own operator does when called: set by custom.pyx
cdef dict registry

# What `function` gives for a call: keywords under every name, errors in public words.
cdef PyObject *call_function(PyObject *self, PyObject **args, size_t nargs, PyObject *names) except NULL
