"""Blocked matrix products over register tiles, compiled once per CPU level.

C is cut into tiles of TILE_ROWS rows by TILE_VECTORS vectors.  Larger products go through the usual three levels:
a strip of B of KC rows is packed tile by tile for the last cache level (by all threads together), a block of A for
L2 (by each thread for itself); what fits in cache and needs no reordering is read where it lies.  Products with a
matrix of one row or one column are streams and have their own path, as have those too small to be worth a plan.
"""
from libc.stdint cimport int64_t

from ferrox._core.abi cimport FX_ERROR_MEMORY, FX_F32, FX_F64, FX_OK
from ferrox._core.cpu.matmul cimport gemm_product, provide_dot, provide_gemm

# Rows of A and B per pass (a tile's panel of B stays in L1), rows of A per block (in half of L2), columns per strip.
cdef enum:
    KC_BYTES = 1536
    A_BYTES = 192 * 1024
    NC = 4096
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


cdef void pack_a(const real *a, int64_t rsa, int64_t csa, int64_t m, int64_t k, int64_t count, real *to) noexcept nogil:
    """m rows of A, cut into `count` tiles of nearly equal height, each by columns."""
    cdef int64_t t, rows, i, l, low = m // count, extra = m - low * count
    for t in range(count):
        rows = low + (t < extra)
        if rsa == 1:
            for l in range(k):
                for i in range(rows):
                    to[l * rows + i] = a[i + l * csa]
        else:
            for i in range(rows):
                for l in range(k):
                    to[l * rows + i] = a[i * rsa + l * csa]
        a += rows * rsa
        to += rows * k


cdef inline void multiply_block(block[real] *s, int64_t m, int64_t row_tiles, const real *a, bint packed_a,
                                int64_t n, int64_t first, int64_t last, const real *b, bint packed_b, bint by_rows,
                                real *c, const real *d) noexcept nogil:
    """Panels first to last of n columns, times m rows."""
    cdef int lanes = VECTOR_BYTES // sizeof(real)
    cdef int64_t low = m // row_tiles, extra = m - low * row_tiles, outer, inner, t, p, row, rows, width, column = 0
    cdef int64_t last_b, last_c, tile_rsa = s.rsa, outers = row_tiles if by_rows else last - first
    cdef int64_t inners = last - first if by_rows else row_tiles
    cdef int vectors, part
    cdef const real *panel_b
    for outer in range(outers):
        for inner in range(inners):
            t = outer if by_rows else inner
            p = first + (inner if by_rows else outer)
            row = t * low + (t if t < extra else extra)
            rows = low + (t < extra)
            width = panel(n, p, lanes, &column)
            vectors = <int> ceil_div(width, lanes)
            part = 0
            last_c = width - lanes
            if width < lanes:
                part = <int> width
                vectors = 0
                last_c = 0
            if packed_b:
                panel_b = b + p * (TILE_VECTORS * lanes * s.k)
                s.ldb = (vectors if vectors else 1) * lanes
                last_b = s.ldb - lanes
            else:
                panel_b = b + column
                last_b = last_c
            if packed_a:
                s.csa = rows
                run_tile(vectors, rows, s, a + row * s.k, panel_b, c + row * s.ldc + column,
                               d + row * s.ldd + column, last_b, last_c, part)
            else:
                run_tile(vectors, rows, s, a + row * tile_rsa, panel_b, c + row * s.ldc + column,
                               d + row * s.ldd + column, last_b, last_c, part)


