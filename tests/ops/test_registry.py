"""Every row of the registry against its own reference, gradients, methods and in-place forms."""

import inspect
import operator

import numpy as np
import pytest
from samples import (
    ALIASES,
    CHECKED,
    ELEMENTWISE,
    ROWS,
    Call,
    arguments,
    assert_same,
    assert_values,
    calls,
    lapped,
    numbers,
    outputs,
    over_arrays,
    plain,
    read_only,
    reference,
    repeated,
    run,
    single,
    sliced,
    transposed,
)

import ferrox as fx

# No reference or sample, and why.
WITHOUT = {
    **dict.fromkeys(
        (
            "rand",
            "randn",
            "rand_like",
            "randn_like",
            "randint",
            "randint_like",
            "randperm",
            "normal",
            "bernoulli",
            "multinomial",
            "dropout",
        ),
        "random: tests/ops/test_random.py",
    ),
    **dict.fromkeys(("empty", "empty_like"), "contents are not defined"),
    "meshgrid": "takes any number of tensors and an `indexing`: test_properties.py",
}
# Results that are made from an input's shape alone.
CONSTANT = {"zeros_like", "ones_like", "full_like"}
# The result depends on the strides of the input by definition.
OF_STRIDES = {"as_strided", "view", "view_as"}
ALWAYS_DOUBLE = {"float_power"}
DIFFERENTIABLE = [name for name in CHECKED if ROWS[name].differentiable or ROWS[name].row.get("composite")]
INPLACE = [name for name in CHECKED if ROWS[name].row.get("inplace")]
METHODS = [name for name in CHECKED if ROWS[name].row.get("method")]
# The tensor a method is called on, where it is not the first argument.
SELF = {"where": 1, "polygamma": 1}


@pytest.mark.parametrize("name", CHECKED)
def test_forward(name):
    for call in calls(name):
        assert_values(run(name, call), reference(name, call))


@pytest.mark.parametrize("name", CHECKED)
def test_float32(name):
    for call in calls(name, seed=1):
        got = run(name, call, single)
        if call.free and name not in ALWAYS_DOUBLE:
            assert not any(isinstance(each, fx.Tensor) and each.dtype == fx.float64 for each in outputs(got))
        assert_values(got, reference(name, call, np.float32))


@pytest.mark.parametrize("layout", [transposed, sliced], ids=lambda each: each.__name__)
@pytest.mark.parametrize("name", [name for name in CHECKED if name not in OF_STRIDES])
def test_strided(name, layout):
    for call in calls(name):
        assert_values(run(name, call, layout), [numbers(each) for each in outputs(run(name, call))])


@pytest.mark.parametrize("name", [name for name in CHECKED if name not in OF_STRIDES])
def test_read_only(name):
    for call in calls(name):
        assert_same(run(name, call, read_only), run(name, call))


@pytest.mark.parametrize("layout", [repeated, lapped], ids=lambda each: each.__name__)
@pytest.mark.parametrize("name", [name for name in CHECKED if name not in OF_STRIDES])
def test_operands_that_overlap_themselves(name, layout):
    """As with a copy of the operand that has every element once."""
    for call in calls(name):

        def laid_out(array, free):
            return layout(array) if free and array.ndim else plain(array)

        def copied(array, free, laid_out=laid_out):
            return laid_out(array, free).contiguous()

        assert_values(run(name, call, laid_out), [numbers(each) for each in outputs(run(name, call, copied))])


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_empty(name):
    for call in calls(name):

        def emptied(array, free):
            return fx.from_numpy(np.empty((0, *array.shape[1:]) if array.ndim > 1 else array.shape, array.dtype))

        got = run(name, call, emptied)
        full = run(name, call)
        assert tuple(got.shape) == (0, *full.shape[1:])
        assert got.dtype == full.dtype


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("x.sum()", 0.0),
        ("x.sum(0)", np.zeros(3)),
        ("x.prod()", 1.0),
        ("x.prod(0)", np.ones(3)),
        ("x.mean()", np.nan),
        ("x.mean(0)", np.full(3, np.nan)),
        ("x.amax(1)", np.zeros(0)),
        ("x.logsumexp(0)", np.full(3, -np.inf)),
        ("x.all()", True),
        ("x.any()", False),
        ("x.any(0)", np.zeros(3, bool)),
        ("x.count_nonzero()", 0),
        ("x.cumsum(0)", np.zeros((0, 3))),
        ("x.cumprod(1)", np.zeros((0, 3))),
        ("x.sort(0)[0]", np.zeros((0, 3))),
        ("x.argsort(1)", np.zeros((0, 3))),
        ("x.argmax(1)", np.zeros(0)),
        ("x.max(1)[0]", np.zeros(0)),
        ("x.norm()", 0.0),
        ("x.var(1)", np.zeros(0)),
        ("x.softmax(0)", np.zeros((0, 3))),
        ("x.softmax(1)", np.zeros((0, 3))),
        ("fx.cat([x, x])", np.zeros((0, 3))),
        ("fx.cat([x, fx.ones(2, 3)])", np.ones((2, 3))),
        ("x @ fx.ones(3, 2)", np.zeros((0, 2))),
        ("x.T @ fx.ones(0, 2)", np.zeros((3, 2))),
        ("fx.ones(2, 4, 0) @ fx.ones(2, 0, 5)", np.zeros((2, 4, 5))),
        ("x.reshape(3, 0)", np.zeros((3, 0))),
        ("x.reshape(0)", np.zeros(0)),
        ("x.flip(0)", np.zeros((0, 3))),
        ("x.roll(1, 0)", np.zeros((0, 3))),
        ("x.nonzero()", np.zeros((0, 2))),
        ("x[x > 0]", np.zeros(0)),
        ("x[:, 1]", np.zeros(0)),
        ("x.unique()", np.zeros(0)),
        ("x.index_select(1, fx.tensor([2, 0]))", np.zeros((0, 2))),
        ("x.repeat(2, 2)", np.zeros((0, 6))),
        ("fx.nn.functional.mse_loss(x, x, reduction='sum')", 0.0),
        ("fx.stack([x, x])", np.zeros((2, 0, 3))),
    ],
)
def test_empty_results(expression, expected):
    got = numbers(eval(expression, {"fx": fx, "x": fx.empty(0, 3)}))
    np.testing.assert_array_equal(got, expected)
    assert got.shape == np.shape(expected)


