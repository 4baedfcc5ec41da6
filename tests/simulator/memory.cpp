/* Device memory: allocations in a reserved range without access, each ending at a page without access.
 *
 * An allocation begins at an address aligned to `alignment` (FXSIM_ALIGN, 16) as near to the end of its pages as that
 * allows; what is left on both sides holds a canary.  Freed addresses are not used again until the range is used up, so
 * that a use after free is a fault.  Fresh memory is all ones: NaN, -1.
 */
#include "simulator.h"
#include <algorithm>
#include <map>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

namespace sim {
namespace {

enum { PAGE = 4096 };
const uint64_t RANGE = uint64_t(1) << 36;
const unsigned char CANARY = 0xc5, FRESH = 0xff;

struct device_memory {
    uint64_t base = 0, next = 0, used = 0, limit = uint64_t(1) << 30;
    std::map<uint64_t, allocation> live; /* by address */
};
device_memory devices[DEVICES];
std::map<uint64_t, uint64_t> pinned; /* address -> bytes */

uint64_t page_up(uint64_t bytes) { return (bytes + PAGE - 1) & ~uint64_t(PAGE - 1); }

uint64_t alignment() {
    static const uint64_t value = getenv("FXSIM_ALIGN") ? strtoull(getenv("FXSIM_ALIGN"), nullptr, 10) : 16;
    return value ? value : 1;
}

bool reserve(device_memory &d) {
    if (d.base) return true;
    void *range = mmap(nullptr, RANGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED) return false;
    d.base = d.next = reinterpret_cast<uint64_t>(range);
    return true;
}

/* `bytes` of untouched addresses; after the end of the range it begins anew and steps over what is live. */
uint64_t place_for(device_memory &d, uint64_t bytes) {
    for (int round = 0; round < 2; round++) {
        while (d.next + bytes + PAGE <= d.base + RANGE) {
            auto after = d.live.lower_bound(d.next);
            if (after != d.live.begin() &&
                std::prev(after)->second.mapped + std::prev(after)->second.mapped_bytes > d.next)
                after = std::prev(after);
            if (after == d.live.end() || after->second.mapped >= d.next + bytes + PAGE) {
                const uint64_t found = d.next;
                d.next += bytes + PAGE;
                return found;
            }
            d.next = after->second.mapped + after->second.mapped_bytes + PAGE;
        }
        d.next = d.base;
    }
    return 0;
}

std::string number(uint64_t x) { return std::to_string(x); }

} // namespace

int allocate_memory(int device, uint64_t bytes, uint64_t *address) {
    device_memory &d = devices[device];
    if (bytes == 0) return 1;
    if (bytes > d.limit || d.used + bytes > d.limit || !reserve(d)) return 2;
    const uint64_t mapped_bytes = page_up(bytes), mapped = place_for(d, mapped_bytes);
    if (mapped == 0) return 2;
    void *pages = reinterpret_cast<void *>(mapped);
    if (mprotect(pages, mapped_bytes, PROT_READ | PROT_WRITE)) return 2;
    const uint64_t start = (mapped + mapped_bytes - bytes) & ~(alignment() - 1);
    memset(pages, CANARY, start - mapped);
    memset(reinterpret_cast<void *>(start), FRESH, bytes);
    memset(reinterpret_cast<void *>(start + bytes), CANARY, mapped + mapped_bytes - start - bytes);
    d.live[start] = {start, bytes, mapped, mapped_bytes};
    d.used += bytes;
    *address = start;
    return 0;
}

int free_memory(int device, uint64_t address) {
    device_memory &d = devices[device];
    const auto found = d.live.find(address);
    if (found == d.live.end()) return 1;
    const allocation a = found->second;
    mmap(reinterpret_cast<void *>(a.mapped), a.mapped_bytes, PROT_NONE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    d.used -= a.bytes;
    d.live.erase(found);
    return 0;
}

int owner_of(uint64_t address, allocation *found, bool *inside) {
    for (int device = 0; device < DEVICES; device++) {
        device_memory &d = devices[device];
        if (d.base == 0 || address < d.base || address >= d.base + RANGE) continue;
        if (inside) *inside = false;
        allocation nearest = {};
        auto after = d.live.upper_bound(address);
        if (after != d.live.begin()) {
            nearest = std::prev(after)->second;
            if (inside) *inside = address < nearest.address + nearest.bytes;
            if (address >= nearest.mapped + nearest.mapped_bytes + PAGE && after != d.live.end() &&
                after->second.mapped <= address)
                nearest = after->second; /* before its beginning rather than far behind the one before */
        } else if (after != d.live.end()) {
            nearest = after->second;
        }
        if (found) *found = nearest;
        return device;
    }
    return -1;
}

bool is_valid_range(uint64_t address, uint64_t bytes) {
    allocation a;
    bool inside = false;
    if (owner_of(address, &a, &inside) < 0) return false;
    return inside && bytes <= a.address + a.bytes - address;
}

std::string overwritten(const launch_record &launch) {
    for (auto &copy : launch.copies)
        for (size_t at = 0; at + 8 <= copy.size(); at += 8) {
            uint64_t word;
            allocation a{};
            memcpy(&word, copy.data() + at, 8);
            if (owner_of(word, &a) < 0 || a.bytes == 0) continue;
            const auto *byte = reinterpret_cast<unsigned char *>(a.mapped);
            const uint64_t before = a.address - a.mapped;
            for (uint64_t i = 0; i < before; i++)
                if (byte[i] != CANARY)
                    return "write " + number(before - i) + " bytes before the beginning of an allocation of " +
                           number(a.bytes) + " bytes";
            for (uint64_t i = before + a.bytes; i < a.mapped_bytes; i++)
                if (byte[i] != CANARY)
                    return "write " + number(i - before - a.bytes) + " bytes past the end of an allocation of " +
                           number(a.bytes) + " bytes";
        }
    return "";
}

void memory_info(int device, size_t *free, size_t *total) {
    *total = devices[device].limit;
    *free = devices[device].limit - std::min(devices[device].used, devices[device].limit);
}

void limit_memory(int device, uint64_t bytes) { devices[device].limit = bytes; }

uint64_t live_allocations() {
    uint64_t count = pinned.size();
    for (auto &d : devices) count += d.live.size();
    return count;
}

bool pin_host(uint64_t bytes, void **address) {
    void *block = mmap(nullptr, page_up(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED) return false;
    memset(block, FRESH, bytes);
    pinned[reinterpret_cast<uint64_t>(block)] = bytes;
    *address = block;
    return true;
}

bool unpin_host(void *address) {
    const auto found = pinned.find(reinterpret_cast<uint64_t>(address));
    if (found == pinned.end()) return false;
    munmap(address, page_up(found->second));
    pinned.erase(found);
    return true;
}

bool is_pinned(uint64_t address, uint64_t bytes) {
    auto after = pinned.upper_bound(address);
    if (after == pinned.begin()) return false;
    --after;
    return address + bytes <= after->first + after->second;
}

bool is_pageable(uint64_t address) {
    if (address < 0x10000 || address >= uint64_t(1) << 47 || is_pinned(address, 1)) return false;
    for (auto &d : devices)
        if (d.base && address >= d.base && address < d.base + RANGE) return false;
    unsigned char present;
    return mincore(reinterpret_cast<void *>(address & ~uint64_t(PAGE - 1)), PAGE, &present) == 0; /* ENOMEM: unmapped */
}

void *shared_room() {
    const size_t room = 256 << 10;
    char *block = static_cast<char *>(mmap(nullptr, room + PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(block, room, PROT_READ | PROT_WRITE);
    return block + room;
}

bool explain_host_fault(uint64_t address) {
    if (owner_of(address) < 0) return false;
    static const char text[] = "simulator: host code touched device memory that is not allocated\n";
    return write(2, text, sizeof text - 1) > 0;
}

std::string suspicious_argument(const launch_record &launch) {
    for (size_t i = 0; i < launch.copies.size(); i++)
        for (size_t at = 0; at + 8 <= launch.copies[i].size(); at += 8) {
            uint64_t word;
            memcpy(&word, launch.copies[i].data() + at, 8);
            bool inside = false;
            const int device = owner_of(word, nullptr, &inside);
            const std::string which = "argument " + number(i) + (at ? " (offset " + number(at) + ")" : "");
            if (inside && device != launch.target->device)
                return which + " points to memory of device " + number(uint64_t(device));
            if (is_pageable(word)) return which + " points to pageable memory of the host";
        }
    return "";
}

std::string describe_fault(const launch_record &launch, const failure &what) {
    std::string text = std::string("kernel ") + launch.twin->name + ", block (" + number(what.block.x) + ", " +
                       number(what.block.y) + ", " + number(what.block.z) + "), thread (" + number(what.thread.x) +
                       ", " + number(what.thread.y) + ", " + number(what.thread.z) + "): ";
    if (!what.why.empty()) return text + what.why;
    allocation a{};
    if (owner_of(what.address, &a) < 0) {
        char address[32];
        snprintf(address, sizeof address, "%#llx", (unsigned long long)what.address);
        return text + "access to address " + address + ", which is no device memory";
    }
    if (a.bytes == 0) return text + "access to device memory that is not allocated";
    if (what.address >= a.address + a.bytes)
        text += "access " + number(what.address - a.address - a.bytes) + " bytes past the end of an allocation of ";
    else
        text += "access " + number(a.address - what.address) + " bytes before the beginning of an allocation of ";
    text += number(a.bytes) + " bytes";
    for (size_t i = 0; i < launch.copies.size(); i++)
        for (size_t at = 0; at + 8 <= launch.copies[i].size(); at += 8) {
            uint64_t word;
            memcpy(&word, launch.copies[i].data() + at, 8);
            if (word >= a.address && word <= a.address + a.bytes)
                return text + ", argument " + number(i) + (at ? " (offset " + number(at) + ")" : "");
        }
    return text + ", which no argument points to";
}

} // namespace sim
