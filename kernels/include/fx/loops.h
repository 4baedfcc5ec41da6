/* The lines of elementwise.h as one type per operator, and fx::apply over them, for the Cython loops. */
#ifndef FX_LOOPS_H
#define FX_LOOPS_H
#include "abi.h"
#include "activations.h"
#include "half.h"

typedef float *__restrict__ f32p;
typedef double *__restrict__ f64p;
typedef int8_t *__restrict__ i8p;
typedef int16_t *__restrict__ i16p;
typedef int32_t *__restrict__ i32p;
typedef int64_t *__restrict__ i64p;
typedef uint8_t *__restrict__ u8p;
typedef uint16_t *__restrict__ u16p;
typedef uint32_t *__restrict__ u32p;
typedef uint64_t *__restrict__ u64p;
typedef bool *__restrict__ b8p;
typedef fx::float16 *__restrict__ f16p;
typedef fx::bfloat16 *__restrict__ bf16p;

namespace fx {
/* A scalar parameter in the compute type: exact in integers, where it wraps as they do. */
template <class T> FX_HD T parameter(const fx_scalar &a) { return T(a.i); }
template <> FX_HD float parameter<float>(const fx_scalar &a) { return float(a.f); }
template <> FX_HD double parameter<double>(const fx_scalar &a) { return a.f; }

/* The scalar parameters of a call; an operator is a type of its own over them. */
struct parameters {
    fx_scalar p[4];
};

#define FX_UNARY(name, dtypes, value)                                                                     \
    struct name##_op : parameters {                                                                       \
        template <class T> FX_HD T apply(T x) const {                                                     \
            [[maybe_unused]] T p0 = parameter<T>(p[0]), p1 = parameter<T>(p[1]), p2 = parameter<T>(p[2]); \
            return T(value);                                                                              \
        }                                                                                                 \
    };
#define FX_GUARDED(name, dtypes, value, fast, limit)                                           \
    struct name##_op : parameters {                                                            \
        template <class T> FX_HD T apply(T x) const { return T(value); }                       \
        template <class T> FX_HD T apply_fast(T x) const { return T(fast); }                   \
        template <class T> FX_HD int outside(T x) const { return !(absolute(x) <= T(limit)); } \
    };
#define FX_TEST(name, dtypes, value)                                                       \
    struct name##_op : parameters {                                                        \
        template <class T> FX_HD uint8_t apply(T x) const { return uint8_t(bool(value)); } \
    };
#define FX_BINARY(name, dtypes, value)                                                                    \
    struct name##_op : parameters {                                                                       \
        template <class T> FX_HD T apply(T x, T y) const {                                                \
            [[maybe_unused]] T p0 = parameter<T>(p[0]), p1 = parameter<T>(p[1]), p2 = parameter<T>(p[2]); \
            return T(value);                                                                              \
        }                                                                                                 \
    };
#define FX_COMPARE(name, dtypes, value)                                                         \
    struct name##_op : parameters {                                                             \
        template <class T> FX_HD uint8_t apply(T x, T y) const { return uint8_t(bool(value)); } \
    };
#define FX_TERNARY(name, dtypes, value)                                                                   \
    struct name##_op : parameters {                                                                       \
        template <class T> FX_HD T apply(T x, T y, T z) const {                                           \
            [[maybe_unused]] T p0 = parameter<T>(p[0]), p1 = parameter<T>(p[1]), p2 = parameter<T>(p[2]); \
            return T(value);                                                                              \
        }                                                                                                 \
    };
#include "elementwise.h"

/* Cython calls these with both template arguments given. */
template <class Op, class T> FX_HD auto apply(const Op &op, T x) { return op.apply(x); }
template <class Op, class T> FX_HD auto apply(const Op &op, T x, T y) { return op.apply(x, y); }
template <class Op, class T> FX_HD auto apply(const Op &op, T x, T y, T z) { return op.apply(x, y, z); }
template <class Op, class T> FX_HD T apply_fast(const Op &op, T x) { return op.apply_fast(x); }
template <class Op, class T> FX_HD int outside(const Op &op, T x) { return op.outside(x); }

} // namespace fx
#endif