@pytest.mark.parametrize(
    "expression",
    [
        "x.max()",
        "x.min()",
        "x.amax()",
        "x.amax(0)",
        "x.argmax()",
        "x.argmin(0)",
        "x.aminmax()",
        "x.kthvalue(1, 0)",
        "x.reshape(-1, 0)",
    ],
)
def test_empty_refused(expression):
    with pytest.raises((IndexError, RuntimeError)):
        eval(expression, {"x": fx.empty(0, 3)})


def leaves_and_function(name, call):
    """The inputs that may have a gradient, and the operator as a function of them alone."""
    leaves = [
        array
        for each in call.args
        for array in (each if isinstance(each, (list, tuple)) else [each])
        if isinstance(array, np.ndarray) and id(array) in call.free
    ]

    def function(*tensors):
        by_id = {id(array): tensor for array, tensor in zip(leaves, tensors, strict=True)}
        args = [
            over_arrays(lambda array, _: by_id[id(array)] if id(array) in by_id else plain(array), each)
            for each in call.args
        ]
        return ROWS[name](*args, **call.keywords)

    return [fx.from_numpy(array.copy()).requires_grad_() for array in leaves], function


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradient(name):
    for call in calls(name, seed=2):
        leaves, function = leaves_and_function(name, call)
        if not leaves or name in CONSTANT:
            continue
        result = outputs(function(*leaves))
        if not any(isinstance(each, fx.Tensor) and each.is_floating_point() for each in result):
            continue
        assert any(isinstance(each, fx.Tensor) and each.requires_grad for each in result), "no gradient"

        def floats(*tensors, function=function):
            kept = tuple(each for each in outputs(function(*tensors)) if each.is_floating_point())
            return kept if len(kept) > 1 else kept[0]

        assert fx.autograd.gradcheck(floats, tuple(leaves))
        assert fx.autograd.gradgradcheck(floats, tuple(leaves))


def gradients(name, call, dtype, draw):
    """Gradients of a weighted sum of the outputs, the inputs rounded to `dtype` and used as `dtype` or float64."""
    leaves, function = leaves_and_function(name, call)
    if not leaves or name in CONSTANT:
        return None
    with fx.no_grad():
        rounded = [each.to(dtype) for each in leaves]
    results = []
    for used in (dtype, fx.float64):
        inputs = [each.to(used).requires_grad_() for each in rounded]
        made = [each for each in outputs(function(*inputs)) if isinstance(each, fx.Tensor) and each.requires_grad]
        weights = [draw.integers(-4, 5, tuple(each.shape)) / 2 for each in made] if not results else weights  # noqa: F821
        pulled = [fx.from_numpy(np.asarray(each)).to(one.dtype) for each, one in zip(weights, made, strict=True)]
        results.append(fx.autograd.grad(made, inputs, pulled, allow_unused=True) if made else ())
    return results


# Their quantiles are a tensor of the input's dtype, float32 or float64 alone: as PyTorch's.
OF_ONE_DTYPE = {"quantile", "nanquantile"}


@pytest.mark.parametrize("dtype", [fx.float32, fx.float16], ids=str)
@pytest.mark.parametrize("name", [name for name in DIFFERENTIABLE if name not in OF_ONE_DTYPE])
def test_gradient_in_narrow_types(name, dtype):
    """Within the type's own error of the gradient in float64 at the same rounded inputs."""
    draw = np.random.default_rng()
    eps = fx.finfo(dtype).eps
    for call in calls(name, seed=int(draw.integers(1000))):
        for got, expected in zip(*(gradients(name, call, dtype, draw) or ((), ())), strict=True):
            if expected is None:
                assert got is None
                continue
            assert got.dtype == dtype
            got, expected = numbers(got), numbers(expected)
            scale = np.abs(expected).max(initial=1.0)
            if scale < float(fx.finfo(dtype).max) / 64:
                np.testing.assert_allclose(got, expected, rtol=32 * eps, atol=32 * eps * scale)


