"""Strided, broadcast and mixed-dtype operands for loops that only know contiguous ones.

Dimensions are put in the order of the output's strides and merged where every operand allows it.  The two that matter
most, the innermost and (for transposed operands) the one along which an input is dense, are cut into tiles of at most
BLOCK_BYTES per operand.  In each tile an operand is used where it lies if it is contiguous there, otherwise it is
gathered and cast into scratch; an operand that does not move between two tiles (a scalar, a broadcast row) is gathered
once.  Large outputs leave through scratch and non-temporal stores, which saves reading them first.
"""
from cython.parallel cimport prange
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport llabs

from ferrox._core.abi cimport FX_CONTIGUOUS, FX_OK, fx_array, fx_itemsize, fx_scalar
from ferrox._core.cpu.table cimport casts, fx_loop
from ferrox._core.door.threads cimport num_threads

cdef extern from "fx/stream.h" nogil:
    void fx_stream_copy(void *to, const void *source, size_t bytes)
    void fx_stream_fence()
    void fx_fill8(uint8_t *d, uint8_t value, Py_ssize_t n)
    void fx_gather8(uint8_t *d, const uint8_t *s, Py_ssize_t stride, Py_ssize_t n)
    void fx_scatter8(uint8_t *d, Py_ssize_t stride, const uint8_t *s, Py_ssize_t source_stride, Py_ssize_t n)
    void fx_fill16(uint16_t *d, uint16_t value, Py_ssize_t n)
    void fx_gather16(uint16_t *d, const uint16_t *s, Py_ssize_t stride, Py_ssize_t n)
    void fx_scatter16(uint16_t *d, Py_ssize_t stride, const uint16_t *s, Py_ssize_t source_stride, Py_ssize_t n)
    void fx_fill32(uint32_t *d, uint32_t value, Py_ssize_t n)
    void fx_gather32(uint32_t *d, const uint32_t *s, Py_ssize_t stride, Py_ssize_t n)
    void fx_scatter32(uint32_t *d, Py_ssize_t stride, const uint32_t *s, Py_ssize_t source_stride, Py_ssize_t n)
    void fx_fill64(uint64_t *d, uint64_t value, Py_ssize_t n)
    void fx_gather64(uint64_t *d, const uint64_t *s, Py_ssize_t stride, Py_ssize_t n)
    void fx_scatter64(uint64_t *d, Py_ssize_t stride, const uint64_t *s, Py_ssize_t source_stride, Py_ssize_t n)
    void fx_copy_row(void *to, const void *source, size_t bytes)
    void fx_transpose8(uint8_t *d, Py_ssize_t drs, const uint8_t *s, Py_ssize_t scs,
                       Py_ssize_t rows, Py_ssize_t cols)
    void fx_transpose16(uint16_t *d, Py_ssize_t drs, const uint16_t *s, Py_ssize_t scs,
                        Py_ssize_t rows, Py_ssize_t cols)
    void fx_transpose32(uint32_t *d, Py_ssize_t drs, const uint32_t *s, Py_ssize_t scs,
                        Py_ssize_t rows, Py_ssize_t cols)
    void fx_transpose64(uint64_t *d, Py_ssize_t drs, const uint64_t *s, Py_ssize_t scs,
                        Py_ssize_t rows, Py_ssize_t cols)

ctypedef fused word:
    uint8_t
    uint16_t
    uint32_t
    uint64_t

cdef enum:
    OPERANDS = 4
    DIRECT_TILE = 16384       # elements of a tile where no operand needs scratch
    STREAM_MIN = 1 << 24      # bytes of output from which non-temporal stores win
    STREAM_BYTES = 2048       # of a streamed tile: loads and stores take turns often enough to overlap
    TILE_ROWS = 64            # of a tile with a transposed operand: so long a piece of it is read at once
    COPY_BYTES = 65536        # of a tile that is only copied, transposed
    COPY_ROW_BYTES = 512
    SCRATCH_BYTES = 65536     # at least six times BLOCK_BYTES
    SHORT_ROW = 64            # rows shorter than this are taken several at a time


