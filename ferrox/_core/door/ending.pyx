"""Daemon threads when the interpreter ends.

The interpreter does not wait for daemon threads: it takes their objects away, and with them the memory that a kernel of
theirs, which runs without the GIL, still reads and writes.  So its end waits until no such kernel runs; a thread that
comes out of one from then on, or wants to begin one, stops there for good.  The thread that ends the interpreter goes
on computing as it likes: functions registered with `atexit` may.
"""
import atexit
import os

from cpython.exc cimport PyErr_CheckSignals

from ferrox._core.abi cimport fx_call, fx_kernel

cdef extern from *:
    """
    #include <pthread.h>
    #include <unistd.h>

    static int fx_running_kernels = 0;
    static int fx_ending = 0;
    static pthread_t fx_ender;

    /* Whether the calling thread has to stop: it must not come back to Python. */
    static int fx_must_stop(void) {
        return __atomic_load_n(&fx_ending, __ATOMIC_SEQ_CST) && !pthread_equal(pthread_self(), fx_ender);
    }
    static void fx_stop(void) {
        for (;;)
            pause();
    }
    static void fx_begin_kernel(void) {
        __atomic_add_fetch(&fx_running_kernels, 1, __ATOMIC_SEQ_CST);
        if (fx_must_stop()) {
            __atomic_sub_fetch(&fx_running_kernels, 1, __ATOMIC_SEQ_CST);
            fx_stop();
        }
    }
    static void fx_end_kernel(void) {
        __atomic_sub_fetch(&fx_running_kernels, 1, __ATOMIC_SEQ_CST);
        if (fx_must_stop())
            fx_stop();
    }
    static void fx_begin_ending(void) {
        fx_ender = pthread_self();
        __atomic_store_n(&fx_ending, 1, __ATOMIC_SEQ_CST);
    }
    static int fx_kernels_run(void) {
        return __atomic_load_n(&fx_running_kernels, __ATOMIC_SEQ_CST);
    }
    static void fx_no_kernels_run(void) {
        __atomic_store_n(&fx_running_kernels, 0, __ATOMIC_SEQ_CST);
        __atomic_store_n(&fx_ending, 0, __ATOMIC_SEQ_CST);
    }
    """
    void fx_begin_kernel() noexcept nogil
    void fx_end_kernel() noexcept nogil
    void fx_begin_ending() noexcept nogil
    int fx_kernels_run() noexcept nogil
    void fx_no_kernels_run() noexcept nogil

cdef extern from "<unistd.h>" nogil:
    int usleep(unsigned microseconds)


cdef int run_released(fx_kernel kernel, fx_call *call) noexcept:
    """Run a kernel without the GIL."""
    cdef int status
    with nogil:
        fx_begin_kernel()
        status = kernel(call)
        fx_end_kernel()
    return status


cdef void begin_released() noexcept nogil:
    fx_begin_kernel()


cdef void end_released() noexcept nogil:
    fx_end_kernel()


def _end():
    fx_begin_ending()
    while fx_kernels_run():
        with nogil:
            usleep(200)
        PyErr_CheckSignals()


def _forked():
    """The threads that ran kernels do not exist in a child process."""
    fx_no_kernels_run()


atexit.register(_end)
os.register_at_fork(after_in_child=_forked)
