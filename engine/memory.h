/* How much host memory there is for us, so that running out is an error before training. */
#ifndef ENGINE_MEMORY_H
#define ENGINE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Bytes this process may still take: the kernel's MemAvailable, or what is left of a cgroup limit when that is less.
 * INT64_MAX where neither can be read. VASILY_MEMORY_BYTES in the environment lowers it: so many bytes for the whole
 * process. */
int64_t memory_available(void);

/* Bytes of this process that are in memory now, and the most that ever were (the kernel's VmRSS and VmHWM: its own
 * memory and the pages it has touched of mapped files); 0 where they cannot be read. */
int64_t memory_resident(void);
int64_t memory_peak(void);

/* ERR_MEMORY, with both figures and the remedy, when `bytes` more cannot be had. */
Status memory_check(size_t bytes);

#endif
