// What AddressSanitizer is told of memory that a pool keeps or rounds up: nothing in any other build.
#ifndef FX_POISON_H
#define FX_POISON_H

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define fx_poison(address, bytes) ASAN_POISON_MEMORY_REGION(address, bytes)
#define fx_unpoison(address, bytes) ASAN_UNPOISON_MEMORY_REGION(address, bytes)
#else
#define fx_poison(address, bytes) ((void)(address), (void)(bytes))
#define fx_unpoison(address, bytes) ((void)(address), (void)(bytes))
#endif

#endif
