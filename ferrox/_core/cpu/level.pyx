"""Which of the compiled CPU levels this machine runs."""
cdef extern from "fx/cpu_level.h" nogil:
    int fx_cpu_level()


def levels():
    """Names of the levels that run here, best first."""
    cdef int best = fx_cpu_level()
    return [f"v{level}" for level in range(best, 1, -1)] or ["base"]
