"""OpenBLAS behind one thin module.

OpenBLAS has threads of its own; two pools in one process slow every call a hundredfold.  So it is loaded with one
thread (cpu/__init__.py) and given OpenMP teams through its callback.  Its jobs wait for each other: a team that is
smaller than asked for would wait for ever, so BLAS is single-threaded wherever OpenMP could give fewer.
"""
from libc.stdint cimport int64_t
from libc.string cimport memmove

from ferrox._core.abi cimport FX_F32, FX_F64
from ferrox._core.cpu.matmul cimport gemm_product, provide_blas
from ferrox._core.door.threads cimport num_threads

cdef extern from "cblas.h" nogil:
    enum CBLAS_ORDER:
        CblasRowMajor
    enum CBLAS_TRANSPOSE:
        CblasNoTrans
        CblasTrans
    ctypedef void (*openblas_dojob_callback)(int thread, void *data, int extra) noexcept nogil
    ctypedef void (*openblas_threads_callback)(int sync, openblas_dojob_callback job, int jobs, size_t size,
                                               void *data, int extra) noexcept nogil
    void openblas_set_num_threads "scipy_openblas_set_num_threads"(int count)
    int openblas_get_num_threads "scipy_openblas_get_num_threads"()
    char *openblas_get_corename "scipy_openblas_get_corename"()
    char *openblas_get_config "scipy_openblas_get_config"()
    void openblas_set_threads_callback_function "scipy_openblas_set_threads_callback_function"(
        openblas_threads_callback callback)
    void sgemm "scipy_cblas_sgemm"(CBLAS_ORDER order, CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k,
                                   float alpha, const float *a, int lda, const float *b, int ldb, float beta, float *c,
                                   int ldc)
    void dgemm "scipy_cblas_dgemm"(CBLAS_ORDER order, CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k,
                                   double alpha, const double *a, int lda, const double *b, int ldb, double beta,
                                   double *c, int ldc)

cdef extern from "fx/parallel.h" nogil:
    ctypedef void (*fx_team_function)(int thread, int threads, void *argument) noexcept nogil
    void fx_parallel(int threads, fx_team_function function, void *argument)
    int fx_team_limit()


cdef struct job_queue:
    openblas_dojob_callback job
    int jobs, extra
    size_t size
    char *data


cdef void run_job(int thread, int threads, void *argument) noexcept nogil:
    cdef job_queue *queue = <job_queue *> argument
    while thread < queue.jobs:
        queue.job(thread, queue.data + thread * queue.size, queue.extra)
        thread += threads


cdef void run_jobs(int sync, openblas_dojob_callback job, int jobs, size_t size, void *data, int extra) noexcept nogil:
    cdef job_queue queue
    queue.job = job
    queue.jobs = jobs
    queue.size = size
    queue.data = <char *> data
    queue.extra = extra
    fx_parallel(jobs, run_job, &queue)


cdef void blas_threads() noexcept nogil:
    cdef int count = min(num_threads, fx_team_limit())
    if openblas_get_num_threads() != count:
        openblas_set_num_threads(count)


cdef inline bint leading(int64_t rows, int64_t columns, int64_t rs, int64_t cs, CBLAS_TRANSPOSE *transpose,
                         int64_t *ld) noexcept nogil:
    """Whether a matrix of these strides is one that BLAS can read."""
    transpose[0] = CblasNoTrans
    ld[0] = rs if rows > 1 else max(columns, <int64_t> 1)
    if (cs == 1 or columns == 1) and ld[0] >= columns:
        return ld[0] < 2147483647
    transpose[0] = CblasTrans
    ld[0] = cs if columns > 1 else max(rows, <int64_t> 1)
    return (rs == 1 or rows == 1) and ld[0] >= rows and ld[0] < 2147483647


cdef bint blas_gemm(int dtype, int64_t m, int64_t n, int64_t k, double alpha, const void *a, int64_t rsa, int64_t csa,
                    const void *b, int64_t rsb, int64_t csb, double beta, void *c, int64_t ldc) noexcept nogil:
    cdef CBLAS_TRANSPOSE ta, tb
    cdef int64_t lda = 0, ldb = 0
    if m < 1 or n < 1 or k < 1 or max(max(m, n), max(k, ldc)) > 2147483647 or ldc < n:
        return False
    if not leading(m, k, rsa, csa, &ta, &lda) or not leading(k, n, rsb, csb, &tb, &ldb):
        return False
    blas_threads()
    if dtype == FX_F32:
        sgemm(CblasRowMajor, ta, tb, <int> m, <int> n, <int> k, <float> alpha, <const float *> a, <int> lda,
              <const float *> b, <int> ldb, <float> beta, <float *> c, <int> ldc)
        return True
    if dtype == FX_F64:
        dgemm(CblasRowMajor, ta, tb, <int> m, <int> n, <int> k, alpha, <const double *> a, <int> lda,
              <const double *> b, <int> ldb, beta, <double *> c, <int> ldc)
        return True
    return False


cdef bint product(int dtype, const gemm_product *p) noexcept nogil:
    """A product for matmul.pyx: BLAS adds to C only, so D is copied there first."""
    cdef size_t size = 4 if dtype == FX_F32 else 8
    cdef int64_t i
    if p.alpha == 0:  # BLAS then reads neither A nor B, and loses their NaN
        return False
    if p.beta != 0 and not (p.d == p.c and p.ldd == p.ldc):
        for i in range(p.m):
            memmove(<char *> p.c + i * p.ldc * size, <const char *> p.d + i * p.ldd * size, p.n * size)
    return blas_gemm(dtype, p.m, p.n, p.k, p.alpha, p.a, p.rsa, p.csa, p.b, p.rsb, p.csb, p.beta, p.c, p.ldc)


def info():
    """What the library says of itself: its build and the kernels that it chose for this machine."""
    return f"{openblas_get_config().decode()} {openblas_get_corename().decode()}"


def _gemm(int dtype, sizes, double alpha, a, b, double beta, c, int repeat=1):
    """blas_gemm on addresses, for tests and measurements: a, b (address, row, column stride), c (address, stride)."""
    cdef int64_t m = sizes[0], n = sizes[1], k = sizes[2], rsa = a[1], csa = a[2], rsb = b[1], csb = b[2], ldc = c[1]
    cdef const void *pa = <const void *> <size_t> a[0]
    cdef const void *pb = <const void *> <size_t> b[0]
    cdef void *pc = <void *> <size_t> c[0]
    cdef bint done = False
    cdef int _i
    with nogil:
        for _i in range(repeat):
            done = blas_gemm(dtype, m, n, k, alpha, pa, rsa, csa, pb, rsb, csb, beta, pc, ldc)
    return done


openblas_set_threads_callback_function(run_jobs)
provide_blas(product)