cdef struct operand:
    char *data
    int size                  # of an item as stored
    int loop_size             # of an item as the loop sees it
    fx_loop cast              # between the two; NULL where they are the same
    bint dense                # every tile is contiguous as stored
    Py_ssize_t stride[64]     # in items; innermost first


cdef struct block_plan:
    fx_loop loop
    const fx_scalar *p
    int n_in, ndim
    bint stream, rows_first
    Py_ssize_t tile_rows, tile_cols, tiles_rows, tiles_cols
    Py_ssize_t dims[64]
    operand operands[OPERANDS]


# ---- tiles -----------------------------------------------------------------------------------------------------------

cdef inline void _fill(word *d, word value, Py_ssize_t n) noexcept nogil:
    if word is uint8_t:
        fx_fill8(d, value, n)
    elif word is uint16_t:
        fx_fill16(d, value, n)
    elif word is uint32_t:
        fx_fill32(d, value, n)
    elif word is uint64_t:
        fx_fill64(d, value, n)


cdef inline void _gather(word *d, const word *s, Py_ssize_t stride, Py_ssize_t n) noexcept nogil:
    if word is uint8_t:
        fx_gather8(d, s, stride, n)
    elif word is uint16_t:
        fx_gather16(d, s, stride, n)
    elif word is uint32_t:
        fx_gather32(d, s, stride, n)
    elif word is uint64_t:
        fx_gather64(d, s, stride, n)


cdef inline void _scatter(word *d, Py_ssize_t stride, const word *s, Py_ssize_t source_stride,
                          Py_ssize_t n) noexcept nogil:
    if word is uint8_t:
        fx_scatter8(d, stride, s, source_stride, n)
    elif word is uint16_t:
        fx_scatter16(d, stride, s, source_stride, n)
    elif word is uint32_t:
        fx_scatter32(d, stride, s, source_stride, n)
    elif word is uint64_t:
        fx_scatter64(d, stride, s, source_stride, n)


cdef inline void _transpose(word *d, Py_ssize_t drs, const word *s, Py_ssize_t scs, Py_ssize_t rows,
                            Py_ssize_t cols) noexcept nogil:
    if word is uint8_t:
        fx_transpose8(d, drs, s, scs, rows, cols)
    elif word is uint16_t:
        fx_transpose16(d, drs, s, scs, rows, cols)
    elif word is uint32_t:
        fx_transpose32(d, drs, s, scs, rows, cols)
    elif word is uint64_t:
        fx_transpose64(d, drs, s, scs, rows, cols)


cdef void _move(word *d, Py_ssize_t drs, Py_ssize_t dcs, const word *s, Py_ssize_t srs, Py_ssize_t scs,
                Py_ssize_t rows, Py_ssize_t cols) noexcept nogil:
    cdef Py_ssize_t r
    if dcs != 1 and drs == 1 or (cols < 4 and rows > cols and not (dcs == 1 and srs == 1)):
        # The same move with its loops exchanged: dense or long rows of the destination.
        drs, dcs = dcs, drs
        srs, scs = scs, srs
        rows, cols = cols, rows
    if dcs == 1 and scs == 1 and cols >= 8:
        for r in range(rows):
            fx_copy_row(d + r * drs, s + r * srs, cols * sizeof(word))
    elif dcs == 1 and srs == 1 and rows > 1:
        _transpose(d, drs, s, scs, rows, cols)
    elif dcs == 1 and scs == 0:
        for r in range(rows):
            _fill(d + r * drs, s[r * srs], cols)
    elif dcs == 1:
        for r in range(rows):
            _gather(d + r * drs, s + r * srs, scs, cols)
    else:
        for r in range(rows):
            _scatter(d + r * drs, dcs, s + r * srs, scs, cols)


