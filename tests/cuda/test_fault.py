"""Values that a kernel finds wrong: reported through pinned memory, raised at the next wait, the context whole."""

import ctypes

import pytest

import ferrox as fx
from ferrox._core.cuda import fault

DIVISIONS = ("floor_divide", "remainder", "fmod")


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8"])
@pytest.mark.parametrize("name", DIVISIONS)
def test_an_integer_divided_by_zero(name, dtype):
    x = fx.arange(1, 42, device="cpu").to(getattr(fx, dtype)).cuda()
    y = x.clone()
    y[17] = 0
    for divisor in (y, y[17], y.view(1, 41), y.to(fx.int64)):
        result = getattr(fx, name)(x, divisor)
        with pytest.raises(RuntimeError, match=rf"\[{name}\] ZeroDivisionError: .*ran earlier on cuda:0"):
            result.cpu()
        fx.cuda.synchronize()  # told once
        assert (x + 1).tolist() == list(range(2, 43))


@pytest.mark.parametrize("name", DIVISIONS)
def test_a_zero_of_the_host_is_refused_at_once(name):
    x = fx.arange(5, device="cpu").cuda()
    for zero in (0, fx.tensor(0), False):
        with pytest.raises(RuntimeError, match=rf"\[{name}\] ZeroDivisionError"):
            getattr(fx, name)(x, zero)
    assert getattr(fx, name)(x[:0], 0).tolist() == []


@pytest.mark.parametrize("n", [1, 2, 3, 5, 255, 1000])
def test_what_lies_beyond_the_end_is_no_divisor(n):
    x = fx.ones(n, dtype=fx.int32, device="cuda")
    assert (x // x).tolist() == [1] * n
    assert (x.to(fx.int16) // x.to(fx.int16)).tolist() == [1] * n


def test_where_it_is_raised():
    x, zero = fx.ones(4, dtype=fx.int64, device="cuda"), fx.zeros(4, dtype=fx.int64, device="cuda")
    event = fx.cuda.Event()
    waits = (fx.cuda.synchronize, fx.cuda.current_stream().synchronize, event.synchronize, x.tolist)
    for wait in waits:
        x // zero
        event.record()
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            wait()


def test_the_first_of_several_is_told():
    x, zero = fx.ones(4, dtype=fx.int64, device="cuda"), fx.zeros(4, dtype=fx.int64, device="cuda")
    fx.remainder(x, zero)
    x // zero
    with pytest.raises(RuntimeError, match=r"\[remainder\]"):
        fx.cuda.synchronize()
    fx.cuda.synchronize()


@pytest.fixture
def report(simulator):
    """Has a kernel report a fault; the number of a kernel, as the door counts, is 0."""
    from ferrox._core.cuda import module

    fx.zeros(1, device="cuda")

    def launch(kind, value, size):
        numbers = ctypes.c_int(kind), ctypes.c_int(0), ctypes.c_longlong(value), ctypes.c_longlong(size)
        module.launch_kernel("probe", "report", 2, 64, [ctypes.c_void_p(fault.record_address(0)), *numbers])

    return launch


@pytest.mark.parametrize(
    "kind, said",
    [(1, "index 7 is out of range for a dimension of size 5"), (2, "target 7 is out of bounds for 5 classes")],
)
def test_messages(report, kind, said):
    text = rf"^\[\w+\] {said} \(found by a kernel that ran earlier on cuda:0\)$"
    report(kind, 7, 5)
    report(kind, 8, 9)
    with pytest.raises(IndexError, match=text):
        fx.ones(1, device="cuda").cpu()
    report(kind, 7, 5)
    with pytest.raises(IndexError, match=text):
        fx.cuda.synchronize()
    fx.cuda.synchronize()


def test_one_that_is_being_written_waits(report):
    report(-1, 7, 5)
    fx.cuda.synchronize()
    record = ctypes.c_int.from_address(fault.record_address(0))
    assert record.value == -1
    record.value = 0


def test_nothing_is_reported_where_there_is_no_record(report):
    from ferrox._core.cuda import module

    numbers = ctypes.c_int(1), ctypes.c_int(0), ctypes.c_longlong(7), ctypes.c_longlong(5)
    module.launch_kernel("probe", "report", 1, 1, [ctypes.c_void_p(0), *numbers])
    fx.cuda.synchronize()


def test_an_index_out_of_range():
    x = fx.arange(5.0, device="cuda")
    taken = fx.gather(x, 0, fx.tensor([0, 7, 1], device="cuda"))
    with pytest.raises(IndexError) as raised:
        taken.tolist()
    assert str(raised.value) == (
        "[gather] index 7 is out of range for a dimension of size 5 (found by a kernel that ran earlier on cuda:0)"
    )
    assert fx.gather(x, 0, fx.tensor([0, 4], device="cuda")).tolist() == [0, 4]
