# The driver's types and the table of its entry points that Ferrox uses, by the binary interface of CUDA 12.0.
# Declared here and not taken from cuda.h, so that nothing of CUDA is needed to build.  The table's order is that of
# ENTRIES in driver.pyx.
ctypedef int CUresult
ctypedef int CUdevice
ctypedef unsigned long long CUdeviceptr
ctypedef void *CUcontext
ctypedef void *CUstream
ctypedef void *CUevent
ctypedef void *CUmodule
ctypedef void *CUfunction
ctypedef void *CUgraph
ctypedef void *CUgraphExec

cdef struct cuda_driver:
    CUresult (*cuInit)(unsigned int flags) noexcept nogil
    CUresult (*cuDriverGetVersion)(int *version) noexcept nogil
    CUresult (*cuGetErrorName)(CUresult error, const char **name) noexcept nogil
    CUresult (*cuGetErrorString)(CUresult error, const char **text) noexcept nogil
    CUresult (*cuDeviceGetCount)(int *count) noexcept nogil
    CUresult (*cuDeviceGet)(CUdevice *device, int ordinal) noexcept nogil
    CUresult (*cuDeviceGetName)(char *name, int room, CUdevice device) noexcept nogil
    CUresult (*cuDeviceGetUuid)(unsigned char *uuid, CUdevice device) noexcept nogil
    CUresult (*cuDeviceTotalMem)(size_t *bytes, CUdevice device) noexcept nogil
    CUresult (*cuDeviceGetAttribute)(int *value, int attribute, CUdevice device) noexcept nogil
    CUresult (*cuDeviceCanAccessPeer)(int *can, CUdevice device, CUdevice peer) noexcept nogil
    CUresult (*cuDevicePrimaryCtxRetain)(CUcontext *context, CUdevice device) noexcept nogil
    CUresult (*cuCtxSetCurrent)(CUcontext context) noexcept nogil
    CUresult (*cuCtxGetCurrent)(CUcontext *context) noexcept nogil
    CUresult (*cuCtxSynchronize)() noexcept nogil
    CUresult (*cuCtxGetStreamPriorityRange)(int *least, int *greatest) noexcept nogil
    CUresult (*cuStreamCreateWithPriority)(CUstream *stream, unsigned int flags, int priority) noexcept nogil
    CUresult (*cuStreamDestroy)(CUstream stream) noexcept nogil
    CUresult (*cuStreamQuery)(CUstream stream) noexcept nogil
    CUresult (*cuStreamSynchronize)(CUstream stream) noexcept nogil
    CUresult (*cuStreamWaitEvent)(CUstream stream, CUevent event, unsigned int flags) noexcept nogil
    CUresult (*cuStreamIsCapturing)(CUstream stream, int *status) noexcept nogil
    CUresult (*cuStreamGetCaptureInfo)(CUstream stream, int *status, unsigned long long *id, CUgraph *graph,
                                       const void **after, size_t *n) noexcept nogil
    CUresult (*cuThreadExchangeStreamCaptureMode)(int *mode) noexcept nogil
    CUresult (*cuStreamBeginCapture)(CUstream stream, int mode) noexcept nogil
    CUresult (*cuStreamEndCapture)(CUstream stream, CUgraph *graph) noexcept nogil
    CUresult (*cuLaunchHostFunc)(CUstream stream, void (*function)(void *) noexcept nogil, void *data) noexcept nogil
    CUresult (*cuEventCreate)(CUevent *event, unsigned int flags) noexcept nogil
    CUresult (*cuEventDestroy)(CUevent event) noexcept nogil
    CUresult (*cuEventRecord)(CUevent event, CUstream stream) noexcept nogil
    CUresult (*cuEventQuery)(CUevent event) noexcept nogil
    CUresult (*cuEventSynchronize)(CUevent event) noexcept nogil
    CUresult (*cuEventElapsedTime)(float *milliseconds, CUevent start, CUevent end) noexcept nogil
    CUresult (*cuMemGetInfo)(size_t *free, size_t *total) noexcept nogil
    CUresult (*cuMemAlloc)(CUdeviceptr *memory, size_t bytes) noexcept nogil
    CUresult (*cuMemFree)(CUdeviceptr memory) noexcept nogil
    CUresult (*cuMemHostAlloc)(void **memory, size_t bytes, unsigned int flags) noexcept nogil
    CUresult (*cuMemFreeHost)(void *memory) noexcept nogil
    CUresult (*cuMemcpyAsync)(CUdeviceptr to, CUdeviceptr source, size_t bytes, CUstream stream) noexcept nogil
    CUresult (*cuMemcpyHtoDAsync)(CUdeviceptr to, const void *source, size_t bytes, CUstream stream) noexcept nogil
    CUresult (*cuMemcpyDtoHAsync)(void *to, CUdeviceptr source, size_t bytes, CUstream stream) noexcept nogil
    CUresult (*cuMemcpyDtoDAsync)(CUdeviceptr to, CUdeviceptr source, size_t bytes, CUstream stream) noexcept nogil
    CUresult (*cuMemcpyPeerAsync)(CUdeviceptr to, CUcontext to_context, CUdeviceptr source, CUcontext context,
                                  size_t bytes, CUstream stream) noexcept nogil
    CUresult (*cuMemsetD8Async)(CUdeviceptr to, unsigned char value, size_t n, CUstream stream) noexcept nogil
    CUresult (*cuMemsetD16Async)(CUdeviceptr to, unsigned short value, size_t n, CUstream stream) noexcept nogil
    CUresult (*cuMemsetD32Async)(CUdeviceptr to, unsigned int value, size_t n, CUstream stream) noexcept nogil
    CUresult (*cuPointerGetAttribute)(void *data, int attribute, CUdeviceptr memory) noexcept nogil
    CUresult (*cuModuleLoadData)(CUmodule *module, const void *image) noexcept nogil
    CUresult (*cuModuleUnload)(CUmodule module) noexcept nogil
    CUresult (*cuModuleGetFunction)(CUfunction *function, CUmodule module, const char *name) noexcept nogil
    CUresult (*cuFuncGetAttribute)(int *value, int attribute, CUfunction function) noexcept nogil
    CUresult (*cuFuncSetAttribute)(CUfunction function, int attribute, int value) noexcept nogil
    CUresult (*cuOccupancyMaxActiveBlocksPerMultiprocessor)(int *n, CUfunction f, int threads, size_t s) noexcept nogil
    CUresult (*cuLaunchKernel)(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                               unsigned bz, unsigned shared, CUstream stream, void **args, void **extra) noexcept nogil
    CUresult (*cuGraphGetNodes)(CUgraph graph, void **nodes, size_t *n) noexcept nogil
    CUresult (*cuGraphInstantiateWithFlags)(CUgraphExec *made, CUgraph g, unsigned long long flags) noexcept nogil
    CUresult (*cuGraphLaunch)(CUgraphExec executable, CUstream stream) noexcept nogil
    CUresult (*cuGraphExecDestroy)(CUgraphExec executable) noexcept nogil
    CUresult (*cuGraphDestroy)(CUgraph graph) noexcept nogil
    CUresult (*cuMemHostGetDevicePointer)(CUdeviceptr *there, void *memory, unsigned int flags) noexcept nogil
    CUresult (*cuCtxEnablePeerAccess)(CUcontext peer, unsigned int flags) noexcept nogil
