"""Blocked matrix products over register tiles, compiled once per CPU level.

C is cut into tiles of TILE_ROWS rows by TILE_VECTORS vectors.  A strip of B, KC_BYTES along k and NC columns, is packed
panel by panel by all threads together; each thread then takes its rows of A tile by tile along the strip, in place
while they are adjacent along k.  A few rows against a B that lies by columns are dots along k, without packing.
Products with a matrix of one row or one column, or with K = 1, are streams; small ones go straight to the tiles.
"""
from libc.stdint cimport int64_t

from ferrox._core.abi cimport FX_ERROR_MEMORY, FX_F32, FX_F64, FX_OK
from ferrox._core.cpu.matmul cimport gemm_product, provide_dot, provide_gemm

cdef enum:
    KC_BYTES = 1600  # a tile's rows of A and panel of B together in L1, in bytes along k
    TILES = 8  # tiles of A that are packed at once
    NC = 2048  # columns per strip
    DOT_ROWS = 32  # rows up to which, and vectors along k from which, dots beat packing a B that lies by columns
    DOT_VECTORS = 16
    FLOPS_PER_THREAD = 200000
    BYTES_PER_THREAD = 128 * 1024

cdef enum:
    SLOT_A, SLOT_B, SLOT_X, SLOT_Y


cdef inline int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline int64_t panels(int64_t n, int lanes) noexcept nogil:
    return ceil_div(n, TILE_VECTORS * lanes)


cdef inline int64_t panel(int64_t n, int64_t i, int lanes, int64_t *column) noexcept nogil:
    """Width and first column of panel i of n columns; none is narrower than a vector unless n is."""
    cdef int64_t full = TILE_VECTORS * lanes, whole = n // full, rest = n - whole * full
    column[0] = i * full
    if whole == 0 or rest == 0 or rest >= lanes or i < whole - 1:
        return rest if i == whole else full
    if i == whole - 1:
        return full - lanes
    column[0] -= lanes
    return rest + lanes


cdef void pack_b(const real *b, int64_t rsb, int64_t csb, int64_t k, int64_t width, real *to) noexcept nogil:
    """A panel of B: k rows of as many vectors as the width needs, the last one ending at the last column."""
    cdef int lanes = VECTOR_BYTES // sizeof(real), v
    cdef int64_t vectors = ceil_div(width, lanes), ld = vectors * lanes, i, j, column
    if width < lanes:
        for i in range(k):
            for j in range(width):
                to[i * ld + j] = b[i * rsb + j * csb]
            for j in range(width, lanes):
                to[i * ld + j] = 0
    elif csb == 1:
        for i in range(k):
            copy_row(to + i * ld, b + i * rsb, <int> vectors, width - lanes)
    else:
        for v in range(vectors):
            column = v * lanes if v < vectors - 1 else width - lanes
            if rsb == 1:
                transpose_lanes(to + v * lanes, ld, b + column * csb, csb, k)
            else:
                for i in range(k):
                    for j in range(lanes):
                        to[i * ld + v * lanes + j] = b[i * rsb + (column + j) * csb]


