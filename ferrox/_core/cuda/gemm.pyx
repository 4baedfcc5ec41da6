"""Which kernel a matrix product takes, and its launch.

Note [Choosing a kernel]: a product with one row or one column is bound by reading the matrix, and has kernels of its
own.  The others have tiles of several sizes: large ones read least, small ones fill the device when C is small.  For
each, with k in one to 32 slices, the time is estimated from how many tiles a multiprocessor gets, and the least is
taken.  The estimate is for a device of 132 multiprocessors whichever it is: in how many slices a sum is taken, and so
its last bits, depends on the sizes alone.  Large products may go to cuBLASLt instead (blaslt.pyx).
"""
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

from ferrox._core.abi cimport FX_BF16, FX_ERROR_MEMORY, FX_ERROR_TYPE, FX_F16, FX_F32, FX_F64, FX_I8, FX_I16, FX_I32, \
    FX_I64, FX_OK, FX_U8, fx_computed, fx_itemsize
from ferrox._core.cuda.abi cimport CUresult
from ferrox._core.cuda.blaslt cimport multiply_by_library
from ferrox._core.cuda.module cimport cuda_kernel, find_kernel, flat_shape, launch, launch_shape, launched
from ferrox._core.cuda.product cimport A, B, C, D, product
from ferrox._core.cuda.scratch cimport scratch, scratch_free
from ferrox._core.cuda.stream cimport current_stream

cdef extern from "fx/gemm_args.h" nogil:
    enum:
        FX_GEMM_DIMS
        FX_GEMM_WHOLE_A
        FX_GEMM_WHOLE_B
        FX_GEMM_WHOLE_C
        FX_GEMM_WHOLE_D
    ctypedef struct fx_gemm_args:
        const void *a
        const void *b
        const void *d
        void *c
        void *sums
        double alpha, beta
        int64_t alpha_whole, beta_whole
        int64_t m, n, k, slice
        int64_t a_row, a_column, b_row, b_column, d_row, d_column, c_row
        int64_t batch, first
        int64_t size[FX_GEMM_DIMS]
        int64_t step[FX_GEMM_DIMS][4]
        int32_t slices, flags
        int64_t activation

cdef enum:
    MULTIPROCESSORS = 132   # of the device that is estimated for
    BATCHES = 65535         # blocks along y
    SLICE = 32              # slices of k are multiples of this
    LEAST_SLICE = 128
    START = 1500            # clock cycles of a launch before and after the work itself
    SECOND_LAUNCH = 4000

# A tile, as the kernel of its name is compiled.  `full` and `alone`: products per clock cycle of a multiprocessor with
# several blocks and with one.
cdef struct tile:
    int rows, columns, depth, threads, shared
    bint even               # only operands that are read 16 bytes at a time, without a rest
    bint tf32               # only where that is allowed
    double full, alone
    cuda_kernel *kernel[4]  # nn, nt, tn, tt

cdef enum:
    MOST_TILES = 6

cdef tile[10][MOST_TILES] tiles         # by dtype, the smallest last
cdef int[10] n_tiles
cdef cuda_kernel *along[10]             # products with a vector
cdef cuda_kernel *across[10]
cdef cuda_kernel *add_slices[10]
cdef bint tf32_allowed = False


cdef inline int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b


cdef void _join(product *p) noexcept nogil:
    """Dimensions of the batch that lie behind each other in every operand become one."""
    cdef int i, o, kept = 0
    cdef bint joins
    for i in range(p.ndim):
        if p.size[i] == 1:
            continue
        joins = kept > 0
        for o in range(4):
            joins = joins and p.step[i][o] == p.step[kept - 1][o] * p.size[kept - 1]
        if joins:
            p.size[kept - 1] *= p.size[i]
            continue
        p.size[kept] = p.size[i]
        for o in range(4):
            p.step[kept][o] = p.step[i][o]
        kept += 1
    p.ndim = kept


cdef bint _whole(const product *p, int which, int64_t across_step, int width) noexcept nogil:
    """Whether `width` elements that lie behind each other can be read at once wherever a multiple of them starts."""
    cdef int i
    if <size_t> p.data[which] % <size_t> (width * fx_itemsize(p.dtype)) or across_step % width:
        return False
    for i in range(p.ndim):
        if p.step[i][which] % width:
            return False
    return True


