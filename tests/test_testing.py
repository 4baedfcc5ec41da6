"""assert_close against PyTorch's, and the check of operators."""

import re

import pytest
from peers import torch

import ferrox as fx

CASES = [
    ([1.0, 2.0], [1.0, 2.0], {}),
    ([1.0, 2.0], [1.0, 2.00001], {}),
    ([1.0, 2.0], [1.0, 2.001], {}),
    ([1.0, 2.0], [1.0, 2.001], {"rtol": 1e-2, "atol": 0.0}),
    ([1.0, 2.0], [1.0, 2.001], {"rtol": 0.0, "atol": 0.0}),
    ([float("nan")], [float("nan")], {}),
    ([float("nan")], [float("nan")], {"equal_nan": True}),
    ([float("inf")], [float("inf")], {}),
    ([float("inf")], [1.0], {"rtol": 1.0, "atol": 1.0}),
    ([1.0], [float("inf")], {"rtol": 1.0, "atol": 1.0}),
    ([[1.0, 5.0], [3.0, 4.0]], [[1.0, 2.0], [3.5, 4.0]], {}),
    ([1.0, 2.0], [[1.0, 2.0]], {}),
    ([1, 2], [1, 3], {}),
    (1.0, 2.0, {}),
    ([], [], {}),
]


@pytest.mark.parametrize("actual, expected, options", CASES)
def test_verdict_and_message_as_pytorch(actual, expected, options):
    results = []
    for m in (fx, torch):
        try:
            m.testing.assert_close(m.tensor(actual, dtype=None), m.tensor(expected), **options)
            results.append("close")
        except AssertionError as error:
            starts = ("Mismatched", "Tensor-likes", "Scalars", "The values")
            text = re.sub(r"torch\.Size\(\[(.*?)\]\)", lambda size: str(tuple(map(int, size[1].split(",")))),
                          str(error))
            results.append([line for line in text.splitlines() if line.startswith(starts)])
    assert results[0] == results[1]


@pytest.mark.parametrize("actual, expected", [(1.0, 1.0), (1.0, 1.5), (1, 2), ([1.0, 2.0], [1.0, 2.0]),
                                              ([1.0], [1.0, 2.0]), ({"a": 1.0}, {"a": 1.0}), ({"a": 1.0}, {"a": 2.0}),
                                              ({"a": 1.0}, {"b": 1.0}), ((1.0, [2.0]), (1.0, [2.5]))])
def test_numbers_and_nests_as_pytorch(actual, expected):
    verdicts = []
    for m in (fx, torch):
        try:
            m.testing.assert_close(actual, expected)
            verdicts.append(None)
        except AssertionError as error:
            verdicts.append(str(error).splitlines()[0])
    assert verdicts[0] == verdicts[1]


def test_full_messages_as_pytorch():
    texts = []
    for m in (fx, torch):
        with pytest.raises(AssertionError) as error:
            m.testing.assert_close([m.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=m.float64)],
                                   [m.tensor([[1.0, 2.5], [3.0, 8.0]], dtype=m.float64)])
        texts.append(str(error.value))
    assert texts[0] == texts[1]


def test_attributes_are_compared():
    for m in (fx, torch):
        with pytest.raises(AssertionError, match="dtype"):
            m.testing.assert_close(m.ones(2), m.ones(2, dtype=m.float64))
        m.testing.assert_close(m.ones(2), m.ones(2, dtype=m.float64), check_dtype=False)
        with pytest.raises(AssertionError, match="stride"):
            m.testing.assert_close(m.ones(2, 3).t(), m.ones(3, 2), check_stride=True)
        with pytest.raises(ValueError, match="must be either specified or omitted, but got no atol"):
            m.testing.assert_close(m.ones(2), m.ones(2), rtol=1.0)
        with pytest.raises(TypeError):
            m.testing.assert_close(object(), m.ones(2))
        with pytest.raises(AssertionError, match=r"^mine$"):
            m.testing.assert_close(m.ones(2), m.zeros(2), msg="mine")


def test_check_finds_what_is_wrong():
    class Base(fx.Op):
        sample = "[t(3), call(t(2, 2))]"

        def forward(self, x):
            return x * x

        def vjp(self, ctx, g):
            return g * 2.0 * ctx.inputs[0]

    class WrongValue(Base):
        reference = "x * x + 1"

    class WrongGradient(Base):
        def vjp(self, ctx, g):
            return g * ctx.inputs[0]

    class WrongSecond(Base):
        def vjp(self, ctx, g):
            return g * 2.0 * ctx.inputs[0].detach()

    class Changes(Base):
        def forward(self, x):
            return x.mul_(x)

    assert fx.testing.check(Base()) == 2
    with pytest.raises(AssertionError, match=r"\[WrongValue\] output 0 differs from the reference"):
        fx.testing.check(WrongValue())
    with pytest.raises(fx.autograd.GradcheckError, match=r"\[WrongGradient\] Jacobian mismatch"):
        fx.testing.check(WrongGradient())
    assert fx.testing.check(WrongSecond(), order=1) == 2
    with pytest.raises(fx.autograd.GradcheckError, match="gradient of WrongSecond"):
        fx.testing.check(WrongSecond())
    with pytest.raises(AssertionError, match=r"\[Changes\] forward changed its input 0"):
        fx.testing.check(Changes())
    with pytest.raises(ValueError, match="no sample"):
        class Silent(Base):
            sample = None

        fx.testing.check(Silent())
    assert fx.testing.check(Base(), inputs=[fx.tensor([1.0, 2.0], dtype=fx.float64)]) == 1


@pytest.mark.parametrize("name", ["exp", "mul", "div", "sum", "tanh"])
def test_check_of_built_in_operators(name):
    assert fx.testing.check(getattr(fx, name)) >= 1
