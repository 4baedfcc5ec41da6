"""cuBLASLt for large matrix products, where it is installed and faster.

It is looked for at the first large product (cuda-pathfinder finds the wheel nvidia-cublas, or a toolkit), loaded with
dlopen, and never required.  The first time that a product of a kind is seen (sizes, layouts, alignment), our kernel and
the library's best proposals are timed on the device into scratch memory, and the fastest is kept for the life of the
process.  While a graph is captured nothing is timed: what is not known yet takes our kernel.

FERROX_CUBLASLT=0 turns it off from outside; another value is the path of the library.  Reductions are restricted to
float32 in a fixed order, so that results repeat; which kernel is taken, and with it the last bits, may differ between
processes.
"""
import ctypes
import glob
import os
import sys

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc
from libc.string cimport memcmp, memset

from ferrox._core.abi cimport FX_BF16, FX_F16, FX_F32, FX_F64, FX_OK, fx_is_whole, fx_itemsize
from ferrox._core.cuda.abi cimport CUevent, CUstream
from ferrox._core.cuda.capturing cimport captures
from ferrox._core.cuda.context cimport MAX_DEVICES, bind
from ferrox._core.cuda.driver cimport cu
from ferrox._core.cuda.product cimport A, B, C, D, product, product_function
from ferrox._core.cuda.scratch cimport scratch, scratch_free
from ferrox._core.cuda.stream cimport current_stream

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)

cdef extern from *:
    """
    #include <pthread.h>
    static pthread_mutex_t fx_plans_mutex = PTHREAD_MUTEX_INITIALIZER;
    """
    pthread_mutex_t fx_plans_mutex

cdef enum:
    # Of cublasLt.h, cublas_api.h and library_types.h.
    COMPUTE_32F = 68
    COMPUTE_64F = 70
    COMPUTE_32F_FAST_TF32 = 77
    REAL_32F = 0
    REAL_64F = 1
    REAL_16F = 2
    REAL_16BF = 14
    DESC_TRANSA = 3
    DESC_TRANSB = 4
    DESC_EPILOGUE = 7
    DESC_BIAS_POINTER = 8
    LAYOUT_BATCH_COUNT = 5
    LAYOUT_BATCH_OFFSET = 6
    PREFER_WORKSPACE = 1
    PREFER_REDUCTION = 3
    PREFER_ALIGNMENT = 5        # of A; B, C, D follow
    REDUCTION_COMPUTE_TYPE = 2  # beside none
    EPILOGUE_BIAS = 4
    # Ours.
    PROPOSALS = 4
    WORKSPACE = 32 << 20
    RUNS = 3                    # of one measurement
    SLOTS = 1024                # of the table of plans
    NO_ADDED = 0
    BIAS_ADDED = 1
    MATRIX_ADDED = 2

cdef enum:
    UNKNOWN
    ABSENT
    PRESENT

ctypedef struct algorithm:
    uint64_t data[8]

ctypedef struct proposal:       # cublasLtMatmulHeuristicResult_t
    algorithm algo
    size_t workspace
    int state
    float waves
    int reserved[4]

cdef struct lt_library:
    int (*create)(void **handle) noexcept nogil
    int (*desc_create)(void **desc, int compute, int scale) noexcept nogil
    int (*desc_set)(void *desc, int attribute, const void *value, size_t size) noexcept nogil
    int (*desc_destroy)(void *desc) noexcept nogil
    int (*layout_create)(void **layout, int dtype, uint64_t rows, uint64_t columns, int64_t ld) noexcept nogil
    int (*layout_set)(void *layout, int attribute, const void *value, size_t size) noexcept nogil
    int (*layout_destroy)(void *layout) noexcept nogil
    int (*preference_create)(void **preference) noexcept nogil
    int (*preference_set)(void *preference, int attribute, const void *value, size_t size) noexcept nogil
    int (*preference_destroy)(void *preference) noexcept nogil
    int (*propose)(void *handle, void *desc, void *a, void *b, void *c, void *d, void *preference, int wanted,
                   proposal *found, int *n) noexcept nogil
    int (*matmul)(void *handle, void *desc, const void *alpha, const void *a, void *a_layout, const void *b,
                  void *b_layout, const void *beta, const void *c, void *c_layout, void *d, void *d_layout,
                  const algorithm *algo, void *workspace, size_t workspace_size, CUstream stream) noexcept nogil

