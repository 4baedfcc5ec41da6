# The one thread setting, for loops and BLAS alike.  See threads.pyx.
cdef int num_threads
