# distutils: language = c++
"""The one driver of every elementwise kernel on the GPU.

Arrays and params as the CPU's (cpu/elementwise.pyx): out, then one to three inputs; params 0 to 3 as doubles.
Dimensions are put into the order of the output's strides and merged where all operands allow it.  What is then one row
without gaps, of one dtype, aligned to 16 bytes, takes the flat form; everything else takes the strided one, integers
narrower than int64 in int64 arithmetic.  An integer division by zero gives 0 and is reported (fault.pyx): looking first
would wait for the device.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf

from ferrox._core.abi cimport FX_BOOL, FX_BOOLEAN, FX_CUDA, FX_DTYPES, FX_ERROR_RUNTIME, FX_ERROR_TYPE, FX_FLOATING, \
    FX_HOST_SCALAR, FX_I8, FX_I16, FX_I64, FX_INTEGRAL, FX_MAX_DIMS, FX_OK, fx_accumulation, fx_array, fx_call, \
    fx_category, fx_is_whole, fx_itemsize, fx_scalar, fx_suffix
from ferrox._core.door.backend cimport MAX_KERNELS, kernel_id, provide
from ferrox._core.cuda.abi cimport CUresult
from ferrox._core.cuda.context cimport devices
from ferrox._core.cuda.fault cimport fault_record
from ferrox._core.cuda.module cimport cuda_kernel, find_kernel, flat_shape, launch, launch_shape, launched
from ferrox._core.cuda.stream cimport current_stream

cdef extern from *:
    """
    #include "fx/abi.h"
    #include "fx/half.h"
    enum { FX_LINE_REAL = 1, FX_LINE_INTEGER = 2, FX_LINE_BOOL = 4 };
    #define FX_LINE_NUMBER (FX_LINE_REAL | FX_LINE_INTEGER)
    #define FX_LINE_ANY (FX_LINE_NUMBER | FX_LINE_BOOL)
    #define FX_LINE_BITS (FX_LINE_INTEGER | FX_LINE_BOOL)
    typedef struct { const char *name; int arity, to_bool, dtypes; } fx_line;
    static const fx_line fx_lines[] = {
    #define FX_UNARY(name, dtypes, value) {#name, 1, 0, FX_LINE_##dtypes},
    #define FX_TEST(name, dtypes, value) {#name, 1, 1, FX_LINE_##dtypes},
    #define FX_BINARY(name, dtypes, value) {#name, 2, 0, FX_LINE_##dtypes},
    #define FX_COMPARE(name, dtypes, value) {#name, 2, 1, FX_LINE_##dtypes},
    #define FX_TERNARY(name, dtypes, value) {#name, 3, 0, FX_LINE_##dtypes},
    #include "fx/elementwise.h"
        {NULL, 0, 0, 0}
    };
    static const char *const fx_bool_lines[] = {
    #define FX_BOOL(name, other) #name, #other,
    #include "fx/elementwise.h"
        NULL
    };
    /* One host value of any dtype in 8 bytes: as float, double, or by way of an integer dtype or bool as int64. */
    template <class T, class Held> static uint64_t fx_value_by(const void *data, int dtype) {
        T y{};
        uint64_t bits = 0;
        switch (dtype) {
    #define FX_CASE(code, suffix, name, type, ...) \
        case FX_##code: fx::convert_to(&y, *(const type *)data); break;
        FX_EACH_DTYPE(FX_CASE)
    #undef FX_CASE
        }
        const Held held = Held(y);
        memcpy(&bits, &held, sizeof held);
        return bits;
    }
    static uint64_t fx_value(const void *data, int dtype, int computed) {
        switch (fx_computed(computed)) {
    #define FX_CASE(code, suffix, name, type, category, is_signed, digits, sum, ...) \
        case FX_##code: return fx_value_by<std::conditional_t<FX_##category == FX_FLOATING, fx::sum_of<type>, type>, \
                                           fx::sum_of<type>>(data, dtype);
        FX_EACH_DTYPE(FX_CASE)
    #undef FX_CASE
        }
        return 0;
    }
    """
    enum:
        FX_LINE_REAL
        FX_LINE_INTEGER
        FX_LINE_BOOL
    ctypedef struct fx_line:
        const char *name
        int arity, to_bool, dtypes
    const fx_line *fx_lines
    const char **fx_bool_lines
    uint64_t fx_value(const void *data, int dtype, int computed) noexcept nogil

cdef extern from "fx/elementwise_args.h" nogil:
    enum:
        FX_STRIDED_DIMS
        FX_FROM_ARRAY
        FX_FROM_ELEMENT
        FX_FROM_VALUE
    ctypedef struct fx_flat_args:
        void *data[4]
        uint64_t value[3]
        int64_t n
        fx_scalar p[4]
        void *fault
        int kernel
        uint8_t kind[4]
    ctypedef struct fx_divider:
        uint32_t divisor, magic, shift
    ctypedef struct fx_strided_args:
        char *data[4]
        uint64_t value[3]
        fx_scalar p[4]
        uint32_t n
        int ndim
        uint8_t kind[4]
        uint8_t dtype[4]
        uint8_t cast[4]
        int kernel
        void *fault
        fx_divider size[FX_STRIDED_DIMS]
        int64_t stride[FX_STRIDED_DIMS][4]

cdef enum:
    THREADS = 256
    WAVES = 32              # blocks per multiprocessor, at most: a block then takes several rounds
    MOST = 0x7fffffff       # elements of one strided launch

cdef struct entry:
    cuda_kernel *flat[FX_DTYPES]       # by dtype; NULL where the operator or its flat form is not defined
    cuda_kernel *strided[FX_DTYPES]
    uint8_t computed[FX_DTYPES]        # the dtype of the strided form's arithmetic
    int arity
    bint to_bool

cdef entry entries[MAX_KERNELS]
cdef const char *_ELSEWHERE = b"Expected all tensors to be on the same device, but found at least two devices,"
# Integers: no value for a divisor of 0.
cdef int[4] _dividing = [kernel_id("floor_divide"), kernel_id("div_trunc"), kernel_id("remainder"), kernel_id("fmod")]

# The operands of one call, merged: sizes and byte strides, innermost dimension first.
cdef struct operands:
    int n_in, ndim, device, kernel
    void *fault
    int64_t numel
    char *data[4]
    uint8_t kind[4]
    uint8_t dtype[4]
    uint8_t cast[4]
    uint64_t value[3]
    fx_scalar p[4]
    int64_t size[FX_MAX_DIMS]
    int64_t stride[FX_MAX_DIMS][4]


cdef void _merge(operands *o) noexcept nogil:
    """Order the dimensions by the output's strides and join those that lie behind each other in every operand."""
    cdef int d, e, k, kept = 0
    cdef int64_t size
    cdef int64_t[4] stride
    cdef bint joins
    for d in range(o.ndim):         # insertion sort: there are few, and mostly in order
        size = o.size[d]
        if size == 1:
            continue
        for k in range(4):
            stride[k] = o.stride[d][k]
        e = kept
        while e > 0 and o.stride[e - 1][0] > stride[0]:
            o.size[e] = o.size[e - 1]
            for k in range(4):
                o.stride[e][k] = o.stride[e - 1][k]
            e -= 1
        o.size[e] = size
        for k in range(4):
            o.stride[e][k] = stride[k]
        kept += 1
    o.ndim = min(kept, 1)
    for d in range(1, kept):
        joins = True
        for k in range(o.n_in + 1):
            joins = joins and o.stride[d][k] == o.stride[o.ndim - 1][k] * o.size[o.ndim - 1]
        if joins:
            o.size[o.ndim - 1] *= o.size[d]
        else:
            o.size[o.ndim] = o.size[d]
            for k in range(4):
                o.stride[o.ndim][k] = o.stride[d][k]
            o.ndim += 1