# In the order of the struct.
_NAMES = ("Create", "MatmulDescCreate", "MatmulDescSetAttribute", "MatmulDescDestroy", "MatrixLayoutCreate",
          "MatrixLayoutSetAttribute", "MatrixLayoutDestroy", "MatmulPreferenceCreate", "MatmulPreferenceSetAttribute",
          "MatmulPreferenceDestroy", "MatmulAlgoGetHeuristic", "Matmul")

# What decides how fast a product is.  Compared as bytes: made by memset.
cdef struct kind_of_product:
    int32_t dtype, device, tf32, added
    int32_t aligned[4]
    int64_t m, n, k, batch
    int64_t row[4]
    int64_t column[4]
    int64_t step[4]

cdef struct plan:
    kind_of_product kind
    bint used, by_library
    void *desc
    void *layout[4]         # of the library's A and B, which are our B and A, and of D and C
    algorithm algo
    size_t workspace

cdef lt_library lt
cdef int state = UNKNOWN
cdef bint allowed = True
cdef bint measured = True
cdef double threshold = 2e8     # multiplications and additions; below it, ours is as good and known sooner
cdef void *handles[MAX_DEVICES]
cdef plan *plans = NULL         # a table by hashing; it is not grown: what finds no room takes our kernel
cdef int n_plans = 0
_path = ""
_reason = "it has not been looked for yet"
_kept = None


def _candidates():
    """Paths to try, the likeliest first."""
    chosen = os.environ.get("FERROX_CUBLASLT", "")
    if chosen:
        return [chosen]
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib

        return [load_nvidia_dynamic_lib("cublasLt").abs_path]
    except Exception:
        found = []
        for folder in sys.path:
            found += glob.glob(os.path.join(folder, "nvidia", "*", "lib", "libcublasLt.so.*"))
        return [*sorted(found, reverse=True), "libcublasLt.so.13", "libcublasLt.so.12"]


def _look():
    """The library's path, and its functions in `lt`; raises where there is none."""
    global _kept
    if os.environ.get("FERROX_CUBLASLT") == "0":
        raise RuntimeError("FERROX_CUBLASLT=0 turns it off")
    failure = "libcublasLt was not found (`pip install nvidia-cublas`)"
    for path in _candidates():
        try:
            library = ctypes.CDLL(path)
        except OSError as error:
            if os.path.exists(path):
                failure = str(error)
            continue
        table = <size_t *> &lt
        for i, name in enumerate(_NAMES):
            table[<int> i] = ctypes.cast(getattr(library, "cublasLt" + name), ctypes.c_void_p).value
        _kept = library
        return path
    raise RuntimeError(failure)


cdef bint _open() noexcept with gil:
    """Whether the library is there; looked for once."""
    global state, _path, _reason
    if state == UNKNOWN:
        try:
            _path, _reason = _look(), ""
            state = PRESENT
        except Exception as failure:
            _reason = str(failure)
            state = ABSENT
    return state == PRESENT


def why_not():
    """Why cuBLASLt is not used, in a few words; an empty string when it may be."""
    if not allowed:
        return "it is turned off"
    _open()
    return _reason


def library():
    """The path of the library, or an empty string."""
    return _path if _open() else ""


def set_allowed(allow):
    """Whether cuBLASLt may do products that it does faster."""
    global allowed
    allowed = allow


def get_allowed():
    """The setting of `set_allowed`."""
    return bool(allowed)


def set_threshold(double flops):
    """Products of fewer multiplications and additions are not for the library."""
    global threshold
    threshold = flops


def set_measured(bint on):
    """Whether the library has to be faster than our kernel to be taken; otherwise it is wherever it can."""
    global measured
    measured = on


