/* A team of threads for the CPU kernels: OpenMP, so that loops and BLAS share one pool.  C and C++, no Python.h.
 *
 * One thread never enters the OpenMP runtime: after a fork its team is gone, and waiting for it would never end.
 */
#ifndef FX_PARALLEL_H
#define FX_PARALLEL_H
#include <omp.h>

typedef void (*fx_team_function)(int thread, int threads, void *argument);

/* ThreadSanitizer does not see how libgomp's threads wait for each other: it is told. */
#ifdef __SANITIZE_THREAD__
#ifdef __cplusplus
extern "C" {
#endif
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#ifdef __cplusplus
}
#endif
#define fx_seen_until_here(address) __tsan_release(address)
#define fx_seen_from_here(address) __tsan_acquire(address)
#define FX_TEAM_UNSEEN __attribute__((no_sanitize("thread"), noinline, unused))
#else
#define fx_seen_until_here(address) ((void)0)
#define fx_seen_from_here(address) ((void)0)
#define FX_TEAM_UNSEEN inline
#endif

static FX_TEAM_UNSEEN void fx_parallel(int threads, fx_team_function function, void *argument) {
    if (threads <= 1) {
        function(0, 1, argument);
        return;
    }
    fx_seen_until_here(argument);
#pragma omp parallel num_threads(threads)
    {
        fx_seen_from_here(argument);
        function(omp_get_thread_num(), omp_get_num_threads(), argument);
        fx_seen_until_here(argument);
    }
    fx_seen_from_here(argument);
}

/* How many threads a team asked for here is sure to get. */
static inline int fx_team_limit(void) { return omp_in_parallel() || omp_get_dynamic() ? 1 : omp_get_thread_limit(); }

/* Inside fx_parallel, by every thread of the team. */
static inline void fx_barrier(int threads) {
    static char met;
    (void)met;
    if (threads > 1) {
        fx_seen_until_here(&met);
#pragma omp barrier
        fx_seen_from_here(&met);
    }
}
#endif
