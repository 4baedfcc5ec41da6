"""Scaled dot-product attention and its gradient on the GPU.

Arrays and params as the CPU's (cpu/attention.pyx); q, k, v and g of the dtype of the arithmetic, an added mask too.
Operands are read where they lie.  What a kernel does not take (more leading dimensions than it counts) is launched in
pieces.

Note [Tensor cores]: float16 and bfloat16, and float32 if tf32 is allowed, go to attention_tensor.cu where heads are up
to 128 wide and a multiple of 16 bytes; operands whose rows cannot be copied by 16 bytes are made contiguous first,
unless the work is too small to be worth it.  Everything else is computed on the plain units (attention.cu).
"""
from libc.stdint cimport int32_t, int64_t
from libc.stdio cimport snprintf
from libc.string cimport memset

from ferrox._core.abi cimport FX_BF16, FX_BOOL, FX_CONTIGUOUS, FX_CUDA, FX_DTYPES, FX_ERROR_MEMORY, FX_ERROR_TYPE, \
    FX_F16, FX_F32, FX_F64, FX_MAX_DIMS, FX_OK, fx_array, fx_call, fx_is_floating, fx_itemsize, fx_suffix
from ferrox._core.door.backend cimport provide
from ferrox._core.cuda.context cimport devices
from ferrox._core.cuda.copying cimport copy
from ferrox._core.cuda.dense cimport dense, elsewhere
from ferrox._core.cuda.gemm cimport tf32_is_allowed
from ferrox._core.cuda.module cimport cuda_kernel, find_kernel, flat_shape, launch, launch_shape, launched
from ferrox._core.cuda.scratch cimport scratch, scratch_free
from ferrox._core.cuda.stream cimport current_stream

cdef extern from "fx/attention_args.h" nogil:
    enum:
        FX_ATTENTION_DIMS
        FX_Q
        FX_K
        FX_V
        FX_G
        FX_MASK
        FX_ATTENTION_OPERANDS
        FX_BOOL_MASK
        FX_ADDED_MASK
    ctypedef struct fx_attention_args:
        const void *data[FX_ATTENTION_OPERANDS]
        void *out
        void *lse
        void *delta
        void *dq
        void *dk
        void *dv
        double scale
        int64_t heads, first
        int64_t length, keys, width, v_width
        int64_t row[FX_ATTENTION_OPERANDS]
        int64_t column[FX_ATTENTION_OPERANDS]
        int64_t size[FX_ATTENTION_DIMS]
        int64_t step[FX_ATTENTION_DIMS][FX_ATTENTION_OPERANDS]
        int32_t causal, mask

cdef enum:
    ROWS = 64           # queries or keys of a block
    BATCHES = 65535     # blocks along y
    SHARED = 64 * 68 + 2 * 16 * 68

# A kernel for each dtype and number of columns.
cdef struct kernels:
    cuda_kernel *forward[2]
    cuda_kernel *queries[2]
    cuda_kernel *keys[2]
    cuda_kernel *delta
    int columns[2]

# On tensor cores, by the width of a head (64, 128); shared memory in bytes.
cdef enum:
    TENSOR_ROWS = 64        # rows of a block; twice as many where these fill the device
    TENSOR_THREADS = 128
    MULTIPROCESSORS = 132   # of the device that is estimated for
    WORTH_COPYING = 4096    # scores of a head

cdef struct tensor_kernel:
    cuda_kernel *kernel
    unsigned int shared

cdef struct tensor_kernels:
    tensor_kernel forward[2][2]     # 64 rows, 128 rows
    tensor_kernel queries[2]
    tensor_kernel keys[2]

cdef kernels[FX_DTYPES] table
cdef tensor_kernels[FX_DTYPES] tensor_table


# Leading dimensions after joining; more than a kernel counts go through `over`.
cdef struct leading:
    int ndim
    int64_t size[FX_MAX_DIMS]
    int64_t step[FX_MAX_DIMS][FX_ATTENTION_OPERANDS]


cdef int _check(fx_call *call, const fx_array *x, int device, int dtype) noexcept nogil:
    if x.device_type != FX_CUDA or x.device_index != device:
        return elsewhere(call, x, device)
    if x.dtype != dtype:
        snprintf(call.message, sizeof(call.message), b"operands must have one dtype")
        return FX_ERROR_TYPE
    return FX_OK


