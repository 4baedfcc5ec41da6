# cuBLASLt, where it is installed.  See blaslt.pyx.
from ferrox._core.cuda.product cimport product, product_function

# Large products that the library does faster than `own`: *done says whether it has done this one.  A status.
cdef int multiply_by_library(product *p, bint tf32, product_function own, bint *done) noexcept nogil
