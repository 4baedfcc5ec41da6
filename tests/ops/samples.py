"""What the registry says about each operator, made ready for tests: sample calls and the reference's answer."""

import inspect

import numpy as np
import scipy.special
import scipy.stats

import ferrox as fx
from ferrox._core.graph.op import operators

# The kernels behind other rows, which have no name of their own outside.
INTERNAL = {
    name for name, op in operators().items() if op.row.get("public", True) is False and not op.row.get("method")
}
# Operators that the checks walk over, each once; ALIASES are further names of these.
ROWS = {name: op for name, op in operators().items() if op.name == name and name not in INTERNAL}
ALIASES = {name: op for name, op in operators().items() if op.name != name}
CHECKED = [name for name, op in ROWS.items() if op.reference and op.sample]

# Elementwise rows whose function takes parameters besides tensors.
WITH_PARAMETERS = {
    "softplus",
    "logsigmoid",
    "softsign",
    "tanhshrink",
    "hardsigmoid",
    "hardswish",
    "softshrink",
    "hardshrink",
    "relu6",
    "hardtanh",
    "leaky_relu",
    "threshold",
    "elu",
    "selu",
    "celu",
    "gelu",
    "silu",
    "mish",
    "logit",
    "nan_to_num",
    "clamp",
    "deg2rad",
    "rad2deg",
}
ELEMENTWISE = [name for name in CHECKED if ROWS[name].row.get("arguments") or name in WITH_PARAMETERS]


class Call:
    """Arguments, tensors as NumPy arrays; `free` holds the ids of those that may have a gradient."""

    def __init__(self, *args, **keywords):
        self.args, self.keywords, self.free = args, keywords, set()


def calls(name, seed=0):
    """The sample calls of an operator."""
    stream = np.random.default_rng([seed, *name.encode()])
    free = {}

    def t(*shape, low=-2.0, high=2.0):
        while True:
            x = stream.uniform(low, high, shape)
            near = np.abs(x - np.round(x)) < 0.05
            x[near] += 0.12 * np.where(x[near] + 0.12 < high, 1, -1)
            flat = np.sort(x, None)
            # Distinct elements, so that sorting and extremes are away from ties.
            if (np.abs(x - np.round(x)) >= 0.05).all() and (np.diff(flat) > 1e-4).all():
                break
        free[id(x)] = x
        return x

    def i(*shape, low=0, high=10):
        return stream.integers(low, high, shape)

    def b(*shape):
        return stream.random(shape) < 0.5

    text = ROWS[name].sample
    names = {"t": t, "i": i, "b": b, "call": Call, "np": np, "fx": fx}
    given = [eval(each, names) for each in text] if isinstance(text, list) else eval(text, names)
    made = []
    for each in given if isinstance(given, list) else [given]:
        call = each if isinstance(each, Call) else Call(*each) if isinstance(each, tuple) else Call(each)
        call.free = free
        made.append(call)
    return made


def over_arrays(change, value, free=()):
    """`value` with `change(array, whether it may have a gradient)` applied to each array in it."""
    if isinstance(value, np.ndarray):
        return change(value, id(value) in free)
    if isinstance(value, (list, tuple)) and any(isinstance(each, np.ndarray) for each in value):
        return type(value)(over_arrays(change, each, free) for each in value)
    return value


def plain(array, free=False):
    return fx.from_numpy(array.copy())


def single(array, free=False):
    return fx.from_numpy(array.astype(np.float32) if array.dtype == np.float64 else array.copy())


def transposed(array, free=False):
    """The same values laid out in column-major order."""
    return fx.from_numpy(np.asfortranarray(array.copy()))


def sliced(array, free=False):
    """The same values as every second element of a larger memory that is full of NaN (or ones) in between."""
    if not array.ndim:
        return fx.from_numpy(array.copy())
    shape = (*array.shape[:-1], 2 * array.shape[-1] + 1)
    memory = np.full(shape, np.nan) if array.dtype == np.float64 else np.ones(shape, array.dtype)
    memory[..., 1::2] = array
    return fx.from_numpy(memory)[..., 1::2]


