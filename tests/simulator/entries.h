/* What the files of entry points share. */
#ifndef FX_SIM_ENTRIES_H
#define FX_SIM_ENTRIES_H
#include "driver.h"
#include "simulator.h"

typedef int CUresult;
typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef void *CUcontext;

enum {
    DRIVER_VERSION = 13000,
    OK = 0,
    INVALID_VALUE = 1,
    INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
    CAPTURE_MERGE = 902,
    CAPTURE_UNMATCHED = 903,
    CAPTURE_UNJOINED = 904,
    CAPTURE_ISOLATION = 905,
    CAPTURE_IMPLICIT = 906,
    CAPTURED_EVENT = 907,
    CAPTURE_WRONG_THREAD = 908
};

#define EXPORT extern "C" __attribute__((visibility("default"))) CUresult
#define ENTER_AS(name, needs_context, when_lost) \
    std::lock_guard hold(lock);                  \
    if (const int status = enter(name, needs_context, when_lost)) return status
#define ENTER ENTER_AS(__func__, true, false)
#define ENTER_ANYWHERE ENTER_AS(__func__, false, true)
/* What waits, allocates or frees may break a capture. */
#define UNSAFE_IN_CAPTURE \
    if (prohibited()) return CAPTURE_UNSUPPORTED
#define STREAM(handle)             \
    stream *s = stream_of(handle); \
    if (s == nullptr) return INVALID_HANDLE
#define WORK_STREAM(handle) \
    STREAM(handle);         \
    if (s->capturing && s->capturing->invalid) return CAPTURE_INVALIDATED
/* The host waits for a stream or asks about it. */
#define WAIT_STREAM(handle)           \
    UNSAFE_IN_CAPTURE;                \
    STREAM(handle);                   \
    if (s->capturing) {               \
        s->capturing->invalid = true; \
        return CAPTURE_UNSUPPORTED;   \
    }

const int LIMIT_SHARED = 48 << 10, LIMIT_SHARED_OPTIN = 227 << 10;
#endif
