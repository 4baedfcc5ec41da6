/* What a kernel compiled for the simulator asks of it: who am I, barriers, exchanges within a warp.  See README.md. */
#ifndef FX_SIM_MACHINE_H
#define FX_SIM_MACHINE_H
#include <stddef.h>
#include <stdint.h>

namespace sim {

struct dim3 {
    unsigned x, y, z;
};

/* Of the thread that is running; threads run one at a time. */
struct place {
    dim3 thread, block, block_dim, grid_dim;
    void *dynamic_shared;
    int lane;
};
extern place here;

void barrier();
/* Waits for every lane of the mask; returns the values they came with, by lane. */
const uint64_t *gather(unsigned mask, uint64_t value);
unsigned active_lanes();
[[noreturn]] void fail(int code, const char *why);

/* One kernel of a compiled family. */
struct kernel {
    const char *name;
    void (*invoke)(void **args);
    const int *arg_sizes;
    int n_args;
};
typedef const kernel *(*table_function)(int *count);

} // namespace sim
#endif