# Across the ends of blocks (8192 bytes), of what one thread takes (32768 elements), and of two of these.
SIZES = [(1025, np.float64), (2049, np.float32), (32769, np.float64), (65537, np.float32)]


@pytest.mark.parametrize(("size", "rounded"), SIZES, ids=lambda each: getattr(each, "__name__", each))
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_large(name, size, rounded):
    call = calls(name, seed=3)[0]
    large = Call(*[over_arrays(lambda x, free: np.resize(x, size) if x.ndim else x, each) for each in call.args],
                 **call.keywords)
    make = plain if rounded is np.float64 else single
    assert_values(run(name, large, make), reference(name, large, rounded))


@pytest.mark.parametrize("name", INPLACE)
def test_in_place(name):
    ran = 0
    for call in calls(name):
        args = arguments(call)
        expected = ROWS[name](*args, **call.keywords)
        x = args.pop(SELF.get(name, 0))
        becomes_a_view = callable(ROWS[name].row["inplace"])
        if tuple(expected.shape) != tuple(x.shape) and not becomes_a_view:
            continue
        version = x._version
        got = getattr(x, name + "_")(*args, **call.keywords)
        assert got is x
        assert x._version > version
        assert_same(x, expected.to(x.dtype))
        ran += 1
    assert ran


@pytest.mark.parametrize("layout", [repeated, lapped, read_only], ids=lambda each: each.__name__)
@pytest.mark.parametrize("name", INPLACE)
def test_in_place_is_refused(name, layout):
    """What may not be written, or overlaps itself, is refused and stays as it was."""
    if callable(ROWS[name].row["inplace"]):
        return  # another view of the same memory: nothing is written
    for call in calls(name):
        args = arguments(call)
        place = SELF.get(name, 0)
        array = [each for each in call.args if not isinstance(each, (bool, int, float, str))][place]
        if not isinstance(array, np.ndarray) or array.ndim < 2 or min(array.shape) < 2:
            continue
        args[place] = x = layout(array)
        before = numbers(x).copy()
        with pytest.raises(RuntimeError):
            getattr(x, name + "_")(*[each for k, each in enumerate(args) if k != place], **call.keywords)
        np.testing.assert_array_equal(numbers(x), before)


@pytest.mark.parametrize("name", METHODS)
def test_method(name):
    for call in calls(name):
        args = arguments(call)
        expected = ROWS[name](*args, **call.keywords)
        x = args.pop(SELF.get(name, 0))
        assert_same(getattr(x, name)(*args, **call.keywords), expected)


SPECIAL = np.array(
    [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 3.0, 1e300, -1e300, 1e-300, -1e-300, 5e-324]
)
REAL = [
    name
    for name in ELEMENTWISE
    if all(
        isinstance(each, (np.ndarray, int, float, type(None)))
        and (not isinstance(each, np.ndarray) or each.dtype == np.float64)
        for call in calls(name)
        for each in call.args
    )
]


@pytest.mark.parametrize("name", REAL)
def test_special_values(name):
    call = calls(name)[0]
    tensors = [k for k, each in enumerate(call.args) if isinstance(each, np.ndarray)]
    grids = np.meshgrid(*[SPECIAL] * len(tensors), indexing="ij")
    special = Call(
        *[np.tile(grids[tensors.index(k)].ravel(), 3) if k in tensors else each for k, each in enumerate(call.args)],
        **call.keywords,
    )
    got, expected = numbers(run(name, special)), np.asarray(reference(name, special))
    wrong = ~(np.isclose(got, expected, rtol=1e-13, atol=0, equal_nan=True))
    wrong |= (got == 0) & (expected == 0) & (np.signbit(got) != np.signbit(expected))
    inputs = [special.args[k] for k in tensors]
    told = {
        tuple(float(each[k]) for each in inputs): (float(got[k]), float(expected[k])) for k in np.flatnonzero(wrong)
    }
    assert not told, f"{{inputs: (got, reference)}}: {dict(list(told.items())[:20])} … {len(told)} in all"


@pytest.mark.parametrize("name", ROWS)
def test_row_is_complete(name):
    op = ROWS[name]
    assert op.__doc__ and op.__doc__.strip(), "no docstring"
    assert bool(op.reference and op.sample) != (name in WITHOUT), "reference and sample, or a reason in WITHOUT"
    inspect.signature(op)


@pytest.mark.parametrize("name", ALIASES)
def test_alias(name):
    op = ALIASES[name]
    assert operator.attrgetter(name)(fx) is op
    if op.row.get("method") and "." not in name:
        assert getattr(fx.Tensor, name) is getattr(fx.Tensor, op.name)


def test_without_is_current():
    assert set(WITHOUT) <= set(ROWS)
