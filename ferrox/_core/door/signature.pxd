# What a kernel declares of itself.  See signature.pyx.
from libc.stdint cimport uint8_t, uint32_t

from ferrox._core.abi cimport fx_call

cdef enum:
    MAX_OPERANDS = 24       # that a signature names
    MAX_PARAMETERS = 16

# What an operand's dtype must be, beside a number of fx_dtype.
cdef enum:
    OF_CALL = 64            # the dtype of the arithmetic
    ACCUMULATED = 65        # that of its sums: float32 for halves
    FREE = 66               # any: the kernel casts
    REAL = 67               # any floating-point one

cdef enum:
    WRITTEN = 1             # overwritten without being read
    UPDATED = 2             # changed, starting from what it holds
    READ = 3

cdef struct operand_rule:
    uint8_t dtype, role
    bint optional

cdef struct operand_list:
    operand_rule rules[24]
    int n                   # rules
    int group_at, group     # the rules of a repeated group: the first, and how many; none when group is 0

cdef struct signature:
    operand_list outs, ins
    uint8_t params[16]      # c'i', c'f' or c'n'
    int n_params            # -1: as many as come
    int kind                # of cost: KIND_NAMES
    uint32_t dtypes         # of the arithmetic: a bit each
    bint in_place           # reads an element before it writes there: an output may be an input, exactly
    bint buffered           # inputs that share memory with an output are copied first
    bint free               # no operand has a rule: nothing to look at
    bint reads_outputs      # some output is updated
    void *names             # a tuple of the operands' names and one of the parameters', borrowed: they live for ever

cdef signature *declared(int kernel, str name, str text) except NULL
cdef int rule_at(const operand_list *operands, int position, int n) noexcept nogil
cdef bint fits(const signature *s, const fx_call *call) noexcept nogil
cdef int refuse_call(str name, const signature *s, fx_call *call) except -1
cdef int role_of(const signature *s, fx_call *call, int position) noexcept nogil
cdef str operand_name(const signature *s, fx_call *call, int position)