cdef int _gather(fx_call *call, operands *o) noexcept nogil:
    """Describe the arrays of a call; a status."""
    cdef fx_array *out = call.arrays[0]
    cdef fx_array *x
    cdef int k, d, at
    o.n_in = call.n_in
    o.ndim = out.ndim
    o.device = out.device_index
    o.numel = out.numel
    for k in range(call.n_in + 1):
        x = call.arrays[k]
        o.data[k] = <char *> x.data
        o.dtype[k] = x.dtype
        o.kind[k] = FX_FROM_ARRAY
        if x.flags & FX_HOST_SCALAR or x.device_type != FX_CUDA:
            if k == 0 or x.numel != 1 or (x.ndim and not x.flags & FX_HOST_SCALAR):
                snprintf(call.message, sizeof(call.message),
                         b"%s cuda:%d and cpu!", _ELSEWHERE, out.device_index)
                return FX_ERROR_RUNTIME
            o.kind[k] = FX_FROM_VALUE
            o.data[k] = NULL
            o.value[k - 1] = fx_value(x.data, x.dtype, call.dtype)
        elif x.device_index != out.device_index:
            snprintf(call.message, sizeof(call.message),
                     b"%s cuda:%d and cuda:%d!", _ELSEWHERE, out.device_index, x.device_index)
            return FX_ERROR_RUNTIME
        elif k and x.numel == 1:
            o.kind[k] = FX_FROM_ELEMENT
        for d in range(out.ndim):       # d counts from the innermost dimension
            at = x.ndim - 1 - d
            if k == 0:
                o.size[d] = x.dims[at]
            o.stride[d][k] = 0
            if at >= 0 and x.dims[at] != 1 and o.kind[k] == FX_FROM_ARRAY:
                o.stride[d][k] = x.dims[x.ndim + at] * fx_itemsize(x.dtype)
    for k in range(call.n_in + 1, 4):
        for d in range(out.ndim):
            o.stride[d][k] = 0
    for k in range(4):
        if k < call.n_params:
            o.p[k] = call.params[k]
        else:
            o.p[k].pair[0] = o.p[k].pair[1] = 0
    return FX_OK


