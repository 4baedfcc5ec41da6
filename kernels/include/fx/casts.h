/* Contiguous conversions between every two dtypes; on one dtype, copies.  C++, no Python.h. */
#ifndef FX_CASTS_H
#define FX_CASTS_H
#include "abi.h"
#include "half.h"

namespace fx {

typedef void (*cast_loop)(void *o, void *x, void *, void *, const fx_scalar *, ptrdiff_t n);

template <class To, class From>
static void cast(To *__restrict__ o, From *__restrict__ x, void *, void *, const fx_scalar *, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++) convert_to(o + i, x[i]);
}

template <class To> static void fill_casts_to(cast_loop *from) {
#define FX_CAST(code, suffix, name, type, ...) from[FX_##code] = (cast_loop)cast<To, type>;
    FX_EACH_DTYPE(FX_CAST)
#undef FX_CAST
}
/* casts[to][from] */
static inline void fill_casts(cast_loop (*casts)[FX_DTYPES]) {
#define FX_CAST(code, suffix, name, type, ...) fill_casts_to<type>(casts[FX_##code]);
    FX_EACH_DTYPE(FX_CAST)
#undef FX_CAST
}

} // namespace fx
#endif
