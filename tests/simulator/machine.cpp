/* A multiprocessor that runs one block at a time, its threads as fibers.
 *
 * A fiber runs threads one after another until one of them waits at a barrier or an exchange; only then is another
 * fiber needed.  So a kernel without barriers runs as a loop.  Fibers are entered once by makecontext and from then on
 * by _longjmp, which saves no signal masks.  A fault or a failed check leaves the block by a jump to run_block.
 */
#undef _FORTIFY_SOURCE
#include "machine.h"
#include "simulator.h"
#include <algorithm>
#include <deque>
#include <memory>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

namespace sim {
place here;
namespace {

enum { STACK = 256 << 10, LANES = 32 };
enum wait { NOT_BEGUN, RUNNING, AT_BARRIER, AT_EXCHANGE, ENDED };

struct fiber {
    ucontext_t begin;
    jmp_buf state;
    char *stack;
    bool entered;
    int thread; /* that it runs; -1 when it is idle */
};
struct thread {
    wait state;
    fiber *on;
    unsigned mask;
    uint64_t value;
    uint64_t result[LANES];
};

std::vector<std::unique_ptr<fiber>> fibers;
std::vector<fiber *> idle;
std::vector<thread> threads;
std::vector<int> order;
std::deque<int> ready;
int begun, ended, at_barrier;
fiber *running;
jmp_buf scheduler;
ucontext_t scheduler_context;
sigjmp_buf abandoned;
volatile bool executing;
failure what;
const launch_record *current;

int n_threads() { return int(threads.size()); }
int warp_of(int t) { return t / LANES; }

void become(int t) {
    const dim3 size = here.block_dim;
    here.thread = {unsigned(t) % size.x, unsigned(t) / size.x % size.y, unsigned(t) / (size.x * size.y)};
    here.lane = t % LANES;
    threads[t].state = RUNNING;
    threads[t].on = running;
    running->thread = t;
}

/* Leave the running fiber for the scheduler; returns when it is resumed. */
__attribute__((noinline)) void suspend() {
    fiber *self = running;
    if (_setjmp(self->state) == 0) _longjmp(scheduler, 1);
    running = self;
    become(self->thread);
}

void make_ready(int t) {
    threads[t].state = RUNNING;
    ready.push_back(t);
}

void release_barrier() {
    if (begun < n_threads() || at_barrier == 0 || at_barrier + ended < n_threads()) return;
    at_barrier = 0;
    for (int t : order)
        if (threads[t].state == AT_BARRIER) make_ready(t);
}

void fiber_main() {
    for (;;) {
        while (begun < n_threads()) {
            const int t = order[begun++];
            become(t);
            current->twin->invoke(const_cast<void **>(current->args.data()));
            threads[t].state = ENDED;
            ended++;
            release_barrier();
        }
        running->thread = -1;
        idle.push_back(running);
        fiber *self = running;
        if (_setjmp(self->state) == 0) _longjmp(scheduler, 1);
        running = self;
    }
}

__attribute__((noinline)) void enter(fiber *f) {
    running = f;
    if (_setjmp(scheduler)) return;
    if (f->entered) _longjmp(f->state, 1);
    f->entered = true;
    swapcontext(&scheduler_context, &f->begin);
}

fiber *fresh_fiber() {
    if (!idle.empty()) {
        fiber *f = idle.back();
        idle.pop_back();
        return f;
    }
    fibers.push_back(std::make_unique<fiber>());
    fiber *f = fibers.back().get();
    f->stack =
        static_cast<char *>(mmap(nullptr, STACK + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(f->stack, 4096, PROT_NONE); /* an overflow is a fault */
    f->entered = false;
    return f;
}

/* Fibers that were left in the middle of a block begin anew. */
void reset_fibers() {
    idle.clear();
    for (auto &f : fibers) {
        getcontext(&f->begin);
        f->begin.uc_stack.ss_sp = f->stack + 4096;
        f->begin.uc_stack.ss_size = STACK;
        f->begin.uc_link = nullptr;
        makecontext(&f->begin, fiber_main, 0);
        f->entered = false;
        idle.push_back(f.get());
    }
}

void stuck() {
    int exchanging = 0;
    for (auto &t : threads) exchanging += t.state == AT_EXCHANGE;
    what.why = "deadlock: " + std::to_string(at_barrier) + " threads wait at a barrier, " + std::to_string(exchanging) +
               " in a warp exchange, " + std::to_string(ended) + " have ended";
    what.code = 719;
    siglongjmp(abandoned, 1);
}

void run_threads() {
    while (ended < n_threads()) {
        if (!ready.empty()) {
            const size_t at = chance(4) ? ready.size() - 1 : 0;
            const int t = ready[at];
            ready.erase(ready.begin() + long(at));
            enter(threads[t].on);
        } else if (begun < n_threads()) {
            fiber *f = fresh_fiber();
            if (!f->entered) {
                getcontext(&f->begin);
                f->begin.uc_stack.ss_sp = f->stack + 4096;
                f->begin.uc_stack.ss_size = STACK;
                f->begin.uc_link = nullptr;
                makecontext(&f->begin, fiber_main, 0);
            }
            enter(f);
        } else {
            stuck();
        }
    }
}

struct sigaction before_us[NSIG];
void on_fault(int signal, siginfo_t *info, void *context) {
    if (executing) {
        executing = false;
        what.address = reinterpret_cast<uint64_t>(info->si_addr);
        what.code = signal == SIGFPE ? 719 : 700;
        what.why = signal == SIGFPE ? "integer division by zero" : "";
        siglongjmp(abandoned, 1);
    }
    explain_host_fault(reinterpret_cast<uint64_t>(info->si_addr));
    /* Not ours: the handler before us, or the default one when the instruction is repeated. */
    const struct sigaction &old = before_us[signal];
    if (old.sa_flags & SA_SIGINFO)
        old.sa_sigaction(signal, info, context);
    else if (old.sa_handler != SIG_DFL && old.sa_handler != SIG_IGN)
        old.sa_handler(signal);
    else
        sigaction(signal, &old, nullptr);
}

} // namespace

void barrier() {
    const int t = running->thread;
    threads[t].state = AT_BARRIER;
    at_barrier++;
    release_barrier();
    suspend();
}

const uint64_t *gather(unsigned mask, uint64_t value) {
    const int t = running->thread, first = warp_of(t) * LANES, lanes = std::min(int(LANES), n_threads() - first);
    thread &self = threads[t];
    if (lanes < LANES) mask &= (1u << lanes) - 1; /* a full mask in a warp that is not full */
    if (!(mask >> here.lane & 1)) fail(719, "a lane that is not in the mask of its own warp exchange");
    self.mask = mask;
    self.value = value;
    self.state = AT_EXCHANGE;
    for (int lane = 0; lane < lanes; lane++) {
        if (!(mask >> lane & 1)) continue;
        const thread &other = threads[first + lane];
        if (other.state == ENDED) fail(719, "a warp exchange waits for a lane that has ended");
        if (other.state == AT_EXCHANGE && other.mask != mask && (other.mask >> here.lane & 1))
            fail(719, "lanes of one warp exchange with different masks");
        if (other.state != AT_EXCHANGE || other.mask != mask) {
            suspend();
            return self.result;
        }
    }
    for (int lane = 0; lane < lanes; lane++) {
        if (!(mask >> lane & 1)) continue;
        for (int k = 0; k < lanes; k++) threads[first + lane].result[k] = threads[first + k].value;
        if (first + lane != t) make_ready(first + lane);
    }
    self.state = RUNNING;
    return self.result;
}

/* The lanes that have not ended: nothing else is known of them before they meet. */
unsigned active_lanes() {
    unsigned mask = 0;
    const int first = warp_of(running->thread) * LANES;
    for (int lane = 0; lane < LANES && first + lane < n_threads(); lane++)
        mask |= threads[first + lane].state != ENDED ? 1u << lane : 0;
    return mask;
}

void fail(int code, const char *why) {
    executing = false;
    what.code = code;
    what.why = why;
    siglongjmp(abandoned, 1);
}

static void catch_faults() {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    for (int signal : {SIGSEGV, SIGBUS, SIGFPE}) {
        struct sigaction now;
        sigaction(signal, nullptr, &now);
        if (now.sa_sigaction != on_fault) sigaction(signal, &action, &before_us[signal]);
    }
}

failure run_kernel(const launch_record &launch) {
    static char *alternate =
        static_cast<char *>(mmap(nullptr, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    stack_t stack = {}, stack_before;
    stack.ss_sp = alternate;
    stack.ss_size = 1 << 16;
    sigaltstack(&stack, &stack_before);
    catch_faults(); /* again: others may have set handlers since */
    current = &launch;
    what = failure();
    const int n = int(launch.block.x * launch.block.y * launch.block.z);
    here.block_dim = launch.block;
    here.grid_dim = launch.grid;
    here.dynamic_shared = launch.dynamic_shared;
    threads.resize(size_t(n));
    order.resize(size_t(n));
    for (int t = 0; t < n; t++) order[size_t(t)] = t;
    if (chance(2)) std::reverse(order.begin(), order.end());
    const uint64_t blocks = uint64_t(launch.grid.x) * launch.grid.y * launch.grid.z;
    const bool backwards = chance(2);
    if (sigsetjmp(abandoned, 0) == 0) {
        for (uint64_t k = 0; k < blocks; k++) {
            const uint64_t b = backwards ? blocks - 1 - k : k;
            here.block = {unsigned(b % launch.grid.x), unsigned(b / launch.grid.x % launch.grid.y),
                          unsigned(b / (uint64_t(launch.grid.x) * launch.grid.y))};
            what.block = here.block;
            for (auto &t : threads) t.state = NOT_BEGUN;
            begun = ended = at_barrier = 0;
            ready.clear();
            launch.poison_shared();
            executing = true;
            run_threads();
            executing = false;
        }
    } else {
        executing = false;
        what.thread = here.thread;
        what.block = here.block;
        reset_fibers();
    }
    sigaltstack(&stack_before, nullptr);
    return what;
}

} // namespace sim
