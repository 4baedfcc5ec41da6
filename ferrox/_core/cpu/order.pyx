"""Ordering by unsigned keys.

Every dtype maps to unsigned integers of the same order: NaN of either sign is the greatest, -0 and 0 have one key.
A row is then sorted by a radix sort over words that hold 32 bits of key and the position: stable, without comparisons,
and the same on any number of threads.  Of 64-bit keys the 32 highest bits that differ are sorted first; runs that
agree in these are sorted by the bits below.
"""
from cython.parallel cimport prange
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from ferrox._core.abi cimport fx_infinity_bits, fx_itemsize, fx_sign_bit

ctypedef fused raw:
    uint8_t
    uint16_t
    uint32_t
    uint64_t

cdef enum:
    SHORT = 256  # words up to which merging beats the radix sort

cdef extern from *:
    int highest_bit "63 - __builtin_clzll" (unsigned long long v) nogil
    int lowest_bit "__builtin_ctzll" (unsigned long long v) nogil


cdef key_kind kind_of(int dtype, bint descending) noexcept nogil:
    cdef key_kind kind
    cdef uint64_t all_ones = ~<uint64_t> 0
    kind.bits = 8 * fx_itemsize(dtype)
    kind.sign = fx_sign_bit(dtype)
    kind.infinity = fx_infinity_bits(dtype)
    kind.flip = all_ones >> (64 - kind.bits) if descending else 0
    return kind


cdef inline raw _float_key(raw u, raw sign, raw infinity) noexcept nogil:
    cdef raw magnitude = u & ~sign, key
    key = <raw> ~u if u & sign else u | sign
    if magnitude == 0:
        key = sign
    if magnitude > infinity:
        key = <raw> ~<raw> 0
    return key


cdef uint64_t _load(raw zero, const char *x, int64_t stride, int64_t n, const key_kind *kind, uint64_t *to, int form,
                    int64_t first) noexcept nogil:
    cdef raw sign = <raw> kind.sign, infinity = <raw> kind.infinity, flip = <raw> kind.flip, u, differ = 0, start
    cdef int64_t i
    if n == 0:
        return 0
    u = (<const raw *> x)[0]
    start = (_float_key[raw](u, sign, infinity) if infinity else u ^ sign) ^ flip
    if form == PACKED:
        if infinity:
            for i in range(n):
                u = _float_key[raw]((<const raw *> (x + i * stride))[0], sign, infinity) ^ flip
                differ |= u ^ start
                to[i] = <uint64_t> u << 32 | <uint64_t> (first + i)
        else:
            for i in range(n):
                u = (<const raw *> (x + i * stride))[0] ^ sign ^ flip
                differ |= u ^ start
                to[i] = <uint64_t> u << 32 | <uint64_t> (first + i)
    elif infinity:
        for i in range(n):
            u = _float_key[raw]((<const raw *> (x + i * stride))[0], sign, infinity) ^ flip
            differ |= u ^ start
            to[i] = u
    else:
        for i in range(n):
            u = (<const raw *> (x + i * stride))[0] ^ sign ^ flip
            differ |= u ^ start
            to[i] = u
    return differ


cdef uint64_t load_keys(const char *x, int64_t stride, int64_t n, const key_kind *kind, uint64_t *to, int form,
                        int64_t first) noexcept nogil:
    if kind.bits == 8:
        return _load[uint8_t](0, x, stride, n, kind, to, form, first)
    if kind.bits == 16:
        return _load[uint16_t](0, x, stride, n, kind, to, form, first)
    if kind.bits == 32:
        return _load[uint32_t](0, x, stride, n, kind, to, form, first)
    return _load[uint64_t](0, x, stride, n, kind, to, form, first)


cdef void _insertion_sort(uint64_t *words, int64_t n) noexcept nogil:
    cdef int64_t i, j
    cdef uint64_t w
    for i in range(1, n):
        w = words[i]
        j = i
        while j > 0 and words[j - 1] > w:
            words[j] = words[j - 1]
            j -= 1
        words[j] = w


cdef void _merge(const uint64_t *a, const uint64_t *a_end, const uint64_t *b, const uint64_t *b_end,
                 uint64_t *to) noexcept nogil:
    cdef uint64_t u, v
    cdef bint second
    while a < a_end and b < b_end:
        u = a[0]
        v = b[0]
        second = v < u  # no branch that could be mispredicted
        to[0] = v if second else u
        to += 1
        a += not second
        b += second
    while a < a_end:
        to[0] = a[0]
        to += 1
        a += 1
    while b < b_end:
        to[0] = b[0]
        to += 1
        b += 1


cdef uint64_t *_merge_sort(uint64_t *words, uint64_t *spare, int64_t n) noexcept nogil:
    cdef int64_t i, width = 8, middle, end
    cdef uint64_t *other
    i = 0
    while i < n:
        _insertion_sort(words + i, n - i if n - i < width else width)
        i += width
    while width < n:
        i = 0
        while i < n:
            middle = i + width if i + width < n else n
            end = middle + width if middle + width < n else n
            _merge(words + i, words + middle, words + middle, words + end, spare + i)
            i = end
        other = words
        words = spare
        spare = other
        width *= 2
    return words


