"""Scaled dot-product attention, blockwise over the keys (Dao et al., FlashAttention, 2022), and its gradient.

sdpa:           out, lse | q (..., L, E), k (..., S, E), v (..., S, Ev), mask? (..., L, S)        scale f, causal i
sdpa_backward:  dq?, dk?, dv? | g, q, k, v, out, lse, mask?                                       scale f, causal i

The leading dimensions are equal (broadcast operands have stride 0).  A bool mask keeps the keys where it is true, a
float mask is added; causal lets query i see keys 0 .. i.  lse (..., L) is the logarithm of the sum of exponentials,
-inf for a query that sees no key: its output and its gradients are 0. A head is packed once, into K transposed in
blocks of KEYS keys and V with rows of whole tiles; the forward is shared out by blocks of queries, the gradient by
heads.
"""
from libc.math cimport INFINITY
from libc.stdint cimport uint8_t
from libc.string cimport memset

from ferrox._core.abi cimport FX_BOOL, FX_CPU, FX_F64, fx_array, fx_call
from ferrox._core.door.backend cimport provide
from ferrox._core.cpu.lanes cimport dot_row, exp_down, log, real, row_max, row_sum
from ferrox._core.cpu.rows cimport int64_t, load_flat, load_row, over_rows, row_worker, store_one, store_row

cdef extern from "fx/tile.h" namespace "fx" nogil:
    void small_product(int64_t m, int64_t n, int64_t k, const float *a, int64_t rsa, int64_t csa, const float *b,
                       int64_t ldb,
                       float *c, int64_t ldc, bint add)
    void small_product(int64_t m, int64_t n, int64_t k, const double *a, int64_t rsa, int64_t csa, const double *b,
                       int64_t ldb,
                       double *c, int64_t ldc, bint add)
    int64_t whole_tiles(const float *, int64_t n)
    int64_t whole_tiles(const double *, int64_t n)

cdef enum:
    QUERIES = 48   # rows of a block: whole tiles
    KEYS = 64      # columns of a block

cdef struct sdpa_task:
    fx_array *out
    fx_array *lse
    fx_array *q
    fx_array *k
    fx_array *v
    fx_array *mask
    fx_array *g
    fx_array *dq
    fx_array *dk
    fx_array *dv
    double scale
    bint causal
    int64_t heads, length, keys, width, v_width    # B H, L, S, E, Ev
    int64_t blocks, key_blocks                     # of queries, of keys
    int64_t pad, v_pad                             # width and v_width in whole tiles
    size_t size                                    # of an element


cdef inline int64_t head_start(const fx_array *a, int64_t head) noexcept nogil:
    """Offset of a head's matrix."""
    cdef int64_t offset = 0
    cdef int d
    for d in range(a.ndim - 3, -1, -1):
        offset += head % a.dims[d] * a.dims[a.ndim + d]
        head //= a.dims[d]
    return offset


cdef inline void pack_rows(const fx_array *a, int64_t head, int64_t first, int64_t rows, int64_t width,
                           int64_t pad, real *o) noexcept nogil:
    """Rows of a head's matrix side by side, each filled up with zeros to `pad` elements."""
    cdef int64_t start = head_start(a, head) + first * a.dims[2 * a.ndim - 2], r, i
    cdef const real *x
    for r in range(rows):
        x = load_row(a.data, a.dtype, start + r * a.dims[2 * a.ndim - 2], a.dims[2 * a.ndim - 1], width, o + r * pad)
        if x != o + r * pad:
            for i in range(width):
                o[r * pad + i] = x[i]
        for i in range(width, pad):
            o[r * pad + i] = 0


