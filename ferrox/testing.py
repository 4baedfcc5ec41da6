"""Checks for tests: closeness of tensors, and everything that an operator of one's own promises."""

import math

import ferrox as fx

__all__ = ["assert_close", "check"]

# dtype -> (rtol, atol), as PyTorch's
_TOLERANCES = {"float16": (1e-3, 1e-5), "bfloat16": (1.6e-2, 1e-5), "float32": (1.3e-6, 1e-5), "float64": (1e-7, 1e-7)}


def _dtype_name(dtype):
    return str(dtype).rpartition(".")[2]


def _tolerance_of(*dtypes):
    pairs = [_TOLERANCES.get(_dtype_name(each), (0.0, 0.0)) for each in dtypes]
    return max(rtol for rtol, _ in pairs), max(atol for _, atol in pairs)


class _Difference(AssertionError):
    """An AssertionError that gathers where in a nest of values it arose."""


def _message(text, path, msg):
    if path:
        text += "\n\nThe failure occurred for item " + "".join(f"[{each!r}]" for each in path)
    if callable(msg):
        return msg(text)
    return text if msg is None else msg


def _as_tensor(value):
    """A tensor from a number or an array; None for anything else."""
    if isinstance(value, fx.Tensor):
        return value
    if isinstance(value, (bool, int)):
        return fx.tensor(value)
    if isinstance(value, float):
        return fx.tensor(value, dtype=fx.float64)
    if hasattr(value, "__array__") or hasattr(value, "__dlpack__"):
        return fx.as_tensor(value)
    return None


def assert_close(actual, expected, *, allow_subclasses=True, rtol=None, atol=None, equal_nan=False, check_device=True,
                 check_dtype=True, check_layout=True, check_stride=False, msg=None):
    """Raise AssertionError unless `actual` and `expected` are close: |actual - expected| <= atol + rtol * |expected|.

    Parameters
    ----------
    actual, expected : Tensor, number, array, or sequence or dict of such
    allow_subclasses : bool
        Whether tensors of different classes may be compared.
    rtol, atol : float, optional
        Both or neither; by default those of the wider of both dtypes: float16 1e-3 and 1e-5, bfloat16 1.6e-2 and 1e-5,
        float32 1.3e-6 and 1e-5, float64 1e-7 and 1e-7, others 0.
    equal_nan : bool
        Whether NaN equals NaN.
    check_device, check_dtype, check_stride : bool
        Whether these must agree.
    check_layout : bool
        Accepted as in PyTorch; all tensors here are strided.
    msg : str or callable, optional
        The message, or a function of the usual message.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.testing.assert_close(fx.tensor([1.0, 2.0]), fx.tensor([1.0, 2.0 + 1e-7]))
    >>> fx.testing.assert_close(fx.tensor([1.0, 2.0]), fx.tensor([1.0, 3.0]))
    Traceback (most recent call last):
    ...
    AssertionError: Tensor-likes are not close!
    <BLANKLINE>
    Mismatched elements: 1 / 2 (50.0%)
    Greatest absolute difference: 1.0 at index (1,) (up to 1e-05 allowed)
    Greatest relative difference: 0.3333333333333333 at index (1,) (up to 1.3e-06 allowed)
    """
    if (rtol is None) != (atol is None):
        raise ValueError("Both 'rtol' and 'atol' must be either specified or omitted, but got no "
                         f"{'rtol' if rtol is None else 'atol'}.")
    options = {"allow_subclasses": allow_subclasses, "rtol": rtol, "atol": atol, "equal_nan": equal_nan,
               "check_device": check_device,
                   "check_dtype": check_dtype, "check_stride": check_stride}
    try:
        _compare(actual, expected, (), options)
    except _Difference as difference:
        text, path = difference.args
        raise AssertionError(_message(text, path, msg)) from None


def _compare(actual, expected, path, options):
    if isinstance(actual, dict) and isinstance(expected, dict):
        if actual.keys() != expected.keys():
            raise _Difference(f"The keys of the mappings do not match:\nMissing keys in the actual mapping: "
                              f"{sorted(expected.keys() - actual.keys(), key=str)}\nAdditional keys in the actual "
                              "mapping: "
                              f"{sorted(actual.keys() - expected.keys(), key=str)}", path)
        for key in expected:
            _compare(actual[key], expected[key], (*path, key), options)
        return
    sequences = (list, tuple)
    if isinstance(actual, sequences) and isinstance(expected, sequences):
        if len(actual) != len(expected):
            raise _Difference(f"The length of the sequences mismatch: {len(actual)} != {len(expected)}", path)
        for k, (a, e) in enumerate(zip(actual, expected, strict=False)):
            _compare(a, e, (*path, k), options)
        return
    a, e = _as_tensor(actual), _as_tensor(expected)
    if a is None or e is None:
        if actual is expected or (actual is None and expected is None):
            return
        raise TypeError(f"No comparison pair was able to handle inputs of type {type(actual)} and {type(expected)}.")
    if not options["allow_subclasses"] and type(actual) is not type(expected):
        raise TypeError(f"No comparison pair was able to handle inputs of type {type(actual)} and {type(expected)}.")
    numbers = not isinstance(actual, fx.Tensor) and not isinstance(expected, fx.Tensor) and not a.ndim and not e.ndim
    _compare_tensors(a, e, numbers, path, options)


