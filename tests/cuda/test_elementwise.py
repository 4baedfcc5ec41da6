"""Every line of fx/elementwise.h on the device against the CPU's kernel of the same line, in every form and dtype.

Both compile the same scalar source, so that integers and bool agree exactly; floats agree to a few units in the last
place, as the elementary functions of the two sides differ.
"""

import zlib

import numpy as np
import pytest

import ferrox as fx
from ferrox._core.cpu.table import loop_names
from ferrox._core.door.backend import kernels, run_kernel

fx.zeros(1, device="cuda")  # opens the backend, where there is one: its kernels are listed below

LINES = loop_names()
NAMES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64")
PARAMS = (0.5, 2.0, 3.0, 0.0)
WHOLE_PARAMS = (1, 2, 3, 0)     # those of integer arithmetic are integers of its dtype
# Elements of which a result may be far off without being wrong: at poles and where the argument is huge.
CONDITIONED = {"div_trunc", "floor_divide", "fmod", "remainder", "pow", "pow_scalar_backward", "ldexp", "tan", "sinc"}
CONDITIONED |= {"lgamma", "digamma", "trigamma", "polygamma", "erfinv", "logit_backward", "gelu_tanh_backward"}


class OnDevice:
    """A device tensor as run_kernel wants its arrays."""

    def __init__(self, tensor):
        self.tensor = tensor
        code = NAMES[dtype_code(tensor.dtype)]
        typestr = {"bool": "|b1", "bfloat16": "<V2"}.get(code) or np.dtype(code).str
        size = tensor.element_size()
        self.__array_interface__ = {
            "shape": tuple(tensor.shape), "typestr": typestr, "data": (tensor.data_ptr(), False),
            "strides": tuple(step * size for step in tensor.stride()), "version": 3,
        }  # fmt: skip


def dtype_code(dtype):
    return NAMES.index(dtype.name)


def sample(rng, shape, dtype):
    if dtype == "bool":
        return fx.tensor(rng.random(shape) < 0.5)
    if "int" in dtype:
        info = np.iinfo(dtype)
        small = rng.integers(max(info.min, -9), 10, shape)
        wild = rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
        return fx.tensor(np.where(rng.random(shape) < 0.7, small, wild).astype(dtype))
    values = np.where(rng.random(shape) < 0.8, rng.standard_normal(shape) * 2, rng.standard_normal(shape) * 30)
    special = rng.choice([0.0, -0.0, 1.0, -1.0, 0.5, np.inf, -np.inf, np.nan, 1e-8, 100.0], shape)
    return fx.tensor(np.where(rng.random(shape) < 0.85, values, special)).to(getattr(fx, dtype))


def numbers(tensor):
    """As NumPy, exactly."""
    tensor = tensor.cpu().contiguous()
    if tensor.dtype == fx.bfloat16 or tensor.dtype == fx.float16:
        tensor = tensor.to(fx.float32)
    return tensor.numpy()


def finite(tensor, limit):
    return np.clip(np.nan_to_num(numbers(tensor).astype("f8"), posinf=3, neginf=-3), -limit, limit)


def agree(name, got, expected, dtype):
    got, expected = numbers(got), numbers(expected)
    if expected.dtype.kind in "biu":
        np.testing.assert_array_equal(got, expected, err_msg=f"{name} {dtype}")
        return
    digits = {"float16": 2**-10, "bfloat16": 2**-7, "float32": 2e-6, "float64": 1e-14}[dtype]
    rtol = digits * (200 if name in CONDITIONED else 1 if dtype in ("float16", "bfloat16") else 20)
    atol = digits * (1 if name not in CONDITIONED else 100)
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol, equal_nan=True, err_msg=f"{name} {dtype}")


def run_both(name, dtype, out_shape, inputs, out_dtype=None, views=lambda x: x, scalars=(), arrange=lambda out: out):
    """Run one kernel on the CPU and on the device over the same values; `views` makes each input what is passed."""
    _, to_bool, _ = LINES[name]
    out_dtype = out_dtype or ("bool" if to_bool else dtype)
    here = arrange(fx.zeros(out_shape, dtype=getattr(fx, out_dtype)))
    there = arrange(fx.zeros(out_shape, dtype=getattr(fx, out_dtype), device="cuda"))
    cpu = [OnDevice(here), *(OnDevice(views(x)) for x in inputs)]
    gpu = [OnDevice(there)]
    gpu += [OnDevice(views(x if k + 1 in scalars else x.cuda())) for k, x in enumerate(inputs)]
    params = WHOLE_PARAMS if "int" in dtype or dtype == "bool" else PARAMS
    run_kernel(name, cpu, 1, params, dtype, scalars)
    run_kernel(name, gpu, 1, params, dtype, scalars, device_type=1)
    agree(name, there, here, out_dtype)


