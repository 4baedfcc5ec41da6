/* The level of x86-64 that this machine runs: 2, 3 or 4; 0 on other machines. */
#ifndef FX_CPU_LEVEL_H
#define FX_CPU_LEVEL_H

static int fx_cpu_level(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("x86-64-v4")) return 4;
    if (__builtin_cpu_supports("x86-64-v3")) return 3;
    return 2;
#else
    return 0;
#endif
}

#endif
