# The one thread setting, for loops and BLAS alike.  See threads.pyx.

# How many threads a kernel may use: never below 1.  Read it, set it only through set_num_threads.
cdef int num_threads
