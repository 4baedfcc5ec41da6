"""Random tensors; the stream they come from is in ferrox/_core/random.pyx."""
from cpython.number cimport PyNumber_Index
from libc.stdint cimport int64_t

from ferrox._core.abi cimport FX_CONTIGUOUS, FX_CPU, FX_DTYPES, FX_F64, FX_I64, FX_MAX_DIMS, fx_digits, fx_is_whole, \
    fx_least, fx_most
from ferrox._core.door.backend cimport kernel_id
from ferrox._core.dtype cimport FLOATING, categories, default_dtype, dtype_name
from ferrox._core.graph.node cimport grad_enabled, set_grad
from ferrox._core.graph.op cimport Op
from ferrox._core.graph.op import row
from ferrox._core.ops.arithmetic cimport add, mul
from ferrox._core.ops.creation cimport allocate, read_number, read_shape
from ferrox._core.ops.elementwise cimport assign
from ferrox._core.ops.shape cimport read_int
from ferrox._core.tensor.generator cimport generator_for, reserve
from ferrox._core.tensor.base cimport TensorBase, needs_grad, new_like, shape_tuple
from ferrox._core.tensor.frame cimport begin, converted, copy_into, frame, into, make_like, read, real, run, whole
from ferrox._core.tensor.values cimport with_grad

cdef int _uniform = kernel_id("random_uniform")
cdef int _normal = kernel_id("random_normal")
cdef int _exponential = kernel_id("random_exponential")
cdef int _bernoulli_kernel = kernel_id("random_bernoulli")
cdef int _integers = kernel_id("random_integers")
cdef int _permutation = kernel_id("random_permutation")

METHODS = {}        # of Tensor


# Fills

cdef TensorBase _room_for(frame *f, TensorBase out, int dtype, bint fresh):
    """Where to draw for `out`: itself, or, unless it is contiguous and of that dtype, what `_put` copies there."""
    if out.a.dtype != dtype or not out.a.flags & FX_CONTIGUOUS:
        return make_like(f, out, dtype)
    into(f, out, fresh)
    return out


cdef int draw(str name, TensorBase out, int kernel, object generator, double a, double b, TensorBase p,
              bint fresh) except -1:
    """Fill `out`, any strides, with draws of a kernel that takes two floats; p are bernoulli's probabilities.

    `fresh`: nobody else has seen it.
    """
    cdef frame f
    cdef TensorBase target
    cdef bint wide = out.a.dtype == FX_F64 and kernel != _bernoulli_kernel
    if kernel != _bernoulli_kernel and categories[out.a.dtype] != FLOATING:
        raise NotImplementedError(f"[{name}] not implemented for {dtype_name(out.a.dtype)}: it needs a floating-point "
                                  "dtype")
    begin(&f, kernel, out.a.dtype)
    target = _room_for(&f, out, out.a.dtype, fresh)
    if p is not None:
        read(&f, p)
    reserve(generator_for(generator, out.a.device_type, out.a.device_index), out.a.numel, wide, &f)
    real(&f, a)
    real(&f, b)
    run(&f, name)
    return _put(name, out, target, fresh)


cdef int _put(str name, TensorBase out, TensorBase drawn, bint fresh) except -1:
    if drawn is out:
        return 0
    return copy_into(name, out, drawn, fresh)


cdef int _draw_integers(str name, TensorBase out, object generator, int64_t low, int64_t high, bint fresh) except -1:
    cdef frame f
    cdef TensorBase target
    cdef bint wide = <object> high - <object> low > 1 << 32
    begin(&f, _integers, out.a.dtype)
    target = _room_for(&f, out, out.a.dtype, fresh)
    reserve(generator_for(generator, out.a.device_type, out.a.device_index), out.a.numel, wide, &f)
    whole(&f, low)
    whole(&f, high)
    run(&f, name)
    return _put(name, out, target, fresh)