cdef void move_tile(void *to, Py_ssize_t trs, Py_ssize_t tcs, const void *source, Py_ssize_t srs, Py_ssize_t scs,
                    Py_ssize_t rows, Py_ssize_t cols, int size) noexcept nogil:
    if size == 4:
        _move[uint32_t](<uint32_t *> to, trs, tcs, <const uint32_t *> source, srs, scs, rows, cols)
    elif size == 8:
        _move[uint64_t](<uint64_t *> to, trs, tcs, <const uint64_t *> source, srs, scs, rows, cols)
    elif size == 2:
        _move[uint16_t](<uint16_t *> to, trs, tcs, <const uint16_t *> source, srs, scs, rows, cols)
    else:
        _move[uint8_t](<uint8_t *> to, trs, tcs, <const uint8_t *> source, srs, scs, rows, cols)


cdef void _stream_rows(char *to, Py_ssize_t row_bytes, const char *source, Py_ssize_t rows,
                       Py_ssize_t cols_bytes) noexcept nogil:
    cdef Py_ssize_t r
    for r in range(rows):
        fx_stream_copy(to + r * row_bytes, source + r * cols_bytes, cols_bytes)


cdef void _copy_tile(block_plan *plan, char *to, char *source, Py_ssize_t rows, Py_ssize_t cols,
                     char *scratch) noexcept nogil:
    cdef operand *out = &plan.operands[0]
    cdef operand *x = &plan.operands[1]
    if plan.stream and x.dense:
        fx_stream_copy(to, source, rows * cols * out.size)
    elif plan.stream or plan.rows_first:
        move_tile(scratch, cols, 1, source, x.stride[1], x.stride[0], rows, cols, out.size)
        if plan.stream:
            _stream_rows(to, out.stride[1] * out.size, scratch, rows, cols * out.size)
        else:
            move_tile(to, out.stride[1], out.stride[0], scratch, cols, 1, rows, cols, out.size)
    else:
        move_tile(to, out.stride[1], out.stride[0], source, x.stride[1], x.stride[0], rows, cols, out.size)


