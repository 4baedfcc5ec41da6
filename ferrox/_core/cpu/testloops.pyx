# Temporary
from libc.stdint cimport *
from ferrox._core.cpu.table cimport fx_loop, provide_loop, casts

ctypedef fused num:
    uint8_t
    int8_t
    int16_t
    int32_t
    int64_t
    float
    double
cdef void add(num *o, num *x, num *y, void *z, const double *p, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n): o[i] = x[i] + y[i]
cdef void neg(num *o, num *x, num *y, void *z, const double *p, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n): o[i] = -x[i]
cdef void lt(uint8_t *o, num *x, num *y, void *z, const double *p, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n): o[i] = x[i] < y[i]
cdef void fma_(num *o, num *x, num *y, num *z, const double *p, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n): o[i] = x[i] * y[i] + z[i]
ctypedef fused to_t:
    uint8_t
    int8_t
    int16_t
    int32_t
    int64_t
    float
    double
ctypedef fused from_t:
    uint8_t
    int8_t
    int16_t
    int32_t
    int64_t
    float
    double
cdef void cast(to_t *o, from_t *x, void *y, void *z, const double *p, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n): o[i] = <to_t> x[i]
cdef void cast_b(uint8_t *o, from_t *x, void *y, void *z, const double *p, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n): o[i] = x[i] != 0
provide_loop("add", 1, <fx_loop> add[uint8_t], 2, False)
provide_loop("add", 2, <fx_loop> add[int8_t], 2, False)
provide_loop("add", 3, <fx_loop> add[int16_t], 2, False)
provide_loop("add", 4, <fx_loop> add[int32_t], 2, False)
provide_loop("add", 5, <fx_loop> add[int64_t], 2, False)
provide_loop("add", 8, <fx_loop> add[float], 2, False)
provide_loop("add", 9, <fx_loop> add[double], 2, False)
provide_loop("neg", 1, <fx_loop> neg[uint8_t], 1, False)
provide_loop("neg", 2, <fx_loop> neg[int8_t], 1, False)
provide_loop("neg", 3, <fx_loop> neg[int16_t], 1, False)
provide_loop("neg", 4, <fx_loop> neg[int32_t], 1, False)
provide_loop("neg", 5, <fx_loop> neg[int64_t], 1, False)
provide_loop("neg", 8, <fx_loop> neg[float], 1, False)
provide_loop("neg", 9, <fx_loop> neg[double], 1, False)
provide_loop("lt", 1, <fx_loop> lt[uint8_t], 2, True)
provide_loop("lt", 2, <fx_loop> lt[int8_t], 2, True)
provide_loop("lt", 3, <fx_loop> lt[int16_t], 2, True)
provide_loop("lt", 4, <fx_loop> lt[int32_t], 2, True)
provide_loop("lt", 5, <fx_loop> lt[int64_t], 2, True)
provide_loop("lt", 8, <fx_loop> lt[float], 2, True)
provide_loop("lt", 9, <fx_loop> lt[double], 2, True)
provide_loop("fma_", 1, <fx_loop> fma_[uint8_t], 3, False)
provide_loop("fma_", 2, <fx_loop> fma_[int8_t], 3, False)
provide_loop("fma_", 3, <fx_loop> fma_[int16_t], 3, False)
provide_loop("fma_", 4, <fx_loop> fma_[int32_t], 3, False)
provide_loop("fma_", 5, <fx_loop> fma_[int64_t], 3, False)
provide_loop("fma_", 8, <fx_loop> fma_[float], 3, False)
provide_loop("fma_", 9, <fx_loop> fma_[double], 3, False)
provide_loop("add", 0, <fx_loop> add[uint8_t], 2, False)
casts[1][1] = <fx_loop> cast[uint8_t,uint8_t]
casts[1][2] = <fx_loop> cast[uint8_t,int8_t]
casts[1][3] = <fx_loop> cast[uint8_t,int16_t]
casts[1][4] = <fx_loop> cast[uint8_t,int32_t]
casts[1][5] = <fx_loop> cast[uint8_t,int64_t]
casts[1][8] = <fx_loop> cast[uint8_t,float]
casts[1][9] = <fx_loop> cast[uint8_t,double]
casts[0][1] = <fx_loop> cast_b[uint8_t]
casts[1][0] = <fx_loop> cast[uint8_t,uint8_t]
casts[2][1] = <fx_loop> cast[int8_t,uint8_t]
casts[2][2] = <fx_loop> cast[int8_t,int8_t]
casts[2][3] = <fx_loop> cast[int8_t,int16_t]
casts[2][4] = <fx_loop> cast[int8_t,int32_t]
casts[2][5] = <fx_loop> cast[int8_t,int64_t]
casts[2][8] = <fx_loop> cast[int8_t,float]
casts[2][9] = <fx_loop> cast[int8_t,double]
casts[0][2] = <fx_loop> cast_b[int8_t]
casts[2][0] = <fx_loop> cast[int8_t,uint8_t]
casts[3][1] = <fx_loop> cast[int16_t,uint8_t]
casts[3][2] = <fx_loop> cast[int16_t,int8_t]
casts[3][3] = <fx_loop> cast[int16_t,int16_t]
casts[3][4] = <fx_loop> cast[int16_t,int32_t]
casts[3][5] = <fx_loop> cast[int16_t,int64_t]
casts[3][8] = <fx_loop> cast[int16_t,float]
casts[3][9] = <fx_loop> cast[int16_t,double]
casts[0][3] = <fx_loop> cast_b[int16_t]
casts[3][0] = <fx_loop> cast[int16_t,uint8_t]
casts[4][1] = <fx_loop> cast[int32_t,uint8_t]
casts[4][2] = <fx_loop> cast[int32_t,int8_t]
casts[4][3] = <fx_loop> cast[int32_t,int16_t]
casts[4][4] = <fx_loop> cast[int32_t,int32_t]
casts[4][5] = <fx_loop> cast[int32_t,int64_t]
casts[4][8] = <fx_loop> cast[int32_t,float]
casts[4][9] = <fx_loop> cast[int32_t,double]
casts[0][4] = <fx_loop> cast_b[int32_t]
casts[4][0] = <fx_loop> cast[int32_t,uint8_t]
casts[5][1] = <fx_loop> cast[int64_t,uint8_t]
casts[5][2] = <fx_loop> cast[int64_t,int8_t]
casts[5][3] = <fx_loop> cast[int64_t,int16_t]
casts[5][4] = <fx_loop> cast[int64_t,int32_t]
casts[5][5] = <fx_loop> cast[int64_t,int64_t]
casts[5][8] = <fx_loop> cast[int64_t,float]
casts[5][9] = <fx_loop> cast[int64_t,double]
casts[0][5] = <fx_loop> cast_b[int64_t]
casts[5][0] = <fx_loop> cast[int64_t,uint8_t]
casts[8][1] = <fx_loop> cast[float,uint8_t]
casts[8][2] = <fx_loop> cast[float,int8_t]
casts[8][3] = <fx_loop> cast[float,int16_t]
casts[8][4] = <fx_loop> cast[float,int32_t]
casts[8][5] = <fx_loop> cast[float,int64_t]
casts[8][8] = <fx_loop> cast[float,float]
casts[8][9] = <fx_loop> cast[float,double]
casts[0][8] = <fx_loop> cast_b[float]
casts[8][0] = <fx_loop> cast[float,uint8_t]
casts[9][1] = <fx_loop> cast[double,uint8_t]
casts[9][2] = <fx_loop> cast[double,int8_t]
casts[9][3] = <fx_loop> cast[double,int16_t]
casts[9][4] = <fx_loop> cast[double,int32_t]
casts[9][5] = <fx_loop> cast[double,int64_t]
casts[9][8] = <fx_loop> cast[double,float]
casts[9][9] = <fx_loop> cast[double,double]
casts[0][9] = <fx_loop> cast_b[double]
casts[9][0] = <fx_loop> cast[double,uint8_t]
