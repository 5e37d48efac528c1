#include <stdlib.h>

#include "data/loader.h"

/* `whole`: a slash ends it. */
static Status put_word(StrBuf *out, const char *key, bool whole)
{
    Status status = STATUS_OK;
    for (; *key; key++) {
        unsigned char b = (unsigned char)*key;
        if (b <= ' ' || b == '%' || b == 127 || (whole && b == '/'))
            TRY(strbuf_printf(out, "%%%02X", b));
        else
            TRY(strbuf_append(out, key, 1));
    }
fail:
    return status;
}

/* One step: a batch of each rank, written in global order. STATUS_END when the sources have none left for one of them.
 */
static Status print_step(const DataConfig *config, Loader **loaders, const Batch **batches, int world,
                         int64_t global_batch, StrBuf *out)
{
    Status status = STATUS_OK;
    for (int r = 0; r < world; r++) {
        status = loader_next(loaders[r], &batches[r]);
        if (status == STATUS_END) return status;
        TRY(status);
    }
    int64_t base = batches[0]->cursor->next_index - global_batch;
    for (int64_t j = 0; j < global_batch; j++) {
        const Batch *batch = batches[(base + j) % world];
        int64_t k = j / world;
        if (batch->index[k] != base + j)
            FAIL(ERR_INTERNAL, "sample %lld is not where it belongs", (long long)(base + j));
        if (j) TRY(strbuf_append(out, " ", 1));
        if (config->sources.count > 1) {
            TRY(put_word(out, data_config_source(config, (size_t)batch->sources[k])->name, true));
            TRY(strbuf_append(out, "/", 1));
        }
        TRY(put_word(out, batch->keys[k], false));
    }
    TRY(strbuf_append(out, "\n", 1));
    for (int r = 0; r < world; r++) loader_release(loaders[r], batches[r]);
fail:
    return status;
}

Status order_print(const DataConfig *config, const PrecomputedSpec *precomputed, uint64_t seed, int resolution,
                   int64_t global_batch, int world, int64_t steps, StrBuf *out)
{
    Status status = STATUS_OK;
    Loader **loaders = NULL;
    const Batch **batches = NULL;
    DataConfig small = *config;
    if (world < 1 || world > 65536) FAIL(ERR_USAGE, "%d ranks", world);
    small.prefetch_batches = 1;
    if (world > 1) small.decode_threads = 1;
    loaders = mem_alloc_array((size_t)world, sizeof loaders[0]);
    batches = mem_alloc_array((size_t)world, sizeof batches[0]);
    if (!loaders || !batches) FAIL(ERR_MEMORY, "out of memory for %d loaders", world);
    for (int r = 0; r < world; r++) {
        LoaderOptions options = {.seed = seed,
                                 .resolution = resolution,
                                 .global_batch = global_batch,
                                 .rank = r,
                                 .world = world,
                                 .precomputed = precomputed,
                                 .keys_only = true};
        TRY(loader_open(&small, &options, &loaders[r]));
    }
    for (int64_t s = 0; s < steps; s++) {
        status = print_step(config, loaders, batches, world, global_batch, out);
        if (status == STATUS_END) break;
        TRY(status);
    }
    status = STATUS_OK;
fail:
    for (int r = 0; loaders && r < world; r++) loader_close(loaders[r]);
    free(loaders);
    free(batches);
    return status;
}
