# From a kernel's status to a Python exception.  See errors.pyx.
cdef int raise_status(int status, str name, const char *message) except -1
