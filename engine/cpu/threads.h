#ifndef ENGINE_CPU_THREADS_H
#define ENGINE_CPU_THREADS_H

#include <stdint.h>

/* OMP_NUM_THREADS; or SLURM's CPUs per task; or the processors this process may use, shared with the other ranks that
 * the launcher started on this machine. */
int32_t threads_default(void);

#endif
