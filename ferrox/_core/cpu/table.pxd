# Contiguous inner loops of the elementwise kernels, by kernel number and compute dtype.  See table.pyx.
from ferrox._core.abi cimport FX_DTYPES, fx_scalar
from ferrox._core.door.backend cimport MAX_KERNELS

# o[i] = f(x[i], y[i], z[i]; p): operands contiguous, in the compute dtype; o in the compute dtype or bool (uint8).
# o may be x, y or z itself, but never overlaps them otherwise.  p always holds at least four values.
ctypedef void (*fx_loop)(void *o, void *x, void *y, void *z, const fx_scalar *p, Py_ssize_t n) noexcept nogil

cdef struct elementwise_entry:
    # By compute dtype (fx_dtype); NULL where the kernel is not defined; float16 and bfloat16 go through float32.
    fx_loop loop[FX_DTYPES]
    int n_in
    bint to_bool        # the result is bool whatever the compute dtype
    bint is_costly      # its arithmetic is transcendental

cdef elementwise_entry entries[MAX_KERNELS]
# casts[to][from]: o[i] = (to) x[i]; the other arguments are ignored.
cdef fx_loop casts[FX_DTYPES][FX_DTYPES]
# By element size (1, 2, 4, 8).  selects: o[i] = x[i] ? y[i] : z[i], x bool (uint8); fills: o[i] = x[0].
cdef fx_loop selects[9]
cdef fx_loop fills[9]

cdef int provide_loop(str name, int dtype, fx_loop loop, int n_in, bint to_bool, bint is_costly) except -1
# Whether y holds a zero: what an integer division (floor_divide, div_trunc, remainder, fmod) must ask before its loop,
# which gives 0 there.  True for an integer dtype only.
cdef bint divides_by_zero(int kernel, int dtype, const void *y, Py_ssize_t n) noexcept nogil
# On bool, kernel `name` runs the uint8 loop of kernel `other`.
cdef int alias_bool_loop(str name, str other) except -1
