"""The reductions of fx/reduce.h, compiled for one CPU level and put into the driver's table."""
from ferrox._core.abi cimport FX_DTYPES
from ferrox._core.cpu.reduce cimport fx_reduce_entry, reducers

cdef extern from "fx/reduce.h" namespace "fx::reduce" nogil:
    void fill_table(fx_reduce_entry (*table)[FX_DTYPES])

fill_table(reducers)
