"""The CPU's matrix products at the door: matmul, addmm, addmm_activation, linear, dot.

They read operands where they lie, whatever the strides, and collapse leading dimensions into rows where that needs no
copy.  A batch of products is shared out among the threads whole, or each product in itself, never both.
"""
from libc.stdint cimport int64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from ferrox._core.abi cimport FX_CPU, FX_DTYPES, FX_ERROR_MEMORY, FX_ERROR_TYPE, FX_ERROR_VALUE, FX_F32, FX_F64, \
    FX_FLOATING, FX_MAX_DIMS, FX_OK, fx_array, fx_call, fx_category, fx_itemsize, fx_scalar
from ferrox._core.door.backend cimport implementation, kernel_id, provide
from ferrox._core.door.threads cimport num_threads

cdef extern from "fx/parallel.h" nogil:
    ctypedef void (*fx_team_function)(int thread, int threads, void *argument) noexcept nogil
    void fx_parallel(int threads, fx_team_function function, void *argument)

# By fx_dtype; filled by the levelled modules at import.
cdef gemm_function gemms[FX_DTYPES]
cdef dot_function dots[FX_DTYPES]
cdef blas_function blas = load_blas


cdef int provide_gemm(int dtype, gemm_function function) except -1:
    gemms[dtype] = function
    return 0


cdef int provide_dot(int dtype, dot_function function) except -1:
    dots[dtype] = function
    return 0


cdef int provide_blas(blas_function function) except -1:
    global blas
    blas = function
    return 0


cdef bint load_blas(int dtype, const gemm_product *p) noexcept nogil:
    """OpenBLAS is loaded when it is first wanted: many programs never do, and it is most of the library's memory."""
    global blas
    with gil:
        try:
            from ferrox._core import cpu

            cpu.load_blas()
        except Exception as error:
            import warnings

            blas = NULL
            warnings.warn(f"OpenBLAS could not be loaded, products use Ferrox's own tiles: {error}", RuntimeWarning)
            return False
    return blas(dtype, p)


cdef inline bint prefer_blas(int dtype, const gemm_product *p) noexcept nogil:
    """Where OpenBLAS measured faster than our tiles: see Note [Own tiles or BLAS]."""
    cdef double flops
    if p.m < 128 or p.n < 128 or p.k < 128 or p.threads != num_threads or blas == NULL:
        return False
    flops = 2.0 * <double> p.m * <double> p.n * <double> p.k
    return (dtype == FX_F32 or dtype == FX_F64) and flops > (2e9 if p.csa == 1 and p.csb == 1 else 2e8)


# Note [Own tiles or BLAS]
# Speed of our tiles over OpenBLAS's kernels, both in a loop in C, float32, one thread of a Zen 3 (AVX2; the best of
# either is 92 GFLOP/s); n: rows adjacent, t: columns adjacent, of A and of B.  Medians of 13 to 21 rounds by
# CPU time on a machine that others were using: 0.05 to 0.1 is noise, more where a cell disagrees with its neighbours.
# Two threads, float64 above 256^3 and AVX-512 have not been measured: the bound is the one for a thread of float32.
#
#          8^3   16^3  32^3  64^3  128^3  256^3  512^3  1024^3  32x784x256  256x784x256  1024x64x128  1x784x256
#     nn   3.02  2.23  1.51  1.02  1.03   0.85   0.97   0.95    0.95        1.13         0.96         3.3
#     nt   1.43  1.59  1.29  1.15  0.97   0.99   0.97   0.89    1.19        1.05         1.14         5.7
#     tn   2.83  2.10  1.44  0.97  0.99   0.99   0.93   0.92    0.95        1.00         1.09         3.7
cdef inline int multiply_any(int dtype, const gemm_product *p) noexcept nogil:
    if prefer_blas(dtype, p) and blas(dtype, p):
        return FX_OK
    return gemms[dtype](p)


cdef int multiply(int dtype, const gemm_product *p) noexcept nogil:
    if gemms[dtype] == NULL:
        return FX_ERROR_TYPE
    return multiply_any(dtype, p)


cdef int fx_gemm(int dtype, int64_t m, int64_t n, int64_t k, double alpha, const void *a, int64_t rsa, int64_t csa,
                 const void *b, int64_t rsb, int64_t csb, double beta, void *c, int64_t ldc) noexcept nogil:
    cdef gemm_product p
    p.m, p.n, p.k, p.alpha, p.beta = m, n, k, alpha, beta
    p.alpha_whole, p.beta_whole = <int64_t> alpha, <int64_t> beta
    p.a, p.rsa, p.csa = a, rsa, csa
    p.b, p.rsb, p.csb = b, rsb, csb
    p.d, p.ldd = c, ldc
    p.c, p.ldc = c, ldc
    p.threads = num_threads
    return multiply(dtype, &p)


