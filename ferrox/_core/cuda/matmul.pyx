"""Matrix products on the GPU: matmul, addmm, addmm_activation, linear, dot.

Arrays and params as the CPU's (cpu/matmul.pyx).  Operands are read where they lie, whatever the strides; leading
dimensions become rows where that needs no copy, the rest is a batch, in one launch.  gemm.pyx chooses the kernel.
"""
from libc.stdint cimport int64_t
from libc.stdio cimport snprintf

from ferrox._core.abi cimport FX_BOOL, FX_CUDA, FX_ERROR_TYPE, FX_ERROR_VALUE, FX_FLOATING, FX_OK, fx_array, fx_call, \
    fx_category, fx_scalar
from ferrox._core.door.backend cimport implementation, kernel_id, provide
from ferrox._core.cuda.dense cimport elsewhere
from ferrox._core.cuda.gemm cimport multiply
from ferrox._core.cuda.product cimport A, B, C, D, product


cdef int refuse(fx_call *call, int status, const char *message) noexcept nogil:
    snprintf(call.message, sizeof(call.message), "%s", message)
    return status


cdef int check(fx_call *call) noexcept nogil:
    """Dtypes and devices."""
    cdef int i
    cdef fx_array *x
    if call.dtype == FX_BOOL:
        return refuse(call, FX_ERROR_TYPE, "not defined for bool")
    for i in range(call.n_out + call.n_in):
        x = call.arrays[i]
        if x == NULL:
            continue
        if x.dtype != call.dtype:
            return refuse(call, FX_ERROR_TYPE, "operands must have the dtype of the result")
        if x.device_type != FX_CUDA or x.device_index != call.arrays[0].device_index:
            return elsewhere(call, x, call.arrays[0].device_index)
    return FX_OK


cdef bint collapse(const fx_array *x, int ndim, int64_t *stride) noexcept nogil:
    """Whether the first `ndim` dimensions are one with a single stride."""
    cdef int i
    cdef int64_t expected = 0, step
    cdef bint seen = False
    stride[0] = 0
    for i in range(ndim - 1, -1, -1):
        if x.dims[i] == 1:
            continue
        step = x.dims[x.ndim + i]
        if not seen:
            stride[0] = expected = step
            seen = True
        elif step != expected:
            return False
        expected *= x.dims[i]
    return True


cdef inline void operand(product *p, int which, const fx_array *x, int64_t row, int64_t column) noexcept nogil:
    p.data[which], p.row[which], p.column[which] = <char *> x.data, row, column


cdef void batch(product *p, int ndim, const fx_array *out, const fx_array *a, const fx_array *b,
                const fx_array *d) noexcept nogil:
    """The leading dimensions as they are; gemm.pyx joins what lies behind each other."""
    cdef int i, k
    p.ndim = ndim
    for i in range(ndim):
        k = ndim - 1 - i        # innermost first
        p.size[i] = out.dims[k]
        p.step[i][A] = a.dims[a.ndim + k]
        p.step[i][B] = b.dims[b.ndim + k] if b != NULL else 0
        p.step[i][D] = d.dims[d.ndim + k] if d != NULL else 0
        p.step[i][C] = out.dims[out.ndim + k]


# The kernel of each fx_gemm_activation, for products that the library has made.
cdef int[3] _activations = [-1, kernel_id("relu"), kernel_id("gelu_erf")]


cdef int activate(fx_array *x, int activation) noexcept nogil:
    """An activation in place."""
    cdef fx_array *arrays[2]
    cdef fx_call call
    arrays[0] = arrays[1] = x
    call.arrays = arrays
    call.n_out = call.n_in = 1
    call.kernel = _activations[activation]
    call.dtype = x.dtype
    call.params = NULL
    call.n_params = 0
    return implementation[<int> FX_CUDA][call.kernel](&call)


cdef inline void _factors(product *p, const fx_scalar *factors) noexcept nogil:
    """beta and alpha, numbers of the arithmetic; NULL for 0 and 1."""
    p.alpha, p.beta, p.alpha_whole, p.beta_whole = 1, 0, 1, 0
    if factors != NULL and fx_category(p.dtype) == FX_FLOATING:
        p.alpha, p.beta = factors[1].f, factors[0].f
    elif factors != NULL:
        p.alpha_whole, p.beta_whole = factors[1].i, factors[0].i
        p.beta = p.beta_whole != 0      # whether D is read


