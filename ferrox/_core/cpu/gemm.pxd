# What the tiles of kernels/include/fx/gemm.h offer to the blocking in gemm.pyx.
from libc.stdint cimport int64_t

ctypedef fused real:
    float
    double

cdef extern from "fx/gemm.h" namespace "fx" nogil:
    enum:
        TILE_ROWS "FX_TILE_ROWS"
        NARROW_ROWS "FX_NARROW_ROWS"
        TILE_VECTORS "FX_TILE_VECTORS"
        VECTOR_BYTES "FX_VECTOR_BYTES"
    cppclass block[T]:
        int64_t k, rsa, csa, ldb, ldc, ldd
        T alpha, beta
    void run_tile[T](int vectors, int64_t rows, const block[T] *s, const T *a, const T *b, T *c, const T *d,
                     int64_t last_b, int64_t last_c, int part)
    void copy_row[T](T *to, const T *source, int vectors, int64_t last_c)
    void transpose_lanes[T](T *to, int64_t ld_to, const T *source, int64_t ld_source, int64_t rows)
    void pack_rows[T](T *to, int64_t rows, const T *a, int64_t rsa, int64_t k)
    void pack_columns[T](T *to, int64_t count, int64_t low, int64_t extra, const T *a, int64_t csa, int64_t k)
    void pack_panels[T](T *to, const T *b, int64_t ldb, int64_t k, int64_t panels)
    T dot[T](int64_t n, const T *a, const T *b)
    void dot_rows[T](int64_t m, int64_t n, const T *a, int64_t lda, const T *x, T *y)
    void axpy_rows[T](int64_t n, int64_t k, const T *x, const T *b, int64_t ldb, T *y)
    void dot_tiles[T](const block[T] *s, int64_t m, int64_t n, const T *a, const T *b, T *c, const T *d)
    void *scratch(int slot, size_t size)

cdef extern from "fx/parallel.h" nogil:
    ctypedef void (*fx_team_function)(int thread, int threads, void *argument) noexcept nogil
    void fx_parallel(int threads, fx_team_function function, void *argument)
    void fx_barrier(int threads)
