/* What a kernel on the GPU found wrong with the values it was given, one record for each device, in pinned host memory.
 *
 * The first kernel that finds something fills it; the host looks when it next waits for the device, raises, and clears
 * it.  Nothing waits for it, and no context is lost.  C.
 */
#ifndef FX_FAULT_H
#define FX_FAULT_H
#include <stdint.h>

enum fx_fault_kind {
    FX_FAULT_NONE,
    FX_FAULT_INDEX, /* `value` is no index into a dimension of `size` */
    FX_FAULT_TARGET, /* `value` is no class of `size` */
    FX_FAULT_DIVISION /* an integer was divided by zero */
};

typedef struct fx_fault {
    int32_t kind; /* an fx_fault_kind */
    int32_t kernel; /* the number of the kernel at the door (fx_call.kernel), for its name */
    int64_t value, size;
} fx_fault;

#endif