cdef bint _is_flat(operands *o, int dtype, int out_dtype) noexcept nogil:
    cdef int k
    if o.ndim > 1 or o.dtype[0] != out_dtype:
        return False
    for k in range(o.n_in + 1):
        if o.kind[k] == FX_FROM_VALUE:
            continue
        if k and o.dtype[k] != dtype:
            return False
        if o.kind[k] == FX_FROM_ARRAY and \
                (<size_t> o.data[k] & 15 or (o.ndim and o.stride[0][k] != fx_itemsize(o.dtype[k]))):
            return False
    return True


cdef inline unsigned int _blocks(int64_t threads, int device) noexcept nogil:
    return <unsigned int> min((threads + THREADS - 1) // THREADS, <int64_t> WAVES * devices[device].multiprocessors)


cdef CUresult _launch_flat(operands *o, cuda_kernel *kernel, int dtype) noexcept nogil:
    cdef fx_flat_args args
    cdef void *pointer = &args
    cdef int k, width = 4 if fx_itemsize(dtype) == 1 else 16 // fx_itemsize(dtype)
    for k in range(4):
        args.data[k] = o.data[k] if k <= o.n_in else NULL
        args.kind[k] = o.kind[k] if k <= o.n_in else <int> FX_FROM_VALUE
        args.p[k] = o.p[k]
    for k in range(3):
        args.value[k] = o.value[k] if k < o.n_in and o.kind[k + 1] == FX_FROM_VALUE else 0
    args.n = o.numel
    args.kernel = o.kernel
    args.fault = o.fault
    cdef launch_shape shape = flat_shape(_blocks((o.numel + width - 1) // width, o.device), THREADS)
    return launch(kernel, o.device, current_stream(o.device), &shape, &pointer)


cdef fx_divider _divider(uint32_t divisor) noexcept nogil:
    cdef fx_divider made
    cdef uint64_t one = 1
    made.divisor = divisor
    made.shift = 0
    while made.shift < 32 and one << made.shift < divisor:
        made.shift += 1
    made.magic = <uint32_t> ((one << 32) * ((one << made.shift) - divisor) // divisor + 1)
    return made


cdef CUresult _launch_strided(operands *o, cuda_kernel *kernel, char **data, int ndim) noexcept nogil:
    """Launch over the innermost `ndim` dimensions, in pieces where one launch cannot take them."""
    cdef fx_strided_args args
    cdef void *pointer = &args
    cdef char *moved[4]
    cdef int k, d, fitting = 0
    cdef int64_t n = 1, size, piece, start
    cdef CUresult status = 0
    while fitting < ndim and fitting < FX_STRIDED_DIMS and o.size[fitting] <= MOST // n:
        n *= o.size[fitting]
        fitting += 1
    if fitting < ndim:
        # Cut the outermost dimension: into the largest pieces that fit if it alone is too much, else into single steps.
        d = ndim - 1
        size = o.size[d]
        piece = MOST // n if fitting == d and fitting < FX_STRIDED_DIMS else 1
        start = 0
        while start < size and status == 0:
            for k in range(o.n_in + 1):
                moved[k] = data[k] + start * o.stride[d][k]
            o.size[d] = min(piece, size - start)
            status = _launch_strided(o, kernel, moved, ndim if piece > 1 else d)
            start += piece
        o.size[d] = size
        return status
    for k in range(4):
        args.data[k] = data[k] if k <= o.n_in else NULL
        args.kind[k] = o.kind[k] if k <= o.n_in else <int> FX_FROM_VALUE
        args.dtype[k] = o.dtype[k] if k <= o.n_in else 0
        args.cast[k] = o.cast[k]
        args.p[k] = o.p[k]
    for k in range(3):
        args.value[k] = o.value[k] if k < o.n_in and o.kind[k + 1] == FX_FROM_VALUE else 0
    args.n = <uint32_t> n
    args.ndim = ndim
    args.kernel = o.kernel
    args.fault = o.fault
    for d in range(FX_STRIDED_DIMS):
        args.size[d] = _divider(<uint32_t> o.size[d] if d < ndim else 1)
        for k in range(4):
            args.stride[d][k] = o.stride[d][k] if d < ndim else 0
    cdef launch_shape shape = flat_shape(_blocks(n, o.device), THREADS)
    return launch(kernel, o.device, current_stream(o.device), &shape, &pointer)


cdef int elementwise(fx_call *call) noexcept nogil:
    cdef entry *e = &entries[call.kernel]
    cdef int dtype = call.dtype, status, k
    cdef operands o
    if e.strided[dtype] == NULL:
        snprintf(call.message, sizeof(call.message), b"not defined for this dtype")
        return FX_ERROR_TYPE
    status = _gather(call, &o)
    if status or o.numel == 0:
        return status
    o.kernel = call.kernel
    o.fault = NULL
    if fx_is_whole(dtype):
        for k in range(4):
            if call.kernel == _dividing[k]:
                if o.kind[2] == FX_FROM_VALUE and o.value[1] == 0:
                    snprintf(call.message, sizeof(call.message), b"ZeroDivisionError: integer division by zero")
                    return FX_ERROR_RUNTIME
                o.fault = fault_record(o.device)
    _merge(&o)
    if e.flat[dtype] != NULL and _is_flat(&o, dtype, FX_BOOL if e.to_bool else dtype):
        return launched(_launch_flat(&o, e.flat[dtype], dtype))
    for k in range(4):
        # Integers are computed in int64: what another dtype holds is first cast to the one that is meant.
        o.cast[k] = FX_I64
        if fx_is_whole(dtype) and 0 < k <= o.n_in and o.dtype[k] != dtype:
            o.cast[k] = dtype
    return launched(_launch_strided(&o, e.strided[dtype], o.data, o.ndim))


cdef inline bint _has_flat(int dtype):
    """int8 and int16 are rare: they have the strided form only."""
    return dtype != FX_I8 and dtype != FX_I16


cdef int _enter(str name, str kernel, int arity, bint to_bool, int dtype) except -1:
    """One operator on one dtype, computed by the kernels called `kernel`."""
    cdef entry *e = &entries[kernel_id(name)]
    cdef str family = "elementwise_" + ("unary", "binary", "ternary")[arity - 1]
    computed = fx_accumulation(dtype)
    e.arity = arity
    e.to_bool = to_bool
    e.computed[dtype] = computed
    if _has_flat(dtype):
        e.flat[dtype] = find_kernel(family, f"{kernel}_{fx_suffix(dtype).decode()}")
    e.strided[dtype] = find_kernel(family, f"{kernel}_{fx_suffix(computed).decode()}_strided")
    return 0


def register():
    """Provide every line of fx/elementwise.h; returns their names."""
    cdef int i = 0, dtype
    cdef const fx_line *line
    cdef set names = set()
    cdef dict arity = {}
    while fx_lines[i].name != NULL:
        line = &fx_lines[i]
        name = line.name.decode()
        arity[name] = (line.arity, bool(line.to_bool))
        for dtype in range(FX_DTYPES):
            wanted = {FX_FLOATING: FX_LINE_REAL, FX_BOOLEAN: FX_LINE_BOOL, FX_INTEGRAL: FX_LINE_INTEGER}.get(
                fx_category(dtype), 0)
            if line.dtypes & wanted:
                _enter(name, name, line.arity, line.to_bool, dtype)
        provide(FX_CUDA, name, elementwise)
        names.add(name)
        i += 1
    i = 0
    while fx_bool_lines[i] != NULL:
        name, other = fx_bool_lines[i].decode(), fx_bool_lines[i + 1].decode()
        # The other kernel gives uint8, as bool wants it.
        _enter(name, other, arity[other][0], False, FX_BOOL)
        i += 2
    return names
