# Reductions of contiguous rows in lanes (fx/lanes.h) and the scalar functions that the row kernels use.
from libc.stdint cimport int64_t

ctypedef fused real:
    float
    double

cdef extern from "fx/lanes.h" namespace "fx" nogil:
    float exp_down(float x)
    float row_max(const float *x, int64_t n)
    double row_sum(const float *x, int64_t n)
    double dot_row(const float *x, const float *y, int64_t n)
    double square_sum(const float *x, float centre, int64_t n)
    double dot_centred(const float *g, const float *x, float centre, int64_t n)
    double exp_row(const float *x, float top, float *y, int64_t n)
    double exp_sum(const float *x, float top, int64_t n)
    void gradient_sums(const float *g, const float *x, const float *w, float centre, int64_t n, double *plain,
                       double *product)

cdef extern from "fx/scalar.h" namespace "fx" nogil:
    float exp(float x)
    float log(float x)
    float sqrt(float x)

cdef extern from "fx/lanes.h" namespace "fx" nogil:
    double exp_down(double x)
    double row_max(const double *x, int64_t n)
    double row_sum(const double *x, int64_t n)
    double dot_row(const double *x, const double *y, int64_t n)
    double square_sum(const double *x, double centre, int64_t n)
    double dot_centred(const double *g, const double *x, double centre, int64_t n)
    double exp_row(const double *x, double top, double *y, int64_t n)
    double exp_sum(const double *x, double top, int64_t n)
    void gradient_sums(const double *g, const double *x, const double *w, double centre, int64_t n, double *plain,
                       double *product)

cdef extern from "fx/scalar.h" namespace "fx" nogil:
    double exp(double x)
    double log(double x)
    double sqrt(double x)
