/* How many threads and how much memory a loader takes. */
#include <sched.h>

#include "data/loader.h"

#define AUTO_THREADS 16

static int usable_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int count = CPU_COUNT(&set);
    return count < 1 ? 1 : count > AUTO_THREADS ? AUTO_THREADS : count;
}

int loader_threads(const DataConfig *config)
{
    int64_t threads = config->decode_threads > 0 ? config->decode_threads : usable_cores();
    return threads > LOADER_MAX_THREADS ? LOADER_MAX_THREADS : (int)threads;
}

int64_t loader_memory(const DataConfig *config, const LoaderOptions *options)
{
    const PrecomputedSpec *spec = options->precomputed;
    int64_t pixels = (int64_t)options->resolution * options->resolution * 3, under_way = 0;
    int64_t bytes = 0, tokens = 0, row = 0; /* of a sample in a batch: bytes, tokens, floats */
    int64_t rows = options->global_batch / options->world;
    int threads = loader_threads(config);
    if (spec && spec->wanted[PRECOMPUTED_LATENTS])
        row += precomputed_moment_values(spec);
    else
        bytes = pixels, under_way = pixels * (2 * (4 * threads > rows ? 4 * threads : rows < 64 ? rows : 64) + 1);
    if (spec && spec->wanted[PRECOMPUTED_TEXT]) {
        row += spec->tokens * (spec->width1 + spec->width2) + spec->pooled;
        tokens = 2 * spec->tokens;
    } else {
        if (config->tokenizer1.model[0]) tokens += config->tokenizer1.max_tokens;
        if (config->tokenizer2.model[0]) tokens += config->tokenizer2.max_tokens;
    }
    return (config->prefetch_batches + 1) * rows * (bytes + (row + 2 * tokens) * 4) + under_way;
}