cdef void pack_strip(const real *b, int64_t rsb, int64_t csb, int64_t k, int64_t n, int64_t first, int64_t last,
                     real *to) noexcept nogil:
    """Panels first to last of n columns of B."""
    cdef int lanes = VECTOR_BYTES // sizeof(real)
    cdef int64_t column = 0, width, size = TILE_VECTORS * lanes, together
    while first < last:
        width = panel(n, first, lanes, &column)
        # The last two panels of n columns may be narrower.
        together = min(min(last, n // size - 1) - first, <int64_t> 8)
        if csb == 1 and together > 1:
            pack_panels(to + first * size * k, b + column, rsb, k, together)
            first += together
        else:
            pack_b[real](b + column * csb, rsb, csb, k, width, to + first * size * k)
            first += 1


cdef void pack_a(const real *a, int64_t rsa, int64_t csa, int64_t count, int64_t low, int64_t extra, int64_t k,
                 real *to) noexcept nogil:
    """`count` tiles of A one below the other, the first `extra` a row taller than `low`, each by columns."""
    cdef int64_t t, rows, i, j
    if rsa == 1:
        pack_columns(to, count, low, extra, a, csa, k)
        return
    for t in range(count):
        rows = low + (t < extra)
        if csa == 1:
            pack_rows(to, rows, a, rsa, k)
        else:
            for i in range(rows):
                for j in range(k):
                    to[j * rows + i] = a[i * rsa + j * csa]
        a += rows * rsa
        to += rows * k


cdef inline int64_t tiles_of_rows(int64_t m, int64_t n, int lanes) noexcept nogil:
    if n <= lanes:
        return 1 if m <= NARROW_ROWS else ceil_div(m, NARROW_ROWS)
    return 1 if m <= TILE_ROWS else ceil_div(m, TILE_ROWS)


cdef inline void multiply_block(block[real] *s, int64_t m, int64_t n, int64_t first, int64_t last, const real *a,
                                real *packed_a, const real *b, bint packed_b, real *c, const real *d) noexcept nogil:
    """Panels first to last of n columns, times m rows.  Tiles of A are packed on the way into
    packed_a, if given."""
    cdef int lanes = VECTOR_BYTES // sizeof(real), vectors, part
    cdef int64_t row_tiles = tiles_of_rows(m, n, lanes), low = m, extra = 0, column = 0
    cdef int64_t outer, inner, outers, inners, t, p, row, rows, width, last_b, last_c
    cdef int64_t rsa = s.rsa, csa = s.csa, packed_row = 0
    cdef const real *tile_a
    cdef const real *panel_b
    if row_tiles > 1:
        low = m // row_tiles
        extra = m - low * row_tiles
    # A packed strip of B is read tile by tile of A, in order; one that is not packed is read once, A again and again.
    outers = row_tiles if packed_b else last - first
    inners = last - first if packed_b else row_tiles
    for outer in range(outers):
        for inner in range(inners):
            t = outer if packed_b else inner
            p = first + (inner if packed_b else outer)
            row = t * low + (t if t < extra else extra)
            rows = low + (t < extra)
            tile_a = a + row * rsa
            if packed_a != NULL:
                if inner == 0 and t % TILES == 0:
                    pack_a[real](tile_a, rsa, csa, min(row_tiles - t, <int64_t> TILES), low, extra - t, s.k, packed_a)
                    s.rsa = 1
                    packed_row = row
                s.csa = rows
                tile_a = packed_a + (row - packed_row) * s.k
            width = panel(n, p, lanes, &column)
            vectors = <int> ((width + lanes - 1) // lanes)
            part = 0
            last_c = width - lanes
            if width < lanes:
                part = <int> width
                vectors = 0
                last_c = 0
            panel_b = b + column
            last_b = last_c
            if packed_b:
                panel_b = b + p * (TILE_VECTORS * lanes * s.k)
                s.ldb = (vectors if vectors else 1) * lanes
                last_b = s.ldb - lanes
            run_tile(vectors, rows, s, tile_a, panel_b, c + row * s.ldc + column, d + row * s.ldd + column,
                     last_b, last_c, part)


cdef struct plan:
    const gemm_product *product
    int64_t kc, nc
    bint pack_a, pack_b, by_dots
    void *packed_b
    int status


cdef void grid(int threads, int64_t row_tiles, int64_t column_tiles, int *by_rows) noexcept nogil:
    """How many ways to cut the rows, so that threads get equal shares; B's packing is shared, so prefer rows."""
    cdef int64_t cost, best = -1
    cdef int t
    for t in range(threads, 0, -1):
        if threads % t == 0:
            cost = ceil_div(row_tiles, t) * ceil_div(column_tiles, threads // t)
            if best < 0 or cost < best:
                best = cost
                by_rows[0] = t


cdef void work(int thread, int threads, plan *w, real zero) noexcept nogil:
    """One thread's share of a blocked product."""
    cdef const gemm_product *p = w.product
    cdef int lanes = VECTOR_BYTES // sizeof(real), ways = 1, my_row, my_column, column_ways
    cdef const real *a = <const real *> p.a
    cdef const real *b = <const real *> p.b
    cdef const real *d
    cdef const real *my_b
    cdef real *c
    cdef real *packed_b = <real *> w.packed_b
    cdef real *packed_a = NULL
    cdef int64_t m0, m1, jc, pc, n, k, first, last, tiles, row_tiles
    cdef block[real] s
    s.alpha = <real> p.alpha
    s.ldc = p.ldc
    if w.by_dots:
        first = p.n * thread // threads
        last = p.n * (thread + 1) // threads
        s.k, s.rsa, s.ldb, s.ldd, s.beta = p.k, p.rsa, p.csb, p.ldd, <real> p.beta
        dot_tiles(&s, p.m, last - first, a, b + first * p.csb, <real *> p.c + first, <const real *> p.d + first)
        return
    row_tiles = ceil_div(p.m, TILE_ROWS)
    grid(threads, row_tiles, panels(min(p.n, w.nc), lanes), &ways)
    my_row = thread % ways
    my_column = thread // ways
    column_ways = threads // ways
    m0 = min(p.m, row_tiles * my_row // ways * TILE_ROWS)
    m1 = min(p.m, row_tiles * (my_row + 1) // ways * TILE_ROWS)
    if w.pack_a:
        packed_a = <real *> scratch(SLOT_A, TILES * NARROW_ROWS * w.kc * sizeof(real))
        if packed_a == NULL:
            w.status = FX_ERROR_MEMORY
            m1 = m0  # the others still meet at the barriers
    jc = 0
    while jc < p.n:
        n = min(w.nc, p.n - jc)
        tiles = panels(n, lanes)
        first = tiles * my_column // column_ways
        last = tiles * (my_column + 1) // column_ways
        pc = 0
        while pc < p.k:
            k = min(w.kc, p.k - pc)
            my_b = b + pc * p.rsb + jc
            if w.pack_b:
                if jc or pc:
                    fx_barrier(threads)
                pack_strip[real](b + pc * p.rsb + jc * p.csb, p.rsb, p.csb, k, n, tiles * thread // threads,
                                 tiles * (thread + 1) // threads, packed_b)
                fx_barrier(threads)
                my_b = packed_b
            s.k, s.rsa, s.csa, s.ldb = k, p.rsa, p.csa, p.rsb
            s.ldd = p.ldc
            s.beta = 1
            c = <real *> p.c + m0 * p.ldc + jc
            d = c
            if pc == 0:
                s.ldd = p.ldd
                s.beta = <real> p.beta
                d = <const real *> p.d + m0 * p.ldd + jc
            if m1 > m0:
                multiply_block[real](&s, m1 - m0, n, first, last, a + m0 * p.rsa + pc * p.csa, packed_a, my_b,
                                     w.pack_b, c, d)
            pc += k
        jc += n


cdef void work_f32(int thread, int threads, void *argument) noexcept nogil:
    work[float](thread, threads, <plan *> argument, 0)


cdef void work_f64(int thread, int threads, void *argument) noexcept nogil:
    work[double](thread, threads, <plan *> argument, 0)


cdef int blocked(const gemm_product *p, real zero) noexcept nogil:
    cdef int lanes = VECTOR_BYTES // sizeof(real)
    cdef plan w
    cdef double flops = 2.0 * <double> p.m * <double> p.n * <double> p.k
    cdef int64_t kc = KC_BYTES // <int64_t> sizeof(real), tiles
    cdef int threads = p.threads
    w.product = p
    w.status = FX_OK
    w.packed_b = NULL
    w.kc = ceil_div(p.k, ceil_div(p.k, kc))
    w.nc = min(p.n, NC)
    # Packing B is a read and a write of it: worth it when there are rows to use it for.  A is read in place while its
    # rows are adjacent along k; otherwise a tile of it is packed into L1 before it meets the panels of B.
    w.by_dots = p.m <= DOT_ROWS and p.csb != 1 and p.rsb == 1 and p.csa == 1 and p.k >= DOT_VECTORS * lanes
    w.pack_b = not w.by_dots and (p.csb != 1 or p.m > 2 * TILE_ROWS)
    w.pack_a = w.pack_b and p.csa != 1 and p.n > 2 * TILE_VECTORS * lanes
    if threads > flops / FLOPS_PER_THREAD:
        threads = <int> (flops / FLOPS_PER_THREAD)
    tiles = ceil_div(p.m, TILE_ROWS) * panels(p.n, lanes)
    threads = max(1, <int> min(<int64_t> threads, tiles))
    if w.pack_b:
        w.packed_b = scratch(SLOT_B, panels(w.nc, lanes) * TILE_VECTORS * lanes * w.kc * sizeof(real))
        if w.packed_b == NULL:
            return FX_ERROR_MEMORY
    if real is float:
        fx_parallel(threads, work_f32, &w)
    else:
        fx_parallel(threads, work_f64, &w)
    return w.status


cdef inline void blend(int64_t n, real alpha, const real *y, int64_t incy, real beta, const real *d, int64_t incd,
                       real *c, int64_t incc) noexcept nogil:
    """c = alpha y + beta d over vectors."""
    cdef int64_t i
    if beta == 0:
        for i in range(n):
            c[i * incc] = alpha * y[i * incy]
    else:
        for i in range(n):
            c[i * incc] = alpha * y[i * incy] + beta * d[i * incd]


cdef struct vector_plan:
    # y (n) = sum over k of x[k] times row k of b (adjacent columns), or the dots of n rows of b with x.
    int64_t n, k, ld
    const void *x
    const void *b
    void *y
    bint by_dots


cdef void vector_work(int thread, int threads, vector_plan *w, real zero) noexcept nogil:
    # Shares in multiples of 64 elements, so that two threads never write one cache line.
    cdef int64_t shares = ceil_div(w.n, 64)
    cdef int64_t first = min(w.n, shares * thread // threads * 64)
    cdef int64_t last = min(w.n, shares * (thread + 1) // threads * 64), strip
    cdef const real *b = <const real *> w.b
    cdef real *y = <real *> w.y
    if w.by_dots:
        dot_rows(last - first, w.k, b + first * w.ld, w.ld, <const real *> w.x, y + first)
        return
    while first < last:
        strip = min(<int64_t> 2048, last - first)
        axpy_rows(strip, w.k, <const real *> w.x, b + first, w.ld, y + first)
        first += strip


cdef void vector_f32(int thread, int threads, void *argument) noexcept nogil:
    vector_work[float](thread, threads, <vector_plan *> argument, 0)


cdef void vector_f64(int thread, int threads, void *argument) noexcept nogil:
    vector_work[double](thread, threads, <vector_plan *> argument, 0)


cdef int vector_product(const gemm_product *p, real zero) noexcept nogil:
    """C has one row or one column: a stream over the matrix.  Returns -1 where neither stride of the matrix is 1."""
    cdef bint row = p.m == 1 and (p.n > 1 or p.csa == 1 or p.rsb == 1)
    cdef int64_t incx = p.csa if row else p.rsb, i, along = p.rsb if row else p.csa, across = p.csb if row else p.rsa
    cdef vector_plan w
    cdef real *y
    cdef real *copied
    cdef int threads
    w.x = p.a if row else p.b
    w.b = p.b if row else p.a
    w.n = p.n if row else p.m
    w.k = p.k
    w.by_dots = along == 1
    w.ld = across if w.by_dots else along
    if not w.by_dots and across != 1:
        return -1
    if incx != 1:
        copied = <real *> scratch(SLOT_X, p.k * sizeof(real))
        if copied == NULL:
            return FX_ERROR_MEMORY
        for i in range(p.k):
            copied[i] = (<const real *> w.x)[i * incx]
        w.x = copied
    y = <real *> p.c
    if not (p.alpha == 1 and p.beta == 0 and (row or p.ldc == 1)):
        y = <real *> scratch(SLOT_Y, w.n * sizeof(real))
        if y == NULL:
            return FX_ERROR_MEMORY
    w.y = y
    threads = <int> min(<int64_t> p.threads, min(w.n * w.k * <int64_t> sizeof(real) // BYTES_PER_THREAD,
                                                 ceil_div(w.n, 64)))
    if real is float:
        fx_parallel(threads, vector_f32, &w)
    else:
        fx_parallel(threads, vector_f64, &w)
    if y != <real *> p.c:
        blend[real](w.n, <real> p.alpha, y, 1, <real> p.beta, <const real *> p.d, 1 if row else p.ldd,
                    <real *> p.c, 1 if row else p.ldc)
    return FX_OK


cdef void outer_rows(int thread, int threads, const gemm_product *p, real zero) noexcept nogil:
    cdef int64_t i, j
    cdef const real *b = <const real *> p.b
    cdef const real *d
    cdef real *c
    cdef real e, beta = <real> p.beta
    for i in range(p.m * thread // threads, p.m * (thread + 1) // threads):
        e = (<const real *> p.a)[i * p.rsa]
        c = <real *> p.c + i * p.ldc
        d = <const real *> p.d + i * p.ldd
        if p.csb != 1:
            for j in range(p.n):
                c[j] = <real> p.alpha * (e * b[j * p.csb]) + (beta * d[j] if beta != 0 else 0)
        elif beta == 0:
            for j in range(p.n):
                c[j] = <real> p.alpha * (e * b[j])
        else:
            for j in range(p.n):
                c[j] = <real> p.alpha * (e * b[j]) + beta * d[j]


cdef void outer_f32(int thread, int threads, void *argument) noexcept nogil:
    outer_rows[float](thread, threads, <const gemm_product *> argument, 0)


cdef void outer_f64(int thread, int threads, void *argument) noexcept nogil:
    outer_rows[double](thread, threads, <const gemm_product *> argument, 0)


cdef int outer_product(const gemm_product *p, real zero) noexcept nogil:
    """K is 1: rows are written as streams."""
    cdef int64_t shares = p.m * p.n * <int64_t> sizeof(real) // BYTES_PER_THREAD
    cdef int threads = <int> min(<int64_t> p.threads, min(shares, p.m))
    if real is float:
        fx_parallel(threads, outer_f32, <void *> p)
    else:
        fx_parallel(threads, outer_f64, <void *> p)
    return FX_OK


cdef inline int product(const gemm_product *p, real zero) noexcept nogil:
    cdef int64_t i
    cdef block[real] s
    cdef int status
    if p.m <= 0 or p.n <= 0:
        return FX_OK
    if p.k <= 0:
        for i in range(p.m):
            blend[real](p.n, 0, &zero, 0, <real> p.beta, <const real *> p.d + i * p.ldd, 1,
                        <real *> p.c + i * p.ldc, 1)
        return FX_OK
    if (p.m == 1 or p.n == 1) and p.k > 1:
        status = vector_product[real](p, zero)
        if status >= 0:
            return status
    if p.k == 1:
        return outer_product[real](p, zero)
    if p.csb == 1 and p.k * (p.m + p.n) <= 4096 and p.m * p.n <= 8192:
        s.k = p.k
        s.rsa = p.rsa
        s.csa = p.csa
        s.ldb = p.rsb
        s.ldc = p.ldc
        s.ldd = p.ldd
        s.alpha = <real> p.alpha
        s.beta = <real> p.beta
        multiply_block[real](&s, p.m, p.n, 0, panels(p.n, VECTOR_BYTES // sizeof(real)), <const real *> p.a, NULL,
                             <const real *> p.b, False, <real *> p.c, <const real *> p.d)
        return FX_OK
    return blocked[real](p, zero)


cdef int product_f32(const gemm_product *p) noexcept nogil:
    return product[float](p, 0)


cdef int product_f64(const gemm_product *p) noexcept nogil:
    return product[double](p, 0)


cdef struct dot_plan:
    int64_t n
    const void *a
    const void *b
    double *sums


cdef enum:
    DOT_BLOCK = 65536


cdef void dot_work(int thread, int threads, dot_plan *w, real zero) noexcept nogil:
    cdef int64_t blocks = ceil_div(w.n, DOT_BLOCK), i
    for i in range(blocks * thread // threads, blocks * (thread + 1) // threads):
        w.sums[i] = dot(min(<int64_t> DOT_BLOCK, w.n - i * DOT_BLOCK), <const real *> w.a + i * DOT_BLOCK,
                        <const real *> w.b + i * DOT_BLOCK)


cdef void dot_work_f32(int thread, int threads, void *argument) noexcept nogil:
    dot_work[float](thread, threads, <dot_plan *> argument, 0)


cdef void dot_work_f64(int thread, int threads, void *argument) noexcept nogil:
    dot_work[double](thread, threads, <dot_plan *> argument, 0)


cdef inline double whole_dot(int64_t n, const void *a, const void *b, int threads, real zero) noexcept nogil:
    """Sums of fixed blocks, added in order: the same bits for any number of threads."""
    cdef dot_plan w
    cdef double total = 0
    cdef int64_t i, blocks = ceil_div(n, DOT_BLOCK)
    if blocks <= 1:
        return dot(n, <const real *> a, <const real *> b)
    w.n = n
    w.a = a
    w.b = b
    w.sums = <double *> scratch(SLOT_Y, blocks * sizeof(double))
    if w.sums == NULL:  # slower, the same value up to rounding
        return dot(n, <const real *> a, <const real *> b)
    if real is float:
        fx_parallel(<int> min(<int64_t> threads, blocks), dot_work_f32, &w)
    else:
        fx_parallel(<int> min(<int64_t> threads, blocks), dot_work_f64, &w)
    for i in range(blocks):
        total += w.sums[i]
    return total


cdef double dot_f32(int64_t n, const void *a, const void *b, int threads) noexcept nogil:
    return whole_dot[float](n, a, b, threads, 0)


cdef double dot_f64(int64_t n, const void *a, const void *b, int threads) noexcept nogil:
    return whole_dot[double](n, a, b, threads, 0)


provide_gemm(FX_F32, product_f32)
provide_gemm(FX_F64, product_f64)
provide_dot(FX_F32, dot_f32)
provide_dot(FX_F64, dot_f64)
