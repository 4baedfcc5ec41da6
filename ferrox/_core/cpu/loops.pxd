# The C++ side of the loops (kernels/include/fx/loops.h): pointer types that carry restrict, and fx::apply.
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t

cdef extern from "fx/loops.h" nogil:
    ctypedef float *f32p
    ctypedef double *f64p
    ctypedef int8_t *i8p
    ctypedef int16_t *i16p
    ctypedef int32_t *i32p
    ctypedef int64_t *i64p
    ctypedef uint8_t *u8p

cdef extern from "fx/loops.h" namespace "fx" nogil:
    T apply1 "fx::apply" [Op, T](Op, T)
    T apply2 "fx::apply" [Op, T](Op, T, T)
    T apply3 "fx::apply" [Op, T](Op, T, T, T)
    uint8_t test1 "fx::apply" [Op, T](Op, T)
    uint8_t test2 "fx::apply" [Op, T](Op, T, T)
    T apply_fast "fx::apply_fast" [Op, T](Op, T)
    int outside "fx::outside" [Op, T](Op, T)