cdef void _fill(const product *p, fx_gemm_args *s) noexcept nogil:
    cdef int i, o
    memset(s, 0, sizeof(fx_gemm_args))
    s.a, s.b, s.d, s.c = p.data[A], p.data[B], p.data[D], p.data[C]
    s.alpha, s.beta, s.activation = p.alpha, p.beta, p.activation
    s.alpha_whole, s.beta_whole = p.alpha_whole, p.beta_whole
    s.m, s.n, s.k = p.m, p.n, p.k
    s.a_row, s.a_column, s.b_row, s.b_column = p.row[A], p.column[A], p.row[B], p.column[B]
    s.d_row, s.d_column, s.c_row = p.row[D], p.column[D], p.row[C]
    s.batch = 1
    for i in range(FX_GEMM_DIMS):
        s.size[i] = p.size[i] if i < p.ndim else 1
        s.batch *= s.size[i]
        for o in range(4):
            s.step[i][o] = p.step[i][o] if i < p.ndim else 0
    if _whole(p, C, p.row[C], 4 if fx_itemsize(p.dtype) < 8 else 2):
        s.flags |= FX_GEMM_WHOLE_C
    if p.column[D] == 1 and _whole(p, D, p.row[D], 4 if fx_itemsize(p.dtype) < 8 else 2):
        s.flags |= FX_GEMM_WHOLE_D


cdef inline void _slices(fx_gemm_args *s, int wanted) noexcept nogil:
    s.slice = max(ceil_div(ceil_div(s.k, wanted), SLICE) * SLICE, SLICE)
    s.slices = <int32_t> max(ceil_div(s.k, s.slice), 1)


cdef int _launch(product *p, fx_gemm_args *s, cuda_kernel *kernel, launch_shape *shape) noexcept nogil:
    """The kernel for every product of the batch, and the sum of the slices."""
    cdef CUresult status = 0
    cdef void *pointer = s
    cdef int64_t total
    cdef launch_shape flat
    if s.slices > 1:
        s.sums = scratch(p.device, <size_t> (s.slices * s.batch * s.m * s.n * fx_itemsize(fx_computed(p.dtype))))
        if s.sums == NULL:
            return FX_ERROR_MEMORY
    shape.grid[2] = s.slices
    s.first = 0
    while s.first < s.batch and status == 0:
        shape.grid[1] = <unsigned int> min(s.batch - s.first, <int64_t> BATCHES)
        status = launch(kernel, p.device, current_stream(p.device), shape, &pointer)
        s.first += BATCHES
    if s.slices > 1:
        if status == 0:
            total = s.batch * s.m * s.n
            flat = flat_shape(<unsigned int> min(ceil_div(total, 256), <int64_t> (8 * MULTIPROCESSORS)), 256)
            status = launch(add_slices[p.dtype], p.device, current_stream(p.device), &flat, &pointer)
        scratch_free(p.device, s.sums)
    return launched(status)