def chosen():
    """How many kinds of products have been timed, and how many of them go to the library."""
    cdef int i, by_library = 0
    if plans != NULL:
        for i in range(SLOTS):
            by_library += plans[i].used and plans[i].by_library
    return n_plans, by_library


cdef inline int _type(int dtype) noexcept nogil:
    return REAL_16F if dtype == FX_F16 else REAL_16BF if dtype == FX_BF16 else REAL_64F if dtype == FX_F64 else REAL_32F


cdef inline bint _plain(int64_t rows, int64_t columns, int64_t row, int64_t column) noexcept nogil:
    """A matrix as BLAS knows it: one dimension adjacent, the other with a pitch that is long enough."""
    return (column == 1 and row >= columns) or (row == 1 and column >= rows)


cdef bint _describe(const product *p, bint tf32, kind_of_product *kind) noexcept nogil:
    """The kind of a product; False for one that is not for the library."""
    cdef int o, added = NO_ADDED
    cdef double flops = 2.0 * <double> p.m * <double> p.n * <double> p.k
    if fx_is_whole(p.dtype) or p.ndim > 1 or max(p.m, max(p.n, p.k)) > 0x7fffffff or min(p.m, min(p.n, p.k)) < 2:
        return False
    if p.ndim:
        flops *= <double> p.size[0]
        if p.size[0] > 0x7fffffff:
            return False
    if flops < threshold or not _plain(p.m, p.k, p.row[A], p.column[A]) or not _plain(p.k, p.n, p.row[B], p.column[B]):
        return False
    if p.beta != 0:
        if p.column[D] != 1:
            return False
        if p.row[D] == 0 and p.beta == 1 and (p.ndim == 0 or p.step[0][D] == 0):
            added = BIAS_ADDED
        elif p.row[D] >= p.n:
            added = MATRIX_ADDED
        else:
            return False
    memset(kind, 0, sizeof(kind_of_product))
    kind.dtype, kind.device, kind.tf32, kind.added = p.dtype, p.device, tf32 and p.dtype == FX_F32, added
    kind.m, kind.n, kind.k, kind.batch = p.m, p.n, p.k, p.size[0] if p.ndim else 1
    for o in range(4):
        if o == D and added == NO_ADDED:
            continue
        kind.row[o], kind.column[o] = p.row[o], p.column[o]
        kind.step[o] = p.step[0][o] if p.ndim else 0
        kind.aligned[o] = 16
        while <size_t> p.data[o] % <size_t> kind.aligned[o]:
            kind.aligned[o] //= 2
    # The library tells a bias's alignment from its address alone, and chooses kernels that read 16 bytes at once.
    return added != BIAS_ADDED or kind.aligned[D] == 16


cdef plan *_slot(const kind_of_product *kind) noexcept nogil:
    """The plan of a kind, or the free slot for it, or NULL where there is no room."""
    cdef uint64_t hashed = 14695981039346656037u
    cdef const unsigned char *bytes = <const unsigned char *> kind
    cdef size_t i
    for i in range(sizeof(kind_of_product)):
        hashed = (hashed ^ bytes[i]) * 1099511628211u
    for i in range(8):
        p = &plans[(hashed + i) % SLOTS]
        if not p.used or memcmp(&p.kind, kind, sizeof(kind_of_product)) == 0:
            return p
    return NULL


cdef bint _layout(void **layout, const kind_of_product *k, int which, int64_t rows, int64_t columns,
                  int64_t ld) noexcept nogil:
    """A column-major matrix."""
    cdef int32_t count = <int32_t> k.batch
    if lt.layout_create(layout, _type(k.dtype), <uint64_t> rows, <uint64_t> columns, ld):
        return False
    return k.batch == 1 or not (lt.layout_set(layout[0], LAYOUT_BATCH_COUNT, &count, 4)
                                or lt.layout_set(layout[0], LAYOUT_BATCH_OFFSET, &k.step[which], 8))


