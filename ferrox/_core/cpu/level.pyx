"""Which of the compiled CPU levels this machine runs."""
cdef extern from *:
    """
    static int fx_cpu_level(void) {
    #if defined(__x86_64__)
        __builtin_cpu_init();
        if (__builtin_cpu_supports("x86-64-v4")) return 4;
        if (__builtin_cpu_supports("x86-64-v3")) return 3;
        return 2;
    #else
        return 0;
    #endif
    }
    """
    int fx_cpu_level() nogil


def levels():
    """Names of the levels that run here, best first."""
    cdef int best = fx_cpu_level()
    return [f"v{level}" for level in range(best, 1, -1)] or ["base"]