cdef int _measure(fx_call *call, fx_array **x, fx_attention_args *s, leading *lead) noexcept nogil:
    """The arguments from the operands, by number; the heads are the leading dimensions of q."""
    cdef fx_array *q = x[FX_Q]
    cdef int o, d, k, nd = q.ndim, status
    cdef bint joins
    memset(s, 0, sizeof(fx_attention_args))
    if table[call.dtype].delta == NULL:
        snprintf(call.message, sizeof(call.message), b"not defined for this dtype")
        return FX_ERROR_TYPE
    s.scale, s.causal = call.params[0].f, call.params[1].i != 0
    s.length, s.width = q.dims[nd - 2], q.dims[nd - 1]
    s.keys, s.v_width = x[FX_V].dims[nd - 2], x[FX_V].dims[nd - 1]
    s.heads = 1
    for d in range(nd - 2):
        s.heads *= q.dims[d]
    for o in range(FX_ATTENTION_OPERANDS):
        if x[o] == NULL:
            continue
        status = _check(call, x[o], q.device_index, x[o].dtype if o == FX_MASK and x[o].dtype == FX_BOOL else
                        call.dtype)
        if status != FX_OK:
            return status
        s.data[o] = x[o].data
        s.row[o], s.column[o] = x[o].dims[2 * nd - 2], x[o].dims[2 * nd - 1]
    if x[FX_MASK] != NULL:
        s.mask = FX_BOOL_MASK if x[FX_MASK].dtype == FX_BOOL else FX_ADDED_MASK
    lead.ndim = 0
    for d in range(nd - 3, -1, -1):
        if q.dims[d] == 1:
            continue
        k = lead.ndim
        joins = k > 0
        for o in range(FX_ATTENTION_OPERANDS):
            lead.step[k][o] = x[o].dims[nd + d] if x[o] != NULL else 0
            joins = joins and lead.step[k][o] == lead.step[k - 1][o] * lead.size[k - 1]
        if joins:
            lead.size[k - 1] *= q.dims[d]
        else:
            lead.size[k] = q.dims[d]
            lead.ndim += 1
    return FX_OK


cdef int _launch(const fx_attention_args *given, int device, cuda_kernel *kernel, int64_t blocks, int64_t across,
                 unsigned int shared, unsigned int threads=256) noexcept nogil:
    cdef fx_attention_args s = given[0]
    cdef launch_shape shape = flat_shape(<unsigned int> blocks, threads)
    cdef void *pointer = &s
    cdef int status = FX_OK
    shape.grid[2] = <unsigned int> max(across, 1)
    shape.shared = shared
    if blocks == 0:
        return FX_OK
    while s.first < s.heads and status == FX_OK:
        shape.grid[1] = <unsigned int> min(s.heads - s.first, <int64_t> BATCHES)
        status = launched(launch(kernel, device, current_stream(device), &shape, &pointer))
        s.first += BATCHES
    return status


cdef inline int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline int64_t larger(int64_t a, int64_t b) noexcept nogil:
    return a if a > b else b


cdef int _forward(const fx_attention_args *s, int dtype, int device) noexcept nogil:
    cdef kernels *of = &table[dtype]
    cdef int wide = s.v_width > of.columns[0]
    return _launch(s, device, of.forward[wide], ceil_div(s.length, ROWS), ceil_div(s.v_width, of.columns[wide]),
                   SHARED * (8 if dtype == FX_F64 else 4))


cdef int _backward(const fx_attention_args *s, int dtype, int device) noexcept nogil:
    cdef kernels *of = &table[dtype]
    cdef int wide, status
    cdef unsigned int shared = SHARED * (8 if dtype == FX_F64 else 4)
    status = _launch(s, device, of.delta, ceil_div(s.length, 8), 1, 0)
    if status == FX_OK and s.dq != NULL and s.width:
        wide = s.width > of.columns[0]
        status = _launch(s, device, of.queries[wide], ceil_div(s.length, ROWS), ceil_div(s.width, of.columns[wide]),
                         shared)
    if status == FX_OK and (s.dk != NULL or s.dv != NULL):
        wide = larger(s.width, s.v_width) > of.columns[0]
        status = _launch(s, device, of.keys[wide], ceil_div(s.keys, ROWS),
                         ceil_div(larger(s.width, s.v_width), of.columns[wide]), shared)
    return status