cdef bint _prepare(plan *made, proposal *found, int *n) noexcept nogil:
    """Descriptors of the plan and the library's proposals.  It counts columns first, so that it is asked for the
    transposed product: D' = B' A'."""
    cdef const kind_of_product *k = &made.kind
    cdef bint a_rows = k.column[A] == 1, b_rows = k.column[B] == 1, fine
    cdef int32_t a_op = 0 if b_rows else 1, b_op = 0 if a_rows else 1, epilogue = EPILOGUE_BIAS
    cdef uint32_t reduction = REDUCTION_COMPUTE_TYPE, alignment
    cdef uint64_t workspace = WORKSPACE
    cdef void *preference = NULL
    cdef const void *stand_in = <const void *> <size_t> 16
    cdef int i
    cdef int[4] order = [B, A, D, C]
    cdef int compute = COMPUTE_64F if k.dtype == FX_F64 else COMPUTE_32F_FAST_TF32 if k.tf32 else COMPUTE_32F
    if handles[k.device] == NULL and lt.create(&handles[k.device]):
        return False
    fine = not lt.desc_create(&made.desc, compute, REAL_64F if k.dtype == FX_F64 else REAL_32F) \
        and not lt.desc_set(made.desc, DESC_TRANSA, &a_op, 4) and not lt.desc_set(made.desc, DESC_TRANSB, &b_op, 4)
    if fine and k.added == BIAS_ADDED:      # an address of the bias's alignment; proposing does not look there
        fine = not lt.desc_set(made.desc, DESC_EPILOGUE, &epilogue, 4) \
            and not lt.desc_set(made.desc, DESC_BIAS_POINTER, &stand_in, sizeof(stand_in))
    fine = fine and (_layout(&made.layout[0], k, B, k.n, k.k, k.row[B]) if b_rows
                     else _layout(&made.layout[0], k, B, k.k, k.n, k.column[B]))
    fine = fine and (_layout(&made.layout[1], k, A, k.k, k.m, k.row[A]) if a_rows
                     else _layout(&made.layout[1], k, A, k.m, k.k, k.column[A]))
    fine = fine and _layout(&made.layout[3], k, C, k.n, k.m, k.row[C])
    if k.added == MATRIX_ADDED:
        fine = fine and _layout(&made.layout[2], k, D, k.n, k.m, k.row[D])
    else:
        fine = fine and _layout(&made.layout[2], k, C, k.n, k.m, k.row[C])
    fine = fine and not lt.preference_create(&preference) \
        and not lt.preference_set(preference, PREFER_WORKSPACE, &workspace, 8) \
        and not lt.preference_set(preference, PREFER_REDUCTION, &reduction, 4)
    for i in range(4):
        alignment = <uint32_t> k.aligned[C if i == 2 and k.added != MATRIX_ADDED else order[i]]
        fine = fine and not lt.preference_set(preference, PREFER_ALIGNMENT + i, &alignment, 4)
    n[0] = 0
    fine = fine and not lt.propose(handles[k.device], made.desc, made.layout[0], made.layout[1], made.layout[2],
                                   made.layout[3], preference, PROPOSALS, found, n)
    if preference != NULL:
        lt.preference_destroy(preference)
    return fine


cdef int _run(const plan *made, const product *p) noexcept nogil:
    """The library's status; the mutex is held: a bias is an attribute of the descriptor."""
    cdef float[2] single = [<float> p.alpha, <float> p.beta]
    cdef double[2] double_ = [p.alpha, p.beta]
    cdef void *alpha = &double_[0] if p.dtype == FX_F64 else <void *> &single[0]
    cdef void *beta = &double_[1] if p.dtype == FX_F64 else <void *> &single[1]
    cdef void *workspace = NULL
    cdef const void *bias = p.data[D]
    cdef const void *added = p.data[D] if made.kind.added == MATRIX_ADDED else p.data[C]
    cdef int status
    if made.kind.added == BIAS_ADDED:
        single[1] = 0
        double_[1] = 0
        status = lt.desc_set(made.desc, DESC_BIAS_POINTER, &bias, sizeof(bias))
        if status:
            return status
    if made.workspace:
        workspace = scratch(p.device, made.workspace)
        if workspace == NULL:
            return -1
    status = lt.matmul(handles[p.device], made.desc, alpha, p.data[B], made.layout[0], p.data[A], made.layout[1], beta,
                       added, made.layout[2], p.data[C], made.layout[3], &made.algo, workspace, made.workspace,
                       current_stream(p.device))
    if workspace != NULL:
        scratch_free(p.device, workspace)
    return status


