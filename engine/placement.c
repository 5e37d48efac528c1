#include "engine/placement.h"

#include <stdlib.h>

#include "base/arena.h"

static int64_t aligned(int64_t bytes)
{
    return (bytes + PLACEMENT_ALIGN - 1) / PLACEMENT_ALIGN * PLACEMENT_ALIGN;
}

/* Largest first; ties by start, then by address, so that the result never depends on the sort's whims. */
static int by_size(const void *pa, const void *pb)
{
    const Lifetime *a = *(Lifetime *const *)pa, *b = *(Lifetime *const *)pb;
    if (a->bytes != b->bytes) return a->bytes > b->bytes ? -1 : 1;
    if (a->first != b->first) return a->first < b->first ? -1 : 1;
    return a < b ? -1 : a > b;
}

/* Puts one lifetime at the lowest gap between those placed before that are alive with it. `placed` is sorted by offset.
 */
static void place(Lifetime *item, Lifetime **placed, size_t *placed_count)
{
    int64_t at = 0;
    for (size_t k = 0; k < *placed_count; k++) {
        const Lifetime *other = placed[k];
        if (other->last < item->first || other->first > item->last) continue;
        if (other->offset >= at + aligned(item->bytes)) break;
        int64_t end = other->offset + aligned(other->bytes);
        if (end > at) at = end;
    }
    item->offset = at;
    size_t k = (*placed_count)++;
    for (; k > 0 && placed[k - 1]->offset > at; k--) placed[k] = placed[k - 1];
    placed[k] = item;
}

Status placement_solve(Lifetime *lifetimes, size_t count, int reuse, int64_t *slab_bytes)
{
    Status status = STATUS_OK;
    Lifetime **order = mem_alloc_array(count + 1, sizeof(Lifetime *));
    Lifetime **placed = mem_alloc_array(count + 1, sizeof(Lifetime *));
    size_t ordered = 0, placed_count = 0;
    int64_t slab = 0;
    if (order == NULL || placed == NULL) FAIL(ERR_MEMORY, "out of memory while placing %zu tensors", count);
    for (size_t i = 0; i < count; i++)
        if (lifetimes[i].bytes > 0) order[ordered++] = &lifetimes[i];
    qsort(order, ordered, sizeof(Lifetime *), by_size);
    for (size_t i = 0; i < ordered; i++) {
        if (reuse)
            place(order[i], placed, &placed_count);
        else
            order[i]->offset = slab;
        int64_t end = order[i]->offset + aligned(order[i]->bytes);
        if (end > slab) slab = end;
    }
    *slab_bytes = slab;
fail:
    free(order);
    free(placed);
    return status;
}

Status placement_peak_live(const Lifetime *lifetimes, size_t count, int32_t op_count, int64_t *bytes)
{
    /* change[i + 1]: bytes that begin to live at op i minus those that ceased after op i - 1 */
    int64_t *change = mem_alloc_array((size_t)op_count + 3, sizeof *change);
    if (change == NULL) return status_fail(ERR_MEMORY, __FILE__, __LINE__, "out of memory for %d ops", op_count);
    for (size_t i = 0; i < count; i++) {
        change[lifetimes[i].first + 1] += aligned(lifetimes[i].bytes);
        change[lifetimes[i].last + 2] -= aligned(lifetimes[i].bytes);
    }
    int64_t live = 0, peak = 0;
    for (int32_t i = 0; i < op_count + 3; i++) {
        live += change[i];
        if (live > peak) peak = live;
    }
    free(change);
    *bytes = peak;
    return STATUS_OK;
}