cdef int _check_bounds(str name, int dtype, object low, object high) except -1:
    """Whether low … high - 1 fit the dtype."""
    if low >= high:
        raise RuntimeError(f"[{name}] random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    least, most = _limits[dtype]
    if low < least or low > most:
        raise RuntimeError(f"[{name}] from = {low} is out of bounds for {dtype_name(dtype)}")
    if high - 1 > most:
        raise RuntimeError(f"[{name}] to - 1 = {high - 1} is out of bounds for {dtype_name(dtype)}")
    return 0


# The integers that a dtype holds without gaps.
def _limits_of(int code):
    if fx_is_whole(code):
        return fx_least(code), fx_most(code)
    most = <object> 1 << <object> fx_digits(code)
    return -most, most

cdef dict _limits = {code: _limits_of(code) for code in range(FX_DTYPES)}


# Functions

def _rand(*sizes, size=None, generator=None, out=None, dtype=None, device=None, requires_grad=False):
    """Uniform random numbers in [0, 1).

    Parameters
    ----------
    *sizes : int, or one tuple
        The shape; also as the keyword `size`.
    generator : Generator, optional
        Where the numbers come from; the device's default generator otherwise.
    out, dtype, device, requires_grad : optional
        As of `zeros`.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.rand(2, 3).shape
    (2, 3)
    """
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int ndim = read_shape("rand", sizes, size, shape)
    cdef TensorBase made = allocate("rand", ndim, shape, out, dtype, default_dtype, device)
    draw("rand", made, _uniform, generator, 0, 1, None, out is None)
    return with_grad(made, requires_grad)


def _randn(*sizes, size=None, generator=None, out=None, dtype=None, device=None, requires_grad=False):
    """Normal random numbers of mean 0 and variance 1; arguments as of `rand`.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.randn(4, dtype=fx.float64).dtype
    ferrox.float64
    """
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int ndim = read_shape("randn", sizes, size, shape)
    cdef TensorBase made = allocate("randn", ndim, shape, out, dtype, default_dtype, device)
    draw("randn", made, _normal, generator, 0, 1, None, out is None)
    return with_grad(made, requires_grad)


cdef TensorBase _like(TensorBase like, object dtype, object place):
    return allocate("empty_like", like.a.ndim, like.a.dims, None, dtype, like.a.dtype,
                    like.device if place is None and like.a.device_type != FX_CPU else place)


def _rand_like(input, *, generator=None, dtype=None, device=None, requires_grad=False):
    """`rand` in the shape, dtype and device of `input`.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.rand_like(fx.zeros(2, 3)).shape
    (2, 3)
    """
    cdef TensorBase made = _like(<TensorBase?> input, dtype, device)
    draw("rand_like", made, _uniform, generator, 0, 1, None, True)
    return with_grad(made, requires_grad)


def _randn_like(input, *, generator=None, dtype=None, device=None, requires_grad=False):
    """`randn` in the shape, dtype and device of `input`.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.randn_like(fx.zeros(2, 3)).shape
    (2, 3)
    """
    cdef TensorBase made = _like(<TensorBase?> input, dtype, device)
    draw("randn_like", made, _normal, generator, 0, 1, None, True)
    return with_grad(made, requires_grad)


def _randint(low, high=None, size=None, *, generator=None, out=None, dtype=None, device=None, requires_grad=False):
    """Uniform random integers: `randint(high, size)` or `randint(low, high, size)`.

    Parameters
    ----------
    low : int, default 0
        The smallest.
    high : int
        One more than the largest.
    size : tuple of int
        The shape.
    generator, out, dtype, device, requires_grad : optional
        As of `rand`; the dtype is int64 by default.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.randint(5, 6, (2,))
    tensor([5, 5])
    """
    cdef int64_t shape[FX_MAX_DIMS]
    cdef TensorBase made
    cdef int ndim
    if isinstance(high, (tuple, list)) and size is None:
        high, size = None, high
    if high is None:
        low, high = 0, low
    if size is None:
        raise TypeError("randint() missing required argument \"size\"")
    low, high = read_int("randint", "low", low), read_int("randint", "high", high)
    ndim = read_shape("randint", (), size, shape)
    made = allocate("randint", ndim, shape, out, dtype, FX_I64, device)
    _check_bounds("randint", made.a.dtype, low, high)
    _draw_integers("randint", made, generator, low, high, out is None)
    return with_grad(made, requires_grad)


def _randint_like(input, low, high=None, *, generator=None, dtype=None, device=None, requires_grad=False):
    """`randint` in the shape, dtype and device of `input`: `randint_like(x, high)` or `randint_like(x, low, high)`.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.randint_like(fx.zeros(2), 7, 8)
    tensor([7., 7.])
    """
    cdef TensorBase made = _like(<TensorBase?> input, dtype, device)
    if high is None:
        low, high = 0, low
    low, high = read_int("randint_like", "low", low), read_int("randint_like", "high", high)
    _check_bounds("randint_like", made.a.dtype, low, high)
    _draw_integers("randint_like", made, generator, low, high, True)
    return with_grad(made, requires_grad)


def _randperm(n, *, generator=None, out=None, dtype=None, device=None, requires_grad=False):
    """The integers 0 … n - 1 in random order.

    Parameters
    ----------
    n : int
        How many.
    generator, out, dtype, device, requires_grad : optional
        As of `rand`; the dtype is int64 by default.

    Examples
    --------
    >>> import ferrox as fx
    >>> sorted(fx.randperm(4).tolist())
    [0, 1, 2, 3]
    """
    cdef int64_t shape[1]
    cdef frame f
    cdef TensorBase made, order
    shape[0] = PyNumber_Index(n)
    if shape[0] < 0:
        raise RuntimeError(f"[randperm] n must be non-negative, got {n}")
    made = allocate("randperm", 1, shape, out, dtype, FX_I64, device)
    if shape[0] and shape[0] - 1 > _limits[made.a.dtype][1]:
        raise RuntimeError(f"[randperm] n is too large for {dtype_name(made.a.dtype)}: got {n}")
    begin(&f, _permutation, FX_I64)
    order = _room_for(&f, made, FX_I64, out is None)
    reserve(generator_for(generator, made.a.device_type, made.a.device_index), shape[0], True, &f)
    run(&f, "randperm")
    _put("randperm", made, order, out is None)
    return with_grad(made, requires_grad)


cdef int _check_std(TensorBase std) except -1:
    """RuntimeError for a negative element of a tensor in host memory."""
    cdef TensorBase x
    cdef const double *p
    cdef int64_t i
    if std.a.device_type != FX_CPU:
        return 0
    x = converted(std, FX_F64)
    p = <const double *> x.a.data
    for i in range(x.a.numel):
        if p[i] < 0:
            raise RuntimeError(f"[normal] normal expects all elements of std >= 0.0, got {p[i]}")
    return 0


def _normal_function(mean=0.0, std=1.0, size=None, *, generator=None, out=None, dtype=None, device=None,
                     requires_grad=False):
    """Normal random numbers of given means and standard deviations.

    Parameters
    ----------
    mean, std : float or Tensor
        Tensors are broadcast and give the result its shape.
    size : tuple of int, optional
        The shape when both are numbers.
    generator, out, dtype, device, requires_grad : optional
        As of `rand`.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.normal(fx.tensor([1.0, 2.0]), fx.zeros(2))
    tensor([1., 2.])
    """
    cdef int64_t shape[FX_MAX_DIMS]
    cdef TensorBase made, wide
    cdef int ndim
    cdef bint before
    if not isinstance(mean, TensorBase) and not isinstance(std, TensorBase):
        if size is None:
            raise TypeError("normal() missing required argument \"size\" for a mean and a std that are numbers")
        ndim = read_shape("normal", (), size, shape)
        made = allocate("normal", ndim, shape, out, dtype, default_dtype, device)
        _normal_fill("normal", made, mean, std, generator, out is None)
        return with_grad(made, requires_grad)
    if size is not None:
        raise TypeError("normal() takes no size together with tensors")
    if isinstance(std, TensorBase):
        _check_std(<TensorBase> std)
    elif std < 0:
        raise RuntimeError(f"[normal] normal expects std >= 0.0, but found std {std}")
    before = grad_enabled()
    set_grad(False)
    try:
        wide = mul(add(mean, std), 0.0)     # shape, dtype and device of the result
        made = allocate("normal", wide.a.ndim, wide.a.dims, out, None, wide.a.dtype,
                        wide.device if wide.a.device_type != FX_CPU else None)
        draw("normal", wide, _normal, generator, 0, 1, None, True)
        _put("normal", made, add(mul(wide, std), mean), out is None)
    finally:
        set_grad(before)
    return made


cdef TensorBase _probabilities(str name, TensorBase p):
    """As contiguous float64, checked."""
    cdef const double *values
    cdef int64_t i
    p = converted(p, FX_F64)
    if p.a.device_type == FX_CPU:
        values = <const double *> p.a.data
        for i in range(p.a.numel):
            if not 0 <= values[i] <= 1:
                raise RuntimeError(f"[{name}] Expected p_in >= 0 && p_in <= 1 to be true, got {values[i]}")
    return p


def _bernoulli(input, p=None, *, generator=None, out=None):
    """1 with probability `input`, else 0, for each element.

    Parameters
    ----------
    input : Tensor
        The probabilities; with `p` only the shape and dtype of the result.
    p : float, optional
        One probability for all.
    generator : Generator, optional
        Where the numbers come from.
    out : Tensor, optional
        Written and returned.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.bernoulli(fx.tensor([0.0, 1.0]))
    tensor([0., 1.])
    """
    cdef TensorBase x = <TensorBase?> input, made
    if p is None and categories[x.a.dtype] != FLOATING:
        raise RuntimeError(f"[bernoulli] probabilities must be floating point, got {dtype_name(x.a.dtype)}")
    if isinstance(p, TensorBase) and shape_tuple(&(<TensorBase> p).a) != shape_tuple(&x.a):
        p = p.expand_as(x)
    made = allocate("bernoulli", x.a.ndim, x.a.dims, out, None, x.a.dtype,
                    x.device if x.a.device_type != FX_CPU else None)
    _bernoulli_fill("bernoulli", made, x if p is None else p, generator, out is None)
    return made


cdef int _bernoulli_fill(str name, TensorBase out, object p, object generator, bint fresh) except -1:
    cdef TensorBase each
    if isinstance(p, TensorBase):
        each = <TensorBase> p
        if shape_tuple(&each.a) != shape_tuple(&out.a):
            each = each.expand_as(out)
        return draw(name, out, _bernoulli_kernel, generator, 0, 0, _probabilities(name, each), fresh)
    p = read_number(name, "p", p)
    if not 0 <= p <= 1:
        raise RuntimeError(f"[{name}] bernoulli_ expects p to be in [0, 1], but got p={p}")
    return draw(name, out, _bernoulli_kernel, generator, p, 0, None, fresh)


# Methods in place: what was in the tensor, and its history, are gone.

cdef TensorBase _target(str name, object self, Op op):
    """Where to draw: the tensor itself, or, in the graph, a fresh one that `_settle` puts in its place."""
    cdef TensorBase x = <TensorBase?> self
    return new_like(x, x.a.dtype) if grad_enabled() and needs_grad(x) else x


cdef object _settle(TensorBase x, TensorBase drawn, Op op):
    if drawn is not x:
        return assign(op, x, drawn)
    return x


cdef Op UNIFORM = Op("uniform_"), NORMAL = Op("normal_"), EXPONENTIAL = Op("exponential_"), BERNOULLI = Op("bernoulli_")
cdef Op RANDOM = Op("random_")


def uniform_(self, from_=0.0, to=1.0, *, generator=None):
    """Overwrite the elements with uniform random numbers in [from_, to); returns self."""
    cdef TensorBase drawn = _target("uniform_", self, UNIFORM)
    if from_ > to:
        raise RuntimeError(f"[uniform_] uniform_ expects to return a [from, to) range, but found from={from_} > "
                           f"to={to}")
    draw("uniform_", drawn, _uniform, generator, from_, to, None, drawn is not self)
    return _settle(self, drawn, UNIFORM)


cdef int _normal_fill(str name, TensorBase out, object mean, object std, object generator, bint fresh) except -1:
    mean = read_number(name, "mean", mean)
    std = read_number(name, "std", std)
    if not std >= 0:
        raise RuntimeError(f"[{name}] normal expects std >= 0.0, but found std {std}")
    return draw(name, out, _normal, generator, mean, std, None, fresh)


def normal_(self, mean=0.0, std=1.0, *, generator=None):
    """Overwrite the elements with normal random numbers; returns self."""
    cdef TensorBase drawn = _target("normal_", self, NORMAL)
    _normal_fill("normal_", drawn, mean, std, generator, drawn is not self)
    return _settle(self, drawn, NORMAL)


def exponential_(self, lambd=1.0, *, generator=None):
    """Overwrite the elements with random numbers of density lambd * exp(-lambd * x); returns self."""
    cdef TensorBase drawn = _target("exponential_", self, EXPONENTIAL)
    if not lambd > 0:
        raise RuntimeError(f"[exponential_] exponential_ expects lambda > 0.0, but found lambda={lambd}")
    draw("exponential_", drawn, _exponential, generator, lambd, 0, None, drawn is not self)
    return _settle(self, drawn, EXPONENTIAL)


def bernoulli_(self, p=0.5, *, generator=None):
    """Overwrite the elements with 1 with probability p (a number or a tensor), else 0; returns self."""
    cdef TensorBase drawn = _target("bernoulli_", self, BERNOULLI)
    _bernoulli_fill("bernoulli_", drawn, p, generator, drawn is not self)
    return _settle(self, drawn, BERNOULLI)


def random_(self, from_=None, to=None, *, generator=None):
    """Overwrite the elements with random integers: below `to`, in [from_, to), or over the whole range of the dtype."""
    cdef TensorBase drawn = _target("random_", self, RANDOM)
    if to is None and from_ is not None:
        from_, to = 0, from_
    if to is None:
        from_, to = 0, min(_limits[drawn.a.dtype][1] + 1, (1 << 63) - 1)
    else:
        from_, to = read_int("random_", "from", 0 if from_ is None else from_), read_int("random_", "to", to)
    if to != (1 << 63) - 1:
        _check_bounds("random_", drawn.a.dtype, from_, to)
    _draw_integers("random_", drawn, generator, from_, to, drawn is not self)
    return _settle(self, drawn, RANDOM)


for _function in (uniform_, normal_, exponential_, bernoulli_, random_):
    METHODS[_function.__name__] = _function

row("rand", function=_rand, composite=True)
row("randn", function=_randn, composite=True)
row("rand_like", function=_rand_like, composite=True)
row("randn_like", function=_randn_like, composite=True)
row("randint", function=_randint, composite=True)
row("randint_like", function=_randint_like, composite=True)
row("randperm", function=_randperm, composite=True)
row("normal", function=_normal_function, composite=True)
row("bernoulli", function=_bernoulli, composite=True, method=True)
