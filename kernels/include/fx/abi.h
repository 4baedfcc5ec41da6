/* What crosses a backend's boundary: arrays, one call, one backend.  C, no Python.h.
 *
 * A kernel is a C function over an fx_call.  The first n_out arrays are written, the n_in after them are read.
 * Everything that is not an array travels in params, in an order that each kernel documents.
 */
#ifndef FX_ABI_H
#define FX_ABI_H
#include <stddef.h>
#include <stdint.h>
#include "dtypes.h"

#ifdef __cplusplus
extern "C" {
#endif

/* FX_AUTO is memory that the manager places (residence.pyx): its addresses are not memory, and no kernel sees it. */
enum fx_device_type { FX_CPU, FX_CUDA, FX_AUTO, FX_DEVICE_TYPES };

#define FX_MAX_DIMS 64

enum fx_flags {
    FX_CONTIGUOUS = 1,  /* row-major without gaps (true for numel <= 1) */
    FX_HOST_SCALAR = 2  /* a Python number: data points to one host value of the array's dtype, on any device */
};

/* Memory that arrays lie in, counted and shared by all of them.  Guarded by the GIL: kernels leave it alone. */
typedef struct fx_storage {
    int32_t references;
    uint32_t version; /* counts the changes in place */
    void *data;
    size_t nbytes;
    void *owner;      /* what keeps foreign memory alive, a Python object; NULL where the pool or a backend does */
    void *changed_by; /* who changed it last: an operator's name, a Python str that lives for ever */
    uint8_t device_type;
    uint8_t read_only; /* foreign memory that must not be written */
    int32_t device_index;
} fx_storage;

typedef struct fx_array {
    void *data;    /* first element */
    int64_t *dims; /* shape[ndim], then strides[ndim], in elements */
    int64_t numel;
    fx_storage *storage; /* NULL for memory that nobody shares: host scalars, scratch */
    uint8_t dtype, ndim, flags, device_type;
    int32_t device_index;
} fx_array;

/* One parameter of a kernel: an integer, a real number, or the parts of a complex one. */
typedef union fx_scalar {
    double f;
    int64_t i;
    double pair[2];
} fx_scalar;

// clang-format off
enum fx_status {
    FX_OK, FX_ERROR_VALUE, FX_ERROR_INDEX, FX_ERROR_TYPE, FX_ERROR_RUNTIME, FX_ERROR_MEMORY, FX_ERROR_LINALG,
    FX_ERROR_DEVICE /* the backend knows more: errors.pyx: _device_error makes the exception */
};
// clang-format on

typedef struct fx_call {
    fx_array **arrays; /* outputs first; NULL for an optional operand that is absent */
    int n_out, n_in;
    int kernel; /* its number in the registry (backend.pyx): one C function may serve many kernels */
    int dtype;  /* the fx_dtype that the arithmetic is done in; operands of other dtypes are cast on the way */
    const fx_scalar *params;
    int n_params;
    uint64_t fresh;    /* bit k: output k was made for this call, so that nobody else can see it */
    char message[160]; /* what was wrong, where a kernel returns other than FX_OK; without the operator's name */
} fx_call;

/* Returns an fx_status.  Called without the GIL: must not touch Python. */
typedef int (*fx_kernel)(fx_call *call);

typedef struct fx_backend {
    const char *name;
    void *(*allocate)(size_t bytes, int device); /* 64-byte aligned, NULL when out of memory */
    void (*release)(void *block, size_t bytes, int device);
    /* Bytes within this backend or from or to the host, which is device -1.  With `wait` it is done when it returns;
     * without, memory of the host may still be in use if it is pinned. */
    int (*copy)(void *to, int to_device, const void *from, int from_device, size_t bytes, int wait);
    int (*synchronise)(int device);
    /* Notes which operator asked for a block, where nobody has yet; the text lives for ever.  May be NULL. */
    void (*label)(void *block, int device, const char *text);
} fx_backend;

#ifdef __cplusplus
}
#endif
#endif
