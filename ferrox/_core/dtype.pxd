# Element types: a table by fx_dtype number, and one Python object for each.  See dtype.pyx.
from ferrox._core.abi cimport FX_DTYPES

cdef enum:
    BOOLEAN = 0
    INTEGRAL = 1
    FLOATING = 2

cdef int itemsizes[10]
cdef int categories[10]
cdef unsigned char promotions[10][10]
cdef int default_dtype

cdef class dtype:
    cdef int code
    cdef readonly str name
    cdef readonly int itemsize

cdef dtype dtype_object(int code)
cdef int as_dtype(object value) except -1
cdef str dtype_name(int code)