cdef int refuse(fx_call *call, int status, const char *message) noexcept nogil:
    snprintf(call.message, sizeof(call.message), "%s", message)
    return status


cdef int check_dtypes(fx_call *call) noexcept nogil:
    cdef int i
    for i in range(call.n_out + call.n_in):
        if call.arrays[i] != NULL and call.arrays[i].dtype != call.dtype:
            return refuse(call, FX_ERROR_TYPE, "operands must have the dtype of the result")
    if gemms[call.dtype] == NULL:
        return refuse(call, FX_ERROR_TYPE, "not defined for bool")
    return FX_OK


cdef inline int64_t numel(const int64_t *dims, int ndim) noexcept nogil:
    cdef int64_t n = 1
    cdef int i
    for i in range(ndim):
        n *= dims[i]
    return n


cdef bint collapse(const int64_t *dims, const int64_t *strides, int ndim, int64_t *stride) noexcept nogil:
    """Whether the dimensions are one with a single stride."""
    cdef int i
    cdef int64_t expected = 0
    cdef bint seen = False
    stride[0] = 0
    for i in range(ndim - 1, -1, -1):
        if dims[i] == 1:
            continue
        if not seen:
            stride[0] = expected = strides[i]
            seen = True
        elif strides[i] != expected:
            return False
        expected *= dims[i]
    return True


cdef struct batch_plan:
    gemm_product product
    int dtype, ndim
    int64_t count
    const int64_t *dims
    const int64_t *steps[4]  # strides over the batch of a, b, d, c, in elements; NULL for none
    int status


cdef void run_batch(int thread, int threads, void *argument) noexcept nogil:
    """A thread's consecutive share of the products of a batch, by an odometer over the leading dimensions."""
    cdef batch_plan *w = <batch_plan *> argument
    cdef gemm_product p = w.product
    cdef const char *base[4]
    cdef int64_t offset[4]
    cdef int64_t index[FX_MAX_DIMS]
    cdef int64_t first = w.count * thread // threads, last = w.count * (thread + 1) // threads, _i
    cdef int64_t rest = first
    cdef int d, o, status, size = fx_itemsize(w.dtype)
    base[0], base[1], base[2], base[3] = <const char *> p.a, <const char *> p.b, <const char *> p.d, <const char *> p.c
    for o in range(4):
        offset[o] = 0
    for d in range(w.ndim - 1, -1, -1):
        index[d] = rest % w.dims[d]
        rest //= w.dims[d]
        for o in range(4):
            if w.steps[o] != NULL:
                offset[o] += index[d] * w.steps[o][d]
    for _i in range(first, last):
        p.a = base[0] + offset[0] * size
        p.b = base[1] + offset[1] * size
        p.d = base[2] + offset[2] * size
        p.c = <void *> (base[3] + offset[3] * size)
        status = multiply_any(w.dtype, &p)
        if status != FX_OK:
            w.status = status
            return
        for d in range(w.ndim - 1, -1, -1):
            index[d] += 1
            for o in range(4):
                if w.steps[o] != NULL:
                    offset[o] += w.steps[o][d]
            if index[d] < w.dims[d]:
                break
            for o in range(4):
                if w.steps[o] != NULL:
                    offset[o] -= index[d] * w.steps[o][d]
            index[d] = 0


cdef int multiply_batch(batch_plan *w) noexcept nogil:
    cdef double flops = 2.0 * <double> w.product.m * <double> w.product.n * <double> w.product.k
    cdef int threads = 1
    w.status = FX_OK
    w.product.threads = num_threads
    if w.count <= 0 or w.product.m <= 0 or w.product.n <= 0:
        return FX_OK
    if w.count == 1:
        return multiply_any(w.dtype, &w.product)
    # Whole products per thread when there are enough of them for even shares, or each is too small to be cut.
    if w.count >= 4 * num_threads or (w.count > 1 and (w.count % num_threads == 0 or flops < 2e6)):
        w.product.threads = 1
        threads = <int> max(1.0, min(<double> min(<int64_t> num_threads, w.count), flops * w.count / 2e5))
    fx_parallel(threads, run_batch, w)
    return w.status


cdef void fill_rows(fx_array *out, const fx_array *c) noexcept nogil:
    """Copies c, expanded to out's shape, into the contiguous out, byte by byte of an element."""
    cdef int size = fx_itemsize(out.dtype), d, n = out.ndim
    cdef int64_t index[FX_MAX_DIMS]
    cdef int64_t i, offset = 0
    for d in range(n):
        index[d] = 0
    for i in range(out.numel):
        memcpy(<char *> out.data + i * size, <const char *> c.data + offset * size, size)
        for d in range(n - 1, -1, -1):
            index[d] += 1
            offset += c.dims[n + d]
            if index[d] < out.dims[d]:
                break
            offset -= index[d] * c.dims[n + d]
            index[d] = 0


