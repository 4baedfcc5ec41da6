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
    CAPTURE_UNSUPPORTED = 900
};

#define EXPORT extern "C" __attribute__((visibility("default"))) CUresult
#define ENTER_AS(name, needs_context, when_lost) \
    std::lock_guard hold(lock);                  \
    if (const int status = enter(name, needs_context, when_lost)) return status
#define ENTER ENTER_AS(__func__, true, false)
#define ENTER_ANYWHERE ENTER_AS(__func__, false, true)
/* What waits or frees is refused while a capture in global mode is going on. */
#define REFUSED_IN_CAPTURE \
    if (captures_globally()) return CAPTURE_UNSUPPORTED
#define STREAM(handle)             \
    stream *s = stream_of(handle); \
    if (s == nullptr) return INVALID_HANDLE

const int LIMIT_SHARED = 48 << 10, LIMIT_SHARED_OPTIN = 227 << 10;
#endif
