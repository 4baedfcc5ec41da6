/* The entry points for devices, streams, events and memory, one function each, and cuGetProcAddress. */
#include "entries.h"
#include <dlfcn.h>
#include <map>
#include <set>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

using namespace sim;

namespace {
char contexts[DEVICES]; /* their addresses are the handles */
std::set<event *> events;

const std::map<int, std::pair<const char *, const char *>> errors = {
    {0, {"CUDA_SUCCESS", "no error"}},
    {1, {"CUDA_ERROR_INVALID_VALUE", "invalid argument"}},
    {2, {"CUDA_ERROR_OUT_OF_MEMORY", "out of memory"}},
    {3, {"CUDA_ERROR_NOT_INITIALIZED", "initialization error"}},
    {100, {"CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"}},
    {101, {"CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"}},
    {200, {"CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"}},
    {201, {"CUDA_ERROR_INVALID_CONTEXT", "invalid device context"}},
    {209, {"CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"}},
    {222, {"CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."}},
    {400, {"CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"}},
    {500, {"CUDA_ERROR_NOT_FOUND", "named symbol not found"}},
    {600, {"CUDA_ERROR_NOT_READY", "device not ready"}},
    {700, {"CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"}},
    {900, {"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"}},
    {901, {"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"}},
    {902, {"CUDA_ERROR_STREAM_CAPTURE_MERGE", "operation would result in a merge of separate capture sequences"}},
    {903, {"CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "capture was not ended in the same stream as it began"}},
    {904, {"CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "capturing stream has unjoined work"}},
    {905, {"CUDA_ERROR_STREAM_CAPTURE_ISOLATION", "dependency created on uncaptured work in another stream"}},
    {906, {"CUDA_ERROR_STREAM_CAPTURE_IMPLICIT", "operation would make the legacy stream depend on a capturing one"}},
    {907, {"CUDA_ERROR_CAPTURED_EVENT", "operation not permitted on an event last recorded in a capturing stream"}},
    {908, {"CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD", "attempt to terminate a capture from another thread"}},
    {701, {"CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"}},
    {710, {"CUDA_ERROR_ASSERT", "device-side assert triggered"}},
    {719, {"CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"}},
    {999, {"CUDA_ERROR_UNKNOWN", "unknown error"}},
};

bool overlaps_host(const void *address, size_t bytes) {
    return owner_of(reinterpret_cast<uint64_t>(address)) < 0 && (bytes == 0 || address != nullptr);
}

/* A copy of any kind: device memory is checked; pageable host memory is read at once and written before the call returns. */
int copy(void *to, const void *from, size_t bytes, stream *s) {
    const auto target = reinterpret_cast<uint64_t>(to), source = reinterpret_cast<uint64_t>(from);
    if (bytes == 0) return OK;
    const bool to_host = owner_of(target) < 0, from_host = owner_of(source) < 0;
    if ((!to_host && !is_valid_range(target, bytes)) || (!from_host && !is_valid_range(source, bytes)))
        return INVALID_VALUE;
    if (s->capturing && ((to_host && !is_pinned(target, bytes)) || (from_host && !is_pinned(source, bytes)))) {
        s->capturing->invalid = true;
        return CAPTURE_UNSUPPORTED;
    }
    std::shared_ptr<std::vector<char>> kept;
    if (from_host && !is_pinned(source, bytes)) {
        kept = std::make_shared<std::vector<char>>(static_cast<const char *>(from),
                                                   static_cast<const char *>(from) + bytes);
    }
    const bool pinned_target = to_host && is_pinned(target, bytes);
    const piece_ptr work = enqueue(s, [=]() -> int {
        takes_copy(bytes);
        if (!(to_host ? !pinned_target || is_pinned(target, bytes) : is_valid_range(target, bytes)) ||
            !(from_host ? kept || is_pinned(source, bytes) : is_valid_range(source, bytes))) {
            last_failure = "a copy came to memory that had been freed";
            return 700;
        }
        memmove(to, kept ? kept->data() : from, bytes);
        return OK;
    });
    if (to_host && !pinned_target) return wait_for(work);
    return OK;
}

template <class T> int fill(CUdeviceptr to, T value, size_t n, void *handle) {
    WORK_STREAM(handle);
    if (n == 0) return OK;
    if (!is_valid_range(to, n * sizeof(T)) || to % sizeof(T)) return INVALID_VALUE;
    enqueue(s, [=]() -> int {
        if (!is_valid_range(to, n * sizeof(T))) return 700;
        for (size_t i = 0; i < n; i++) reinterpret_cast<T *>(to)[i] = value;
        return OK;
    });
    return OK;
}
} // namespace

EXPORT cuInit(unsigned) {
    ENTER_ANYWHERE;
    return OK;
}
EXPORT cuDriverGetVersion(int *version) {
    ENTER_ANYWHERE;
    const char *told = getenv("FXSIM_DRIVER_VERSION");
    *version = told ? atoi(told) : int(DRIVER_VERSION);
    return OK;
}
EXPORT cuGetErrorName(CUresult error, const char **name) {
    const auto found = errors.find(error);
    *name = found == errors.end() ? nullptr : found->second.first;
    return found == errors.end() ? INVALID_VALUE : OK;
}
EXPORT cuGetErrorString(CUresult error, const char **text) {
    const auto found = errors.find(error);
    *text = found == errors.end() ? nullptr : found->second.second;
    return found == errors.end() ? INVALID_VALUE : OK;
}

/* Devices and contexts */
EXPORT cuDeviceGetCount(int *count) {
    ENTER_ANYWHERE;
    *count = getenv("FXSIM_DEVICES") ? atoi(getenv("FXSIM_DEVICES")) : int(DEVICES);
    return OK;
}
EXPORT cuDeviceGet(CUdevice *device, int ordinal) {
    ENTER_ANYWHERE;
    *device = ordinal;
    return ordinal >= 0 && ordinal < DEVICES ? OK : 101;
}
EXPORT cuDeviceGetName(char *name, int room, CUdevice device) {
    ENTER_ANYWHERE;
    snprintf(name, size_t(room), "Ferrox simulator %d", device);
    return OK;
}
EXPORT cuDeviceGetUuid(unsigned char *uuid, CUdevice device) {
    ENTER_ANYWHERE;
    memset(uuid, 0, 16);
    uuid[15] = static_cast<unsigned char>(device + 1);
    return OK;
}
EXPORT cuDeviceTotalMem(size_t *bytes, CUdevice device) {
    ENTER_ANYWHERE;
    size_t free;
    memory_info(device, &free, bytes);
    return OK;
}
EXPORT cuDeviceGetAttribute(int *value, int attribute, CUdevice) {
    ENTER_ANYWHERE;
    static const std::map<int, int> attributes = {{1, 1024},
                                                  {8, LIMIT_SHARED},
                                                  {10, 32},
                                                  {13, 1000000},
                                                  {16, 4},
                                                  {18, 0},
                                                  {33, 1},
                                                  {34, 0},
                                                  {36, 1000000},
                                                  {37, 1024},
                                                  {38, 4 << 20},
                                                  {39, 2048},
                                                  {41, 1},
                                                  {50, 0},
                                                  {75, 9},
                                                  {76, 0},
                                                  {81, 228 << 10},
                                                  {82, 65536},
                                                  {97, LIMIT_SHARED_OPTIN}};
    const auto found = attributes.find(attribute);
    if (found == attributes.end()) return INVALID_VALUE;
    *value = found->second;
    if (attribute == 75 && getenv("FXSIM_CAPABILITY")) *value = atoi(getenv("FXSIM_CAPABILITY"));
    return OK;
}
EXPORT cuDeviceCanAccessPeer(int *can, CUdevice, CUdevice) {
    ENTER_ANYWHERE;
    *can = 0;
    return OK;
}
EXPORT cuCtxEnablePeerAccess(CUcontext, unsigned) {
    ENTER;
    return 217; /* CUDA_ERROR_PEER_ACCESS_UNSUPPORTED */
}
EXPORT cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    ENTER_AS("cuDevicePrimaryCtxRetain", false, false);
    *context = &contexts[device];
    return OK;
}
EXPORT cuCtxSetCurrent(CUcontext context) {
    ENTER_AS("cuCtxSetCurrent", false, false);
    current_device_of_thread = context ? int(static_cast<char *>(context) - contexts) : -1;
    return OK;
}
EXPORT cuCtxGetCurrent(CUcontext *context) {
    ENTER_ANYWHERE;
    *context = current_device_of_thread < 0 ? nullptr : &contexts[current_device_of_thread];
    return OK;
}
EXPORT cuCtxSynchronize() {
    ENTER;
    UNSAFE_IN_CAPTURE;
    if (captures_on(current_device_of_thread)) return CAPTURE_UNSUPPORTED;
    return wait_for_device(current_device_of_thread);
}
EXPORT cuCtxGetStreamPriorityRange(int *least, int *greatest) {
    ENTER;
    *least = 0;
    *greatest = -5;
    return OK;
}

/* Streams and events */
EXPORT cuStreamCreateWithPriority(void **handle, unsigned flags, int priority) {
    ENTER;
    *handle = new_stream(!(flags & 1), priority);
    return OK;
}
EXPORT cuStreamDestroy(void *handle) {
    ENTER;
    STREAM(handle);
    delete_stream(s);
    return OK;
}
EXPORT cuStreamQuery(void *handle) {
    ENTER;
    WAIT_STREAM(handle);
    if (!s->last || s->last->done) return OK;
    make_progress();
    return sticky ? sticky : 600;
}
EXPORT cuStreamSynchronize(void *handle) {
    ENTER;
    WAIT_STREAM(handle);
    return wait_for(s->last);
}
EXPORT cuStreamWaitEvent(void *handle, event *mark, unsigned) {
    ENTER;
    WORK_STREAM(handle);
    if (!events.count(mark)) return INVALID_HANDLE;
    if (mark->captured) {
        graph *g = open_capture(mark->captured);
        if (!g) return CAPTURED_EVENT;
        if (g->invalid) return CAPTURE_INVALIDATED;
        if (s == stream_of(nullptr)) return CAPTURE_IMPLICIT;
        if (s->capturing && s->capturing != g) {
            s->capturing->invalid = g->invalid = true;
            return CAPTURE_MERGE;
        }
        s->capturing = g; /* the stream joins the capture */
        s->ends.insert(s->ends.end(), mark->ends.begin(), mark->ends.end());
    } else if (mark->recorded) {
        if (s->capturing) {
            s->capturing->invalid = true;
            return CAPTURE_ISOLATION;
        }
        enqueue(s, nullptr, {mark->recorded});
    }
    return OK;
}
EXPORT cuLaunchHostFunc(void *handle, void (*call)(void *), void *data) {
    ENTER;
    WORK_STREAM(handle);
    enqueue(s, [=]() -> int {
        call(data);
        return OK;
    });
    return OK;
}
EXPORT cuEventCreate(event **mark, unsigned flags) {
    ENTER;
    *mark = new event;
    (*mark)->device = current_device_of_thread;
    (*mark)->flags = flags;
    events.insert(*mark);
    return OK;
}
EXPORT cuEventDestroy(event *mark) {
    ENTER;
    if (!events.erase(mark)) return INVALID_HANDLE;
    delete mark;
    return OK;
}
EXPORT cuEventRecord(event *mark, void *handle) {
    ENTER;
    WORK_STREAM(handle);
    if (!events.count(mark) || mark->device != current_device_of_thread) return INVALID_HANDLE;
    const auto time = std::make_shared<double>(0);
    mark->captured = s->capturing ? s->capturing->id : 0;
    if (s->capturing) {
        mark->ends = s->ends;
        mark->recorded = nullptr;
        return OK;
    }
    mark->time = time;
    mark->recorded = enqueue(s, [time]() -> int {
        *time = now();
        return OK;
    });
    return OK;
}
EXPORT cuEventQuery(event *mark) {
    ENTER;
    UNSAFE_IN_CAPTURE;
    if (!events.count(mark)) return INVALID_HANDLE;
    if (mark->captured) return CAPTURED_EVENT;
    if (!mark->recorded || mark->recorded->done) return OK;
    make_progress();
    return sticky ? sticky : 600;
}
EXPORT cuEventSynchronize(event *mark) {
    ENTER;
    UNSAFE_IN_CAPTURE;
    if (!events.count(mark)) return INVALID_HANDLE;
    if (mark->captured) return CAPTURED_EVENT;
    return wait_for(mark->recorded);
}
EXPORT cuEventElapsedTime(float *milliseconds, event *start, event *end) {
    ENTER;
    if (events.count(start) && events.count(end) && (start->captured || end->captured)) return CAPTURED_EVENT;
    if (!events.count(start) || !events.count(end) || !start->recorded || !end->recorded) return INVALID_HANDLE;
    if ((start->flags | end->flags) & 2) return INVALID_HANDLE;
    if (!start->recorded->done || !end->recorded->done) return 600;
    *milliseconds = float(*end->time - *start->time);
    return OK;
}

/* Memory */
EXPORT cuMemGetInfo(size_t *free, size_t *total) {
    ENTER;
    memory_info(current_device_of_thread, free, total);
    return OK;
}
EXPORT cuMemAlloc(CUdeviceptr *memory, size_t bytes) {
    ENTER;
    UNSAFE_IN_CAPTURE;
    uint64_t address = 0;
    const int status = allocate_memory(current_device_of_thread, bytes, &address);
    *memory = address;
    return status;
}
EXPORT cuMemFree(CUdeviceptr memory) {
    ENTER;
    UNSAFE_IN_CAPTURE;
    if (memory == 0) return OK;
    const int device = owner_of(memory);
    if (device < 0) return INVALID_VALUE;
    wait_for_device(device); /* as the driver does */
    return sticky ? sticky : free_memory(device, memory);
}
EXPORT cuMemHostAlloc(void **memory, size_t bytes, unsigned) {
    ENTER;
    UNSAFE_IN_CAPTURE;
    if (bytes == 0) return INVALID_VALUE;
    return pin_host(bytes, memory) ? OK : 2;
}
EXPORT cuMemHostGetDevicePointer(CUdeviceptr *there, void *memory, unsigned flags) {
    ENTER;
    *there = reinterpret_cast<uint64_t>(memory);
    return flags == 0 && is_pinned(*there, 1) ? OK : INVALID_VALUE;
}
EXPORT cuMemFreeHost(void *memory) {
    ENTER;
    UNSAFE_IN_CAPTURE;
    for (int device = 0; device < DEVICES; device++) wait_for_device(device);
    return unpin_host(memory) ? OK : INVALID_VALUE;
}
EXPORT cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, void *handle) {
    ENTER;
    WORK_STREAM(handle);
    return copy(reinterpret_cast<void *>(to), reinterpret_cast<void *>(from), bytes, s);
}
EXPORT cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t bytes, void *handle) {
    ENTER;
    WORK_STREAM(handle);
    if (bytes && (owner_of(to) < 0 || !overlaps_host(from, bytes))) return INVALID_VALUE;
    return copy(reinterpret_cast<void *>(to), from, bytes, s);
}
EXPORT cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t bytes, void *handle) {
    ENTER;
    WORK_STREAM(handle);
    if (bytes && (owner_of(from) < 0 || !overlaps_host(to, bytes))) return INVALID_VALUE;
    return copy(to, reinterpret_cast<void *>(from), bytes, s);
}
EXPORT cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, void *handle) {
    ENTER;
    WORK_STREAM(handle);
    if (bytes && (owner_of(from) < 0 || owner_of(to) < 0)) return INVALID_VALUE;
    return copy(reinterpret_cast<void *>(to), reinterpret_cast<void *>(from), bytes, s);
}
EXPORT cuMemcpyPeerAsync(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext context, size_t bytes,
                         void *handle) {
    ENTER;
    WORK_STREAM(handle);
    if (bytes && (owner_of(from) != static_cast<char *>(context) - contexts ||
                  owner_of(to) != static_cast<char *>(to_context) - contexts))
        return INVALID_VALUE;
    return copy(reinterpret_cast<void *>(to), reinterpret_cast<void *>(from), bytes, s);
}
EXPORT cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t n, void *handle) {
    ENTER;
    return fill(to, value, n, handle);
}
EXPORT cuMemsetD16Async(CUdeviceptr to, unsigned short value, size_t n, void *handle) {
    ENTER;
    return fill(to, value, n, handle);
}
EXPORT cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t n, void *handle) {
    ENTER;
    return fill(to, value, n, handle);
}
/* CU_POINTER_ATTRIBUTE_MEMORY_TYPE and CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL */
EXPORT cuPointerGetAttribute(void *data, int attribute, CUdeviceptr memory) {
    ENTER;
    bool inside = false;
    const int device = owner_of(memory, nullptr, &inside);
    const bool pinned = is_pinned(memory, 1);
    if (!(device >= 0 && inside) && !pinned) return INVALID_VALUE;
    if (attribute == 2)
        *static_cast<unsigned *>(data) = pinned ? 1 : 2;
    else if (attribute == 9)
        *static_cast<int *>(data) = pinned ? 0 : device;
    else
        return INVALID_VALUE;
    return OK;
}

/* Every entry point is a symbol of this library; what is not there is not found. */
EXPORT cuGetProcAddress_v2(const char *symbol, void **found, int, uint64_t, int *status) {
    Dl_info self;
    dladdr(contexts, &self);
    void *library = dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    const bool itself = !strcmp(symbol, "cuGetProcAddress");
    *found = hidden == symbol ? nullptr : dlsym(library, itself ? "cuGetProcAddress_v2" : symbol);
    dlclose(library);
    if (status) *status = *found ? 0 : 1;
    return *found ? OK : NOT_FOUND;
}
EXPORT cuGetProcAddress(const char *symbol, void **found, int version, uint64_t flags) {
    return cuGetProcAddress_v2(symbol, found, version, flags, nullptr);
}
