/* The primitives of block.cuh, for tests/cuda/test_block.py. */
#include "block.cuh"

namespace {
/* A string of digits: appending is associative and does not commute. */
struct digits {
    uint64_t value, scale;
    int32_t count, unused;
};
struct append {
    __device__ digits operator()(digits x, digits y) const {
        return {x.value * y.scale + y.value, x.scale * y.scale, x.count + y.count, 0};
    }
};
} // namespace

extern "C" __global__ void reduce_digits(const uint8_t *in, uint64_t *out, int width) {
    __shared__ digits slots[FX_SLOTS];
    const int i = threadIdx.x;
    const digits mine = {in[i], 3, 1, 0};
    out[i] = fx::group_reduce(mine, append(), width).value;
    const digits whole = fx::block_reduce(mine, append(), slots);
    out[blockDim.x + i] = whole.value;
    out[2 * blockDim.x + i] = fx::block_scan(mine, append(), slots).value;
    out[3 * blockDim.x + i] = slots[32].value * 1000 + slots[32].count;
    out[4 * blockDim.x + i] = fx::warp_reduce<8>(in[i], fx::greater_value());
}
FX_EXPORT(reduce_digits)
