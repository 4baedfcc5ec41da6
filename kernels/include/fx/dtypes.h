/* Every element type, one row each.  What anything needs to know about dtypes is read from here: no other list of them
 * exists, and nothing depends on the order of their numbers.
 *
 * FX_EACH_DTYPE(X, ...) gives X(code, suffix, name, type, category, is_signed, digits, sum, typestr, letter, ...):
 *   code       FX_##code is its number, and "code" its name in a safetensors file
 *   suffix     what kernels of it end in; bool is stored as the 0 and 1 of uint8 and shares its kernels
 *   name       as Python and NumPy call it
 *   type       what holds one element, in C, C++ and CUDA
 *   category   FX_BOOLEAN, FX_INTEGRAL, FX_FLOATING or FX_COMPLEX, without the prefix
 *   is_signed  whether it has values below zero
 *   digits     how many binary digits a value has, beside its sign
 *   sum        the code of what its sums are kept in
 *   typestr    its kind and size as the array interface has them; ml_dtypes' bfloat16 says V2
 *   letter     its format in the struct module and the buffer protocol, 0 where there is none
 * The trailing arguments are passed on, so that an X may take some of its own.
 */
#ifndef FX_DTYPES_H
#define FX_DTYPES_H
#include <stddef.h>
#include <stdint.h>

#ifdef __CUDACC__
#define FX_BOTH_SIDES static inline __host__ __device__
#else
#define FX_BOTH_SIDES static inline
#endif
#ifdef __cplusplus
typedef bool fx_bool;
#else
typedef _Bool fx_bool;
#endif

/* They hold bits and convert (half.h); arithmetic is done in float. */
typedef struct fx_float16 {
    uint16_t bits;
} fx_float16;
typedef struct fx_bfloat16 {
    uint16_t bits;
} fx_bfloat16;

// clang-format off
#define FX_EACH_BOOLEAN(X, ...) \
    X(BOOL, u8,   "bool",     fx_bool,     BOOLEAN,  0, 1,  I64, "b1", '?', __VA_ARGS__)
#define FX_EACH_INTEGRAL(X, ...) \
    X(U8,   u8,   "uint8",    uint8_t,     INTEGRAL, 0, 8,  I64, "u1", 'B', __VA_ARGS__) \
    X(I8,   i8,   "int8",     int8_t,      INTEGRAL, 1, 7,  I64, "i1", 'b', __VA_ARGS__) \
    X(I16,  i16,  "int16",    int16_t,     INTEGRAL, 1, 15, I64, "i2", 'h', __VA_ARGS__) \
    X(I32,  i32,  "int32",    int32_t,     INTEGRAL, 1, 31, I64, "i4", 'i', __VA_ARGS__) \
    X(I64,  i64,  "int64",    int64_t,     INTEGRAL, 1, 63, I64, "i8", 'l', __VA_ARGS__)
#define FX_EACH_FLOATING(X, ...) \
    X(F16,  f16,  "float16",  fx_float16,  FLOATING, 1, 11, F32, "f2", 'e', __VA_ARGS__) \
    X(BF16, bf16, "bfloat16", fx_bfloat16, FLOATING, 1, 8,  F32, "V2", 0,   __VA_ARGS__) \
    X(F32,  f32,  "float32",  float,       FLOATING, 1, 24, F32, "f4", 'f', __VA_ARGS__) \
    X(F64,  f64,  "float64",  double,      FLOATING, 1, 53, F64, "f8", 'd', __VA_ARGS__)
// clang-format on
#define FX_EACH_DTYPE(X, ...)       \
    FX_EACH_BOOLEAN(X, __VA_ARGS__) \
    FX_EACH_INTEGRAL(X, __VA_ARGS__) FX_EACH_FLOATING(X, __VA_ARGS__)

enum fx_dtype {
#define FX_NUMBER(code, ...) FX_##code,
    FX_EACH_DTYPE(FX_NUMBER)
#undef FX_NUMBER
        FX_DTYPES
};

/* From the narrowest to the widest: arithmetic between two categories is done in the later one. */
enum fx_category { FX_BOOLEAN, FX_INTEGRAL, FX_FLOATING, FX_COMPLEX };

/* What the table says of a dtype given by number; `otherwise` for what is none. */
#define FX_LOOK_UP(result, function, otherwise, entry) \
    FX_BOTH_SIDES result function(int dtype) {         \
        switch (dtype) { FX_EACH_DTYPE(entry) }        \
        return otherwise;                              \
    }
#define FX_ENTRY(code, suffix, name, type, ...) \
    case FX_##code: return (int)sizeof(type);
FX_LOOK_UP(int, fx_itemsize, 0, FX_ENTRY)
#undef FX_ENTRY
#define FX_ENTRY(code, suffix, name, type, category, ...) \
    case FX_##code: return FX_##category;