cdef int _tensor_launch(const fx_attention_args *s, int device, const tensor_kernel *of, int64_t blocks) noexcept nogil:
    return _launch(s, device, of.kernel, blocks, 1, of.shared, TENSOR_THREADS)


cdef int _tensor_forward(const fx_attention_args *s, int dtype, int device) noexcept nogil:
    cdef int wide = larger(s.width, s.v_width) > 64
    cdef tensor_kernel *of = tensor_table[dtype].forward[wide]
    if of[1].kernel != NULL and s.length > TENSOR_ROWS \
            and s.heads * ceil_div(s.length, 2 * TENSOR_ROWS) >= MULTIPROCESSORS:
        return _tensor_launch(s, device, &of[1], ceil_div(s.length, 2 * TENSOR_ROWS))
    return _tensor_launch(s, device, &of[0], ceil_div(s.length, TENSOR_ROWS))


cdef int _tensor_backward(const fx_attention_args *s, int dtype, int device) noexcept nogil:
    cdef int wide = larger(s.width, s.v_width) > 64
    cdef int status = _launch(s, device, table[dtype].delta, ceil_div(s.length, 8), 1, 0)
    if status == FX_OK and s.dq != NULL:
        status = _tensor_launch(s, device, &tensor_table[dtype].queries[wide], ceil_div(s.length, TENSOR_ROWS))
    if status == FX_OK and (s.dk != NULL or s.dv != NULL):
        status = _tensor_launch(s, device, &tensor_table[dtype].keys[wide], ceil_div(s.keys, TENSOR_ROWS))
    return status


# Operands that the tensor cores can read: those given, or copies of them.
cdef struct readable:
    fx_array array[FX_ATTENTION_OPERANDS]
    int64_t dims[FX_ATTENTION_OPERANDS][2 * FX_MAX_DIMS]


cdef bint _is_even(const fx_array *x, int width) noexcept nogil:
    """Whether rows can be copied 16 bytes at a time."""
    cdef int d, nd = x.ndim
    if x.dims[2 * nd - 1] != 1 or <size_t> x.data % 16:
        return False
    for d in range(nd - 1):
        if x.dims[d] != 1 and x.dims[nd + d] % width:
            return False
    return True


cdef bint _suits_tensor_cores(int dtype, fx_array **x, fx_array **results, int n) noexcept nogil:
    cdef fx_array *q = x[FX_Q]
    cdef fx_array *v = x[FX_V]
    cdef int i, width = 16 // fx_itemsize(dtype)
    cdef int64_t e = q.dims[q.ndim - 1], v_e = v.dims[v.ndim - 1]
    cdef int64_t length = q.dims[q.ndim - 2], keys = v.dims[v.ndim - 2]
    if tensor_table[dtype].keys[0].kernel == NULL or (dtype == FX_F32 and not tf32_is_allowed()) \
            or e == 0 or v_e == 0 or e > 128 or v_e > 128 or e % width or v_e % width \
            or tensor_table[dtype].queries[1].shared > <unsigned int> devices[q.device_index].shared_per_block:
        return False
    for i in range(n):
        if results[i] != NULL and <size_t> results[i].data % 16:
            return False
    for i in range(FX_MASK):
        if x[i] != NULL and not _is_even(x[i], width) and length * keys < WORTH_COPYING:
            return False
    return True


cdef void _release(readable *made, int device) noexcept nogil:
    cdef int o
    for o in range(FX_ATTENTION_OPERANDS):
        if made.array[o].data != NULL:
            scratch_free(device, made.array[o].data)