cdef struct plan:
    const gemm_product *product
    int64_t kc, mc, nc
    bint pack_a, pack_b
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
    cdef int lanes = VECTOR_BYTES // sizeof(real), ways = 1
    cdef const real *a = <const real *> p.a
    cdef const real *b = <const real *> p.b
    cdef real *packed_b = <real *> w.packed_b
    cdef real *packed_a = NULL
    cdef const real *my_a
    cdef const real *my_b
    cdef const real *d
    cdef real *c
    cdef int64_t m0, m1, jc, pc, ic, n, k, rows, count, i, first, last, tiles, column = 0, width, row_tiles
    cdef block[real] s
    row_tiles = ceil_div(p.m, TILE_ROWS)
    grid(threads, row_tiles, panels(min(p.n, w.nc), lanes), &ways)
    cdef int my_row = thread % ways, my_column = thread // ways, column_ways = threads // ways
    m0 = min(p.m, row_tiles * my_row // ways * TILE_ROWS)
    m1 = min(p.m, row_tiles * (my_row + 1) // ways * TILE_ROWS)
    if w.pack_a and m1 > m0:
        packed_a = <real *> scratch(SLOT_A, w.mc * w.kc * sizeof(real))
        if packed_a == NULL:
            w.status = FX_ERROR_MEMORY
            m1 = m0  # the others still meet at the barriers
    s.alpha = <real> p.alpha
    s.ldc = p.ldc
    jc = 0
    while jc < p.n:
        n = min(w.nc, p.n - jc)
        tiles = panels(n, lanes)
        first = tiles * my_column // column_ways
        last = tiles * (my_column + 1) // column_ways
        pc = 0
        while pc < p.k:
            k = min(w.kc, p.k - pc)
            s.k = k
            s.ldd = p.ldc if pc else p.ldd
            s.beta = 1 if pc else <real> p.beta
            if w.pack_b:
                if jc or pc:
                    fx_barrier(threads)
                for i in range(tiles * thread // threads, tiles * (thread + 1) // threads):
                    width = panel(n, i, lanes, &column)
                    pack_b[real](b + pc * p.rsb + (jc + column) * p.csb, p.rsb, p.csb, k, width,
                                 packed_b + i * (TILE_VECTORS * lanes * k))
                fx_barrier(threads)
            ic = m0
            while ic < m1:
                rows = min(w.mc, m1 - ic)
                count = ceil_div(rows, TILE_ROWS)
                s.rsa = p.rsa
                s.csa = p.csa
                s.ldb = p.rsb
                my_a = a + ic * p.rsa + pc * p.csa
                my_b = packed_b
                if not w.pack_b:
                    my_b = b + pc * p.rsb + jc
                if w.pack_a:
                    pack_a[real](my_a, p.rsa, p.csa, rows, k, count, packed_a)
                    my_a = packed_a
                    s.rsa = 1
                c = <real *> p.c + ic * p.ldc + jc
                d = c
                if pc == 0:
                    d = <const real *> p.d + ic * p.ldd + jc
                multiply_block[real](&s, rows, count, my_a, w.pack_a, n, first, last, my_b, w.pack_b,
                                     k * n * sizeof(real) <= 16384, c, d)
                ic += rows
            pc += k
        jc += n


cdef void work_f32(int thread, int threads, void *argument) noexcept nogil:
    work[float](thread, threads, <plan *> argument, 0)


cdef void work_f64(int thread, int threads, void *argument) noexcept nogil:
    work[double](thread, threads, <plan *> argument, 0)


cdef int blocked(const gemm_product *p, real zero) noexcept nogil:
    cdef int lanes = VECTOR_BYTES // sizeof(real)
    cdef plan w
    cdef int threads = p.threads
    cdef double flops = 2.0 * <double> p.m * <double> p.n * <double> p.k
    cdef int64_t kc = KC_BYTES // sizeof(real), blocks, tiles
    w.product = p
    w.status = FX_OK
    w.packed_b = NULL
    w.kc = ceil_div(p.k, ceil_div(p.k, kc))
    w.nc = min(p.n, NC)
    # Packing B costs a read and a write of it; it pays when there are rows to use it for and it is not in L1.
    w.pack_b = p.csb != 1 or (p.m > 2 * TILE_ROWS and p.k * p.n * sizeof(real) > 65536)
    w.pack_a = p.n > 4 * TILE_VECTORS * lanes and p.m * p.k * sizeof(real) > 65536
    if threads > flops / FLOPS_PER_THREAD:
        threads = <int> (flops / FLOPS_PER_THREAD)
    tiles = ceil_div(p.m, TILE_ROWS) * panels(p.n, lanes)
    threads = max(1, <int> min(<int64_t> threads, tiles))
    w.mc = max(<int64_t> TILE_ROWS, A_BYTES // <int64_t> (w.kc * sizeof(real)) // TILE_ROWS * TILE_ROWS)
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
    if p.csb == 1 and p.k * (p.m + p.n) <= 4096 and p.m * p.n <= 8192:
        s.k = p.k
        s.rsa = p.rsa
        s.csa = p.csa
        s.ldb = p.rsb
        s.ldc = p.ldc
        s.ldd = p.ldd
        s.alpha = <real> p.alpha
        s.beta = <real> p.beta
        multiply_block[real](&s, p.m, ceil_div(p.m, TILE_ROWS), <const real *> p.a, False, p.n, 0,
                             panels(p.n, VECTOR_BYTES // sizeof(real)), <const real *> p.b, False, False,
                             <real *> p.c, <const real *> p.d)
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
