"""One thread setting for loops and BLAS."""
num_threads = 1