cdef int _make_readable(fx_call *call, fx_array **x, readable *made) noexcept nogil:
    """Copies in place of operands that are not; also after a failure, `_release` gives them back."""
    cdef fx_call move
    cdef fx_array *arrays[2]
    cdef fx_array *each
    cdef int o, d, status, width = 16 // fx_itemsize(call.dtype)
    cdef int64_t step
    memset(made, 0, sizeof(readable))
    for o in range(FX_MASK):
        if x[o] == NULL or x[o].numel == 0 or _is_even(x[o], width):
            continue
        each = &made.array[o]
        each[0] = x[o][0]
        each.data = scratch(each.device_index, <size_t> (each.numel * fx_itemsize(each.dtype)))
        if each.data == NULL:
            return FX_ERROR_MEMORY
        each.dims, each.flags, step = made.dims[o], FX_CONTIGUOUS, 1
        for d in range(each.ndim - 1, -1, -1):
            each.dims[d] = x[o].dims[d]
            each.dims[each.ndim + d] = step
            step *= each.dims[d]
        arrays[0], arrays[1] = each, x[o]
        move = call[0]
        move.arrays, move.n_out, move.n_in, move.dtype, move.params, move.n_params = arrays, 1, 1, each.dtype, NULL, 0
        status = copy(&move)
        if status != FX_OK:
            return status
        x[o] = each
    return FX_OK


ctypedef int (*stage)(const fx_attention_args *s, int dtype, int device) noexcept nogil


cdef int _over(fx_attention_args *s, const leading *lead, int d, int dtype, int device, stage run) noexcept nogil:
    """Run for the first `d` of the leading dimensions, the outermost of them one by one where they are too many."""
    cdef fx_attention_args part
    cdef int64_t i, inner = 1
    cdef int o, k, status, size = fx_itemsize(dtype), wide = 8 if dtype == FX_F64 else 4
    if d <= FX_ATTENTION_DIMS:
        s.heads, s.first = 1, 0
        for k in range(FX_ATTENTION_DIMS):
            s.size[k] = lead.size[k] if k < d else 1
            s.heads *= s.size[k]
            for o in range(FX_ATTENTION_OPERANDS):
                s.step[k][o] = lead.step[k][o] if k < d else 0
        return run(s, dtype, device)
    for k in range(d - 1):
        inner *= lead.size[k]
    for i in range(lead.size[d - 1]):
        part = s[0]
        for o in range(FX_ATTENTION_OPERANDS):
            if part.data[o] != NULL:
                part.data[o] = <const char *> s.data[o] + i * lead.step[d - 1][o] \
                    * (1 if o == FX_MASK and s.mask == FX_BOOL_MASK else size)
        part.out = <char *> s.out + i * inner * s.length * s.v_width * size
        if part.lse != NULL:
            part.lse = <char *> s.lse + i * inner * s.length * wide
        if part.delta != NULL:
            part.delta = <char *> s.delta + i * inner * s.length * wide
        if part.dq != NULL:
            part.dq = <char *> s.dq + i * inner * s.length * s.width * size
        if part.dk != NULL:
            part.dk = <char *> s.dk + i * inner * s.keys * s.width * size
        if part.dv != NULL:
            part.dv = <char *> s.dv + i * inner * s.keys * s.v_width * size
        status = _over(&part, lead, d - 1, dtype, device, run)
        if status != FX_OK:
            return status
    return FX_OK


cdef int sdpa(fx_call *call) noexcept nogil:
    cdef fx_array *out = call.arrays[0]
    cdef fx_array *lse = call.arrays[1]
    cdef fx_array *x[FX_ATTENTION_OPERANDS]
    cdef fx_attention_args s
    cdef leading lead
    cdef readable made
    cdef int status = FX_OK
    cdef bint on_tensor_cores
    x[FX_Q], x[FX_K], x[FX_V], x[FX_G] = call.arrays[2], call.arrays[3], call.arrays[4], NULL
    x[FX_MASK] = call.arrays[5] if call.n_in > 3 else NULL
    status = _measure(call, x, &s, &lead)
    if status != FX_OK or s.heads == 0 or s.length == 0:
        return status
    on_tensor_cores = _suits_tensor_cores(call.dtype, x, &out, 1)
    if on_tensor_cores:
        status = _make_readable(call, x, &made)
        if status == FX_OK:
            status = _measure(call, x, &s, &lead)
    s.out, s.lse = out.data, NULL if lse == NULL else lse.data
    if status == FX_OK:
        status = _over(&s, &lead, lead.ndim, call.dtype, out.device_index,
                       _tensor_forward if on_tensor_cores else _forward)
    if on_tensor_cores:
        _release(&made, out.device_index)
    return status