def _compare_tensors(actual, expected, numbers, path, options):
    if tuple(actual.shape) != tuple(expected.shape):
        raise _Difference(f"The values for attribute 'shape' do not match: {tuple(actual.shape)} != "
                          f"{tuple(expected.shape)}.", path)
    attributes = [("device", options["check_device"]), ("dtype", options["check_dtype"] and not numbers)]
    for name, wanted in attributes:
        if wanted and getattr(actual, name) != getattr(expected, name):
            raise _Difference(f"The values for attribute '{name}' do not match: {getattr(actual, name)} != "
                              f"{getattr(expected, name)}.", path)
    if options["check_stride"] and tuple(actual.stride()) != tuple(expected.stride()):
        raise _Difference(f"The values for attribute 'stride()' do not match: {tuple(actual.stride())} != "
                          f"{tuple(expected.stride())}.", path)
    rtol, atol = options["rtol"], options["atol"]
    if rtol is None:
        rtol, atol = _tolerance_of(actual.dtype, expected.dtype)
    a, e = (each.detach().reshape(-1).tolist() for each in (actual, expected))
    worst_absolute, worst_relative, wrong = (-1.0, 0), (-1.0, 0), 0
    for k, (x, y) in enumerate(zip(a, e, strict=False)):
        if _close(x, y, rtol, atol, options["equal_nan"]):
            continue
        wrong += 1
        absolute = abs(x - y)
        relative = absolute / abs(y) if y else math.inf
        if absolute > worst_absolute[0] or (math.isnan(absolute) and not math.isnan(worst_absolute[0])):
            worst_absolute = absolute, k
        if relative > worst_relative[0] or (math.isnan(relative) and not math.isnan(worst_relative[0])):
            worst_relative = relative, k
    if wrong:
        raise _Difference(_report(actual, a, e, numbers, wrong, worst_absolute, worst_relative, rtol, atol), path)


def _close(x, y, rtol, atol, equal_nan):
    if x == y:
        return True
    if x != x or y != y:
        return equal_nan and x != x and y != y
    return not math.isinf(y) and abs(x - y) <= atol + rtol * abs(y)


def _report(actual, a, e, numbers, wrong, absolute, relative, rtol, atol):
    what = "equal" if not rtol and not atol else "close"
    if numbers or not actual.ndim:
        kind = "Scalars" if numbers or not actual.ndim else "Tensor-likes"
        lines = [f"{kind} are not {what}!", "", f"Expected {e[0]} but got {a[0]}.",
                 f"Absolute difference: {absolute[0]}", f"Relative difference: {relative[0]}"]
        if what == "close":
            lines[3] += f" (up to {atol} allowed)"
            lines[4] += f" (up to {rtol} allowed)"
        return "\n".join(lines)
    count = max(len(a), 1)
    lines = [f"Tensor-likes are not {what}!", "", f"Mismatched elements: {wrong} / {count} ({wrong / count:.1%})"]
    for name, (value, k), limit in (("absolute", absolute, atol), ("relative", relative, rtol)):
        line = f"Greatest {name} difference: {value} at index {_index(k, actual.shape)}"
        lines.append(line + (f" (up to {limit} allowed)" if what == "close" else ""))
    return "\n".join(lines)


def _index(k, shape):
    at = []
    for size in reversed(shape):
        at.append(k % size)
        k //= size
    return tuple(reversed(at))


def _sample_tensor(*shape, low=-2.0, high=2.0, stream):
    """float64 elements in a range, at least 0.05 away from integers, where kinks lie."""
    values = []
    while len(values) < math.prod(shape):
        x = stream.uniform(low, high)
        if abs(x - round(x)) > 0.05:
            values.append(x)
    return fx.tensor(values, dtype=fx.float64).reshape(shape)


