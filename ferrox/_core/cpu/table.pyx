"""The table that the levelled loop modules (cpu/v2, v3, v4) fill at import and the elementwise driver reads."""
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, intptr_t

from ferrox._core.abi cimport FX_BOOL, FX_DTYPES, FX_INTEGRAL, FX_U8, fx_category, fx_itemsize, fx_scalar
from ferrox._core.door.backend cimport MAX_KERNELS, kernel_id, kernel_name

ctypedef fused integer:
    int8_t
    int16_t
    int32_t
    int64_t


cdef int provide_loop(str name, int dtype, fx_loop loop, int n_in, bint to_bool, bint is_costly) except -1:
    cdef int kernel = kernel_id(name)
    entries[kernel].loop[dtype] = loop
    entries[kernel].n_in = n_in
    entries[kernel].to_bool = to_bool
    entries[kernel].is_costly = is_costly
    return 0


cdef int alias_bool_loop(str name, str other) except -1:
    entries[kernel_id(name)].loop[<int> FX_BOOL] = entries[kernel_id(other)].loop[<int> FX_U8]
    return 0


cdef bint has_zero(const integer *y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef int found = 0
    for i in range(n):
        found |= y[i] == 0
    return found


cdef bint divides_by_zero(int kernel, int dtype, const void *y, Py_ssize_t n) noexcept nogil:
    cdef int i
    for i in range(4):
        if kernel == _divisions[i]:
            break
    else:
        return False
    if fx_category(dtype) != FX_INTEGRAL:
        return False
    if fx_itemsize(dtype) == 1:
        return has_zero(<const int8_t *> y, n)
    if fx_itemsize(dtype) == 2:
        return has_zero(<const int16_t *> y, n)
    if fx_itemsize(dtype) == 4:
        return has_zero(<const int32_t *> y, n)
    return has_zero(<const int64_t *> y, n)


def loop_names():
    """Names and dtype numbers of the elementwise kernels that have loops: {name: (operands, to_bool, [dtype, ...])}."""
    cdef elementwise_entry entry
    cdef int kernel
    found = {}
    for kernel in range(MAX_KERNELS):
        entry = entries[kernel]
        dtypes = [i for i in range(FX_DTYPES) if entry.loop[i] != NULL]
        if dtypes:
            found[kernel_name(kernel)] = (entry.n_in, bool(entry.to_bool), dtypes)
    return found


def run_loop(str name, int dtype, intptr_t o, intptr_t x, intptr_t y, intptr_t z, Py_ssize_t n, params=()):
    """Run one contiguous loop over addresses; for tests and measurements.

    Beside the kernels, `name` may be "cast" (dtype: 16 * to + from), "select" or "fill" (dtype: the element size).
    """
    cdef fx_scalar p[4]
    cdef fx_loop loop
    cdef int i
    for i in range(4):
        value = params[i] if i < len(params) else 0
        if isinstance(value, float):
            p[i].f = value
        else:
            p[i].i = value
    if name == "cast":
        loop = casts[dtype >> 4][dtype & 15]
    elif name == "select":
        loop = selects[dtype]
    elif name == "fill":
        loop = fills[dtype]
    else:
        loop = entries[kernel_id(name)].loop[dtype]
    if loop == NULL:
        raise ValueError(f"[{name}] has no loop for dtype number {dtype}")
    with nogil:
        loop(<void *> o, <void *> x, <void *> y, <void *> z, p, n)


cdef int[4] _divisions = [kernel_id("floor_divide"), kernel_id("div_trunc"), kernel_id("remainder"), kernel_id("fmod")]