cdef inline void pack_transposed(const fx_array *a, int64_t head, int64_t rows, int64_t width, real *o,
                                 real *scratch) noexcept nogil:
    """A head's matrix in blocks of KEYS rows, transposed: block[e * KEYS + row]; missing ones 0.  scratch: 8 rows."""
    cdef int64_t start = head_start(a, head), step = a.dims[2 * a.ndim - 2], r, i, j
    cdef const real *x[8]
    cdef real *block
    if rows % KEYS:
        memset(o + rows // KEYS * KEYS * width, 0, KEYS * width * sizeof(real))
    for r in range(0, rows // 8 * 8, 8):
        block = o + r // KEYS * KEYS * width + r % KEYS
        for j in range(8):
            x[j] = load_row(a.data, a.dtype, start + (r + j) * step, a.dims[2 * a.ndim - 1], width, scratch + j * width)
        for i in range(width):
            for j in range(8):
                block[i * KEYS + j] = x[j][i]
    for r in range(rows // 8 * 8, rows):
        x[0] = load_row(a.data, a.dtype, start + r * step, a.dims[2 * a.ndim - 1], width, scratch)
        block = o + r // KEYS * KEYS * width + r % KEYS
        for i in range(width):
            block[i * KEYS] = x[0][i]


cdef inline void scale_and_mask(sdpa_task *t, int64_t head, int64_t row, int64_t first, real *s) noexcept nogil:
    """One query's products with a block of keys, scaled; those that it does not see become -inf."""
    cdef int64_t seen = t.keys - first, j, start, stride
    cdef const uint8_t *kept
    cdef const real *added
    cdef real scratch[KEYS]
    cdef real scale = <real> t.scale
    if t.causal and row + 1 - first < seen:
        seen = row + 1 - first
    seen = KEYS if seen > KEYS else 0 if seen < 0 else seen
    for j in range(seen):
        s[j] *= scale
    for j in range(seen, KEYS):
        s[j] = -INFINITY
    if t.mask != NULL:
        stride = t.mask.dims[2 * t.mask.ndim - 1]
        start = head_start(t.mask, head) + row * t.mask.dims[2 * t.mask.ndim - 2] + first * stride
        if t.mask.dtype == FX_BOOL:
            kept = <const uint8_t *> t.mask.data + start
            for j in range(seen):
                s[j] = s[j] if kept[j * stride] else -INFINITY
        else:
            added = load_row(t.mask.data, t.mask.dtype, start, stride, seen, <real *> scratch)
            for j in range(seen):
                s[j] += added[j]


cdef void forward_blocks(sdpa_task *t, real *scratch, int64_t begin, int64_t end) noexcept nogil:
    cdef real *keys = scratch                                   # transposed blocks
    cdef real *values = keys + t.key_blocks * KEYS * t.width
    cdef real *queries = values + t.key_blocks * KEYS * t.v_pad
    cdef real *o = queries + QUERIES * t.pad
    cdef real *s = o + QUERIES * t.v_pad
    cdef real *row
    cdef real top[QUERIES]
    cdef double total[QUERIES]
    cdef real new, base, kept
    cdef int64_t unit, head, packed = -1, first, rows, b, key_blocks, i, j
    for unit in range(begin, end):
        head, first = unit // t.blocks, unit % t.blocks * QUERIES
        rows = t.length - first if t.length - first < QUERIES else QUERIES
        if head != packed:
            pack_transposed(t.k, head, t.keys, t.width, keys, queries)  # queries: scratch still
            memset(values + t.keys * t.v_pad, 0, (t.key_blocks * KEYS - t.keys) * t.v_pad * sizeof(real))
            pack_rows(t.v, head, 0, t.keys, t.v_width, t.v_pad, values)
            packed = head
        pack_rows(t.q, head, first, rows, t.width, t.pad, queries)
        memset(o, 0, rows * t.v_pad * sizeof(real))
        for i in range(rows):
            top[i] = -INFINITY
            total[i] = 0
        key_blocks = t.key_blocks
        if t.causal and (first + rows + KEYS - 1) // KEYS < key_blocks:
            key_blocks = (first + rows + KEYS - 1) // KEYS
        for b in range(key_blocks):
            small_product(rows, KEYS, t.width, queries, t.pad, 1, keys + b * KEYS * t.width, KEYS, s, KEYS, False)
            for i in range(rows):
                row = s + i * KEYS
                scale_and_mask(t, head, first + i, b * KEYS, row)
                new = row_max(row, KEYS)
                new = new if new > top[i] else top[i]
                base = new if new != -INFINITY else 0
                if new != top[i]:
                    kept = exp_down(top[i] - base)
                    total[i] *= kept
                    for j in range(t.v_pad):
                        o[i * t.v_pad + j] *= kept
                    top[i] = new
                for j in range(KEYS):
                    row[j] = exp_down(row[j] - base)
                total[i] += row_sum(row, KEYS)
            small_product(rows, t.v_pad, KEYS, s, KEYS, 1, values + b * KEYS * t.v_pad, t.v_pad, o, t.v_pad, True)
        for i in range(rows):
            kept = <real> (1 / total[i]) if total[i] != 0 else 0    # NaN stays
            for j in range(t.v_width):
                o[i * t.v_pad + j] *= kept
            store_row(o + i * t.v_pad, t.out.data, t.out.dtype, (head * t.length + first + i) * t.v_width, 1, t.v_width)
            if t.lse != NULL:
                store_one(top[i] + log(total[i]), t.lse, head * t.length + first + i)


cdef inline void probabilities(sdpa_task *t, int64_t head, int64_t row, int64_t first, real lse,
                               real *s) noexcept nogil:
    """From products with a block of keys to the softmax's values."""
    cdef int64_t j
    scale_and_mask(t, head, row, first, s)
    if lse == -INFINITY:
        lse = 0    # sees no key: every s is -inf
    for j in range(KEYS):
        s[j] = exp_down(s[j] - lse)


cdef inline void store_rows(const real *x, int64_t pad, fx_array *o, int64_t first, int64_t rows,
                            int64_t width) noexcept nogil:
    cdef int64_t r
    for r in range(rows):
        store_row(x + r * pad, o.data, o.dtype, (first + r) * width, 1, width)


cdef void backward_heads(sdpa_task *t, real *scratch, int64_t begin, int64_t end) noexcept nogil:
    cdef int64_t padded_keys = t.key_blocks * KEYS, head, b, c, first, rows, i, j, key
    cdef real *keys = scratch                                   # K and V transposed, in blocks
    cdef real *values = keys + padded_keys * t.width
    cdef real *key_rows = values + padded_keys * t.v_width
    cdef real *queries = key_rows + padded_keys * t.pad
    cdef real *g = queries + t.length * t.pad
    cdef real *dq = g + t.length * t.v_pad
    cdef real *delta = dq + t.length * t.pad
    cdef real *lse = delta + t.length
    cdef real *dk = lse + t.length                              # of one block of keys
    cdef real *dv = dk + KEYS * t.pad
    cdef real *p = dv + KEYS * t.v_pad
    cdef real *ds = p + QUERIES * KEYS
    cdef real *spare = ds + QUERIES * KEYS
    cdef real scale = <real> t.scale
    cdef const real *x
    for head in range(begin, end):
        pack_transposed(t.k, head, t.keys, t.width, keys, spare)
        pack_transposed(t.v, head, t.keys, t.v_width, values, spare)
        memset(key_rows + t.keys * t.pad, 0, (padded_keys - t.keys) * t.pad * sizeof(real))
        pack_rows(t.k, head, 0, t.keys, t.width, t.pad, key_rows)
        pack_rows(t.q, head, 0, t.length, t.width, t.pad, queries)
        pack_rows(t.g, head, 0, t.length, t.v_width, t.v_pad, g)
        memset(dq, 0, t.length * t.pad * sizeof(real))
        for i in range(t.length):
            x = load_flat(t.out, (head * t.length + i) * t.v_width, t.v_width, spare)
            delta[i] = <real> dot_row(g + i * t.v_pad, x, t.v_width)
            lse[i] = load_flat(t.lse, head * t.length + i, 1, spare)[0]
        for b in range(t.key_blocks):
            key = b * KEYS
            memset(dk, 0, KEYS * t.pad * sizeof(real))
            memset(dv, 0, KEYS * t.v_pad * sizeof(real))
            for c in range(key // QUERIES if t.causal else 0, t.blocks):
                first = c * QUERIES
                rows = t.length - first if t.length - first < QUERIES else QUERIES
                small_product(rows, KEYS, t.width, queries + first * t.pad, t.pad, 1, keys + key * t.width, KEYS, p,
                              KEYS, False)
                for i in range(rows):
                    probabilities(t, head, first + i, key, lse[first + i], p + i * KEYS)
                small_product(KEYS, t.v_pad, rows, p, 1, KEYS, g + first * t.v_pad, t.v_pad, dv, t.v_pad, True)
                small_product(rows, KEYS, t.v_width, g + first * t.v_pad, t.v_pad, 1, values + key * t.v_width, KEYS,
                              ds, KEYS,
                              False)
                for i in range(rows):
                    for j in range(KEYS):
                        ds[i * KEYS + j] = p[i * KEYS + j] * (ds[i * KEYS + j] - delta[first + i]) * scale
                small_product(KEYS, t.pad, rows, ds, 1, KEYS, queries + first * t.pad, t.pad, dk, t.pad, True)
                small_product(rows, t.pad, KEYS, ds, KEYS, 1, key_rows + key * t.pad, t.pad, dq + first * t.pad,
                              t.pad, True)
            rows = t.keys - key if t.keys - key < KEYS else KEYS
            if t.dk != NULL:
                store_rows(dk, t.pad, t.dk, head * t.keys + key, rows, t.width)
            if t.dv != NULL:
                store_rows(dv, t.v_pad, t.dv, head * t.keys + key, rows, t.v_width)
        if t.dq != NULL:
            store_rows(dq, t.pad, t.dq, head * t.length, t.length, t.width)


cdef inline int64_t measure(fx_call *call, sdpa_task *t) noexcept nogil:
    """Fills in the sizes; returns the number of heads."""
    cdef int d
    t.scale, t.causal = call.params[0].f, call.params[1].i != 0
    t.heads = 1
    for d in range(t.q.ndim - 2):
        t.heads *= t.q.dims[d]
    t.length, t.width = t.q.dims[t.q.ndim - 2], t.q.dims[t.q.ndim - 1]
    t.keys, t.v_width = t.v.dims[t.v.ndim - 2], t.v.dims[t.v.ndim - 1]
    t.blocks, t.key_blocks = (t.length + QUERIES - 1) // QUERIES, (t.keys + KEYS - 1) // KEYS
    if call.dtype == FX_F64:
        t.pad, t.v_pad, t.size = whole_tiles(<double *> NULL, t.width), whole_tiles(<double *> NULL, t.v_width), 8
    else:
        t.pad, t.v_pad, t.size = whole_tiles(<float *> NULL, t.width), whole_tiles(<float *> NULL, t.v_width), 4
    return t.heads


cdef int sdpa(fx_call *call) noexcept nogil:
    cdef sdpa_task t
    cdef size_t scratch
    t.out, t.lse = call.arrays[0], call.arrays[1]
    t.q, t.k, t.v, t.mask = call.arrays[2], call.arrays[3], call.arrays[4], call.arrays[5]
    measure(call, &t)
    scratch = (t.key_blocks * KEYS * (t.width + t.v_pad) + QUERIES * (t.pad + t.v_pad + KEYS)) * t.size
    return over_rows(<row_worker> forward_blocks[double] if t.size == 8 else <row_worker> forward_blocks[float], &t,
                     t.heads * t.blocks, t.heads * t.length * t.keys * ((t.width + t.v_width) // 16 + 1), scratch)


cdef int sdpa_backward(fx_call *call) noexcept nogil:
    cdef sdpa_task t
    cdef size_t scratch
    cdef int64_t wider
    t.dq, t.dk, t.dv = call.arrays[0], call.arrays[1], call.arrays[2]
    t.g, t.q, t.k, t.v = call.arrays[3], call.arrays[4], call.arrays[5], call.arrays[6]
    t.out, t.lse, t.mask = call.arrays[7], call.arrays[8], call.arrays[9]
    measure(call, &t)
    wider = t.pad if t.pad > t.v_pad else t.v_pad
    scratch = (t.key_blocks * KEYS * (t.width + t.v_width + t.pad) + t.length * (2 * t.pad + t.v_pad + 2)
               + KEYS * (t.pad + t.v_pad) + 2 * QUERIES * KEYS + 8 * wider) * t.size
    return over_rows(<row_worker> backward_heads[double] if t.size == 8 else <row_worker> backward_heads[float], &t,
                     t.heads, t.heads * t.length * t.keys * ((t.width + t.v_width) // 16 + 1), scratch)


provide(FX_CPU, "sdpa", sdpa, "attention float | out T, lse A | q T, k T, v T, mask any? | scale f, causal i")
provide(FX_CPU, "sdpa_backward", sdpa_backward,
        "attention float | dq T?, dk T?, dv T? | g T, q T, k T, v T, out T, lse A, mask any? | scale f, causal i")
