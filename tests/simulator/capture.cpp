/* Captured graphs: what streams are given while they are captured, with what it comes after, and its replay.
 *
 * A replay does the work in any order that the captured streams and events allow, at random, so that a missing event
 * shows within a graph too.  What the driver does not permit during a capture is refused as there, and ends the capture:
 * cuStreamEndCapture then says CUDA_ERROR_STREAM_CAPTURE_INVALIDATED.
 */
#include "entries.h"
#include <algorithm>
#include <set>
#include <thread>

using namespace sim;

namespace {
enum { GLOBAL, THREAD_LOCAL, RELAXED };
thread_local int mode_of_thread = GLOBAL;
std::vector<graph *> open_captures;
std::set<graph *> graphs, executables;
uint64_t captures_begun = 0;

int replay(const std::vector<node> &nodes) {
    std::vector<size_t> open(nodes.size());
    std::vector<std::vector<size_t>> then(nodes.size());
    std::vector<size_t> ready;
    for (size_t i = 0; i < nodes.size(); i++) {
        open[i] = nodes[i].after.size();
        for (size_t before : nodes[i].after) then[before].push_back(i);
        if (open[i] == 0) ready.push_back(i);
    }
    while (!ready.empty()) {
        std::swap(ready[pick(unsigned(ready.size()))], ready.back());
        const size_t i = ready.back();
        ready.pop_back();
        if (const int status = nodes[i].run()) return status;
        for (size_t next : then[i])
            if (--open[next] == 0) ready.push_back(next);
    }
    return OK;
}

/* Whether all that was captured comes before the end of the stream where the capture began. */
bool joined(const graph *g) {
    std::vector<bool> reached(g->nodes.size());
    for (size_t end : g->origin->ends) reached[end] = true;
    for (size_t i = g->nodes.size(); i-- > 0;)
        if (reached[i])
            for (size_t before : g->nodes[i].after) reached[before] = true;
    return std::find(reached.begin(), reached.end(), false) == reached.end();
}

void close_capture(graph *g) {
    for (stream *s : streams())
        if (s->capturing == g) {
            s->capturing = nullptr;
            s->ends.clear();
        }
    open_captures.erase(std::find(open_captures.begin(), open_captures.end(), g));
}
} // namespace

graph *sim::open_capture(uint64_t id) {
    for (graph *g : open_captures)
        if (g->id == id) return g;
    return nullptr;
}

void sim::add_node(stream *s, std::function<int()> run) {
    graph *g = s->capturing;
    g->nodes.push_back({std::move(run), s->ends});
    s->ends = {g->nodes.size() - 1};
}

/* A call that may break a capture: refused to threads that have not said that they know what they do. */
bool sim::prohibited() {
    bool found = false;
    for (graph *g : open_captures) {
        const bool own = g->thread == std::this_thread::get_id();
        if (mode_of_thread != RELAXED &&
            ((own && g->mode != RELAXED) || (!own && mode_of_thread == GLOBAL && g->mode == GLOBAL)))
            found = g->invalid = true;
    }
    return found;
}

bool sim::captures_on(int device) {
    bool found = false;
    for (graph *g : open_captures)
        if (g->origin->device == device) found = g->invalid = true;
    return found;
}

EXPORT cuThreadExchangeStreamCaptureMode(int *mode) {
    ENTER_ANYWHERE;
    if (*mode < GLOBAL || *mode > RELAXED) return INVALID_VALUE;
    std::swap(*mode, mode_of_thread);
    return OK;
}
EXPORT cuStreamIsCapturing(void *handle, int *status) {
    ENTER;
    STREAM(handle);
    *status = s->capturing == nullptr ? 0 : s->capturing->invalid ? 2 : 1;
    return OK;
}
EXPORT cuStreamGetCaptureInfo(void *handle, int *status, uint64_t *id, graph **made, const void **after, size_t *n) {
    ENTER;
    STREAM(handle);
    *status = s->capturing == nullptr ? 0 : s->capturing->invalid ? 2 : 1;
    if (s->capturing && id) *id = s->capturing->id;
    if (made) *made = s->capturing;
    if (after) *after = nullptr;
    if (n) *n = 0;
    return OK;
}
EXPORT cuStreamBeginCapture(void *handle, int mode) {
    ENTER;
    STREAM(handle);
    if (mode < GLOBAL || mode > RELAXED) return INVALID_VALUE;
    if (s->capturing || s == stream_of(nullptr)) return CAPTURE_UNSUPPORTED; /* the legacy stream cannot be captured */
    auto *g = new graph;
    g->id = ++captures_begun;
    g->mode = mode;
    g->thread = std::this_thread::get_id();
    g->origin = s;
    open_captures.push_back(g);
    s->capturing = g;
    s->ends.clear();
    return OK;
}
EXPORT cuStreamEndCapture(void *handle, graph **made) {
    ENTER;
    STREAM(handle);
    *made = nullptr;
    graph *g = s->capturing;
    if (!g) return INVALID_VALUE;
    if (s != g->origin) return CAPTURE_UNMATCHED;
    if (g->mode != RELAXED && g->thread != std::this_thread::get_id()) return CAPTURE_WRONG_THREAD;
    const int status = g->invalid ? int(CAPTURE_INVALIDATED) : joined(g) ? int(OK) : int(CAPTURE_UNJOINED);
    close_capture(g);
    if (status) {
        delete g;
        return status;
    }
    graphs.insert(g);
    *made = g;
    return OK;
}
EXPORT cuGraphGetNodes(graph *captured, void **nodes, size_t *n) {
    ENTER;
    if (!graphs.count(captured)) return INVALID_VALUE;
    if (nodes)
        for (size_t i = 0; i < *n; i++) nodes[i] = i < captured->nodes.size() ? &captured->nodes[i] : nullptr;
    else
        *n = captured->nodes.size();
    return OK;
}
EXPORT cuGraphInstantiateWithFlags(graph **executable, graph *captured, unsigned long long) {
    ENTER;
    if (!graphs.count(captured)) return INVALID_VALUE;
    *executable = new graph(*captured);
    executables.insert(*executable);
    return OK;
}
EXPORT cuGraphLaunch(graph *executable, void *handle) {
    ENTER;
    WORK_STREAM(handle);
    if (!executables.count(executable)) return INVALID_VALUE;
    enqueue(s, [nodes = executable->nodes]() -> int { return replay(nodes); });
    return OK;
}
EXPORT cuGraphExecDestroy(graph *executable) {
    ENTER;
    if (!executables.erase(executable)) return INVALID_VALUE;
    delete executable;
    return OK;
}
EXPORT cuGraphDestroy(graph *captured) {
    ENTER;
    if (!graphs.erase(captured)) return INVALID_VALUE;
    delete captured;
    return OK;
}

/* Graphs and executable ones that are alive, and captures that are open. */
extern "C" uint64_t fxsim_graphs() {
    std::lock_guard hold(sim::lock);
    return graphs.size() + executables.size() + open_captures.size();
}
