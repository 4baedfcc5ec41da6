"""Sampling of indices by weights."""
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc, qsort

from ferrox._core.abi cimport FX_CPU, FX_F64, FX_I64
from ferrox._core.door.backend cimport kernel_id
from ferrox._core.door.ending cimport begin_released, end_released
from ferrox._core.dtype cimport FLOATING, categories, dtype_name
from ferrox._core.graph.op import row
from ferrox._core.ops.creation cimport allocate
from ferrox._core.tensor.generator cimport generator_for, reserve
from ferrox._core.ops.shape cimport read_int
from ferrox._core.tensor.base cimport TensorBase, new_tensor
from ferrox._core.tensor.frame cimport begin, converted, copy_into, frame, make, real, run
from ferrox._core.tensor.values cimport moved, readable

cdef int _uniform = kernel_id("random_uniform")
cdef int _exponential = kernel_id("random_exponential")

# multinomial: on the host; with replacement by searching the cumulative weights, without by an exponential race.

cdef struct Runner:
    double time
    int64_t index


cdef int _earlier(const void *a, const void *b) noexcept nogil:
    cdef double x = (<const Runner *> a).time, y = (<const Runner *> b).time
    if x != y:
        return -1 if x < y else 1
    return -1 if (<const Runner *> a).index < (<const Runner *> b).index else 1


cdef int _sample_with(const double *w, int64_t n, const double *draws, int64_t k, int64_t *out,
                      double *sums) noexcept nogil:
    """k indices; 1 when the weights are no distribution."""
    cdef int64_t i, low, high, middle
    cdef double total = 0, at
    for i in range(n):
        total += w[i]
        sums[i] = total
    for i in range(k):
        at = draws[i] * total
        low = 0
        high = n - 1
        while low < high:       # the first whose sum exceeds the draw
            middle = (low + high) // 2
            if sums[middle] > at:
                high = middle
            else:
                low = middle + 1
        while w[low] == 0 and low > 0:      # rounding took the draw to the end
            low -= 1
        out[i] = low
    return 0


cdef void _sample_without(const double *w, int64_t n, const double *draws, int64_t k, int64_t *out,
                          Runner *race) noexcept nogil:
    cdef int64_t i, entered = 0
    for i in range(n):
        if w[i] > 0:
            race[entered].time = draws[i] / w[i]
            race[entered].index = i
            entered += 1
    qsort(race, <size_t> entered, sizeof(Runner), _earlier)
    for i in range(k):
        out[i] = race[i].index


cdef int _check_weights(const double *w, int64_t n, int64_t k, bint replacement) except -1:
    cdef int64_t i, positive = 0
    for i in range(n):
        if not 0 <= w[i] <= 1.7976931348623157e308:
            raise RuntimeError(f"[multinomial] probability tensor contains either `inf`, `nan` or element < 0: {w[i]}")
        positive += w[i] > 0
    if positive == 0:
        raise RuntimeError("[multinomial] invalid multinomial distribution (sum of probabilities <= 0)")
    if not replacement and positive < k:
        raise RuntimeError("[multinomial] invalid multinomial distribution (with replacement=False, not enough "
                           f"non-negative category to sample): {positive} positive weights for {k} samples")
    return 0


def _multinomial(input, num_samples, replacement=False, *, generator=None, out=None):
    """Indices drawn with probabilities in proportion to weights.

    Parameters
    ----------
    input : Tensor
        Weights, not negative, of shape (n,) or (rows, n); they need not sum to 1.
    num_samples : int
        How many indices for each row.
    replacement : bool, default False
        Whether an index can come more than once.
    generator : Generator, optional
        Where the numbers come from.
    out : Tensor, optional
        Written and returned.

    Returns
    -------
    Tensor
        int64, of shape (num_samples,) or (rows, num_samples).

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.multinomial(fx.tensor([0.0, 3.0, 0.0]), 2, replacement=True)
    tensor([1, 1])
    """
    cdef TensorBase x = <TensorBase?> input, weights, draws, drawn, made
    cdef int64_t shape[2]
    cdef int64_t rows, n, r, per_row, k = read_int("multinomial", "num_samples", num_samples)
    cdef const double *w
    cdef double *d
    cdef int64_t *to
    cdef frame f
    cdef bint again = replacement
    cdef void *scratch
    if not 1 <= x.a.ndim <= 2:
        raise RuntimeError(f"[multinomial] prob_dist must be 1 or 2 dim, got {x.a.ndim}")
    if categories[x.a.dtype] != FLOATING:
        raise RuntimeError(f"[multinomial] multinomial only supports floating-point dtypes for input, got "
                           f"{dtype_name(x.a.dtype)}")
    n = x.a.dims[x.a.ndim - 1]
    rows = x.a.dims[0] if x.a.ndim == 2 else 1
    if k <= 0:
        raise RuntimeError(f"[multinomial] cannot sample n_sample <= 0 samples, got {k}")
    if not again and k > n:
        raise RuntimeError("[multinomial] cannot sample n_sample > prob_dist.size(-1) samples without replacement: "
                           f"{k} of {n}")
    if n == 0:
        raise RuntimeError("[multinomial] there are no weights to draw from")
    weights = converted(readable(x), FX_F64)
    w = <const double *> weights.a.data
    for r in range(rows):
        _check_weights(w + r * n, n, k, again)
    per_row = k if again else n
    shape[0] = rows * per_row
    begin(&f, _uniform if again else _exponential, FX_F64)
    draws = make(&f, 1, shape, FX_F64, weights)
    reserve(generator_for(generator, x.a.device_type, x.a.device_index), shape[0], True, &f)
    real(&f, 0 if again else 1)
    real(&f, 1)
    run(&f, "multinomial")
    shape[0] = rows
    shape[1] = k
    if x.a.ndim == 1:
        shape[0] = k
    drawn = new_tensor(x.a.ndim, shape, FX_I64, FX_CPU, 0)
    d = <double *> draws.a.data
    to = <int64_t *> drawn.a.data
    scratch = malloc(<size_t> n * sizeof(Runner))
    if scratch == NULL:
        raise MemoryError()
    with nogil:
        begin_released()
        for r in range(rows):
            if again:
                _sample_with(w + r * n, n, d + r * per_row, k, to + r * k, <double *> scratch)
            else:
                _sample_without(w + r * n, n, d + r * per_row, k, to + r * k, <Runner *> scratch)
        end_released()
    free(scratch)
    if x.a.device_type != FX_CPU:
        drawn = moved(drawn, x.a.device_type, x.a.device_index)
    if out is None:
        return drawn
    made = allocate("multinomial", x.a.ndim, shape, out, None, FX_I64, None)
    copy_into("multinomial", made, drawn, False)
    return made


row("multinomial", function=_multinomial, composite=True, method=True)
