"""detect_anomaly names the first operator that made a NaN, and where it was called."""

import pytest

import ferrox as fx
from ferrox._core.graph import anomaly

pytestmark = pytest.mark.filterwarnings("ignore:Anomaly Detection")


def test_forward():
    x = fx.tensor([-1.0, 4.0], requires_grad=True)
    with fx.autograd.detect_anomaly():
        y = x * 2.0
        with pytest.raises(RuntimeError) as error:
            z = y.log()     # makes the NaN
            z.sum().backward()
    text = str(error.value)
    assert text.startswith("[log]") and "z = y.log()     # makes the NaN" in text and "test_anomaly.py" in text
    assert "ferrox/_core" not in text and not fx.autograd.is_anomaly_enabled()


def test_backward_names_the_forward_line():
    x = fx.tensor([0.0, 4.0], requires_grad=True)
    with fx.autograd.detect_anomaly():
        y = x.sqrt()        # its gradient is infinite at 0
        with pytest.raises(RuntimeError) as error:
            (y * 0.0).sum().backward()
    text = str(error.value)
    assert text.startswith("[sqrt]") and "returned nan values in its 0th output" in text
    assert "y = x.sqrt()        # its gradient is infinite at 0" in text


def test_functions_of_ones_own():
    class Bad(fx.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2.0

        @staticmethod
        def backward(ctx, g):
            return g * float("nan")

    with fx.autograd.detect_anomaly(), pytest.raises(RuntimeError, match=r"\[Bad\] Function 'Bad' returned nan values"):
        Bad.apply(fx.ones(2, requires_grad=True)).sum().backward()


def test_nan_in_the_data_is_nobodys_fault():
    x = fx.tensor([float("nan"), 1.0], requires_grad=True)
    with fx.autograd.detect_anomaly():
        y = x * 2.0 + fx.full((2,), float("nan"))
        with pytest.raises(RuntimeError, match=r"\[sqrt\]"):
            (x.narrow(0, 1, 1) - 2.0).sqrt()
    assert y.isnan().all()


def test_in_place():
    x = fx.tensor([1.0, 0.0])
    with fx.autograd.detect_anomaly(), pytest.raises(RuntimeError, match=r"\[div\]"):
        x.div_(fx.tensor([1.0, 0.0]))


def test_switching():
    x = fx.tensor([0.0], requires_grad=True)
    with fx.autograd.detect_anomaly(check_nan=False):
        y = x / x
        assert fx.autograd.is_anomaly_enabled()
    assert y.isnan().all() and (x / x).isnan().all()
    with fx.autograd.set_detect_anomaly(True):
        with fx.autograd.set_detect_anomaly(False):
            x / x
        with pytest.raises(RuntimeError):
            x / x
    fx.autograd.set_detect_anomaly(True)
    with pytest.raises(RuntimeError):
        x / x
    fx.autograd.set_detect_anomaly(False)
    x / x


@pytest.mark.parametrize("dtype", [fx.float16, fx.bfloat16, fx.float32, fx.float64])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 3, 4)])
def test_looking_for_nan(dtype, shape):
    count = fx.ones(shape).numel()
    for at in range(count):
        values = [float("inf") if k % 2 else -0.0 for k in range(count)]
        assert not anomaly.has_nan(fx.tensor(values, dtype=dtype).reshape(shape))
        values[at] = float("nan")
        x = fx.tensor(values, dtype=dtype).reshape(shape)
        assert anomaly.has_nan(x) and anomaly.has_nan(-x)
        if len(shape) > 1:
            assert anomaly.has_nan(x.transpose(0, 1))
            inside = at // (count // shape[0]) < shape[0] - 1
            assert anomaly.has_nan(x.narrow(0, 0, shape[0] - 1)) == inside
            assert anomaly.has_nan(x.transpose(0, 1).narrow(1, 0, shape[0] - 1)) == inside
    assert not anomaly.has_nan(fx.zeros(0, 3, dtype=dtype)) and not anomaly.has_nan(fx.ones(3, dtype=fx.int64))
