"""Conversions between every two dtypes (on one dtype, a copy), and selection and fill by element size."""
from libc.stdint cimport uint16_t, uint32_t, uint64_t

from ferrox._core.abi cimport *
from ferrox._core.cpu.loops cimport *
from ferrox._core.cpu.table cimport casts, fills, fx_loop, selects

cdef extern from "fx/loops.h" namespace "fx" nogil:
    cppclass float16:
        pass
    cppclass bfloat16:
        pass
    void convert[To, From](To o, Py_ssize_t i, From x)

cdef extern from "fx/loops.h" nogil:
    ctypedef bint *b8p
    ctypedef float16 *f16p
    ctypedef bfloat16 *bf16p
    ctypedef uint16_t *u16p
    ctypedef uint32_t *u32p
    ctypedef uint64_t *u64p

ctypedef fused target:
    b8p
    u8p
    i8p
    i16p
    i32p
    i64p
    f16p
    bf16p
    f32p
    f64p

ctypedef fused source:
    b8p
    u8p
    i8p
    i16p
    i32p
    i64p
    f16p
    bf16p
    f32p
    f64p

ctypedef fused word:
    u8p
    u16p
    u32p
    u64p


cdef void cast(target o, source x, void *y, void *z, const fx_scalar *p, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        convert(o, i, x[i])


cdef void select(word o, u8p condition, word x, word y, const fx_scalar *p, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        o[i] = x[i] if condition[i] else y[i]


cdef void fill(word o, word x, void *y, void *z, const fx_scalar *p, Py_ssize_t n) noexcept nogil:
    value = x[0]
    cdef Py_ssize_t i
    for i in range(n):
        o[i] = value


cdef void register_casts(target to, int dtype) noexcept:
    casts[dtype][<int> FX_BOOL] = <fx_loop> cast[target, b8p]
    casts[dtype][<int> FX_U8] = <fx_loop> cast[target, u8p]
    casts[dtype][<int> FX_I8] = <fx_loop> cast[target, i8p]
    casts[dtype][<int> FX_I16] = <fx_loop> cast[target, i16p]
    casts[dtype][<int> FX_I32] = <fx_loop> cast[target, i32p]
    casts[dtype][<int> FX_I64] = <fx_loop> cast[target, i64p]
    casts[dtype][<int> FX_F16] = <fx_loop> cast[target, f16p]
    casts[dtype][<int> FX_BF16] = <fx_loop> cast[target, bf16p]
    casts[dtype][<int> FX_F32] = <fx_loop> cast[target, f32p]
    casts[dtype][<int> FX_F64] = <fx_loop> cast[target, f64p]


register_casts(<b8p> NULL, FX_BOOL)
register_casts(<u8p> NULL, FX_U8)
register_casts(<i8p> NULL, FX_I8)
register_casts(<i16p> NULL, FX_I16)
register_casts(<i32p> NULL, FX_I32)
register_casts(<i64p> NULL, FX_I64)
register_casts(<f16p> NULL, FX_F16)
register_casts(<bf16p> NULL, FX_BF16)
register_casts(<f32p> NULL, FX_F32)
register_casts(<f64p> NULL, FX_F64)
selects[1], selects[2] = <fx_loop> select[u8p], <fx_loop> select[u16p]
selects[4], selects[8] = <fx_loop> select[u32p], <fx_loop> select[u64p]
fills[1], fills[2] = <fx_loop> fill[u8p], <fx_loop> fill[u16p]
fills[4], fills[8] = <fx_loop> fill[u32p], <fx_loop> fill[u64p]
