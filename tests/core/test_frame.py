"""The call frame: what a call makes is fresh, what it writes is counted, and its parameters arrive exactly."""

import numpy as np
import pytest

import ferrox as fx

rng = np.random.default_rng()


def floats(*shape):
    return fx.tensor(rng.standard_normal(shape))


def whole(*shape, high=3):
    return fx.tensor(rng.integers(0, high, shape))


FRESH = {
    "arange": lambda: fx.arange(5),
    "arange float": lambda: fx.arange(0.5, 2.0, 0.5),
    "bernoulli": lambda: fx.bernoulli(fx.full((3,), 0.5)),
    "bincount": lambda: fx.bincount(whole(9)),
    "cat": lambda: fx.cat([floats(2), floats(3)]),
    "clone": lambda: floats(3).clone(),
    "empty": lambda: fx.empty(3),
    "empty_like": lambda: fx.empty_like(floats(3)),
    "eye": lambda: fx.eye(3),
    "full": lambda: fx.full((3,), 2.5),
    "full_like": lambda: fx.full_like(floats(3), 2),
    "gather": lambda: fx.gather(floats(3, 4), 0, whole(2, 4)),
    "histc": lambda: fx.histc(floats(9), 4),
    "index": lambda: floats(4)[whole(5)],
    "index_add": lambda: fx.index_add(floats(4), 0, whole(5), floats(5)),
    "index_put": lambda: floats(4).index_put((whole(2),), floats(2)),
    "kthvalue": lambda: fx.kthvalue(floats(3, 4), 2)[0],
    "linspace": lambda: fx.linspace(0, 1, 5),
    "logspace": lambda: fx.logspace(0, 2, 5),
    "masked_fill": lambda: fx.masked_fill(floats(3), fx.tensor([True, False, True]), 1.0),
    "masked_scatter": lambda: floats(2).masked_scatter(fx.tensor([True, False]), floats(2)),
    "multinomial": lambda: fx.multinomial(fx.tensor([1.0, 2.0]), 1),
    "new_full": lambda: floats(1).new_full((2,), 3),
    "new_zeros": lambda: floats(1).new_zeros(2),
    "normal": lambda: fx.normal(0.0, 1.0, (3,)),
    "normal of tensors": lambda: fx.normal(floats(3), fx.ones(3)),
    "one_hot": lambda: fx.nn.functional.one_hot(whole(3), 3),
    "ones": lambda: fx.ones(3),
    "ones_like": lambda: fx.ones_like(floats(3)),
    "rand": lambda: fx.rand(3),
    "rand_like": lambda: fx.rand_like(floats(3)),
    "randint": lambda: fx.randint(0, 5, (3,)),
    "randint_like": lambda: fx.randint_like(floats(3), 5),
    "randn": lambda: fx.randn(3),
    "randn_like": lambda: fx.randn_like(floats(3)),
    "randperm": lambda: fx.randperm(5),
    "randperm int32": lambda: fx.randperm(5, dtype=fx.int32),
    "scatter": lambda: fx.scatter(floats(3), 0, whole(2), floats(2)),
    "scatter_add": lambda: fx.scatter_add(floats(3), 0, whole(2), floats(2)),
    "scatter_reduce": lambda: fx.scatter_reduce(floats(3), 0, whole(2), floats(2), "amax"),
    "sort": lambda: fx.sort(floats(3))[0],
    "tensor": lambda: fx.tensor([1.0, 2.0]),
    "to": lambda: floats(3).to(fx.float32),
    "tril": lambda: fx.tril(floats(3, 3)),
    "unique": lambda: fx.unique(whole(5)),
    "where": lambda: fx.where(fx.tensor([True, False]), floats(2), 0.0),
    "zeros": lambda: fx.zeros(3),
    "zeros_like": lambda: fx.zeros_like(floats(3)),
}


