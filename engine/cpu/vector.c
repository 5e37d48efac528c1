#include "engine/cpu/vector.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"

const VectorKernels *vector_kernels_available(int i)
{
    const VectorKernels *found[3];
    int count = 0;
    __builtin_cpu_init();
    found[count++] = &vector_kernels_sse2;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) {
        found[count++] = &vector_kernels_avx2;
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512vl"))
            found[count++] = &vector_kernels_avx512;
    }
    return i >= 0 && i < count ? found[i] : NULL;
}

const VectorKernels *vector_kernels(void)
{
    const VectorKernels *best = NULL;
    const char *wanted = getenv("VASILY_ISA");
    for (int i = 0; vector_kernels_available(i); i++) {
        best = vector_kernels_available(i);
        if (wanted && strcmp(wanted, best->name) == 0) return best;
    }
    if (wanted)
        log_warn("VASILY_ISA=%s: this processor has no such kernels (sse2, avx2, avx512); using %s", wanted,
                 best->name);
    return best;
}