cdef int product_of(fx_call *call, fx_array *out, fx_array *c, fx_array *a, fx_array *b,
                    const fx_scalar *factors) noexcept nogil:
    """out (…, M, N) = alpha a (…, M, K) b (…, K, N) + beta c, batch dimensions expanded by the caller.

    `factors`: beta and alpha, numbers of the arithmetic; NULL for 0 and 1.
    """
    cdef int nd = out.ndim, batch = out.ndim - 2
    cdef int64_t stride = 0
    cdef batch_plan w
    if nd < 2 or a.ndim != nd or b.ndim != nd or (c != NULL and c.ndim != nd):
        return refuse(call, FX_ERROR_VALUE, "operands must have at least two dimensions, and as many as the result")
    cdef int64_t m = out.dims[nd - 2], n = out.dims[nd - 1], k = a.dims[nd - 1]
    if b.dims[nd - 2] != k or a.dims[nd - 2] != m or b.dims[nd - 1] != n:
        return refuse(call, FX_ERROR_VALUE, "shapes do not fit")
    cdef int status = check_dtypes(call)
    if status != FX_OK:
        return status
    w.dtype = call.dtype
    w.product.m, w.product.n, w.product.k = m, n, k
    w.product.alpha, w.product.beta, w.product.alpha_whole, w.product.beta_whole = 1, 0, 1, 0
    if factors != NULL and fx_category(call.dtype) == FX_FLOATING:
        w.product.alpha = factors[1].f
        c = c if factors[0].f != 0 else NULL
    elif factors != NULL:
        w.product.alpha_whole = factors[1].i
        c = c if factors[0].i != 0 else NULL
    w.product.a, w.product.rsa, w.product.csa = a.data, a.dims[2 * nd - 2], a.dims[2 * nd - 1]
    w.product.b, w.product.rsb, w.product.csb = b.data, b.dims[2 * nd - 2], b.dims[2 * nd - 1]
    w.product.c, w.product.ldc = out.data, n
    w.product.d, w.product.ldd = out.data, n
    w.ndim, w.count, w.dims = batch, numel(out.dims, batch), out.dims
    w.steps[0], w.steps[1], w.steps[2], w.steps[3] = a.dims + nd, b.dims + nd, out.dims + nd, out.dims + nd
    if c != NULL:
        w.product.beta = w.product.beta_whole = 1
        if fx_category(call.dtype) == FX_FLOATING:
            w.product.beta = factors[0].f
        else:
            w.product.beta_whole = factors[0].i
        if c.data != out.data and (c.dims[2 * nd - 1] == 1 or n == 1):
            w.product.d, w.product.ldd = c.data, c.dims[2 * nd - 2]
            w.steps[2] = c.dims + nd
        elif c.data != out.data:
            fill_rows(out, c)
    # One matrix b for the whole batch: its rows of a are one matrix, if they lie evenly.
    if batch > 0 and w.count > 1 and collapse(b.dims, b.dims + nd, batch, &stride) and stride == 0 \
            and (w.steps[2] == out.dims + nd or w.product.ldd == 0 and collapse(c.dims, c.dims + nd, batch, &stride)
                 and stride == 0) \
            and collapse(a.dims, a.dims + nd, nd - 1, &stride):
        w.product.m = m * w.count
        w.product.rsa = stride
        w.ndim, w.count = 0, 1
    return multiply_batch(&w)


cdef int matmul(fx_call *call) noexcept nogil:
    """out (…, M, N); a (…, M, K), b (…, K, N) with the batch dimensions of out (stride 0 where broadcast)."""
    return product_of(call, call.arrays[0], NULL, call.arrays[1], call.arrays[2], NULL)


cdef int addmm(fx_call *call) noexcept nogil:
    """out (…, M, N); c expanded to out's shape, a, b as matmul.  params: beta n, alpha n.  beta 0: c is not read."""
    return product_of(call, call.arrays[0], call.arrays[1], call.arrays[2], call.arrays[3], call.params)


# The kernel of each activation.
cdef int[3] _activations = [-1, kernel_id("relu"), kernel_id("gelu_erf")]


cdef int addmm_activation(fx_call *call) noexcept nogil:
    """As addmm, then in place an activation.  params: beta n, alpha n, activation i (1 relu, 2 gelu)."""
    cdef fx_array *arrays[2]
    cdef fx_call inner
    cdef int status = addmm(call)
    if status != FX_OK:
        return status
    arrays[0] = arrays[1] = call.arrays[0]
    inner.arrays = arrays
    inner.n_out = inner.n_in = 1
    inner.kernel = _activations[call.params[2].i]
    inner.dtype = call.dtype
    inner.params = NULL
    inner.n_params = 0
    return implementation[<int> FX_CPU][inner.kernel](&inner)