cdef int product_of(fx_call *call, fx_array *out, fx_array *d, fx_array *a, fx_array *b, const fx_scalar *factors,
                    int activation) noexcept nogil:
    """out (…, M, N) = f(alpha a (…, M, K) b (…, K, N) + beta d), batch dimensions expanded by the caller."""
    cdef int nd = out.ndim, status
    cdef int64_t rows = 0, d_rows = 0, none = 0
    cdef product p
    if nd < 2 or a.ndim != nd or b.ndim != nd or (d != NULL and d.ndim != nd):
        return refuse(call, FX_ERROR_VALUE, "operands must have at least two dimensions, and as many as the result")
    p.m, p.n, p.k = out.dims[nd - 2], out.dims[nd - 1], a.dims[nd - 1]
    if b.dims[nd - 2] != p.k or a.dims[nd - 2] != p.m or b.dims[nd - 1] != p.n:
        return refuse(call, FX_ERROR_VALUE, "shapes do not fit")
    status = check(call)
    if status != FX_OK or out.numel == 0:
        return status
    p.dtype, p.device, p.activation = call.dtype, out.device_index, activation
    _factors(&p, factors)
    if p.beta == 0:
        d = NULL
    operand(&p, A, a, a.dims[2 * nd - 2], a.dims[2 * nd - 1])
    operand(&p, B, b, b.dims[2 * nd - 2], b.dims[2 * nd - 1])
    operand(&p, C, out, p.n, 1)
    operand(&p, D, out, 0, 0)
    if d != NULL:
        operand(&p, D, d, d.dims[2 * nd - 2], d.dims[2 * nd - 1])
    batch(&p, nd - 2, out, a, b, d)
    # One matrix b for the whole batch: its rows of a are one matrix, if they lie evenly.
    if nd > 2 and collapse(b, nd - 2, &none) and none == 0 and collapse(a, nd - 1, &rows) \
            and (d == NULL or collapse(d, nd - 1, &d_rows)):
        p.m = out.numel // p.n
        p.row[A], p.row[D], p.ndim = rows, d_rows, 0
    status = multiply(&p)
    return activate(out, p.activation) if status == FX_OK and p.activation else status


cdef int matmul(fx_call *call) noexcept nogil:
    return product_of(call, call.arrays[0], NULL, call.arrays[1], call.arrays[2], NULL, 0)


cdef int addmm(fx_call *call) noexcept nogil:
    return product_of(call, call.arrays[0], call.arrays[1], call.arrays[2], call.arrays[3], call.params, 0)


cdef int addmm_activation(fx_call *call) noexcept nogil:
    return product_of(call, call.arrays[0], call.arrays[1], call.arrays[2], call.arrays[3], call.params,
                      <int> call.params[2].i)


cdef int linear(fx_call *call) noexcept nogil:
    cdef fx_array *out = call.arrays[0]
    cdef fx_array *x = call.arrays[1]
    cdef fx_array *weight = call.arrays[2]
    cdef fx_array *bias = call.arrays[3] if call.n_in > 2 else NULL
    cdef int nd = out.ndim, status
    cdef int64_t rows = 0
    cdef product p
    if nd < 1 or x.ndim != nd or weight.ndim != 2 or (bias != NULL and bias.ndim != 1):
        return refuse(call, FX_ERROR_VALUE, "expected x (..., K), weight (N, K), bias (N)")
    p.n, p.k = weight.dims[0], weight.dims[1]
    if x.dims[nd - 1] != p.k or out.dims[nd - 1] != p.n or (bias != NULL and bias.dims[0] != p.n):
        return refuse(call, FX_ERROR_VALUE, "shapes do not fit")
    status = check(call)
    if status != FX_OK or out.numel == 0:
        return status
    p.dtype, p.device, p.activation = call.dtype, out.device_index, 0
    _factors(&p, NULL)
    p.beta = p.beta_whole = bias != NULL
    operand(&p, B, weight, weight.dims[3], weight.dims[2])
    operand(&p, C, out, p.n, 1)
    operand(&p, D, out, 0, 0)
    if bias != NULL:
        operand(&p, D, bias, 0, bias.dims[1])
    if collapse(x, nd - 1, &rows):
        operand(&p, A, x, rows, x.dims[2 * nd - 1])
        p.m, p.ndim = out.numel // p.n, 0
    else:   # at least two leading dimensions: the last one is the rows
        operand(&p, A, x, x.dims[2 * nd - 2], x.dims[2 * nd - 1])
        p.m = x.dims[nd - 2]
        batch(&p, nd - 2, out, x, NULL, NULL)
    return multiply(&p)


cdef int dot(fx_call *call) noexcept nogil:
    cdef fx_array *a = call.arrays[1]
    cdef fx_array *b = call.arrays[2]
    cdef product p
    cdef int status
    if call.arrays[0].numel != 1 or a.ndim != 1 or b.ndim != 1 or a.dims[0] != b.dims[0]:
        return refuse(call, FX_ERROR_VALUE, "expected two vectors of one length")
    status = check(call)
    if status != FX_OK:
        return status
    p.m, p.n, p.k, p.ndim = 1, 1, a.dims[0], 0
    p.dtype, p.device, p.activation = call.dtype, call.arrays[0].device_index, 0
    _factors(&p, NULL)
    operand(&p, A, a, 0, a.dims[1])
    operand(&p, B, b, b.dims[1], 0)
    operand(&p, C, call.arrays[0], 1, 1)
    operand(&p, D, call.arrays[0], 0, 0)
    return multiply(&p)


provide(FX_CUDA, "matmul", matmul)
provide(FX_CUDA, "addmm", addmm)
provide(FX_CUDA, "addmm_activation", addmm_activation)
provide(FX_CUDA, "linear", linear)
provide(FX_CUDA, "dot", dot)