@pytest.mark.parametrize("call", FRESH)
def test_what_a_call_makes_has_never_been_changed(call):
    assert FRESH[call]()._version == 0


def backward_of(function, *shapes):
    inputs = [floats(*shape).requires_grad_() for shape in shapes]
    (function(*inputs) * floats(1)).sum().backward()
    return inputs[0].grad


GRADIENTS = {
    "index": lambda x: x[fx.tensor([0, 2, 2])],
    "select": lambda x: x[1],
    "gather": lambda x: fx.gather(x, 0, fx.tensor([0, 2, 2, 1])),
    "index_select": lambda x: fx.index_select(x, 0, fx.tensor([0, 2, 2])),
    "max": lambda x: x.max(dim=0).values,
    "as_strided": lambda x: x.as_strided((2, 3), (1, 1)),
}


@pytest.mark.parametrize("call", GRADIENTS)
def test_a_gradient_that_is_added_up_in_zeros_is_fresh(call):
    assert backward_of(GRADIENTS[call], (4,))._version == 0


CHANGES = {
    "add_": lambda x: x.add_(1.0),
    "bernoulli_": lambda x: x.bernoulli_(0.5),
    "copy_": lambda x: x.copy_(floats(4)),
    "exponential_": lambda x: x.exponential_(),
    "fill_": lambda x: x.fill_(2.0),
    "index_add_": lambda x: x.index_add_(0, whole(5), floats(5)),
    "index_copy_": lambda x: x.index_copy_(0, fx.tensor([2, 0]), floats(2)),
    "index_fill_": lambda x: x.index_fill_(0, whole(5), 1.0),
    "index_put_": lambda x: x.index_put_((whole(2),), floats(2)),
    "masked_fill_": lambda x: x.masked_fill_(x > 0, 1.0),
    "masked_scatter_": lambda x: x.masked_scatter_(x > 0, floats(4)),
    "normal_": lambda x: x.normal_(),
    "random_": lambda x: x.random_(5),
    "scatter_": lambda x: x.scatter_(0, whole(2), floats(2)),
    "scatter_add_": lambda x: x.scatter_add_(0, whole(2), floats(2)),
    "setitem by indices": lambda x: x.__setitem__(whole(2), floats(2)),
    "setitem by a slice": lambda x: x.__setitem__(slice(1, 3), 5.0),
    "tril_": lambda x: x.reshape(2, 2).tril_(),
    "uniform_": lambda x: x.uniform_(),
    "zero_": lambda x: x.zero_(),
    "add out": lambda x: fx.add(floats(4), floats(4), out=x),
    "arange out": lambda x: fx.arange(4.0, out=x),
    "cat out": lambda x: fx.cat([floats(2), floats(2)], out=x),
    "full out": lambda x: fx.full((4,), 2.0, out=x),
    "linspace out": lambda x: fx.linspace(0, 1, 4, out=x),
    "logspace out": lambda x: fx.logspace(0, 1, 4, out=x),
    "matmul out": lambda x: fx.matmul(floats(4, 3), floats(3), out=x),
    "ones out": lambda x: fx.ones(4, out=x),
    "rand out": lambda x: fx.rand(4, out=x),
    "randn out": lambda x: fx.randn(4, out=x),
    "sum out": lambda x: fx.sum(floats(4, 3), 1, out=x),
    "zeros out": lambda x: fx.zeros(4, out=x),
}


@pytest.mark.parametrize("call", CHANGES)
def test_a_change_in_place_counts_once(call):
    x = floats(4)
    CHANGES[call](x)
    assert x._version == 1
    CHANGES[call](x)
    assert x._version == 2