cdef int linear(fx_call *call) noexcept nogil:
    """out (…, N); x (…, K), weight (N, K), bias (N) or NULL."""
    cdef fx_array *out = call.arrays[0]
    cdef fx_array *x = call.arrays[1]
    cdef fx_array *weight = call.arrays[2]
    cdef fx_array *bias = call.arrays[3] if call.n_in > 2 else NULL
    cdef int nd = out.ndim, status, size
    cdef int64_t stride = 0, n, k, j
    cdef char *copied = NULL
    cdef batch_plan w
    if nd < 1 or x.ndim != nd or weight.ndim != 2 or (bias != NULL and bias.ndim != 1):
        return refuse(call, FX_ERROR_VALUE, "expected x (..., K), weight (N, K), bias (N)")
    n, k = weight.dims[0], weight.dims[1]
    if x.dims[nd - 1] != k or out.dims[nd - 1] != n or (bias != NULL and bias.dims[0] != n):
        return refuse(call, FX_ERROR_VALUE, "shapes do not fit")
    status = check_dtypes(call)
    if status != FX_OK:
        return status
    size = fx_itemsize(call.dtype)
    w.dtype = call.dtype
    w.product.n, w.product.k = n, k
    w.product.alpha, w.product.beta, w.product.alpha_whole, w.product.beta_whole = 1, 0, 1, 0
    w.product.a, w.product.csa = x.data, x.dims[2 * nd - 1]
    w.product.b, w.product.rsb, w.product.csb = weight.data, weight.dims[3], weight.dims[2]
    w.product.c, w.product.ldc = out.data, n
    w.product.d, w.product.ldd = NULL, 0
    w.steps[0], w.steps[1], w.steps[2], w.steps[3] = x.dims + nd, NULL, NULL, out.dims + nd
    if bias != NULL and out.numel > 0:
        w.product.beta = w.product.beta_whole = 1
        w.product.d = bias.data
        if bias.dims[1] != 1 and n > 1:
            copied = <char *> malloc(n * size)
            if copied == NULL:
                return FX_ERROR_MEMORY
            for j in range(n):
                memcpy(copied + j * size, <const char *> bias.data + j * bias.dims[1] * size, size)
            w.product.d = copied
    w.dims = out.dims
    if collapse(x.dims, x.dims + nd, nd - 1, &stride):
        w.product.m, w.product.rsa = numel(x.dims, nd - 1), stride
        w.ndim, w.count = 0, 1
    else:  # at least two leading dimensions: the last one is the rows
        w.product.m, w.product.rsa = x.dims[nd - 2], x.dims[2 * nd - 2]
        w.ndim, w.count = nd - 2, numel(x.dims, nd - 2)
    status = multiply_batch(&w)
    free(copied)
    return status


cdef int dot(fx_call *call) noexcept nogil:
    """out 0-d; a (n), b (n)."""
    cdef fx_array *out = call.arrays[0]
    cdef fx_array *a = call.arrays[1]
    cdef fx_array *b = call.arrays[2]
    cdef gemm_product p
    cdef double total
    if out.numel != 1 or a.ndim != 1 or b.ndim != 1 or a.dims[0] != b.dims[0]:
        return refuse(call, FX_ERROR_VALUE, "expected two vectors of one length")
    cdef int status = check_dtypes(call)
    if status != FX_OK:
        return status
    if dots[call.dtype] != NULL and a.dims[1] == 1 and b.dims[1] == 1:
        total = dots[call.dtype](a.dims[0], a.data, b.data, num_threads)
        if call.dtype == FX_F32:
            (<float *> out.data)[0] = <float> total
        else:
            (<double *> out.data)[0] = total
        return FX_OK
    p.m, p.n, p.k, p.alpha, p.beta, p.alpha_whole, p.beta_whole = 1, 1, a.dims[0], 1, 0, 1, 0
    p.a, p.rsa, p.csa = a.data, 1, a.dims[1]
    p.b, p.rsb, p.csb = b.data, b.dims[1], 1
    p.d, p.ldd = NULL, 0
    p.c, p.ldc = out.data, 1
    p.threads = num_threads
    return multiply(call.dtype, &p)


provide(FX_CPU, "matmul", matmul, "product | out T | a T, b T | -")
provide(FX_CPU, "addmm", addmm, "product | out T | added any, a T, b T | beta n, alpha n")
provide(FX_CPU, "addmm_activation", addmm_activation,
        "product | out T | added any, a T, b T | beta n, alpha n, activation i")
provide(FX_CPU, "linear", linear, "product | out T | x T, weight T, bias T? | -")
provide(FX_CPU, "dot", dot, "reduction | out T | a T, b T | -")
