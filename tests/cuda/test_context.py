"""Devices, their properties, and which one is current."""

import threading

import pytest

import ferrox as fx


def test_properties():
    for index in range(fx.cuda.device_count()):
        found = fx.cuda.get_device_properties(index)
        assert found.name == fx.cuda.get_device_name(f"cuda:{index}")
        assert (found.major, found.minor) == fx.cuda.get_device_capability(index) >= (8, 0)
        assert found.warp_size == 32 and found.multi_processor_count > 0
        assert found.total_memory > 1 << 20 and found.shared_memory_per_block_optin >= found.shared_memory_per_block
        assert len(found.uuid) == 32


def test_simulator_has_two_devices(simulator):
    assert fx.cuda.device_count() == 2
    assert fx.cuda.get_device_properties(0).uuid != fx.cuda.get_device_properties(1).uuid
    assert not fx.cuda.can_device_access_peer(0, 1)


@pytest.mark.parametrize("device", [99, "cuda:99", fx.device("cuda", 99), -2])
def test_device_that_is_not_there(device):
    with pytest.raises(RuntimeError, match="there is no CUDA device"):
        fx.cuda.get_device_properties(device)
    with pytest.raises(RuntimeError, match="there is no CUDA device"):
        fx.cuda.set_device(device)


def test_device_of_another_kind():
    with pytest.raises(ValueError, match="expected a CUDA device, got cpu"):
        fx.cuda.synchronize("cpu")


def test_tensor_on_a_device_that_is_not_there():
    with pytest.raises(RuntimeError, match=r"\[device\] there is no CUDA device cuda:77: this process sees"):
        fx.zeros(3, device="cuda:77")


def test_current_device():
    last = fx.cuda.device_count() - 1
    assert fx.cuda.current_device() == 0
    with fx.cuda.device(last):
        assert fx.cuda.current_device() == last
        assert fx.zeros(2, device="cuda").device == fx.device("cuda", last)
        assert fx.cuda.current_stream().device_index == last
        with fx.cuda.device(None):
            assert fx.cuda.current_device() == last
        with fx.cuda.device("cuda:0"):
            assert fx.cuda.current_device() == 0
        assert fx.cuda.current_device() == last
    assert fx.cuda.current_device() == 0
    fx.cuda.set_device(f"cuda:{last}")
    try:
        assert fx.cuda.current_device() == last
    finally:
        fx.cuda.set_device(0)


def test_device_is_restored_after_an_error():
    with pytest.raises(KeyError), fx.cuda.device(fx.cuda.device_count() - 1):
        raise KeyError
    assert fx.cuda.current_device() == 0


def test_each_thread_has_its_own():
    last = fx.cuda.device_count() - 1
    seen = []

    def work():
        seen.append(fx.cuda.current_device())
        fx.cuda.set_device(last)
        seen.append(fx.cuda.current_device())
        seen.append((fx.ones(3, device="cuda") + 1).tolist())

    with fx.cuda.device(0):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert seen == [0, last, [2.0, 2.0, 2.0]] and fx.cuda.current_device() == 0


def test_memory_info():
    free, total = fx.cuda.mem_get_info()
    assert 0 < free <= total == fx.cuda.get_device_properties(0).total_memory
    held = fx.empty(total // 8, dtype=fx.uint8, device="cuda")
    assert fx.cuda.mem_get_info()[0] <= free and held.numel() == total // 8


def test_memory_runs_out(simulator):
    import ctypes

    kept = fx.ones(1000, device="cuda:1")
    simulator.fxsim_limit(1, ctypes.c_uint64(3 << 20))
    with pytest.raises(fx.OutOfMemoryError, match="out of cuda:1 memory: requested 4 MiB"):
        fx.empty(4 << 20, dtype=fx.uint8, device="cuda:1")
    assert (kept + 1)[7].item() == 2.0
    simulator.fxsim_limit(1, ctypes.c_uint64(1 << 30))
    assert fx.empty(4 << 20, dtype=fx.uint8, device="cuda:1").numel() == 4 << 20


def test_devices_do_not_mix(simulator):
    x, y = fx.ones(3, device="cuda:0"), fx.ones(3, device="cuda:1")
    with pytest.raises(RuntimeError, match=r"\[add\] Expected all tensors to be on the same device"):
        x + y
    with pytest.raises(RuntimeError, match=r"\[mul\] Expected all tensors to be on the same device"):
        x * fx.ones(3)
    assert (x + y.to("cuda:0")).tolist() == [2.0, 2.0, 2.0]