def test_a_draw_into_a_tensor_with_gaps_counts_once():
    x = floats(4, 4)
    x.t().normal_()
    assert x._version == 1
    x[:, ::2].random_(5)
    assert x._version == 2


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_a_step_of_an_optimiser_counts_once_for_every_parameter(name):
    parameters = [floats(3).requires_grad_(), floats(2, 2).requires_grad_()]
    optimiser = getattr(fx.optim, name)(parameters, lr=0.1)
    for step in range(1, 4):
        optimiser.zero_grad()
        sum((p * p).sum() for p in parameters).backward()
        optimiser.step()
        assert [p._version for p in parameters] == [step, step]


def test_running_statistics_count_once_for_each_batch_in_training():
    norm = fx.nn.BatchNorm1d(3)
    before = norm.running_mean._version, norm.running_var._version
    norm(floats(5, 3).to(fx.float32))
    assert (norm.running_mean._version, norm.running_var._version) == (before[0] + 1, before[1] + 1)
    norm.eval()
    norm(floats(5, 3).to(fx.float32))
    assert (norm.running_mean._version, norm.running_var._version) == (before[0] + 1, before[1] + 1)


LARGE = 2**53 + 1      # the first that a float64 does not hold


def test_index_add_takes_a_whole_factor_exactly():
    x, at, src = whole(4), whole(5, high=4), fx.tensor([1, -2, 3, 1, 2])
    want = x.tolist()
    for i, s in zip(at.tolist(), src.tolist(), strict=True):
        want[i] += LARGE * s
    assert fx.index_add(x, 0, at, src, alpha=LARGE).tolist() == want
    assert x.index_add_(0, at, src, alpha=LARGE).tolist() == want


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64"])
def test_addmm_takes_whole_factors_exactly(dtype):
    a, b, c = rng.integers(-5, 6, (3, 4)), rng.integers(-5, 6, (4, 2)), rng.integers(-5, 6, (3, 2))
    beta, alpha = LARGE, -LARGE - 2
    want = np.array(beta * c.astype(object) + alpha * (a.astype(object) @ b.astype(object)))
    want = np.vectorize(lambda v: v % 2**64, otypes=[np.uint64])(want).view(np.int64).astype(dtype)
    made = fx.addmm(*(fx.tensor(x.astype(dtype)) for x in (c, a, b)), beta=beta, alpha=alpha)
    assert made.dtype == getattr(fx, dtype)
    assert made.tolist() == want.tolist()


def test_addmm_does_not_read_what_beta_0_leaves_out():
    a = floats(2, 2)
    assert fx.addmm(fx.full((2, 2), float("nan"), dtype=fx.float64), a, a, beta=0).tolist() == (a @ a).tolist()


def test_many_operands():
    parts = [floats(2) for _ in range(40)]
    want = [each for part in parts for each in part.tolist()]
    parts[7].requires_grad_()
    made = fx.cat(parts)
    assert made.tolist() == want
    made.sum().backward()
    assert parts[7].grad.tolist() == [1, 1]
    x = fx.tensor(rng.standard_normal((2,) * 18))
    index = tuple(fx.tensor(rng.integers(0, 2, 3)) for _ in range(18))
    assert x[index].tolist() == x.numpy()[tuple(i.numpy() for i in index)].tolist()
    x[index] = 7.0
    assert x[index].tolist() == [7.0, 7.0, 7.0]


@pytest.mark.parametrize(
    "value, dtype", [(float("inf"), "int64"), (float("nan"), "int32"), (2**63, "int64"), (300, "uint8"), (-129, "int8")]
)
def test_a_number_that_the_dtype_has_not_is_refused(value, dtype):
    with pytest.raises(RuntimeError, match="cannot be converted to type"):
        fx.full((2,), value, dtype=getattr(fx, dtype))
    with pytest.raises(RuntimeError, match="cannot be converted to type"):
        fx.ones(2, dtype=getattr(fx, dtype)).fill_(value)


def test_bool_is_filled_with_the_truth_of_a_number():
    assert fx.full((2,), 0.5, dtype=fx.bool).tolist() == [True, True]
    assert fx.ones(2, dtype=fx.bool).fill_(0.0).tolist() == [False, False]