cdef void _run(block_plan *plan, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """Tiles first to last, in the order columns, rows, further dimensions (rows first with a transposed operand)."""
    cdef char[SCRATCH_BYTES + 64] memory
    cdef char *scratch = <char *> ((<uintptr_t> memory + 63) & ~ <uintptr_t> 63)
    cdef char *raw = scratch + OPERANDS * BLOCK_BYTES
    cdef char *second = raw + BLOCK_BYTES
    cdef char *at[OPERANDS]        # start of the row of tiles' plane
    cdef char *seen[OPERANDS]      # what the operand's scratch was gathered from
    cdef void *arg[OPERANDS]
    cdef char *here
    cdef char *target
    cdef Py_ssize_t index[64]
    cdef Py_ssize_t tile, rest, rows, cols, n, r0, c0, tr, tc, seen_rows = -1, seen_cols = -1
    cdef int i, d, operands = plan.n_in + 1
    cdef operand *a
    cdef operand *out = &plan.operands[0]
    tile = first
    if plan.rows_first:
        tr = tile % plan.tiles_rows
        rest = tile // plan.tiles_rows
        tc = rest % plan.tiles_cols
        rest = rest // plan.tiles_cols
    else:
        tc = tile % plan.tiles_cols
        rest = tile // plan.tiles_cols
        tr = rest % plan.tiles_rows
        rest = rest // plan.tiles_rows
    for i in range(operands):
        at[i] = plan.operands[i].data
        seen[i] = NULL
        arg[i] = NULL
    for i in range(operands, OPERANDS):
        arg[i] = NULL
    for d in range(2, plan.ndim):
        index[d] = rest % plan.dims[d]
        rest = rest // plan.dims[d]
        for i in range(operands):
            at[i] += index[d] * plan.operands[i].stride[d] * plan.operands[i].size

    while tile < last:
        r0 = tr * plan.tile_rows
        c0 = tc * plan.tile_cols
        rows = min(plan.tile_rows, plan.dims[1] - r0)
        cols = min(plan.tile_cols, plan.dims[0] - c0)
        n = rows * cols
        if rows != seen_rows or cols != seen_cols:
            for i in range(1, operands):
                seen[i] = NULL
            seen_rows = rows
            seen_cols = cols
        target = at[0] + (r0 * out.stride[1] + c0 * out.stride[0]) * out.size
        if plan.loop == NULL:
            a = &plan.operands[1]
            _copy_tile(plan, target, at[1] + (r0 * a.stride[1] + c0 * a.stride[0]) * a.size, rows, cols, scratch)
        else:
            for i in range(1, operands):
                a = &plan.operands[i]
                here = at[i] + (r0 * a.stride[1] + c0 * a.stride[0]) * a.size
                if a.dense and a.cast == NULL:
                    arg[i] = here
                elif here != seen[i]:
                    seen[i] = here
                    arg[i] = scratch + i * BLOCK_BYTES
                    if a.dense:
                        a.cast(arg[i], here, NULL, NULL, NULL, n)
                    elif a.cast == NULL:
                        move_tile(arg[i], cols, 1, here, a.stride[1], a.stride[0], rows, cols, a.size)
                    else:
                        move_tile(raw, cols, 1, here, a.stride[1], a.stride[0], rows, cols, a.size)
                        a.cast(arg[i], raw, NULL, NULL, NULL, n)
            if out.dense and not plan.stream:
                arg[0] = target if out.cast == NULL else scratch
                plan.loop(arg[0], arg[1], arg[2], arg[3], plan.p, n)
                if out.cast != NULL:
                    out.cast(target, scratch, NULL, NULL, NULL, n)
            else:
                plan.loop(scratch, arg[1], arg[2], arg[3], plan.p, n)
                here = scratch
                if out.cast != NULL:
                    here = second
                    out.cast(here, scratch, NULL, NULL, NULL, n)
                if not plan.stream:
                    move_tile(target, out.stride[1], out.stride[0], here, cols, 1, rows, cols, out.size)
                elif out.dense:
                    fx_stream_copy(target, here, n * out.size)
                else:
                    _stream_rows(target, out.stride[1] * out.size, here, rows, cols * out.size)
        tile += 1
        if plan.rows_first:
            tr += 1
            if tr < plan.tiles_rows:
                continue
            tr = 0
            tc += 1
            if tc < plan.tiles_cols:
                continue
            tc = 0
        else:
            tc += 1
            if tc < plan.tiles_cols:
                continue
            tc = 0
            tr += 1
            if tr < plan.tiles_rows:
                continue
            tr = 0
        for d in range(2, plan.ndim):
            index[d] += 1
            for i in range(operands):
                at[i] += plan.operands[i].stride[d] * plan.operands[i].size
            if index[d] < plan.dims[d]:
                break
            for i in range(operands):
                at[i] -= plan.dims[d] * plan.operands[i].stride[d] * plan.operands[i].size
            index[d] = 0
    if plan.stream:
        fx_stream_fence()


cdef void _run_flat(block_plan *plan, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """One dimension, every operand used where it lies: one call of the loop."""
    cdef Py_ssize_t begin = first * plan.tile_cols, end = min(last * plan.tile_cols, plan.dims[0])
    cdef void *arg[OPERANDS]
    cdef int i
    for i in range(OPERANDS):
        arg[i] = NULL
        if i <= plan.n_in:
            arg[i] = plan.operands[i].data + begin * plan.operands[i].size
    plan.loop(arg[0], arg[1], arg[2], arg[3], plan.p, end - begin)


# ---- plans -----------------------------------------------------------------------------------------------------------

cdef void _order(block_plan *plan) noexcept nogil:
    """Dimensions by rising stride of the output; merged where all operands are contiguous across them."""
    cdef int d, e, i, operands = plan.n_in + 1, kept = 0
    cdef operand *out = &plan.operands[0]
    cdef bint merge
    for d in range(plan.ndim):
        if out.stride[d] < 0:
            for i in range(operands):
                plan.operands[i].data += (plan.dims[d] - 1) * plan.operands[i].stride[d] * plan.operands[i].size
                plan.operands[i].stride[d] = -plan.operands[i].stride[d]
    for d in range(1, plan.ndim):
        e = d
        while e > 0 and out.stride[e] < out.stride[e - 1]:
            _swap(plan, e, e - 1)
            e -= 1
    for d in range(1, plan.ndim):
        merge = True
        for i in range(operands):
            merge = merge and plan.operands[i].stride[d] == plan.dims[kept] * plan.operands[i].stride[kept]
        if merge:
            plan.dims[kept] *= plan.dims[d]
            continue
        kept += 1
        plan.dims[kept] = plan.dims[d]
        for i in range(operands):
            plan.operands[i].stride[kept] = plan.operands[i].stride[d]
    plan.ndim = kept + 1


cdef void _swap(block_plan *plan, int d, int e) noexcept nogil:
    cdef int i
    plan.dims[d], plan.dims[e] = plan.dims[e], plan.dims[d]
    for i in range(plan.n_in + 1):
        plan.operands[i].stride[d], plan.operands[i].stride[e] = plan.operands[i].stride[e], plan.operands[i].stride[d]


cdef int _transposed_dimension(block_plan *plan) noexcept nogil:
    """The dimension along which an input is denser than along the innermost one, or 0."""
    cdef int i, d, best
    cdef Py_ssize_t step, least
    for i in range(1, plan.n_in + 1):
        least = llabs(plan.operands[i].stride[0])
        best = 0
        for d in range(1, plan.ndim):
            step = llabs(plan.operands[i].stride[d])
            if step != 0 and step < least and plan.dims[d] >= 4:
                best = d
                least = step
        if best:
            return best
    return 0


cdef bint _tiles(block_plan *plan, Py_ssize_t total) noexcept nogil:
    """Chooses the tiles; true where one dimension is left and every operand is used where it lies."""
    cdef int i, operands = plan.n_in + 1, largest = 1, across
    cdef bint direct = True
    cdef Py_ssize_t block
    cdef operand *a
    cdef operand *out = &plan.operands[0]
    across = _transposed_dimension(plan)
    if across > 1:
        _swap(plan, 1, across)
    if plan.ndim == 1:
        plan.ndim = 2
        plan.dims[1] = 1
        for i in range(operands):
            plan.operands[i].stride[1] = 0
    for i in range(operands):
        a = &plan.operands[i]
        largest = max(largest, max(a.size, a.loop_size))
        direct = direct and a.stride[0] == 1 and a.cast == NULL
    block = min(<Py_ssize_t> 2048, BLOCK_BYTES // largest)
    plan.rows_first = across != 0
    if across:
        plan.tile_rows = TILE_ROWS
        if plan.loop == NULL:
            block = COPY_BYTES // out.size
            plan.tile_rows = block // min(<Py_ssize_t> 256, COPY_ROW_BYTES // out.size)
        plan.tile_rows = min(plan.tile_rows, plan.dims[1])
        plan.tile_cols = min(plan.dims[0], block // plan.tile_rows)
        if plan.tile_cols == plan.dims[0]:
            plan.tile_rows = min(plan.dims[1], block // plan.tile_cols)
    elif plan.dims[0] < SHORT_ROW and plan.dims[1] > 1:
        plan.tile_cols = plan.dims[0]
        plan.tile_rows = min(plan.dims[1], block // plan.dims[0])
    else:
        plan.tile_rows = 1
        plan.tile_cols = plan.dims[0] if plan.dims[0] < block else block
    plan.stream = out.stride[0] == 1 and total * out.size >= STREAM_MIN
    for i in range(1, operands):
        # In place, the lines of the output are in the cache already.
        plan.stream = plan.stream and plan.operands[i].data != out.data
    if plan.tile_rows > 1 and not (plan.tile_cols == plan.dims[0] and out.stride[1] == plan.dims[0]):
        # Rows of a tile that begin inside a line would be streamed in two halves.
        # The wide rows of a transposed copy gain all the same, the narrow ones of a transposed operand never do.
        if across:
            plan.stream = plan.stream and plan.loop == NULL and plan.tile_cols * out.size >= 256
        else:
            plan.stream = plan.stream and (<uintptr_t> out.data | <uintptr_t> (out.stride[1] * out.size)) % 64 == 0
    if plan.stream and plan.tile_rows == 1 and plan.loop != NULL:
        plan.tile_cols = min(plan.tile_cols, <Py_ssize_t> STREAM_BYTES // out.size)
    if plan.tile_rows == 1 and direct and (not plan.stream or plan.loop == NULL):
        plan.tile_cols = min(plan.dims[0], <Py_ssize_t> DIRECT_TILE)
    plan.tiles_rows = (plan.dims[1] + plan.tile_rows - 1) // plan.tile_rows
    plan.tiles_cols = (plan.dims[0] + plan.tile_cols - 1) // plan.tile_cols
    for i in range(operands):
        a = &plan.operands[i]
        a.dense = a.stride[0] == 1 and (
            plan.tile_rows == 1 or (plan.tile_cols == plan.dims[0] and a.stride[1] == plan.dims[0]))
    return direct and plan.dims[1] == 1 and plan.ndim == 2 and not plan.stream and plan.loop != NULL


cdef int run_blocks(fx_array **arrays, int n_in, fx_loop loop, const uint8_t *dtypes,
                    const fx_scalar *p) noexcept nogil:
    cdef block_plan plan
    cdef int i, d, e, t, threads = 1, operands = n_in + 1
    cdef Py_ssize_t total = arrays[0].numel, units
    cdef bint flat = True
    cdef fx_array *array
    cdef fx_array *result = arrays[0]
    cdef operand *a
    if total == 0:
        return FX_OK
    plan.loop = loop
    plan.p = p
    plan.n_in = n_in
    plan.dims[0] = total
    for i in range(operands):
        array = arrays[i]
        a = &plan.operands[i]
        a.data = <char *> array.data
        a.size = fx_itemsize(array.dtype)
        a.loop_size = fx_itemsize(dtypes[i])
        a.cast = NULL
        if array.dtype != dtypes[i]:
            a.cast = casts[array.dtype][dtypes[i]] if i == 0 else casts[dtypes[i]][array.dtype]
        flat = flat and (total == 1 or array.flags & FX_CONTIGUOUS and (array.numel == total or array.numel == 1))
    if flat:
        plan.ndim = 1
        for i in range(operands):
            plan.operands[i].stride[0] = arrays[i].numel == total
    else:
        plan.ndim = 0
        for d in range(result.ndim - 1, -1, -1):
            if result.dims[d] == 1:
                continue
            plan.dims[plan.ndim] = result.dims[d]
            for i in range(operands):
                array = arrays[i]
                e = d - (result.ndim - array.ndim)
                plan.operands[i].stride[plan.ndim] = \
                    array.dims[array.ndim + e] if e >= 0 and array.dims[e] != 1 else 0
            plan.ndim += 1
        _order(&plan)
    flat = _tiles(&plan, total)
    units = plan.tiles_rows * plan.tiles_cols
    for d in range(2, plan.ndim):
        units *= plan.dims[d]
    if total >= PARALLEL_MIN:
        threads = <int> min(<Py_ssize_t> num_threads, min(units, total // (PARALLEL_MIN // 2)))
    if threads <= 1:
        if flat:
            _run_flat(&plan, 0, units)
        else:
            _run(&plan, 0, units)
    else:
        for t in prange(threads, num_threads=threads, schedule="static", chunksize=1):
            if flat:
                _run_flat(&plan, units * t // threads, units * (t + 1) // threads)
            else:
                _run(&plan, units * t // threads, units * (t + 1) // threads)
    return FX_OK
