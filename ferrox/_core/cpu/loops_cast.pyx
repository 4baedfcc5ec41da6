"""Conversions between every two dtypes (on one dtype, a copy), and selection and fill by element size."""
from libc.stdint cimport uint16_t, uint32_t, uint64_t

from ferrox._core.abi cimport FX_DTYPES, fx_scalar
from ferrox._core.cpu.loops cimport *
from ferrox._core.cpu.table cimport casts, fills, fx_loop, selects

cdef extern from "fx/casts.h" namespace "fx" nogil:
    void fill_casts(fx_loop (*table)[FX_DTYPES])

cdef extern from "fx/loops.h" nogil:
    ctypedef uint16_t *u16p
    ctypedef uint32_t *u32p
    ctypedef uint64_t *u64p

ctypedef fused word:
    u8p
    u16p
    u32p
    u64p


cdef void select(word o, u8p condition, word x, word y, const fx_scalar *p, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        o[i] = x[i] if condition[i] else y[i]


cdef void fill(word o, word x, void *y, void *z, const fx_scalar *p, Py_ssize_t n) noexcept nogil:
    value = x[0]
    cdef Py_ssize_t i
    for i in range(n):
        o[i] = value


fill_casts(casts)
selects[1], selects[2] = <fx_loop> select[u8p], <fx_loop> select[u16p]
selects[4], selects[8] = <fx_loop> select[u32p], <fx_loop> select[u64p]
fills[1], fills[2] = <fx_loop> fill[u8p], <fx_loop> fill[u16p]
fills[4], fills[8] = <fx_loop> fill[u32p], <fx_loop> fill[u64p]
