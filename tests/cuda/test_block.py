"""The reductions and scans of kernels/cuda/block.cuh, over threads whose values do not commute."""

import ctypes

import numpy as np
import pytest

import ferrox as fx
from ferrox._core.cuda.module import launch_kernel


def number(digits):
    value = 0
    for digit in digits:
        value = (3 * value + int(digit)) & 0xFFFFFFFFFFFFFFFF
    return value


@pytest.mark.parametrize("threads", [32, 64, 256, 1024])
@pytest.mark.parametrize("width", [1, 2, 8, 32])
@pytest.mark.usefixtures("simulator")
def test_order_of_warps_and_blocks(threads, width):
    digits = np.random.default_rng(threads + width).integers(0, 3, threads).astype("u1")
    x, out = fx.tensor(digits).cuda(), fx.zeros(5 * threads, dtype=fx.int64, device="cuda")
    arguments = [ctypes.c_uint64(x.data_ptr()), ctypes.c_uint64(out.data_ptr()), ctypes.c_int(width)]
    launch_kernel("blocks", "reduce_digits", 1, threads, arguments)
    group, whole, before, total, greatest = out.cpu().numpy().astype("u8").reshape(5, threads)
    for i in range(threads):
        assert group[i] == number(digits[i // width * width : (i // width + 1) * width])
        assert whole[i] == number(digits)
        assert before[i] == number(digits[: i + 1])
        assert total[i] == (number(digits) * 1000 + threads) & 0xFFFFFFFFFFFFFFFF
        assert greatest[i] == digits[i // 8 * 8 : i // 8 * 8 + 8].max()
