# Moving and accumulating elements through an index.  See index_walk.pyx.
from libc.stdint cimport int64_t

from ferrox._core.abi cimport FX_FLOATING, fx_array, fx_call, fx_category, fx_scalar
from ferrox._core.cpu.strided cimport fx_box

cdef enum:
    READ = 0      # y = x[index]
    WRITE = 1     # x[index] = y; of equal indices the last one wins
    ADD = 2       # x[index] += alpha * y, and so on, in the order of the index
    MULTIPLY = 3
    MAXIMUM = 4   # NaN wins
    MINIMUM = 5

# FX_ERROR_INDEX with a message if an index is outside [0, size), or [-size, size) where negative ones wrap;
# `negative` tells whether there are any.
cdef int check_index(fx_call *call, const fx_array *index, int64_t size, int dim, bint wrap,
                     bint *negative) noexcept nogil

# The box holds the operands y, x, index in this order; x moves by index * scale bytes besides its strides.
# Accumulating actions have no float16 and bfloat16: their callers widen.
# READ checks indices against [0, limit) unless limit is -1, and stops at a bad one with false; the others take only
# indices that were checked.
cdef bint move_indexed(fx_box *b, int action, int dtype, int64_t scale, int64_t limit, fx_scalar alpha) noexcept nogil

cdef inline fx_scalar one_of(int dtype) noexcept nogil:
    """1 as a parameter of arithmetic in a dtype: alpha is an integer where the arithmetic is."""
    cdef fx_scalar one
    if fx_category(dtype) == FX_FLOATING:
        one.f = 1
    else:
        one.i = 1
    return one
