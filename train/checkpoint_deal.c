#include "train/checkpoint_deal.h"

#include <stdlib.h>

#include "base/arena.h"
#include "engine/params.h"

/* The `part`-th of `parts` equal ones begins here; on a parameter's alignment. */
static int64_t part_start(int64_t count, int part, int parts)
{
    if (part == parts) return count;
    /* count * part may be too large for 64 bits, so the remainder goes its own way. */
    const int64_t start = count / parts * part + count % parts * part / parts;
    return start / PARAM_ALIGN * PARAM_ALIGN;
}

Status checkpoint_deal_make(const Exchange *exchange, int world, int group, int rank, CheckpointDeal *out)
{
    Status status = STATUS_OK;
    const UpdateSpan *own;
    const bool sharded = exchange_is_sharded(exchange);
    const int share = sharded ? rank % group : 0, copy = sharded ? rank / group : rank;
    const int copies = sharded ? world / group : world;
    const int32_t count = exchange_spans(exchange, &own);
    *out = (CheckpointDeal){0};
    UpdateSpan *spans = mem_alloc_array((size_t)count + 1, sizeof *spans);
    out->spans = mem_alloc_array((size_t)count + 1, sizeof *out->spans);
    if (!spans || !out->spans) FAIL(ERR_MEMORY, "no memory for the shares of a checkpoint");
    exchange_spans_of(exchange, share, spans);
    for (int32_t s = 0; s < count; s++) {
        const int64_t from = part_start(spans[s].count, copy, copies),
                      to = part_start(spans[s].count, copy + 1, copies);
        if (from == to) continue;
        out->spans[out->count++] = (DealSpan){
            .flat = spans[s].flat + from, .held = spans[s].local + from, .local = out->elements, .count = to - from};
        out->elements += to - from;
    }
fail:
    free(spans);
    if (status) checkpoint_deal_free(out);
    return status;
}

void checkpoint_deal_free(CheckpointDeal *deal)
{
    free(deal->spans);
    *deal = (CheckpointDeal){0};
}
