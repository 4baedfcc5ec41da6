"""Scaled dot-product attention and its gradient on the GPU.

Arrays and params as the CPU's (cpu/attention.pyx); q, k, v and g of the dtype of the arithmetic, an added mask too.
Operands are read where they lie.  What a kernel does not take (more leading dimensions than it counts) is launched in
pieces.
"""
from libc.stdint cimport int32_t, int64_t
from libc.stdio cimport snprintf
from libc.string cimport memset

from ferrox._core.abi cimport FX_BF16, FX_BOOL, FX_CONTIGUOUS, FX_CUDA, FX_ERROR_MEMORY, FX_ERROR_RUNTIME, \
    FX_ERROR_TYPE, FX_F16, FX_F32, FX_F64, FX_MAX_DIMS, FX_OK, fx_array, fx_call
from ferrox._core.backend cimport provide
from ferrox._core.cuda.dense cimport dense
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

cdef kernels[10] table
cdef int[10] item_size = [1, 1, 1, 2, 4, 8, 2, 2, 4, 8]


# Leading dimensions after joining; more than a kernel counts go through `over`.
cdef struct leading:
    int ndim
    int64_t size[FX_MAX_DIMS]
    int64_t step[FX_MAX_DIMS][FX_ATTENTION_OPERANDS]


cdef int _check(fx_call *call, const fx_array *x, int device, int dtype) noexcept nogil:
    if x.device_type != FX_CUDA or x.device_index != device:
        snprintf(call.message, sizeof(call.message), b"Expected all tensors to be on the same device")
        return FX_ERROR_RUNTIME
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
                 unsigned int shared) noexcept nogil:
    cdef fx_attention_args s = given[0]
    cdef launch_shape shape = flat_shape(<unsigned int> blocks, 256)
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


ctypedef int (*stage)(const fx_attention_args *s, int dtype, int device) noexcept nogil


cdef int _over(fx_attention_args *s, const leading *lead, int d, int dtype, int device, stage run) noexcept nogil:
    """Run for the first `d` of the leading dimensions, the outermost of them one by one where they are too many."""
    cdef fx_attention_args part
    cdef int64_t i, inner = 1
    cdef int o, k, status, size = item_size[dtype], wide = 8 if dtype == FX_F64 else 4
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
    cdef int status
    x[FX_Q], x[FX_K], x[FX_V], x[FX_G] = call.arrays[2], call.arrays[3], call.arrays[4], NULL
    x[FX_MASK] = call.arrays[5] if call.n_in > 3 else NULL
    status = _measure(call, x, &s, &lead)
    if status != FX_OK or s.heads == 0 or s.length == 0:
        return status
    s.out, s.lse = out.data, NULL if lse == NULL else lse.data
    return _over(&s, &lead, lead.ndim, call.dtype, out.device_index, _forward)


cdef int sdpa_backward(fx_call *call) noexcept nogil:
    cdef fx_array *x[FX_ATTENTION_OPERANDS]
    cdef fx_attention_args s
    cdef leading lead
    cdef int status, i, device = call.arrays[4].device_index
    if not call.arrays[7].flags & call.arrays[8].flags & FX_CONTIGUOUS:
        return dense(call, sdpa_backward, 0, 0)
    x[FX_G], x[FX_Q], x[FX_K], x[FX_V] = call.arrays[3], call.arrays[4], call.arrays[5], call.arrays[6]
    x[FX_MASK] = call.arrays[9] if call.n_in > 6 else NULL
    status = _measure(call, x, &s, &lead)
    if status != FX_OK or s.heads == 0:
        return status
    s.out, s.lse = call.arrays[7].data, call.arrays[8].data
    s.dq = NULL if call.arrays[0] == NULL else call.arrays[0].data
    s.dk = NULL if call.arrays[1] == NULL else call.arrays[1].data
    s.dv = NULL if call.arrays[2] == NULL else call.arrays[2].data
    s.delta = scratch(device, <size_t> (larger(s.heads * s.length, 1) * (8 if call.dtype == FX_F64 else 4)))
    if s.delta == NULL:
        return FX_ERROR_MEMORY
    status = _over(&s, &lead, lead.ndim, call.dtype, device, _backward)
    scratch_free(device, s.delta)
    return status


cdef int _tables() except -1:
    cdef int dtype, wide
    for code, suffix in ((FX_F16, "f16"), (FX_BF16, "bf16"), (FX_F32, "f32"), (FX_F64, "f64")):
        dtype = code
        table[dtype].delta = find_kernel("attention", f"attention_delta_{suffix}")
        for wide in range(2):
            columns = 128 if wide and suffix != "f64" else 64
            table[dtype].columns[wide] = columns
            table[dtype].forward[wide] = find_kernel("attention", f"attention_{suffix}_{columns}")
            table[dtype].queries[wide] = find_kernel("attention", f"attention_queries_{suffix}_{columns}")
            table[dtype].keys[wide] = find_kernel("attention", f"attention_keys_{suffix}_{columns}")
    return 0


_tables()
provide(FX_CUDA, "sdpa", sdpa)
provide(FX_CUDA, "sdpa_backward", sdpa_backward)