def read_only(array, free=False):
    """The same values in memory that nobody may write: a bytes object's."""
    if not array.size:
        return fx.from_numpy(array.copy())
    dtype = fx.from_numpy(array[:0] if array.ndim else array.copy()).dtype
    return fx.frombuffer(array.tobytes(), dtype=dtype).view(array.shape)


def repeated(array):
    """The first of each row again and again, as a tensor of stride 0 over that one element of each."""
    return fx.from_numpy(np.ascontiguousarray(array[..., :1])).expand(array.shape)


def lapped(array):
    """Rows that begin one element after each other in the same memory, as far as an array of two dimensions goes."""
    if array.ndim < 2 or not array.size:
        return plain(array)
    rows, columns = array.reshape(-1, array.shape[-1]).shape
    memory = np.resize(array, rows + columns - 1)
    return fx.from_numpy(memory).as_strided((rows, columns), (1, 1)).view(array.shape) if array.ndim == 2 else (
        fx.from_numpy(memory).as_strided(array.shape, lapped_strides(array.shape)))


def lapped_strides(shape):
    """Of the shape's rows, each one element after the one before."""
    strides = [1, 1]
    for size in reversed(shape[1:-1]):
        strides.insert(0, strides[0] * size)
    return tuple(strides)


def arguments(call, make=plain):
    """The positional arguments of a call with tensors made by `make`."""
    return [over_arrays(make, each, call.free) for each in call.args]


def run(name, call, make=plain):
    return ROWS[name](*arguments(call, make), **call.keywords)


def reference(name, call, rounded=np.float64):
    """The reference's answer in float64, from inputs rounded to the type `rounded`."""

    def of(array, free):
        return array.astype(rounded).astype(np.float64) if array.dtype == np.float64 else array.copy()

    args = [over_arrays(of, each) for each in call.args]
    bound = inspect.signature(ROWS[name]).bind(*args, **call.keywords)
    bound.apply_defaults()
    names = {"np": np, "sp": scipy.special, "sp_stats": scipy.stats, **bound.arguments}
    for key, parameter in bound.signature.parameters.items():
        # x.reshape((2, 6)) is x.reshape(2, 6).
        if parameter.kind is parameter.VAR_POSITIONAL and len(names[key]) == 1 and isinstance(names[key][0], tuple):
            names[key] = names[key][0]
    for letter, value in (*zip("abc", args, strict=False), ("x", args[0] if args else None)):
        names.setdefault(letter, value)
    with np.errstate(all="ignore"):
        return eval(ROWS[name].reference, names)


def numbers(value):
    if isinstance(value, fx.Tensor):
        value = value.detach()
        return (value.double() if value.dtype in (fx.float32, fx.float16, fx.bfloat16) else value).numpy()
    return np.asarray(value)


def outputs(value):
    return list(value) if isinstance(value, (tuple, list)) else [value]


def assert_values(got, expected):
    """Compare the outputs that the reference gives (a lone one answers for the first; None for one it leaves open)."""
    got, expected = outputs(got), outputs(expected)
    assert len(got) == len(expected) or len(expected) == 1, f"{len(got)} outputs, {len(expected)} in the reference"
    for one, other in zip(got, expected, strict=False):
        if other is None:
            continue
        rtol, atol = (4e-6, 1e-6) if isinstance(one, fx.Tensor) and one.dtype == fx.float32 else (1e-13, 1e-14)
        one, other = numbers(one), np.asarray(other)
        assert one.shape == other.shape, f"shape {one.shape}, reference {other.shape}"
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


def assert_same(got, expected):
    """Equal to the bit, dtype and shape included."""
    got, expected = outputs(got), outputs(expected)
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        if isinstance(other, fx.Tensor):
            assert one.dtype == other.dtype
        one, other = numbers(one), numbers(other)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other, strict=True)
