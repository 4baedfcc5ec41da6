/* The simulated driver's entry points, and its queues.
 *
 * Work is put into the queues of streams and done when somebody waits for it: by then a stream is picked at random, again
 * and again, and its first piece of work done, as far as the order of streams and events allows.  One lock holds for all.
 */
#include "driver.h"
#include "simulator.h"
#include <algorithm>
#include <map>
#include <mutex>
#include <random>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

namespace sim {
std::recursive_mutex lock;
int sticky = 0;
std::string last_failure, hidden;
thread_local int current_device_of_thread = -1;

namespace {
std::mt19937_64 generator(12345);
std::vector<stream *> all_streams; /* in the order of their making; the legacy stream of each device first */
stream legacy[DEVICES];

struct injection {
    std::string name;
    long after;
    int code;
};
std::vector<injection> injections;
std::map<std::string, long> calls;

/* The streams that a stream's work waits for without being told: the legacy stream and the blocking ones, mutually. */
std::vector<piece_ptr> implicit_waits(const stream *s) {
    std::vector<piece_ptr> waits;
    if (s == &legacy[s->device]) {
        for (stream *other : all_streams)
            if (other != s && other->device == s->device && other->blocking && other->last && !other->last->done)
                waits.push_back(other->last);
    } else if (s->blocking && legacy[s->device].last && !legacy[s->device].last->done) {
        waits.push_back(legacy[s->device].last);
    }
    return waits;
}

bool runnable(const stream *s) {
    if (s->queue.empty()) return false;
    for (auto &wait : s->queue.front()->waits)
        if (!wait->done) return false;
    return true;
}

bool step() {
    std::vector<stream *> ready;
    for (stream *s : all_streams)
        if (runnable(s)) ready.push_back(s);
    if (ready.empty()) return false;
    stream *s = ready[pick(unsigned(ready.size()))];
    const piece_ptr work = s->queue.front();
    s->queue.pop_front();
    if (!sticky) {
        const int status = work->run ? work->run() : 0;
        if (status && !sticky) sticky = status;
    }
    work->done = true;
    work->run = nullptr;
    if (sticky)
        for (stream *other : all_streams) {
            for (auto &left : other->queue) left->done = true;
            other->queue.clear();
        }
    return true;
}
} // namespace

bool chance(unsigned n) { return generator() % n == 0; }
unsigned pick(unsigned n) { return unsigned(generator() % n); }
void set_seed(uint64_t seed) { generator.seed(seed); }

void make_progress() { step(); }

int wait_for(const piece_ptr &work) {
    while (work && !work->done)
        if (!step()) return 999; /* nothing can run: a wait that nobody ends */
    return sticky;
}

int wait_for_device(int device) {
    for (stream *s : all_streams)
        if (s->device == device && s->last) wait_for(s->last);
    return sticky;
}

piece_ptr enqueue(stream *s, std::function<int()> run, std::vector<piece_ptr> waits) {
    auto work = std::make_shared<piece>();
    if (s->capturing) {
        add_node(s, std::move(run));
        work->done = true;
        return work;
    }
    work->run = std::move(run);
    work->waits = std::move(waits);
    for (auto &wait : implicit_waits(s)) work->waits.push_back(wait);
    s->queue.push_back(work);
    s->last = work;
    if (chance(8)) step(); /* now and then work is done before anybody waits, as on a device */
    return work;
}

stream *stream_of(void *handle) {
    const auto number = reinterpret_cast<uintptr_t>(handle);
    if (number <= 2) return &legacy[current_device_of_thread];
    for (stream *s : all_streams)
        if (s == handle) return s->device == current_device_of_thread ? s : nullptr;
    return nullptr;
}

stream *new_stream(bool blocking, int priority) {
    auto *s = new stream;
    s->device = current_device_of_thread;
    s->blocking = blocking;
    s->priority = priority;
    all_streams.push_back(s);
    return s;
}

void delete_stream(stream *s) {
    if (s->last) wait_for(s->last);
    all_streams.erase(std::find(all_streams.begin(), all_streams.end(), s));
    delete s;
}

const std::vector<stream *> &streams() { return all_streams; }

/* The pace: with it, events tell the time of a clock that kernels and copies move on. In milliseconds. */
static bool paced = false;
static double pace_clock = 0, kernel_takes = 0, copy_takes = 0, byte_takes = 0;

void takes_kernel() { pace_clock += kernel_takes; }
void takes_copy(size_t bytes) { pace_clock += copy_takes + double(bytes) * byte_takes; }

double now() {
    if (paced) return pace_clock;
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return double(t.tv_sec) * 1e3 + double(t.tv_nsec) * 1e-6;
}

/* What stands before every entry point: counting, injected errors, a lost context. */
int enter(const char *name, bool needs_context, bool when_lost) {
    ++calls[name];
    for (auto it = injections.begin(); it != injections.end(); ++it)
        if (it->name == name && --it->after == 0) {
            const int code = it->code;
            injections.erase(it);
            if (code == 700 || (code >= 714 && code <= 719)) sticky = code;
            return code;
        }
    if (sticky && !when_lost) return sticky;
    if (needs_context && current_device_of_thread < 0) return 201;
    return 0;
}

struct beginning {
    beginning() {
        for (int device = 0; device < DEVICES; device++) {
            legacy[device].device = device;
            legacy[device].blocking = true;
            all_streams.push_back(&legacy[device]);
        }
        if (getenv("FXSIM_SEED")) set_seed(strtoull(getenv("FXSIM_SEED"), nullptr, 10));
    }
    ~beginning() {
        const uint64_t left = live_allocations();
        if (left && getenv("FXSIM_LEAKS"))
            fprintf(stderr, "simulator: %llu allocations leaked\n", (unsigned long long)left);
    }
} beginning_of_all;

} // namespace sim

/* The controls of the tests. */
extern "C" {
void fxsim_seed(uint64_t seed) {
    std::lock_guard hold(sim::lock);
    sim::set_seed(seed);
}
/* The `after`-th call of `name` from now on returns `code`. */
void fxsim_inject(const char *name, long after, int code) {
    std::lock_guard hold(sim::lock);
    sim::injections.push_back({name, after, code});
}
void fxsim_clear() {
    std::lock_guard hold(sim::lock);
    sim::injections.clear();
}
long fxsim_calls(const char *name) {
    std::lock_guard hold(sim::lock);
    return sim::calls[name];
}
void fxsim_limit(int device, uint64_t bytes) {
    std::lock_guard hold(sim::lock);
    sim::limit_memory(device, bytes);
}
/* A device that takes so many microseconds for any kernel, and for a copy beside what its bytes take; 0 GB/s: as it
 * runs. */
void fxsim_pace(double kernel, double copy, double gigabytes) {
    std::lock_guard hold(sim::lock);
    sim::paced = gigabytes > 0;
    sim::kernel_takes = kernel * 1e-3;
    sim::copy_takes = copy * 1e-3;
    sim::byte_takes = sim::paced ? 1e-6 / gigabytes : 0;
}
uint64_t fxsim_live() {
    std::lock_guard hold(sim::lock);
    return sim::live_allocations();
}
const char *fxsim_last_failure() { return sim::last_failure.c_str(); }
/* A driver that lacks an entry point. */
void fxsim_hide(const char *name) { sim::hidden = name; }
/* As a new process would have them: contexts that are whole. */
void fxsim_heal() {
    std::lock_guard hold(sim::lock);
    sim::sticky = 0;
}
}