cdef float _time(const plan *made, const product *p, product_function own, CUevent *events) noexcept nogil:
    """Milliseconds of the fastest run, by the library for a plan, by our kernel without; infinite when it fails."""
    cdef float milliseconds = 0, least = 1e30
    cdef CUstream stream = current_stream(p.device)
    cdef product copied
    cdef int i, status = 0
    for i in range(RUNS + 1):       # the first one loads the kernel
        if cu.cuEventRecord(events[0], stream):
            return 1e30
        if made != NULL:
            status = _run(made, p)
        else:
            copied = p[0]
            status = own(&copied)
        if status or cu.cuEventRecord(events[1], stream) or cu.cuEventSynchronize(events[1]) \
                or cu.cuEventElapsedTime(&milliseconds, events[0], events[1]):
            return 1e30
        if i:
            least = min(least, milliseconds)
    return least


cdef void _choose(plan *made, const product *p, product_function own) noexcept nogil:
    """Time our kernel and the proposals into scratch memory, as the result may be read, and keep the fastest."""
    cdef proposal found[PROPOSALS]
    cdef product tried = p[0]
    cdef CUevent events[2]
    cdef plan best
    cdef float least, taken
    cdef int n = 0, i
    made.by_library = False
    memset(found, 0, sizeof(found))
    if bind(p.device) or not _prepare(made, found, &n):
        n = 0
    events[0] = events[1] = NULL
    tried.data[C] = <char *> scratch(p.device, <size_t> (made.kind.batch * p.m * p.n * fx_itemsize(p.dtype)))
    if n and tried.data[C] != NULL and cu.cuEventCreate(&events[0], 0) == 0 and cu.cuEventCreate(&events[1], 0) == 0:
        least = _time(NULL, &tried, own, events) if measured else 1e30
        best = made[0]
        for i in range(n):
            if found[i].state:
                continue
            made.algo, made.workspace = found[i].algo, found[i].workspace
            taken = _time(made, &tried, own, events)
            if taken < least:
                least = taken
                best = made[0]
                best.by_library = True
        made[0] = best
    for i in range(2):
        if events[i] != NULL:
            cu.cuEventDestroy(events[i])
    if tried.data[C] != NULL:
        scratch_free(p.device, tried.data[C])
    if not made.by_library:
        if made.desc != NULL:
            lt.desc_destroy(made.desc)
        made.desc = NULL
        for i in range(4):
            if made.layout[i] != NULL:
                lt.layout_destroy(made.layout[i])
            made.layout[i] = NULL


cdef int multiply_by_library(product *p, bint tf32, product_function own, bint *done) noexcept nogil:
    global plans, n_plans
    cdef kind_of_product kind
    cdef plan *found
    cdef int status = 0, capturing = 0
    done[0] = False
    if not allowed or state == ABSENT or not _describe(p, tf32, &kind):
        return FX_OK
    if state == UNKNOWN and not _open():
        return FX_OK
    pthread_mutex_lock(&fx_plans_mutex)
    if plans == NULL:
        plans = <plan *> calloc(SLOTS, sizeof(plan))
    found = _slot(&kind) if plans != NULL else NULL
    if found != NULL and not found.used:
        if bind(p.device) or captures or cu.cuStreamIsCapturing(current_stream(p.device), &capturing) or capturing:
            found = NULL
        else:
            found.kind = kind
            _choose(found, p, own)
            found.used = True
            n_plans += 1
    if found != NULL and found.by_library:
        status = bind(p.device)
        if status == 0:
            status = _run(found, p)
        if status == 0:
            done[0] = True
        else:
            found.by_library = False    # ours from now on
    pthread_mutex_unlock(&fx_plans_mutex)
    return FX_OK
