"""One thread setting for loops and BLAS."""
num_threads = 1


def set_num_threads(int count):
    global num_threads
    if count < 1:
        raise ValueError(f"the number of threads must be positive, got {count}")
    num_threads = count


def get_num_threads():
    return num_threads