FX_LOOK_UP(int, fx_category, -1, FX_ENTRY)
#undef FX_ENTRY
#define FX_ENTRY(code, suffix, name, type, category, is_signed, ...) \
    case FX_##code: return is_signed;
FX_LOOK_UP(int, fx_is_signed, 0, FX_ENTRY)
#undef FX_ENTRY
#define FX_ENTRY(code, suffix, name, type, category, is_signed, digits, ...) \
    case FX_##code: return digits;
FX_LOOK_UP(int, fx_digits, 0, FX_ENTRY)
#undef FX_ENTRY
#define FX_ENTRY(code, suffix, name, type, category, is_signed, digits, sum, ...) \
    case FX_##code: return FX_##sum;
FX_LOOK_UP(int, fx_accumulation, -1, FX_ENTRY)
#undef FX_ENTRY
#define FX_ENTRY(code, suffix, name, type, category, is_signed, digits, sum, typestr, ...) \
    case FX_##code: return typestr;
FX_LOOK_UP(const char *, fx_typestr, NULL, FX_ENTRY)
#undef FX_ENTRY
#define FX_ENTRY(code, suffix, name, type, category, is_signed, digits, sum, typestr, letter, ...) \
    case FX_##code: return letter;
FX_LOOK_UP(char, fx_letter, 0, FX_ENTRY)
#undef FX_ENTRY
#define FX_ENTRY(code, suffix, name, ...) \
    case FX_##code: return name;
FX_LOOK_UP(const char *, fx_dtype_name, NULL, FX_ENTRY)
#undef FX_ENTRY
#define FX_ENTRY(code, suffix, ...) \
    case FX_##code: return #suffix;
FX_LOOK_UP(const char *, fx_suffix, NULL, FX_ENTRY)
#undef FX_ENTRY
#define FX_ENTRY(code, ...) \
    case FX_##code: return #code;
FX_LOOK_UP(const char *, fx_code_name, NULL, FX_ENTRY)
#undef FX_ENTRY
#undef FX_LOOK_UP

FX_BOTH_SIDES int fx_is_floating(int dtype) { return fx_category(dtype) == FX_FLOATING; }
/* Of category FX_INTEGRAL, or bool: what integer arithmetic serves. */
FX_BOTH_SIDES int fx_is_whole(int dtype) {
    return fx_category(dtype) == FX_INTEGRAL || fx_category(dtype) == FX_BOOLEAN;
}
/* Floating, and narrower than what its arithmetic is done in. */
FX_BOTH_SIDES int fx_is_half(int dtype) { return fx_is_floating(dtype) && fx_accumulation(dtype) != dtype; }
/* What elementwise arithmetic is done in: the dtype itself, but float32 for halves. */
FX_BOTH_SIDES int fx_computed(int dtype) { return fx_is_half(dtype) ? fx_accumulation(dtype) : dtype; }

/* The least and the greatest value of a whole dtype. */
FX_BOTH_SIDES int64_t fx_most(int dtype) { return (int64_t)(((uint64_t)1 << fx_digits(dtype)) - 1); }
FX_BOTH_SIDES int64_t fx_least(int dtype) { return fx_is_signed(dtype) ? -fx_most(dtype) - 1 : 0; }
/* Bits of a value: its sign, and infinity, 0 in dtypes that have none. */
FX_BOTH_SIDES uint64_t fx_sign_bit(int dtype) {
    return fx_is_signed(dtype) ? (uint64_t)1 << (8 * fx_itemsize(dtype) - 1) : 0;
}
FX_BOTH_SIDES uint64_t fx_infinity_bits(int dtype) {
    const int digits = fx_digits(dtype), exponent = 8 * fx_itemsize(dtype) - digits;
    return fx_is_floating(dtype) ? (((uint64_t)1 << exponent) - 1) << (digits - 1) : 0;
}

#ifdef __cplusplus
namespace fx {

/* The same by type: dtype<T>::code, and by number: type_of<code>. */
template <class T> struct dtype;
template <int code> struct numbered;
#define FX_TYPED(code_, suffix, name, type_, category, is_signed, digits, sum_, ...) \
    template <> struct dtype<type_> {                                                \
        static constexpr int code = FX_##code_, sum = FX_##sum_;                     \
        static constexpr bool floating = FX_##category == FX_FLOATING;               \
    };                                                                               \
    template <> struct numbered<FX_##code_> {                                        \
        using type = type_;                                                          \
    };
FX_EACH_DTYPE(FX_TYPED)
#undef FX_TYPED
template <int code> using type_of = typename numbered<code>::type;
/* What sums of T are kept in, and what elementwise arithmetic on T is done in. */
template <class T> using sum_of = type_of<dtype<T>::sum>;

} // namespace fx
#endif
#endif
