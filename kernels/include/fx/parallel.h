/* A team of threads for the CPU kernels: OpenMP, so that loops and BLAS share one pool.  C and C++, no Python.h.
 *
 * One thread never enters the OpenMP runtime: after a fork its team is gone, and waiting for it would never end.
 */
#ifndef FX_PARALLEL_H
#define FX_PARALLEL_H
#include <omp.h>

typedef void (*fx_team_function)(int thread, int threads, void *argument);

static inline void fx_parallel(int threads, fx_team_function function, void *argument) {
    if (threads <= 1) {
        function(0, 1, argument);
        return;
    }
#pragma omp parallel num_threads(threads)
    function(omp_get_thread_num(), omp_get_num_threads(), argument);
}

/* How many threads a team asked for here is sure to get. */
static inline int fx_team_limit(void) { return omp_in_parallel() || omp_get_dynamic() ? 1 : omp_get_thread_limit(); }

/* Inside fx_parallel, by every thread of the team. */
static inline void fx_barrier(int threads) {
    if (threads > 1) {
#pragma omp barrier
    }
}
#endif