def safe(name, inputs, dtype):
    """Divisors other than zero: the CPU refuses them, the device does not look."""
    if name in ("floor_divide", "div_trunc", "remainder", "fmod") and "int" in dtype:
        y = numbers(inputs[1]).copy()
        y[y == 0] = 3
        inputs[1] = fx.tensor(y)
    return inputs


CASES = [(name, NAMES[code]) for name, (_, _, dtypes) in sorted(LINES.items()) for code in dtypes]
CASES += [(name, half) for name, dtype in CASES if dtype == "float32" for half in ("float16", "bfloat16")]


def test_every_line_has_a_kernel():
    assert set(LINES) <= set(kernels(1))
    assert len(LINES) > 150


@pytest.mark.parametrize("name, dtype", CASES)
def test_flat_and_strided(name, dtype):
    arity, _, _ = LINES[name]
    rng = np.random.default_rng(zlib.crc32(f"{name} {dtype}".encode()))
    for n in (1, 5, 300):
        inputs = safe(name, [sample(rng, (n,), dtype) for _ in range(arity)], dtype)
        run_both(name, dtype, (n,), inputs)
    inputs = safe(name, [sample(rng, (6, 7, 4), dtype) for _ in range(arity)], dtype)
    run_both(name, dtype, (4, 6, 7), inputs, views=lambda x: x.permute(2, 0, 1))
    run_both(name, dtype, (6, 4, 2), inputs, views=lambda x: x.permute(0, 2, 1)[:, :, 1:5:2])
    run_both(name, dtype, (7, 6, 4), inputs, arrange=lambda out: out.permute(1, 0, 2))


BROADCAST = [
    ((4, 5), [(4, 5), (5,)]),
    ((4, 5), [(4, 1), (1, 5)]),
    ((3, 1, 2, 4), [(3, 1, 1, 4), (2, 1)]),
    ((7,), [(7,), ()]),
    ((7,), [(), (7,)]),
    ((1, 1), [(1,), ()]),
    ((0, 3), [(0, 3), (3,)]),
    ((2,) * 12, [(2,) * 12, (2, 1) * 6]),
]


@pytest.mark.parametrize("out_shape, shapes", BROADCAST)
@pytest.mark.parametrize(
    "name, dtype", [("add", "float32"), ("maximum", "int8"), ("lt", "float64"), ("mul", "float16"), ("add", "bool")]
)
def test_broadcast(name, dtype, out_shape, shapes):
    rng = np.random.default_rng(5)
    run_both(name, dtype, out_shape, [sample(rng, shape, dtype) for shape in shapes])


def test_many_dimensions_that_do_not_merge():
    rng = np.random.default_rng(6)
    x, y = sample(rng, (2,) * 14, "float32"), sample(rng, (2,) * 14, "float32")
    order = [k ^ 1 for k in range(14)]
    x, y = x.permute(*order), y.permute(*reversed(range(14)))
    expected = numbers(x) + numbers(y)
    got = numbers(x.cuda() + y.cuda())
    np.testing.assert_array_equal(got, expected)
    device = x.permute(*order).contiguous().cuda().permute(*order) + y.permute(
        *reversed(range(14))
    ).contiguous().cuda().permute(*reversed(range(14)))
    np.testing.assert_array_equal(numbers(device), expected)


