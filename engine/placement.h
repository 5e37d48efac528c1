/* Placing tensors in one slab by the intervals in which they live. */
#ifndef ENGINE_PLACEMENT_H
#define ENGINE_PLACEMENT_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define PLACEMENT_ALIGN 64 /* bytes */

typedef struct Lifetime {
    int64_t bytes;       /* 0: takes no room */
    int32_t first, last; /* the ops (inclusive) during which the contents matter; -1 is before the first op */
    int64_t offset;      /* the result */
} Lifetime;

/* Gives every lifetime an offset such that two that overlap in time never overlap in memory; writes the slab's size.
 * Greedy, largest first, each at the lowest place that fits: within a few percent of peak_live on our graphs. With
 * `reuse` false every lifetime has its own place. */
Status placement_solve(Lifetime *lifetimes, size_t count, int reuse, int64_t *slab_bytes);

/* The largest sum of bytes that live at one op: no placement is smaller. */
Status placement_peak_live(const Lifetime *lifetimes, size_t count, int32_t op_count, int64_t *bytes);

#endif
