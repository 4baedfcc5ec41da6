/* The highest x86-64 level whose builds this machine runs: 2, 3 or 4; 0 on other processors. */
#ifndef FX_CPU_LEVEL_H
#define FX_CPU_LEVEL_H

static inline int fx_cpu_level(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return 4;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") ? 3 : 2;
#else
    return 0;
#endif
}
#endif
