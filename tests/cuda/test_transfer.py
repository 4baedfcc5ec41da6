"""Copies between the host and devices: pinned memory, own streams, several devices, other libraries' protocols."""

import threading

import numpy as np
import pytest

import ferrox as fx
from ferrox._core.cuda import pinned
from ferrox.utils.data import DataLoader, TensorDataset

SIZES = [0, 1, 100, 20_000, (4 << 20) // 4, (4 << 20) // 4 + 3, (9 << 20) // 4]


def numbers(n):
    return np.arange(n, dtype="f4") * 0.5


@pytest.fixture(autouse=True)
def _open():
    fx.zeros(1, device="cuda")


@pytest.mark.parametrize("n", SIZES)
def test_there_and_back(n):
    host = fx.tensor(numbers(n))
    there = host.cuda()
    host.fill_(-1)  # the copy does not look any more
    np.testing.assert_array_equal(there.cpu().numpy(), numbers(n))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("non_blocking", [False, True])
def test_pinned(n, non_blocking):
    host = fx.tensor(numbers(n)).pin_memory()
    assert host.is_pinned() and host.pin_memory() is host and host.device.type == "cpu"
    there = host.to("cuda", non_blocking=non_blocking)
    if not non_blocking:
        host.fill_(-1)
    back = (there + 1).to("cpu", non_blocking=non_blocking)
    assert back.is_pinned() == non_blocking
    fx.cuda.current_stream().synchronize()
    np.testing.assert_array_equal(back.numpy(), numbers(n) + 1)


def test_what_is_pinned():
    x = fx.arange(10.0, device="cpu")
    assert not x.is_pinned() and not x.cuda().is_pinned()
    y = x[::2].pin_memory()
    assert y.is_pinned() and y[1:].is_pinned() and y.is_contiguous() and y.tolist() == [0, 2, 4, 6, 8]
    assert not (y + 1).is_pinned()
    with pytest.raises(RuntimeError, match="pin_memory"):
        x.cuda().pin_memory()
    w = fx.ones(2, requires_grad=True)
    (w.pin_memory() * 3).sum().backward()
    assert w.grad.tolist() == [3, 3]


def test_a_block_in_use_by_a_stream_is_not_handed_out(simulator):
    x = fx.zeros(1 << 16, device="cuda")
    seen = []
    for k in range(6):
        host = fx.full((1 << 16,), float(k)).pin_memory()
        seen.append(x.clone().copy_(host, non_blocking=True))
        del host  # and with it the block, while the copy has not run yet
    for k, each in enumerate(seen):
        assert (each.cpu() == k).numpy().all()


def test_pinned_blocks_are_kept():
    fx.cuda.synchronize()
    pinned.empty_pinned()
    host = fx.empty(1000).pin_memory()
    address = host.data_ptr()
    before = pinned.pinned_stats()
    del host
    assert fx.empty(1000).pin_memory().data_ptr() == address
    after = pinned.pinned_stats()
    assert after["hits"] == before["hits"] + 1 and after["segments"] == before["segments"]


def test_non_blocking_from_pinned_goes_beside_the_current_stream():
    n = 1 << 19
    host = fx.tensor(numbers(n)).pin_memory()
    x = fx.ones(n, device="cuda")
    for _ in range(5):
        x = x * 1.5
        y = host.to("cuda", non_blocking=True)
        x = x + y
        del y
    expected = np.ones(n, "f4")
    for _ in range(5):
        expected = expected * np.float32(1.5) + numbers(n)
    np.testing.assert_allclose(x.cpu().numpy(), expected, rtol=1e-6)
    assert fx.cuda.current_stream() == fx.cuda.default_stream()


def test_copy_into_a_tensor():
    target = fx.zeros(3, 4, device="cuda")
    for source in (fx.arange(12.0, device="cpu").view(3, 4), fx.arange(12, device="cpu").view(3, 4),
                   fx.arange(12.0, device="cpu").view(4, 3).t()):  # fmt: skip
        for pin in (False, True):
            version = target._version
            target.copy_(source.pin_memory() if pin else source, non_blocking=True)
            assert target.tolist() == source.tolist() and target._version > version
    host = fx.zeros(3, 4).pin_memory()
    host.copy_(target, non_blocking=True)
    fx.cuda.synchronize()
    assert host.tolist() == target.tolist()
    target.copy_(fx.tensor(7.0))
    assert target.tolist() == [[7.0] * 4] * 3
    with pytest.raises(RuntimeError):
        target.copy_(fx.zeros(5))


def test_gradients_of_moves():
    x = fx.arange(3.0, device="cpu").requires_grad_()
    y = (x.to("cuda", non_blocking=True) * 2).to("cpu")
    y.backward(fx.tensor([1.0, 2.0, 3.0]))
    assert x.grad.tolist() == [2, 4, 6] and x.grad.device.type == "cpu"


def test_between_devices():
    if fx.cuda.device_count() < 2:
        pytest.skip("needs two devices")
    x = fx.tensor(numbers(50_000)).to("cuda:0")
    for _ in range(5):
        y = (x * 2).to("cuda:1")
        assert y.device == fx.device("cuda:1")
        z = (y + 1).to("cuda:0")
        del y
        np.testing.assert_array_equal(z.cpu().numpy(), numbers(50_000) * 2 + 1)
    target = fx.zeros(50_000, device="cuda:1")
    target.copy_(x)
    np.testing.assert_array_equal(target.cpu().numpy(), numbers(50_000))
    with pytest.raises(RuntimeError, match="same device"):
        x + target


def test_another_stream_and_record_stream():
    side = fx.cuda.Stream()
    results = []
    for k in range(8):
        x = fx.full((1000,), float(k), device="cuda")
        side.wait_stream(fx.cuda.current_stream())
        with fx.cuda.stream(side):
            results.append(x * 2)
        x.record_stream(side)
        del x  # its block is free for this stream, but for the other's work
        fx.full((1000,), -1.0, device="cuda")
    side.synchronize()
    assert [each[5].item() for each in results] == [2.0 * k for k in range(8)]
    with pytest.raises(RuntimeError, match="record_stream"):
        fx.zeros(3).record_stream(side)


@pytest.mark.parametrize("workers", [0, 2])
def test_data_loader(workers):
    data = TensorDataset(fx.arange(20.0, device="cpu"), fx.arange(20, device="cpu"))
    seen = []
    for x, y in DataLoader(data, batch_size=4, num_workers=workers, pin_memory=True):
        assert x.is_pinned() and y.is_pinned()
        seen += (x.cuda(non_blocking=True) + y.cuda(non_blocking=True)).tolist()
    assert seen == [2.0 * k for k in range(20)]


def test_no_pinned_memory(simulator):
    fx.cuda.empty_cache()
    simulator.fxsim_inject(b"cuMemHostAlloc", 1, 2)
    n = 1 << 20
    np.testing.assert_array_equal(fx.tensor(numbers(n)).cuda().cpu().numpy(), numbers(n))
    fx.cuda.empty_cache()
    simulator.fxsim_inject(b"cuMemHostAlloc", 1, 2)
    with pytest.raises(RuntimeError, match=r"\[pin_memory\] CUDA_ERROR_OUT_OF_MEMORY"):
        fx.zeros(3).pin_memory()


def test_threads_copy_at_once():
    failures = []

    def work(k):
        try:
            for _ in range(10):
                x = fx.tensor(numbers(30_000) + k)
                back = x.to("cuda").cpu() if k % 2 else x.pin_memory().to("cuda").cpu()
                np.testing.assert_array_equal(back.numpy(), numbers(30_000) + k)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# Other libraries.


class Foreign:
    """Another library's array on the memory of a tensor."""

    def __init__(self, tensor, **changes):
        self.tensor = tensor
        self.__cuda_array_interface__ = {**tensor.__cuda_array_interface__, **changes}


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int64", "float16", "float64"])
def test_cuda_array_interface(dtype):
    x = fx.tensor([[0, 1, 1], [1, 0, 1]]).to(getattr(fx, dtype)).cuda()
    interface = x.__cuda_array_interface__
    assert interface["data"] == (x.data_ptr(), False) and interface["shape"] == (2, 3) and interface["stream"] == 1
    taken = fx.as_tensor(Foreign(x))
    assert taken.data_ptr() == x.data_ptr() and taken.dtype == x.dtype and taken.device == x.device
    assert taken.tolist() == x.tolist()
    assert fx.as_tensor(Foreign(x.t())).tolist() == x.t().tolist()
    assert fx.asarray(Foreign(x[:0])).shape == (0, 3)
    kept = Foreign(x.clone())
    taken = fx.as_tensor(kept)
    del kept
    assert taken.tolist() == x.tolist()


@pytest.mark.parametrize("said", [None, {}, {"shape": (1,)}, [("shape", (1,))]])
def test_a_cuda_array_interface_that_is_none_is_refused(said):
    class Foreign:
        __cuda_array_interface__ = said

    with pytest.raises(TypeError, match="must be a dict with shape, typestr and data"):
        fx.as_tensor(Foreign())


def test_cuda_array_interface_waits_for_the_stream():
    side = fx.cuda.Stream()
    for k in range(5):
        with fx.cuda.stream(side):
            x = fx.full((1000,), float(k), device="cuda") * 2
        assert Foreign(x).__cuda_array_interface__["stream"] == 1
        taken = fx.as_tensor(Foreign(x, stream=side.cuda_stream))
        assert (taken + 1)[7].item() == 2.0 * k + 1
    with pytest.raises(BufferError, match="mask"):
        fx.as_tensor(Foreign(x, mask=x))


def test_dlpack():
    x = fx.tensor(numbers(12)).view(3, 4).cuda()
    assert x.__dlpack_device__() == (2, 0)
    for view in (x, x.t(), x[1:, ::2], x[:0]):
        taken = fx.from_dlpack(view)
        assert taken.device == x.device and taken.tolist() == view.tolist()
        assert taken.data_ptr() == view.data_ptr()
    capsule = x.__dlpack__(stream=1)
    taken = fx.from_dlpack(capsule)
    taken.add_(1)
    assert x[0, 0].item() == 1
    with pytest.raises(BufferError, match="stream 0"):
        x.__dlpack__(stream=0)
    assert fx.from_dlpack(x.__dlpack__(max_version=(1, 0), dl_device=(1, 0), copy=True)).device.type == "cpu"


def test_dlpack_orders_streams():
    side = fx.cuda.Stream()
    for k in range(5):
        x = fx.full((1000,), float(k), device="cuda") * 2
        capsule = x.__dlpack__(stream=side.cuda_stream)
        with fx.cuda.stream(side):
            assert (fx.from_dlpack(capsule) + 1)[3].item() == 2.0 * k + 1
