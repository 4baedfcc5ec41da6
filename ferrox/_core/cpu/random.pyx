"""Random fills on Philox4x32-10: the same bits on any number of threads, any CPU level, and the GPU.

Every output is contiguous.  params begin with seed.i, offset.i; offset counts Philox blocks, and a fill of n elements
uses up (n + 3) / 4 of them with 32-bit draws and (n + 1) / 2 with 64-bit draws (see fx/philox.h for the mapping).

kernel              arrays              further params       draws
random_uniform      out                 low.f, high.f        64-bit for float64, otherwise 32-bit
random_normal       out                 mean.f, std.f        64-bit for float64, otherwise 32-bit
random_exponential  out                 lambda.f             64-bit for float64, otherwise 32-bit
random_bernoulli    out [, p: float64]  p.f (without p)      32-bit
random_integers     out                 low.i, high.i        32-bit for high - low <= 2^32, else 64-bit
random_permutation  out: int64          none                 64-bit
dropout             y, mask: bool; x    p.f                  32-bit
dropout: y = x mask / (1 - p), mask true with probability 1 - p.  Uniform, normal and exponential fill real dtypes
(float16 and bfloat16 from float32); bernoulli and integers any dtype.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, malloc

from ferrox._core.abi cimport FX_BOOL, FX_CONTIGUOUS, FX_CPU, FX_ERROR_MEMORY, FX_ERROR_TYPE, FX_ERROR_VALUE, FX_F32, \
    FX_F64, FX_I64, FX_OK, fx_array, fx_call, fx_digits, fx_is_floating, fx_itemsize
from ferrox._core.door.backend cimport provide
from ferrox._core.cpu.table cimport casts
from ferrox._core.door.threads cimport num_threads

cdef extern from "fx/parallel.h" nogil:
    ctypedef void (*fx_team_function)(int thread, int threads, void *argument) noexcept nogil
    void fx_parallel(int threads, fx_team_function function, void *argument)

cdef extern from "fx/philox.h" namespace "fx" nogil:
    cppclass philox_words:
        uint32_t w[4]
    cppclass normal_pair[T]:
        T first
        T second
    philox_words philox(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0, uint32_t k1)
    philox_words philox_block(uint64_t seed, uint64_t block)
    uint64_t join(uint32_t low, uint32_t high)
    float unit32 "fx::unit"(uint32_t w, int bits)
    double unit64 "fx::unit"(uint64_t w)
    float above32 "fx::unit_above"(uint32_t w)
    double above64 "fx::unit_above"(uint64_t w)
    T uniform[T](T u, T low, T high)
    float minus_log32 "fx::minus_log"(float u)
    double minus_log64 "fx::minus_log"(double u)
    normal_pair[T] box_muller[T, W](W first, W second)
    uint32_t below32 "fx::below"(uint32_t w, uint32_t range)
    uint64_t below64 "fx::below"(uint64_t w, uint64_t range)
    bint happens(uint32_t w, double p)
    float mul32 "fx::mul"(float a, float b)
    float add32 "fx::add"(float a, float b)
    double mul64 "fx::mul"(double a, double b)
    double add64 "fx::add"(double a, double b)

cdef extern from "<algorithm>" namespace "std" nogil:
    void sort(keyed *first, keyed *last)

cdef extern from *:
    """
    struct keyed {
        uint64_t key;
        int64_t index;
        bool operator<(const keyed &other) const {
            return key < other.key || (key == other.key && index < other.index);
        }
    };
    """
    cppclass keyed:
        uint64_t key
        int64_t index

cdef enum:
    CHUNK = 1024          # elements of a chunk: whole blocks, buffers in the L1 cache
    PARALLEL_CHUNKS = 16  # from which a second thread pays

# One chunk of a fill: n elements from the words of its blocks.
cdef struct fill_job:
    char *out
    const char *x          # dropout's input, bernoulli's probabilities
    uint8_t *mask
    uint64_t seed, offset
    int64_t numel, low
    uint64_t range
    double a, b
    int dtype, size
    bint wide
    void (*values)(const fill_job *job, int64_t first, int n, const uint32_t *w) noexcept nogil


cdef void draw(uint32_t *w, uint64_t seed, uint64_t block, int blocks) noexcept nogil:
    cdef Py_ssize_t i
    cdef philox_words words
    for i in range(blocks):
        words = philox_block(seed, block + <uint64_t> i)
        w[4 * i] = words.w[0]
        w[4 * i + 1] = words.w[1]
        w[4 * i + 2] = words.w[2]
        w[4 * i + 3] = words.w[3]


cdef void run_chunks(int thread, int threads, void *argument) noexcept nogil:
    cdef const fill_job *job = <const fill_job *> argument
    cdef uint32_t[2 * CHUNK] w
    cdef int64_t chunk = thread, first
    cdef int n
    while chunk * CHUNK < job.numel:
        first = chunk * CHUNK
        n = <int> min(<int64_t> CHUNK, job.numel - first)
        if job.wide:
            draw(w, job.seed, job.offset + <uint64_t> (first // 2), (n + 1) // 2)
        else:
            draw(w, job.seed, job.offset + <uint64_t> (first // 4), (n + 3) // 4)
        job.values(job, first, n, w)
        chunk += threads


cdef void store(const fill_job *job, int64_t first, int n, void *values, int dtype) noexcept nogil:
    casts[job.dtype][dtype](job.out + first * job.size, values, NULL, NULL, NULL, n)


cdef void uniform_values(const fill_job *job, int64_t first, int n, const uint32_t *w) noexcept nogil:
    cdef float[CHUNK] y
    cdef double *o = <double *> job.out + first
    cdef float low = <float> job.a, high = <float> job.b
    cdef double low64 = job.a, high64 = job.b
    cdef Py_ssize_t i
    cdef int bits = fx_digits(job.dtype)
    if job.wide:
        for i in range(n):
            o[i] = uniform(unit64(join(w[2 * i], w[2 * i + 1])), low64, high64)
        return
    for i in range(n):
        y[i] = uniform(unit32(w[i], bits), low, high)
    store(job, first, n, y, FX_F32)
    if bits < 24:  # rounded to 16 bits, a value may have reached high
        casts[<int> FX_F32][job.dtype](y, job.out + first * job.size, NULL, NULL, NULL, n)
        for i in range(n):
            y[i] = y[i] if y[i] < high else low
        store(job, first, n, y, FX_F32)


cdef void normal_values(const fill_job *job, int64_t first, int n, const uint32_t *w) noexcept nogil:
    cdef float[CHUNK] y
    cdef double[CHUNK] y64
    cdef float mean = <float> job.a, std = <float> job.b
    cdef double mean64 = job.a, std64 = job.b
    cdef normal_pair[float] pair
    cdef normal_pair[double] pair64
    cdef Py_ssize_t i, pairs = (n + 1) // 2
    if job.wide:
        for i in range(pairs):
            pair64 = box_muller[double, uint64_t](join(w[4 * i], w[4 * i + 1]), join(w[4 * i + 2], w[4 * i + 3]))
            y64[2 * i] = add64(mul64(pair64.first, std64), mean64)
            y64[2 * i + 1] = add64(mul64(pair64.second, std64), mean64)
        store(job, first, n, y64, FX_F64)
        return
    for i in range(pairs):
        pair = box_muller[float, uint32_t](w[2 * i], w[2 * i + 1])
        y[2 * i] = add32(mul32(pair.first, std), mean)
        y[2 * i + 1] = add32(mul32(pair.second, std), mean)
    store(job, first, n, y, FX_F32)


cdef void exponential_values(const fill_job *job, int64_t first, int n, const uint32_t *w) noexcept nogil:
    cdef float[CHUNK] y
    cdef double *o = <double *> job.out + first
    cdef double scale64 = 1 / job.a
    cdef float scale = <float> scale64
    cdef Py_ssize_t i
    if job.wide:
        for i in range(n):
            o[i] = mul64(minus_log64(above64(join(w[2 * i], w[2 * i + 1]))), scale64)
        return
    for i in range(n):
        y[i] = mul32(minus_log32(above32(w[i])), scale)
    store(job, first, n, y, FX_F32)


cdef void bernoulli_values(const fill_job *job, int64_t first, int n, const uint32_t *w) noexcept nogil:
    cdef uint8_t[CHUNK] y
    cdef const double *p = <const double *> job.x
    cdef double same = job.a
    cdef Py_ssize_t i
    if p == NULL:
        for i in range(n):
            y[i] = happens(w[i], same)
    else:
        p += first
        for i in range(n):
            y[i] = happens(w[i], p[i])
    store(job, first, n, y, FX_BOOL)


cdef void integer_values(const fill_job *job, int64_t first, int n, const uint32_t *w) noexcept nogil:
    cdef int64_t[CHUNK] y
    cdef uint64_t low = <uint64_t> job.low, span = job.range
    cdef uint32_t narrow = <uint32_t> span
    cdef Py_ssize_t i
    if job.wide:
        for i in range(n):
            y[i] = <int64_t> (low + below64(join(w[2 * i], w[2 * i + 1]), span))
    elif narrow == 0:  # all of 2^32
        for i in range(n):
            y[i] = <int64_t> (low + w[i])
    else:
        for i in range(n):
            y[i] = <int64_t> (low + below32(w[i], narrow))
    store(job, first, n, y, FX_I64)


cdef void dropout_values(const fill_job *job, int64_t first, int n, const uint32_t *w) noexcept nogil:
    cdef double[CHUNK] y
    cdef float[CHUNK] x32
    cdef double keep = 1 - job.a, scale64 = 1 / keep if keep > 0 else 0.0
    cdef float scale = <float> scale64
    cdef uint8_t *mask = job.mask + first
    cdef const double *x = <const double *> job.x + first
    cdef Py_ssize_t i
    for i in range(n):
        mask[i] = happens(w[i], keep)
    if job.dtype == FX_F64:
        for i in range(n):
            y[i] = mul64(x[i], scale64) if mask[i] else 0.0
        store(job, first, n, y, FX_F64)
        return
    casts[<int> FX_F32][job.dtype](x32, <void *> (job.x + first * job.size), NULL, NULL, NULL, n)
    for i in range(n):
        x32[i] = mul32(x32[i], scale) if mask[i] else <float> 0.0
    store(job, first, n, x32, FX_F32)


cdef int refuse(fx_call *call, int status, const char *message) noexcept nogil:
    snprintf(call.message, sizeof(call.message), "%s", message)
    return status


cdef int begin(fx_call *call, fill_job *job, bint real, int n_params) noexcept nogil:
    """Read what all fills share."""
    cdef fx_array *out = call.arrays[0]
    if not out.flags & FX_CONTIGUOUS:
        return refuse(call, FX_ERROR_VALUE, b"the output must be contiguous")
    if real and not fx_is_floating(out.dtype):
        return refuse(call, FX_ERROR_TYPE, b"needs a floating-point dtype")
    if call.n_params < n_params:
        return refuse(call, FX_ERROR_VALUE, b"too few params")
    job.out = <char *> out.data
    job.x = NULL
    job.mask = NULL
    job.seed = <uint64_t> call.params[0].i
    job.offset = <uint64_t> call.params[1].i
    job.numel = out.numel
    job.dtype = out.dtype
    job.size = fx_itemsize(out.dtype)
    job.wide = real and out.dtype == FX_F64
    return FX_OK


cdef int finish(fill_job *job) noexcept nogil:
    cdef int64_t chunks = (job.numel + CHUNK - 1) // CHUNK
    fx_parallel(<int> min(<int64_t> num_threads, max(<int64_t> 1, chunks // PARALLEL_CHUNKS)), run_chunks, job)
    return FX_OK


cdef int random_uniform(fx_call *call) noexcept nogil:
    cdef fill_job job
    cdef int status = begin(call, &job, True, 4)
    if status != FX_OK:
        return status
    job.a = call.params[2].f
    job.b = call.params[3].f
    if not job.a <= job.b:
        return refuse(call, FX_ERROR_VALUE, b"needs low <= high")
    job.values = uniform_values
    return finish(&job)


cdef int random_normal(fx_call *call) noexcept nogil:
    cdef fill_job job
    cdef int status = begin(call, &job, True, 4)
    if status != FX_OK:
        return status
    job.a = call.params[2].f
    job.b = call.params[3].f
    if not job.b >= 0:
        return refuse(call, FX_ERROR_VALUE, b"needs std >= 0")
    job.values = normal_values
    return finish(&job)


cdef int random_exponential(fx_call *call) noexcept nogil:
    cdef fill_job job
    cdef int status = begin(call, &job, True, 3)
    if status != FX_OK:
        return status
    job.a = call.params[2].f
    if not job.a > 0:
        return refuse(call, FX_ERROR_VALUE, b"needs lambda > 0")
    job.values = exponential_values
    return finish(&job)


cdef int random_bernoulli(fx_call *call) noexcept nogil:
    cdef fill_job job
    cdef fx_array *p
    cdef bint given = call.n_in > 0 and call.arrays[1] != NULL
    cdef int status = begin(call, &job, False, 2 if given else 3)
    if status != FX_OK:
        return status
    if given:
        p = call.arrays[1]
        if p.dtype != FX_F64 or not p.flags & FX_CONTIGUOUS or p.numel != job.numel:
            return refuse(call, FX_ERROR_VALUE, b"the probabilities must be contiguous float64, one for each element")
        job.x = <const char *> p.data
    else:
        job.a = call.params[2].f
        if not 0 <= job.a <= 1:
            return refuse(call, FX_ERROR_VALUE, b"needs 0 <= p <= 1")
    job.values = bernoulli_values
    return finish(&job)


cdef int random_integers(fx_call *call) noexcept nogil:
    cdef fill_job job
    cdef int status = begin(call, &job, False, 4)
    if status != FX_OK:
        return status
    if call.params[2].i >= call.params[3].i:
        return refuse(call, FX_ERROR_VALUE, b"needs low < high")
    job.low = call.params[2].i
    job.range = <uint64_t> call.params[3].i - <uint64_t> call.params[2].i
    job.wide = job.range > <uint64_t> 1 << 32
    job.values = integer_values
    return finish(&job)


cdef int random_permutation(fx_call *call) noexcept nogil:
    """The order that sorts one 64-bit draw for each index: what a parallel sort on a GPU gives too."""
    cdef fill_job job
    cdef int64_t i, n
    cdef philox_words words
    cdef keyed *keys
    cdef int status = begin(call, &job, False, 2)
    if status != FX_OK:
        return status
    if job.dtype != FX_I64:
        return refuse(call, FX_ERROR_TYPE, b"needs an int64 output")
    n = job.numel
    keys = <keyed *> malloc((n + 2) * sizeof(keyed))
    if keys == NULL:
        return refuse(call, FX_ERROR_MEMORY, b"out of memory for the keys")
    for i in range((n + 1) // 2):
        words = philox_block(job.seed, job.offset + <uint64_t> i)
        keys[2 * i].key = join(words.w[0], words.w[1])
        keys[2 * i].index = 2 * i
        keys[2 * i + 1].key = join(words.w[2], words.w[3])
        keys[2 * i + 1].index = 2 * i + 1
    sort(keys, keys + n)
    for i in range(n):
        (<int64_t *> job.out)[i] = keys[i].index
    free(keys)
    return FX_OK


cdef int dropout(fx_call *call) noexcept nogil:
    cdef fill_job job
    cdef fx_array *mask = call.arrays[1]
    cdef fx_array *x = call.arrays[2]
    cdef int status = begin(call, &job, True, 3)
    if status != FX_OK:
        return status
    if not mask.flags & x.flags & FX_CONTIGUOUS or mask.numel != job.numel or x.numel != job.numel:
        return refuse(call, FX_ERROR_VALUE, b"output, mask and input must be contiguous and of one size")
    if mask.dtype != FX_BOOL or x.dtype != job.dtype:
        return refuse(call, FX_ERROR_TYPE, b"the mask must be bool, the input of the output's dtype")
    job.a = call.params[2].f
    if not 0 <= job.a <= 1:
        return refuse(call, FX_ERROR_VALUE, b"needs 0 <= p <= 1")
    job.mask = <uint8_t *> mask.data
    job.x = <const char *> x.data
    job.wide = False
    job.values = dropout_values
    return finish(&job)


provide(FX_CPU, "random_uniform", random_uniform, "random | out T | - | seed i, offset i, low f, high f")
provide(FX_CPU, "random_normal", random_normal, "random | out T | - | seed i, offset i, mean f, std f")
provide(FX_CPU, "random_exponential", random_exponential, "random | out T | - | seed i, offset i, lambda f, unused f")
provide(FX_CPU, "random_bernoulli", random_bernoulli, "random | out T | p float64? | seed i, offset i, p f, unused f")
provide(FX_CPU, "random_integers", random_integers, "random | out T | - | seed i, offset i, low i, high i")
provide(FX_CPU, "random_permutation", random_permutation, "order | out int64 | - | seed i, offset i")
provide(FX_CPU, "dropout", dropout, "random float | y T, mask bool | x T | seed i, offset i, p f")


def philox4x32(counter, key):
    """Four words of Philox4x32-10 from a counter of four words and a key of two; for tests."""
    cdef philox_words words = philox(counter[0], counter[1], counter[2], counter[3], key[0], key[1])
    return words.w[0], words.w[1], words.w[2], words.w[3]