def samples(operator, seed=0):
    """The inputs that an operator's `sample` describes.

    Parameters
    ----------
    operator : fx.Op
        Its `sample` is a Python expression of one argument, a tuple of arguments, or a list of such; `t(*shape, low=-2,
        high=2)` makes a float64 tensor, `i(*shape, low, high)` an int64 tensor, `b(*shape)` a bool tensor, and
        `call(*args, **keywords)` arguments with keywords.

    Returns
    -------
    list of (tuple, dict)
        Positional and keyword arguments.
    """
    from random import Random

    stream = Random(seed)

    def t(*shape, low=-2.0, high=2.0):
        return _sample_tensor(*shape, low=low, high=high, stream=stream)

    def i(*shape, low=0, high=10):
        return fx.tensor([stream.randrange(low, high) for _ in range(math.prod(shape))], dtype=fx.int64).reshape(shape)

    def b(*shape):
        return fx.tensor([stream.random() < 0.5 for _ in range(math.prod(shape))], dtype=fx.bool).reshape(shape)

    class Call:
        def __init__(self, *args, **keywords):
            self.args, self.keywords = args, keywords

    given = eval(operator.sample, {"t": t, "i": i, "b": b, "call": Call, "fx": fx, "math": math})
    every = given if isinstance(given, list) else [given]
    return [(each.args, each.keywords) if isinstance(each, Call) else
            (each if isinstance(each, tuple) else (each,), {}) for each in every]


def _plain(value):
    """NumPy's view of an argument."""
    return value.detach().numpy() if isinstance(value, fx.Tensor) else value


def _reference(operator, args, keywords):
    import inspect

    import numpy as np

    names = {"np": np}
    if "sp" in operator.reference:
        import scipy.special

        names["sp"] = scipy.special
    bound = inspect.signature(operator).bind(*args, **keywords)
    bound.apply_defaults()
    names.update({name: _plain(value) for name, value in bound.arguments.items()})
    letters = [_plain(each) for each in args]
    for name, value in (*zip("abc", letters, strict=False), ("x", letters[0] if letters else None)):
        names.setdefault(name, value)
    return eval(operator.reference, names)


def check(operator, *, inputs=None, order=2, rtol=1e-7, atol=1e-7, seed=0):
    """Check everything that an operator promises, on its own sample: values, gradients, gradients of gradients.

    Parameters
    ----------
    operator : fx.Op
        An instance; `operator.sample` says what to try it on, `operator.reference` what should come out.
    inputs : list of tuple, optional
        Arguments to try in place of the sample.
    order : int
        Highest order of derivative to check: 0, 1 or 2.
    rtol, atol : float
        For the comparison with the reference.
    seed : int
        Of the random sample.

    Returns
    -------
    int
        The number of samples checked.

    Raises
    ------
    AssertionError
        When a value differs from the reference, or an input is changed.
    GradcheckError
        When a gradient is wrong.

    Examples
    --------
    >>> import ferrox as fx
    >>> class Cube(fx.Op):
    ...     reference, sample = "x ** 3", "t(3, 4)"
    ...     def forward(self, x):
    ...         return x * x * x
    ...     def vjp(self, ctx, g):
    ...         x, = ctx.inputs
    ...         return g * 3 * x * x
    >>> fx.testing.check(Cube())
    1
    """
    if inputs is None and operator.sample is None:
        raise ValueError(f"[{operator.name}] has no sample: give the class a `sample`, or pass inputs")
    trials = samples(operator, seed) if inputs is None else [(each if isinstance(each, tuple) else (each,), {})
                                                             for each in inputs]
    for args, keywords in trials:
        _check_one(operator, args, keywords, order, rtol, atol)
    return len(trials)


def _check_one(operator, args, keywords, order, rtol, atol):
    before = [each.clone() if isinstance(each, fx.Tensor) else each for each in args]
    with fx.no_grad():
        result = operator(*args, **keywords)
    for k, (each, old) in enumerate(zip(args, before, strict=False)):
        if isinstance(each, fx.Tensor):
            assert_close(each, old, rtol=0.0, atol=0.0, equal_nan=True,
                         msg=lambda text, k=k: f"[{operator.name}] forward changed its input {k}\n{text}")
    if operator.reference is not None:
        expected = _reference(operator, before, keywords)
        pairs = zip(result, expected, strict=False) if isinstance(result, (tuple, list)) else [(result, expected)]
        for k, (got, wanted) in enumerate(pairs):
            import numpy as np

            wanted = fx.from_numpy(np.ascontiguousarray(wanted).reshape(np.shape(wanted)))
            assert_close(got, wanted, rtol=rtol, atol=atol, equal_nan=True, check_dtype=False,
                         msg=lambda text, k=k: f"[{operator.name}] output {k} differs from the reference "
                                               f"{operator.reference!r}\n{text}")
    if order < 1 or not any(isinstance(each, fx.Tensor) and each.is_floating_point() for each in args):
        return
    points = tuple(each.detach().clone().requires_grad_() if isinstance(each, fx.Tensor) and each.is_floating_point()
                   else each for each in args)

    def call(*values):
        return operator(*values, **keywords)

    call.__qualname__ = operator.name
    fx.autograd.gradcheck(call, points)
    if order > 1:
        fx.autograd.gradgradcheck(call, points)
