/* The parts of the simulated driver, to each other. */
#ifndef FX_SIM_SIMULATOR_H
#define FX_SIM_SIMULATOR_H
#include "machine.h"
#include <string>
#include <vector>

namespace sim {

enum { DEVICES = 2 };

/* random.  True once in n times; the sequence is that of the seed. */
bool chance(unsigned n);
unsigned pick(unsigned n);
void set_seed(uint64_t seed);

/* machine.cpp */
struct function {
    const kernel *twin;
    int device;
    int dynamic_shared_limit;
    char *shared_start, *shared_stop; /* the family's static shared memory */
};
struct launch_record {
    const function *target;
    const kernel *twin;
    dim3 grid, block;
    unsigned shared;
    std::vector<std::vector<char>> copies; /* of the arguments */
    std::vector<void *> args;
    void *dynamic_shared;
    void poison_shared() const;
};
struct failure {
    int code = 0;
    uint64_t address = 0;
    std::string why;
    dim3 block{}, thread{};
};
failure run_kernel(const launch_record &launch);

/* memory.cpp */
struct allocation {
    uint64_t address, bytes, mapped, mapped_bytes;
};
int allocate_memory(int device, uint64_t bytes, uint64_t *address);
int free_memory(int device, uint64_t address);
/* The device whose memory holds an address, -1 when none does; `found` the allocation around it, or the nearest. */
int owner_of(uint64_t address, allocation *found = nullptr, bool *inside = nullptr);
bool is_valid_range(uint64_t address, uint64_t bytes);
/* Canaries around the allocations that the arguments point to: what was overwritten, or "". */
std::string overwritten(const launch_record &launch);
void memory_info(int device, size_t *free, size_t *total);
void limit_memory(int device, uint64_t bytes);
uint64_t live_allocations();
bool pin_host(uint64_t bytes, void **address);
bool unpin_host(void *address);
bool is_pinned(uint64_t address, uint64_t bytes);
/* Whether the address lies in pageable memory of the process, which a device cannot read. */
bool is_pageable(uint64_t address);
/* The end of 256 KiB of shared memory, where a page without access begins. */
void *shared_room();
bool explain_host_fault(uint64_t address);
/* What is wrong with the arguments of a launch: memory of another device, of the host, or none. */
std::string suspicious_argument(const launch_record &launch);
/* "argument 2 of add_f32: 4 bytes past the end of ..." for a fault of a kernel. */
std::string describe_fault(const launch_record &launch, const failure &what);
} // namespace sim
#endif
