# Elements as unsigned keys of the same order; sorting and selecting keys.  See order.pyx.
from libc.stdint cimport int64_t, uint64_t

# How an element becomes a key: bits of its type, its sign bit (0 for unsigned), infinity's bits (0 for integers),
# and what the key is xored with at last (all ones for descending order).
cdef struct key_kind:
    int bits
    uint64_t sign, infinity, flip

cdef enum:
    PLAIN = 0   # keys
    PACKED = 1  # key << 32 | position, for types of up to 32 bits

cdef key_kind kind_of(int dtype, bint descending) noexcept nogil
# Returns which bits of the keys (not of the packed words) differ anywhere.  Positions count from `first`.
cdef uint64_t load_keys(const char *x, int64_t stride, int64_t n, const key_kind *kind, uint64_t *to, int form,
                        int64_t first) noexcept nogil

# Stable radix sort of words by their bits 32 and up, of which `differ` (shifted down by 32) tells the ones that matter.
# Returns where the result is: `words` or `spare`.  `counts` holds threads * 2048 numbers.
cdef uint64_t *sort_words(uint64_t *words, uint64_t *spare, int64_t n, uint64_t differ, int64_t *counts,
                          int threads) noexcept nogil
# Positions in the order of the keys, ties by position, as the low halves of the words returned.
cdef uint64_t *order_keys(const uint64_t *keys, int64_t n, uint64_t differ, uint64_t *words, uint64_t *spare,
                          int64_t *counts, int threads) noexcept nogil
# The k-th least key (from 0); `rank` is how many equal ones stand before it.  spare: n keys.
cdef uint64_t select_key(const uint64_t *keys, int64_t n, int64_t k, uint64_t *spare, int64_t *rank) noexcept nogil
