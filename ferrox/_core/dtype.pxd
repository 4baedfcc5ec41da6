# Element types: a table by fx_dtype number, and one Python object for each.  See dtype.pyx.
from ferrox._core.abi cimport FX_BOOLEAN, FX_DTYPES, FX_FLOATING, FX_INTEGRAL

cdef enum:
    BOOLEAN = FX_BOOLEAN
    INTEGRAL = FX_INTEGRAL
    FLOATING = FX_FLOATING

cdef int categories[FX_DTYPES]
cdef unsigned char promotions[FX_DTYPES][FX_DTYPES]
cdef int default_dtype

cdef class dtype:
    cdef int code
    cdef readonly str name
    cdef readonly int itemsize

cdef dtype dtype_object(int code)
cdef int as_dtype(object value) except -1
cdef str dtype_name(int code)