cdef void _count(const uint64_t *words, int64_t n, int shift, uint64_t mask, int64_t *counts) noexcept nogil:
    cdef int64_t i
    memset(counts, 0, (mask + 1) * 8)
    for i in range(n):
        counts[(words[i] >> shift) & mask] += 1


cdef void _deal(const uint64_t *words, int64_t n, int shift, uint64_t mask, int64_t *starts,
                uint64_t *to) noexcept nogil:
    cdef int64_t i
    cdef uint64_t digit
    for i in range(n):
        digit = (words[i] >> shift) & mask
        to[starts[digit]] = words[i]
        starts[digit] += 1


cdef uint64_t *sort_words(uint64_t *words, uint64_t *spare, int64_t n, uint64_t differ, int64_t *counts,
                          int threads) noexcept nogil:
    cdef int low, high, passes, width, shift, t
    cdef uint64_t mask, digit
    cdef int64_t total, c
    cdef uint64_t *other
    if differ == 0:
        return words
    if n <= SHORT:
        return _merge_sort(words, spare, n)
    low = lowest_bit(differ)
    high = highest_bit(differ) + 1
    # Few digits for many words; small tables, which cost their clearing, for few.
    width = 11 if n > 6000 else 8
    passes = (high - low + width - 1) // width
    width = (high - low + passes - 1) // passes
    mask = (<uint64_t> 1 << width) - 1
    while passes:
        shift = 32 + low
        if threads == 1:
            _count(words, n, shift, mask, counts)
        else:
            for t in prange(threads, num_threads=threads, schedule="static", chunksize=1):
                _count(words + n * t // threads, n * (t + 1) // threads - n * t // threads, shift, mask,
                       counts + 2048 * t)
        total = 0
        for digit in range(mask + 1):
            for t in range(threads):
                c = counts[2048 * t + digit]
                counts[2048 * t + digit] = total
                total += c
        if threads == 1:
            _deal(words, n, shift, mask, counts, spare)
        else:
            for t in prange(threads, num_threads=threads, schedule="static", chunksize=1):
                _deal(words + n * t // threads, n * (t + 1) // threads - n * t // threads, shift, mask,
                      counts + 2048 * t, spare)
        other = words
        words = spare
        spare = other
        low += width
        passes -= 1
    return words


cdef uint64_t *order_keys(const uint64_t *keys, int64_t n, uint64_t differ, uint64_t *words, uint64_t *spare,
                          int64_t *counts, int threads) noexcept nogil:
    cdef int shift = 0
    cdef int64_t i, j, begin
    cdef uint64_t low, below
    cdef uint64_t *sorted_words
    cdef uint64_t *other
    cdef uint64_t *run
    if differ >> 32:
        shift = highest_bit(differ) - 31
    for i in range(n):
        words[i] = (keys[i] >> shift) << 32 | <uint64_t> i
    sorted_words = sort_words(words, spare, n, (differ >> shift) & 0xffffffffU, counts, threads)
    low = (<uint64_t> 1 << shift) - 1
    if differ & low == 0:
        return sorted_words
    other = spare if sorted_words == words else words
    begin = 0
    while begin < n:
        i = begin + 1
        while i < n and sorted_words[i] >> 32 == sorted_words[begin] >> 32:
            i += 1
        if i - begin > 1:
            below = 0
            for j in range(begin, i):
                sorted_words[j] = (keys[sorted_words[j] & 0xffffffffU] & low) << 32 | (sorted_words[j] & 0xffffffffU)
                below |= (sorted_words[j] ^ sorted_words[begin]) >> 32
            run = sort_words(sorted_words + begin, other + begin, i - begin, below, counts, 1)
            if run != sorted_words + begin:
                for j in range(i - begin):
                    sorted_words[begin + j] = run[j]
        begin = i
    return sorted_words


cdef uint64_t select_key(const uint64_t *keys, int64_t n, int64_t k, uint64_t *spare, int64_t *rank) noexcept nogil:
    cdef int64_t counts[2048]
    cdef const uint64_t *now = keys
    cdef uint64_t differ, digit
    cdef int64_t i, m
    cdef int shift
    while n > 64:
        differ = 0
        for i in range(n):
            differ |= now[i] ^ now[0]
        if differ == 0:
            rank[0] = k
            return now[0]
        shift = highest_bit(differ) - 10
        if shift < 0:
            shift = 0
        memset(counts, 0, sizeof(counts))
        for i in range(n):
            counts[(now[i] >> shift) & 2047] += 1
        # The bits above the digit agree, so that the digits order the keys.
        digit = 0
        while counts[digit] <= k:
            k -= counts[digit]
            digit += 1
        m = 0
        for i in range(n):
            if (now[i] >> shift) & 2047 == digit:
                spare[m] = now[i]
                m += 1
        now = spare
        n = m
    if now == keys:
        for i in range(n):
            spare[i] = keys[i]
    _insertion_sort(spare, n)
    m = k
    while m > 0 and spare[m - 1] == spare[k]:
        m -= 1
    rank[0] = k - m
    return spare[k]
