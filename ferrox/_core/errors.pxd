# From a kernel's status to a Python exception.  See errors.pyx.
cdef int raise_status(int status, str name, const char *message) except -1
# For memory that could not be had; a backend's own report goes before `text`.
cdef int raise_memory(str text, str name=*) except -1