cdef int _vector(product *p) noexcept nogil:
    """Products with one column, or one row: that is the same with the roles changed."""
    cdef fx_gemm_args s
    cdef launch_shape shape
    cdef int i, width = 16 // fx_itemsize(p.dtype)
    cdef int64_t blocks, least
    cdef bint by_k
    if p.n != 1:
        p.m, p.n = p.n, 1
        p.data[A], p.data[B] = p.data[B], p.data[A]
        p.row[A], p.column[A], p.row[B], p.column[B] = p.column[B], p.row[B], p.column[A], p.row[A]
        p.row[D], p.column[D], p.row[C] = p.column[D], 0, 1
        for i in range(p.ndim):
            p.step[i][A], p.step[i][B] = p.step[i][B], p.step[i][A]
    _fill(p, &s)
    s.flags = 0
    by_k = s.a_column == 1 or (s.a_row != 1 and s.a_column <= s.a_row) or s.m == 1
    if by_k:
        if s.a_column == 1 and s.b_row == 1 and _whole(p, A, s.a_row if s.m > 1 else 0, width) \
                and _whole(p, B, 0, width):
            s.flags = FX_GEMM_WHOLE_A | FX_GEMM_WHOLE_B
        blocks, least = ceil_div(s.m, 8), 1024
    else:
        if s.a_row == 1 and _whole(p, A, s.a_column, 4 if fx_itemsize(p.dtype) < 8 else 2):
            s.flags = FX_GEMM_WHOLE_A
        blocks, least = ceil_div(s.m, 128), 64
    # As many blocks as fill the device four times, but no sum too short to be worth a second launch.
    _slices(&s, <int> max(min(4 * MULTIPROCESSORS // (blocks * s.batch), s.k // least, 64), 1))
    shape = flat_shape(<unsigned int> blocks, 256)
    if not by_k:
        shape.shared = 8 * 128 * fx_itemsize(fx_computed(p.dtype))
    return _launch(p, &s, along[p.dtype] if by_k else across[p.dtype], &shape)


cdef double _cycles(const tile *t, const fx_gemm_args *s) noexcept nogil:
    """An estimate of the time."""
    cdef double blocks = <double> ceil_div(s.m, t.rows) * <double> ceil_div(s.n, t.columns)
    cdef double each = <double> t.rows * t.columns * <double> s.slice
    cdef double share, cycles
    blocks *= <double> s.batch * s.slices
    share = <double> <int64_t> ((blocks + MULTIPROCESSORS - 1) / MULTIPROCESSORS)
    cycles = START + max(share * each / t.full, each / t.alone)
    if s.slices > 1:    # their sums are written and read, by about 1500 bytes per cycle
        cycles += SECOND_LAUNCH + 8.0 * s.slices * <double> s.batch * <double> s.m * <double> s.n / 1500
    return cycles


cdef bint _even(const product *p, bint a_by_k, bint b_by_k, int width) noexcept nogil:
    return (p.column[A] if a_by_k else p.row[A]) == 1 and (p.row[B] if b_by_k else p.column[B]) == 1 \
        and (p.k if a_by_k else p.m) % width == 0 and (p.k if b_by_k else p.n) % width == 0 \
        and _whole(p, A, p.row[A] if a_by_k else p.column[A], width) \
        and _whole(p, B, p.column[B] if b_by_k else p.row[B], width)


cdef int _tiled(product *p) noexcept nogil:
    cdef fx_gemm_args s, tried
    cdef launch_shape shape
    cdef tile *best = NULL
    cdef tile *t
    cdef int i, wanted, width = min(4, 16 // fx_itemsize(p.dtype))
    cdef bint a_by_k, b_by_k, even
    cdef double least = 0, cycles
    _fill(p, &s)
    a_by_k = s.a_column == 1 or (s.a_row != 1 and s.a_column <= s.a_row)
    b_by_k = s.b_column != 1 and (s.b_row == 1 or s.b_row < s.b_column)
    if (s.a_column if a_by_k else s.a_row) == 1 and _whole(p, A, s.a_row if a_by_k else s.a_column, width):
        s.flags |= FX_GEMM_WHOLE_A
    if (s.b_row if b_by_k else s.b_column) == 1 and _whole(p, B, s.b_column if b_by_k else s.b_row, width):
        s.flags |= FX_GEMM_WHOLE_B
    even = _even(p, a_by_k, b_by_k, 16 // fx_itemsize(p.dtype))
    tried = s
    for i in range(n_tiles[p.dtype]):
        t = &tiles[p.dtype][i]
        if (t.even and not even) or (t.tf32 and not tf32_allowed) \
                or ceil_div(s.m, t.rows) * ceil_div(s.n, t.columns) > 0x7fffffff:
            continue
        wanted = 1
        while wanted <= 32 and (wanted == 1 or s.k >= wanted * LEAST_SLICE):
            _slices(&tried, wanted)
            cycles = _cycles(t, &tried)
            if best == NULL or cycles < least:
                best, least = t, cycles
                s.slice, s.slices = tried.slice, tried.slices
            wanted += 1 if wanted < 4 else wanted // 2
    if best == NULL:
        return FX_ERROR_TYPE
    shape = flat_shape(<unsigned int> (ceil_div(s.m, best.rows) * ceil_div(s.n, best.columns)), best.threads)
    shape.shared = best.shared
    return _launch(p, &s, best.kernel[2 * (not a_by_k) + b_by_k], &shape)


cdef int multiply(product *p) noexcept nogil:
    cdef int o, status
    cdef int64_t i
    cdef product inner
    cdef bint done
    _join(p)
    if p.ndim > FX_GEMM_DIMS:       # one launch for each step of the outermost dimension
        inner = p[0]
        inner.ndim -= 1
        for i in range(p.size[p.ndim - 1]):
            for o in range(4):
                inner.data[o] = p.data[o] + i * p.step[p.ndim - 1][o] * fx_itemsize(p.dtype)
            status = multiply(&inner)
            if status != FX_OK:
                return status
            inner.activation = p.activation
        p.activation = 0
        return FX_OK
    # A dimension of one has no stride.
    if p.m == 1:
        p.row[A] = p.row[C] = p.row[D] = 0
    if p.n == 1:
        p.column[B] = p.column[D] = 0
    if p.k == 1:
        p.column[A] = p.row[B] = 0
    if (p.m == 1 or p.n == 1) and along[p.dtype] != NULL:
        status = _vector(p)
    else:
        status = multiply_by_library(p, tf32_allowed, _tiled, &done)
        if done or status != FX_OK:
            return status
        status = _tiled(p)
    p.activation = 0
    return status


cdef tile *_tile(int dtype, str family, str name, int rows, int columns, int depth, int threads, bint even,
                 double full, double alone) except NULL:
    cdef tile *t = &tiles[dtype][n_tiles[dtype]]
    cdef int i
    t.rows, t.columns, t.depth, t.threads, t.even, t.full, t.alone = rows, columns, depth, threads, even, full, alone
    t.shared = 2 * depth * (rows + columns + 8) * fx_itemsize(fx_computed(dtype))
    for i, form in enumerate(("nn", "nt", "tn", "tt")):
        t.kernel[i] = find_kernel(family, f"{name}_{form}_{rows}")
    n_tiles[dtype] += 1
    return t


cdef int _tensor_tile(int dtype, str suffix, int size, int threads, double full, double alone) except -1:
    cdef int depth = 64 // fx_itemsize(dtype), stages = 4
    cdef tile *t = _tile(dtype, "gemm_tensor", f"mma_{suffix}", size, size, depth, threads, True, full, alone)
    t.shared = stages * depth * 2 * size * fx_itemsize(dtype)
    t.tf32 = dtype == FX_F32
    return 0


cdef bint tf32_is_allowed() noexcept nogil:
    return tf32_allowed


def set_allow_tf32(allow):
    """Whether products of float32 may round their operands to 10 bits of mantissa, for the tensor cores."""
    global tf32_allowed
    tf32_allowed = allow


def get_allow_tf32():
    """The setting of `set_allow_tf32`."""
    return bool(tf32_allowed)


cdef int _tables() except -1:
    cdef int dtype
    _tile(FX_F32, "gemm", "gemm_f32", 128, 128, 8, 256, True, 112, 75)
    _tile(FX_F32, "gemm", "gemm_f32", 64, 64, 16, 256, False, 80, 45)
    _tile(FX_F32, "gemm", "gemm_f32", 32, 32, 32, 64, False, 45, 16)
    _tile(FX_F64, "gemm", "gemm_f64", 64, 64, 16, 256, False, 48, 30)
    _tile(FX_F64, "gemm", "gemm_f64", 32, 32, 16, 64, False, 30, 12)
    _tile(FX_F16, "gemm", "gemm_f16", 64, 64, 16, 256, False, 60, 40)
    _tile(FX_BF16, "gemm", "gemm_bf16", 64, 64, 16, 256, False, 60, 40)
    for code, suffix in ((FX_F16, "f16"), (FX_BF16, "bf16")):
        _tensor_tile(code, suffix, 128, 256, 1000, 700)
        _tensor_tile(code, suffix, 64, 128, 700, 250)
    _tensor_tile(FX_F32, "tf32", 128, 256, 500, 350)
    _tensor_tile(FX_F32, "tf32", 64, 128, 350, 125)
    for code, suffix in ((FX_U8, "u8"), (FX_I8, "u8"), (FX_I16, "u16")):
        _tile(code, "gemm", f"gemm_{suffix}", 32, 32, 32, 64, False, 25, 10)
    for code, suffix, depth in ((FX_I32, "u32", 32), (FX_I64, "u64", 16)):
        _tile(code, "gemm", f"gemm_{suffix}", 64, 64, 16, 256, False, 40, 25)
        _tile(code, "gemm", f"gemm_{suffix}", 32, 32, depth, 64, False, 25, 10)
    for code, suffix in ((FX_U8, "u8"), (FX_I8, "u8"), (FX_I16, "u16"), (FX_I32, "u32"), (FX_I64, "u64"),
                         (FX_F16, "f16"), (FX_BF16, "bf16"), (FX_F32, "f32"), (FX_F64, "f64")):
        dtype = code
        add_slices[dtype] = find_kernel("gemm", f"gemm_{suffix}_slices")
        if dtype >= FX_F16:
            along[dtype] = find_kernel("gemv", f"gemv_{suffix}_along")
            across[dtype] = find_kernel("gemv", f"gemv_{suffix}_across")
    return 0


_tables()