@pytest.mark.parametrize("computed", ["float32", "float64", "int64", "int16", "bool"])
def test_operands_of_other_dtypes_are_cast_on_the_way(computed):
    rng = np.random.default_rng(7)
    for one in NAMES:
        for other in ("float16", "int32", "uint8", "float64"):
            x, y = sample(rng, (3, 5), one), sample(rng, (3, 5), other)
            if "int" in computed or computed == "bool":  # no NaN and nothing beyond the range: undefined in C
                x, y = (fx.tensor(finite(v, 99).astype("i4")).to(v.dtype)
                        for v in (x, y))  # fmt: skip
            run_both("mul", computed, (3, 5), [x, y])
            run_both("add" if computed != "bool" else "maximum", computed, (3, 5), [x, y], out_dtype="float32")


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int32", "int8", "uint8", "int64"])
@pytest.mark.parametrize("name", ["sub", "gt"])
def test_host_scalars(name, dtype):
    rng = np.random.default_rng(8)
    held = "float32" if dtype in ("float16", "bfloat16") else dtype
    for view in (lambda x: x, lambda x: x[::2] if x.ndim else x):
        for position in (1, 2):
            inputs = [sample(rng, (40,), dtype), sample(rng, (40,), dtype)]
            inputs[position - 1] = fx.tensor(3).to(getattr(fx, held))
            n = view(inputs[2 - position]).shape[0]
            run_both(name, dtype, (n,), inputs, views=view, scalars=(position,))


@pytest.mark.parametrize("name", ["clamp", "hardtanh"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64"])
@pytest.mark.parametrize("low, high", [(-1000.0, 1000.0), (20.0, 40000.0), (-float("inf"), float("inf"))])
def test_bounds_beyond_an_integer(name, dtype, low, high):
    """A bound that the dtype has not is its nearest value."""
    x = fx.arange(100).to(getattr(fx, dtype))
    low = max(low, 0.0) if dtype == "uint8" else low     # PyTorch's hardtanh refuses negative limits there
    call = fx.clamp if name == "clamp" else fx.nn.functional.hardtanh
    expected = [min(max(k, low), high) for k in range(100)]
    assert call(x.cuda(), low, high).tolist() == call(x, low, high).tolist() == expected


@pytest.mark.parametrize("offset", [0, 1, 2, 3])
def test_views_that_are_not_aligned(offset):
    x, y = fx.arange(50.0).cuda(), fx.arange(50.0).cuda() * 2
    assert (x[offset:] + y[: 50 - offset]).tolist() == [k + offset + 2.0 * k for k in range(50 - offset)]
    x[offset:].add_(1)
    assert x.tolist() == [k + (k >= offset) for k in range(50)]


def test_several_blocks_and_rounds():
    n = 300_001  # more than WAVES blocks of each multiprocessor of the simulated device take in one round
    x = fx.arange(float(n)).cuda()
    assert ((x + 1) == fx.arange(1.0, n + 1.0).cuda()).cpu().numpy().all()
    assert ((x[::3] + 1) == fx.arange(1.0, n + 1.0, 3.0).cuda()).cpu().numpy().all()


def test_in_place_and_out():
    x = fx.arange(10.0).cuda()
    x *= x
    x[2:5].neg_()
    out = fx.empty(10, dtype=fx.float64, device="cuda")
    fx.add(x, 1, out=out)
    assert out.tolist() == [1.0, 2.0, -3.0, -8.0, -15.0, 26.0, 37.0, 50.0, 65.0, 82.0]


@pytest.mark.parametrize("source", NAMES)
@pytest.mark.parametrize("target", NAMES)
def test_casts_and_copies(source, target):
    rng = np.random.default_rng(9)
    x = sample(rng, (5, 6), source)
    if "int" in target and "float" in source:
        x = fx.tensor(finite(x, 50)).abs().to(x.dtype)
    for view in (lambda t: t, lambda t: t.t(), lambda t: t[:, 1::2]):
        got, expected = view(x.cuda()).to(getattr(fx, target)), view(x).to(getattr(fx, target))
        np.testing.assert_array_equal(numbers(got), numbers(expected))


@pytest.mark.parametrize("dtype", NAMES)
def test_fill(dtype):
    x = fx.full((3, 4), 3, dtype=getattr(fx, dtype), device="cuda")
    x[:, 1] = 0
    assert (
        numbers(x).tolist()
        == [[float(bool(3)) if dtype == "bool" else 3, 0] + [float(bool(3)) if dtype == "bool" else 3] * 2] * 3
    )


def test_no_kernel_for_the_dtype():
    x = OnDevice(fx.ones(3, dtype=fx.int32, device="cuda"))
    with pytest.raises(TypeError, match="not defined for this dtype"):
        run_kernel("exp", [x, x], 1, (), "int32", device_type=1)