cdef int sdpa_backward(fx_call *call) noexcept nogil:
    cdef fx_array *x[FX_ATTENTION_OPERANDS]
    cdef fx_attention_args s
    cdef leading lead
    cdef readable made
    cdef int status, device = call.arrays[4].device_index
    cdef bint on_tensor_cores
    if not call.arrays[7].flags & call.arrays[8].flags & FX_CONTIGUOUS:
        return dense(call, sdpa_backward, 0, 0)
    x[FX_G], x[FX_Q], x[FX_K], x[FX_V] = call.arrays[3], call.arrays[4], call.arrays[5], call.arrays[6]
    x[FX_MASK] = call.arrays[9] if call.n_in > 6 else NULL
    status = _measure(call, x, &s, &lead)
    if status != FX_OK or s.heads == 0:
        return status
    on_tensor_cores = _suits_tensor_cores(call.dtype, x, call.arrays, 3)
    if on_tensor_cores:
        status = _make_readable(call, x, &made)
        if status == FX_OK:
            status = _measure(call, x, &s, &lead)
    s.out, s.lse = call.arrays[7].data, call.arrays[8].data
    s.dq = NULL if call.arrays[0] == NULL else call.arrays[0].data
    s.dk = NULL if call.arrays[1] == NULL else call.arrays[1].data
    s.dv = NULL if call.arrays[2] == NULL else call.arrays[2].data
    if status == FX_OK:
        s.delta = scratch(device, <size_t> (larger(s.heads * s.length, 1) * (8 if call.dtype == FX_F64 else 4)))
        if s.delta == NULL:
            status = FX_ERROR_MEMORY
        else:
            status = _over(&s, &lead, lead.ndim, call.dtype, device, _tensor_backward if on_tensor_cores else _backward)
            scratch_free(device, s.delta)
    if on_tensor_cores:
        _release(&made, device)
    return status


cdef int _tensor_entry(tensor_kernel *of, str name, int pitch, int rows, int columns) except -1:
    """`rows` that stay, in one or two tiles, and two buffers of two tiles of `columns`."""
    of.kernel = find_kernel("attention_tensor", name)
    of.shared = pitch * (rows + 4 * columns)
    return 0


cdef int _tables() except -1:
    cdef int dtype, wide, pitch
    cdef tensor_kernels *of
    for dtype in range(FX_DTYPES):
        if not fx_is_floating(dtype):
            continue
        suffix = fx_suffix(dtype).decode()
        table[dtype].delta = find_kernel("attention", f"attention_delta_{suffix}")
        for wide in range(2):
            columns = 128 if wide and suffix != "f64" else 64
            table[dtype].columns[wide] = columns
            table[dtype].forward[wide] = find_kernel("attention", f"attention_{suffix}_{columns}")
            table[dtype].queries[wide] = find_kernel("attention", f"attention_queries_{suffix}_{columns}")
            table[dtype].keys[wide] = find_kernel("attention", f"attention_keys_{suffix}_{columns}")
    # The numbers of columns are those of attention_tensor.cu.
    for code, suffix in ((FX_F16, "f16"), (FX_BF16, "bf16"), (FX_F32, "tf32")):
        dtype = code
        half = suffix != "tf32"
        of = &tensor_table[dtype]
        for wide in range(2):
            width = 64 << wide
            pitch = width * fx_itemsize(dtype)
            _tensor_entry(&of.forward[wide][0], f"attention_{suffix}_{width}_64", pitch, 64,
                          64 if half or not wide else 32)
            if half:
                _tensor_entry(&of.forward[wide][1], f"attention_{suffix}_{width}_128", pitch, 128, 64)
            _tensor_entry(&of.queries[wide], f"attention_queries_{suffix}_{width}", pitch, 128,
                          64 if half else 32 >> wide)
            _tensor_entry(&of.keys[wide], f"attention_keys_{suffix}_{width}", pitch, 128,
                          64 >> wide if half else 32 >> wide)
    return 0


_tables()
provide(FX_CUDA, "sdpa", sdpa)
provide(FX_CUDA, "sdpa_backward", sdpa_backward)
