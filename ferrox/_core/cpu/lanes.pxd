# Reductions of contiguous rows in a fixed number of lanes, so that they vectorise and their order of summation is the
# same at every vector width.  Inline only: no module behind it.
from libc.stdint cimport int64_t
from libc.math cimport INFINITY

ctypedef fused real:
    float
    double

cdef extern from "fx/scalar_rows.h" namespace "fx" nogil:
    float exp(float x)
    double exp(double x)
    float log(float x)
    double log(double x)
    float sqrt(float x)
    double sqrt(double x)

cdef extern from "fx/exp_down.h" namespace "fx" nogil:
    float exp_down(float x)
    double exp_down(double x)

cdef enum:
    LANES = 32
    SHORT = 8          # lanes for what is left of a row
    SUM_BLOCK = 4096   # elements summed in the row's own precision before they are added to a double


cdef inline real row_max(const real *x, int64_t n) noexcept nogil:
    """The largest element; NaN is passed over (it reappears in whatever is computed from the row)."""
    cdef real m[LANES]
    cdef real top = -INFINITY
    cdef int64_t i = 0
    cdef int j
    if n >= LANES:
        for j in range(LANES):
            m[j] = -INFINITY
        while i + LANES <= n:
            for j in range(LANES):
                m[j] = x[i + j] if x[i + j] > m[j] else m[j]
            i += LANES
        for j in range(SHORT):
            m[j] = m[j + 8] if m[j + 8] > m[j] else m[j]
            m[j] = m[j + 16] if m[j + 16] > m[j] else m[j]
            m[j] = m[j + 24] if m[j + 24] > m[j] else m[j]
    elif n >= SHORT:
        for j in range(SHORT):
            m[j] = -INFINITY
    if n >= SHORT:
        while i + SHORT <= n:
            for j in range(SHORT):
                m[j] = x[i + j] if x[i + j] > m[j] else m[j]
            i += SHORT
        i = n - SHORT    # what is left, together with elements already seen
        for j in range(SHORT):
            m[j] = x[i + j] if x[i + j] > m[j] else m[j]
        i = n
        for j in range(4):
            m[j] = m[j + 4] if m[j + 4] > m[j] else m[j]
        for j in range(2):
            m[j] = m[j + 2] if m[j + 2] > m[j] else m[j]
        top = m[1] if m[1] > m[0] else m[0]
    for i in range(i, n):
        top = x[i] if x[i] > top else top
    return top


cdef inline real fold(real *s) noexcept nogil:
    """The sum of LANES partial sums, pairwise."""
    cdef int j
    for j in range(SHORT):
        s[j] = (s[j] + s[j + 16]) + (s[j + 8] + s[j + 24])
    return fold_short(s)


cdef inline real fold_short(real *s) noexcept nogil:
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))


cdef inline double row_sum(const real *x, int64_t n) noexcept nogil:
    cdef real s[LANES]
    cdef double total = 0
    cdef int64_t i = 0, stop
    cdef int j
    while n - i >= LANES:
        stop = i + SUM_BLOCK if n - i > SUM_BLOCK else n
        for j in range(LANES):
            s[j] = 0
        while i + LANES <= stop:
            for j in range(LANES):
                s[j] += x[i + j]
            i += LANES
        total += fold(s)
    if n - i >= SHORT:
        for j in range(SHORT):
            s[j] = 0
        while i + SHORT <= n:
            for j in range(SHORT):
                s[j] += x[i + j]
            i += SHORT
        total += fold_short(s)
    for i in range(i, n):
        total += x[i]
    return total
