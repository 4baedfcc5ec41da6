# The table of element types, kernels/include/fx/dtypes.h; abi.pxd passes these names on.
from libc.stdint cimport int64_t, uint64_t

cdef extern from "fx/dtypes.h" nogil:
    enum:
        FX_BOOL
        FX_U8
        FX_I8
        FX_I16
        FX_I32
        FX_I64
        FX_F16
        FX_BF16
        FX_F32
        FX_F64
        FX_DTYPES
    enum:
        FX_BOOLEAN
        FX_INTEGRAL
        FX_FLOATING
        FX_COMPLEX
    int fx_itemsize(int dtype)
    int fx_category(int dtype)
    bint fx_is_signed(int dtype)
    bint fx_is_floating(int dtype)
    bint fx_is_whole(int dtype)
    bint fx_is_half(int dtype)
    int fx_digits(int dtype)
    int64_t fx_least(int dtype)
    int64_t fx_most(int dtype)
    uint64_t fx_sign_bit(int dtype)
    uint64_t fx_infinity_bits(int dtype)
    int fx_accumulation(int dtype)
    int fx_computed(int dtype)
    const char *fx_suffix(int dtype)
    const char *fx_dtype_name(int dtype)
    const char *fx_code_name(int dtype)
    const char *fx_typestr(int dtype)
    char fx_letter(int dtype)
