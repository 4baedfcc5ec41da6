/* What every kernel file starts from.  The same files are compiled by nvcc for the GPU and by the host compiler for the
 * simulated one of tests/simulator, where FX_SIMULATED is defined and these macros come from its header.
 *
 * A kernel is an extern "C" __global__ function followed by FX_EXPORT(name).  Dynamic shared memory is declared by
 * FX_DYNAMIC_SHARED(type, name).
 */
#ifndef FX_DEVICE_CUH
#define FX_DEVICE_CUH
#ifndef FX_SIMULATED
#define FX_EXPORT(name)
#define FX_DYNAMIC_SHARED(type, name)                                  \
    extern __shared__ __align__(16) unsigned char fx_dynamic_shared[]; \
    type *name = reinterpret_cast<type *>(fx_dynamic_shared)
#endif
#endif
