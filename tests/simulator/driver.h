/* Streams and their queues.  See driver.cpp. */
#ifndef FX_SIM_DRIVER_H
#define FX_SIM_DRIVER_H
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <stdint.h>
#include <string>
#include <vector>

namespace sim {

/* One piece of work of a stream: it runs after those it waits for, and returns a status. */
struct piece {
    std::function<int()> run;
    std::vector<std::shared_ptr<piece>> waits;
    bool done = false;
};
using piece_ptr = std::shared_ptr<piece>;

struct graph {
    std::vector<std::function<int()>> work; /* in the order of capture */
    bool global = false;
};

struct stream {
    int device = 0, priority = 0;
    bool blocking = false;
    std::deque<piece_ptr> queue;
    piece_ptr last;
    graph *capturing = nullptr; /* what it is given goes there */
};

struct event {
    int device = 0;
    unsigned flags = 0;
    piece_ptr recorded;
    std::shared_ptr<double> time;
    graph *captured = nullptr; /* recorded during this capture */
};

extern std::recursive_mutex lock;
extern int sticky; /* the error that lost the contexts, 0 while they are whole */
extern std::string last_failure, hidden;
extern thread_local int current_device_of_thread; /* -1 when no context is current */

int enter(const char *name, bool needs_context, bool when_lost);
piece_ptr enqueue(stream *s, std::function<int()> run, std::vector<piece_ptr> waits = {});
void make_progress();
int wait_for(const piece_ptr &work);
int wait_for_device(int device);
/* nullptr for a handle that is none, or of another device than the current context's. */
stream *stream_of(void *handle);
stream *new_stream(bool blocking, int priority);
void delete_stream(stream *s);
graph *begin_capture(bool global);
graph *end_capture(stream *s);
bool captures_globally();
double now();
/* What runs takes this long, where a test has set a pace. */
void takes_kernel();
void takes_copy(size_t bytes);

} // namespace sim
#endif
