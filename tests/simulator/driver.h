/* Streams and their queues.  See driver.cpp. */
#ifndef FX_SIM_DRIVER_H
#define FX_SIM_DRIVER_H
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <stdint.h>
#include <string>
#include <thread>
#include <vector>

namespace sim {

/* One piece of work of a stream: it runs after those it waits for, and returns a status. */
struct piece {
    std::function<int()> run;
    std::vector<std::shared_ptr<piece>> waits;
    bool done = false;
};
using piece_ptr = std::shared_ptr<piece>;

struct stream;

struct node {
    std::function<int()> run;
    std::vector<size_t> after; /* numbers of nodes */
};
struct graph {
    std::vector<node> nodes;
    uint64_t id = 0; /* of the capture, then: */
    int mode = 0;
    std::thread::id thread;
    stream *origin = nullptr;
    bool invalid = false;
};

struct stream {
    int device = 0, priority = 0;
    bool blocking = false;
    std::deque<piece_ptr> queue;
    piece_ptr last;
    graph *capturing = nullptr; /* what it is given goes there, */
    std::vector<size_t> ends;   /* after these nodes */
};

struct event {
    int device = 0;
    unsigned flags = 0;
    piece_ptr recorded;
    std::shared_ptr<double> time;
    uint64_t captured = 0; /* last recorded during this capture, */
    std::vector<size_t> ends; /* after these nodes */
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
const std::vector<stream *> &streams();
/* capture.cpp */
graph *open_capture(uint64_t id);
void add_node(stream *s, std::function<int()> run);
bool prohibited();
bool captures_on(int device);
double now();
/* What runs takes this long, where a test has set a pace. */
void takes_kernel();
void takes_copy(size_t bytes);

} // namespace sim
#endif
