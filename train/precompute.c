#include "train/precompute.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "data/loader.h"
#include "data/shard_reader.h"
#include "data/shard_store.h"
#include "train/frozen_data.h"
#include "train/network.h"
#include "train/progress.h"
#include "train/signals.h"

enum { PIXELS_MAX = 16 * 256 * 256, CAPTIONS_DEFAULT = 16, LINE_SECONDS = 30 };

/* All shards of the config, in order of sources. */
typedef struct ShardTable {
    PrecomputeShard *items;
    int64_t count;
} ShardTable;

static Status list_shards(const RunConfig *run, const ShardStore *store, ShardTable *out)
{
    Status status = STATUS_OK;
    int32_t sources = (int32_t)run->data.sources.count;
    for (int32_t s = 0; s < sources; s++) out->count += shard_store_count(store, s);
    out->items = mem_alloc_array((size_t)out->count + 1, sizeof out->items[0]);
    if (!out->items) FAIL(ERR_MEMORY, "out of memory for the list of shards");
    int64_t at = 0;
    for (int32_t s = 0; s < sources; s++)
        for (int32_t i = 0; i < shard_store_count(store, s); i++)
            out->items[at++] = (PrecomputeShard){.source = s,
                                                 .shard = i,
                                                 .samples = shard_store_samples(store, s)[i],
                                                 .path = shard_store_path(store, s, i)};
fail:
    return status;
}

typedef struct NamedShard {
    char *file;
    int64_t index;
} NamedShard;

static int compare_named(const void *a, const void *b)
{
    const NamedShard *left = a, *right = b;
    int order = strcmp(left->file, right->file);
    return order ? order : left->index < right->index ? -1 : 1;
}

/* Two shards of one name would overwrite each other's files. The same shard in two sources is made once. */
static Status check_names(const RunConfig *run, const PrecomputedSpec *spec, ShardTable *shards)
{
    Status status = STATUS_OK;
    char path[PATH_MAX];
    NamedShard *named = mem_alloc_array((size_t)shards->count + 1, sizeof *named);
    if (!named) FAIL(ERR_MEMORY, "out of memory for the list of shards");
    for (int64_t i = 0; i < shards->count; i++) {
        const PrecomputeShard *shard = &shards->items[i];
        TRY(precomputed_path(spec, PRECOMPUTED_TEXT, data_config_source(&run->data, (size_t)shard->source)->name,
                             shard->path, path));
        named[i] = (NamedShard){strdup(path), i};
        if (!named[i].file) FAIL(ERR_MEMORY, "out of memory for the list of shards");
    }
    qsort(named, (size_t)shards->count, sizeof *named, compare_named);
    for (int64_t i = 1; i < shards->count; i++) {
        const PrecomputeShard *first = &shards->items[named[i - 1].index];
        PrecomputeShard *second = &shards->items[named[i].index];
        if (strcmp(named[i - 1].file, named[i].file) != 0) continue;
        if (strcmp(first->path, second->path) != 0)
            FAIL(ERR_CONFIG, "%s and %s would have the same precomputed file, %s; give the shards distinct names%s",
                 SHARD_SHOWN(first->path), SHARD_SHOWN(second->path), named[i].file,
                 spec->path[0] ? ", or leave frozen.path empty" : "");
        if (data_config_source(&run->data, (size_t)first->source)->caption !=
            data_config_source(&run->data, (size_t)second->source)->caption)
            FAIL(ERR_CONFIG,
                 "%s is in two sources that take their captions from different places; with frozen.path each source "
                 "has files of its own",
                 SHARD_SHOWN(first->path));
        second->duplicate = true;
    }
fail:
    for (int64_t i = 0; named && i < shards->count; i++) free(named[i].file);
    free(named);
    return status;
}

/* ---- what is there already ---- */

/* Whether a file is there that training would take. */
static Status is_done(const RunConfig *run, ShardStore *store, const PrecomputedSpec *spec,
                      const PrecomputeShard *shard, PrecomputedKind kind, bool *done)
{
    Status status = STATUS_OK;
    const SourceConfig *source = data_config_source(&run->data, (size_t)shard->source);
    PrecomputedFacts facts = {0};
    PrecomputedFile *file = NULL;
    TarIndex index = {0};
    Hash128 hash;
    char path[PATH_MAX];
    *done = false;
    TRY(precomputed_path(spec, kind, source->name, shard->path, path));
    if (!file_exists(path)) return STATUS_OK;
    TRY(precomputed_facts_of_data(&run->data, source, spec->resolution, &facts));
    TRY(shard_store_index(store, shard->source, shard->shard, &index));
    TRY(precomputed_hash_index(&index, &hash));
    status = precomputed_open(path, kind, spec, &facts, &file);
    if (status == ERR_MISMATCH || status == ERR_FORMAT || status == ERR_LIMIT) {
        log_warn("is made anew: %s", status_message());
        status = STATUS_OK;
    } else if (status == STATUS_OK) {
        Hash128 own = precomputed_shard_index(file);
        *done = own.low == hash.low && own.high == hash.high;
        if (!*done) log_warn("is made anew: %s: the shard has changed since", path);
    }
fail:
    precomputed_close(file);
    precomputed_facts_free(&facts);
    tar_index_free(&index);
    return status;
}

/* Sets `wanted` of every shard. Each rank looks at its part, and tells the others. */
static Status find_missing(const PrecomputeOptions *o, const PrecomputedSpec *spec, ShardStore *store,
                           ShardTable *shards)
{
    Status status = STATUS_OK;
    const int world = comm_world(o->comm);
    size_t values = (size_t)shards->count * PRECOMPUTED_KINDS;
    double *missing = mem_alloc_array(values + 1, sizeof *missing);
    if (!missing) FAIL(ERR_MEMORY, "out of memory for the list of shards");
    for (int64_t i = comm_rank(o->comm); i < shards->count; i += world)
        for (int kind = 0; kind < PRECOMPUTED_KINDS; kind++) {
            bool done = true;
            if (spec->wanted[kind] && !shards->items[i].duplicate)
                TRY(is_done(o->run, store, spec, &shards->items[i], (PrecomputedKind)kind, &done));
            missing[i * PRECOMPUTED_KINDS + kind] = done ? 0 : 1;
        }
    TRY(comm_all_reduce_f64(o->comm, missing, (int)values, COMM_SUM));
    for (int64_t i = 0; i < shards->count; i++)
        for (int kind = 0; kind < PRECOMPUTED_KINDS; kind++)
            shards->items[i].wanted[kind] = missing[i * PRECOMPUTED_KINDS + kind] > 0;
fail:
    free(missing);
    return status;
}

static bool is_pending(const PrecomputeShard *shard)
{
    return shard->wanted[PRECOMPUTED_LATENTS] || shard->wanted[PRECOMPUTED_TEXT];
}

/* Leaves this rank's part of the pending shards in *shards. Dealt one by one, largest differences even out. */
static int64_t take_own(ShardTable *shards, int rank, int world)
{
    int64_t pending = 0, own = 0;
    for (int64_t i = 0; i < shards->count; i++)
        if (is_pending(&shards->items[i]) && pending++ % world == rank) shards->items[own++] = shards->items[i];
    shards->count = own;
    return pending;
}

/* ---- progress ---- */

typedef struct PrecomputeProgress {
    const Precompute *work;
    int64_t shards, samples; /* of this rank, in all */
    double start, last_live, last_line;
} PrecomputeProgress;

static void show_progress(void *context)
{
    PrecomputeProgress *progress = context;
    double now = clock_seconds();
    if (now - progress->last_live < 0.2) return;
    progress->last_live = now;
    int64_t done = bad_samples_seen(&progress->work->totals.bad);
    double rate = (double)done / (now - progress->start > 0.001 ? now - progress->start : 0.001);
    char left[32], line[200];
    progress_format_time((double)(progress->samples - done) / (rate > 0 ? rate : 1), left, sizeof left);
    snprintf(line, sizeof line,
             "shard %" PRId64 "/%" PRId64 ", sample %" PRId64 "/%" PRId64 ", %.1f samples/s, %s left%s",
             progress->work->totals.shards + 1, progress->shards, done, progress->samples, rate, left,
             log_rank() == 0 ? "" : " (this rank)");
    log_live_line(line);
    if (now - progress->last_line < LINE_SECONDS) return;
    progress->last_line = now;
    if (!log_is_terminal()) log_info("%s", line);
}

/* What all ranks did. */
static Status report(const PrecomputeOptions *o, const PrecomputeTotals *totals, int64_t all, int64_t pending,
                     double seconds)
{
    Status status = STATUS_OK;
    StrBuf reasons = {0};
    BadSamples bad = {0};
    double sums[SAMPLE_REASON_COUNT + 4];
    for (int r = 0; r < SAMPLE_REASON_COUNT; r++) sums[r] = (double)totals->bad.counts[r];
    double *rest = sums + SAMPLE_REASON_COUNT;
    rest[0] = (double)totals->shards;
    rest[1] = (double)totals->pictures;
    rest[2] = (double)totals->captions;
    rest[3] = (double)totals->bytes;
    TRY(comm_all_reduce_f64(o->comm, sums, SAMPLE_REASON_COUNT + 4, COMM_SUM));
    for (int r = 0; r < SAMPLE_REASON_COUNT; r++) bad.counts[r] = (int64_t)sums[r];
    for (int r = SHARD_EMPTY; r < SAMPLE_REASON_COUNT; r++) bad.counts[r] = totals->bad.counts[r]; /* known to all */
    TRY(bad_samples_format(&bad, &reasons));
    log_info("done: %.0f shards made, %" PRId64
             " were there; %.0f pictures, %.0f captions (with an empty one a shard), "
             "%.1f MB in %.1f s",
             rest[0], all - pending, rest[1], rest[2], rest[3] / 1e6, seconds);
    log_info("samples looked at: %" PRId64 ", accepted: %" PRId64 "; passed over: %s", bad_samples_seen(&bad),
             bad.counts[SAMPLE_ACCEPTED], reasons.data);
fail:
    strbuf_free(&reasons);
    return status;
}

/* ---- the run ---- */

/* A micro-batch of training, where that is not too much: kernels of small convolutions are chosen by the size of the
 * batch, and their rounding differs. */
static int64_t pictures_at_once(const PrecomputeOptions *o)
{
    const TrainConfig *train = &o->run->train;
    int64_t wanted = train->micro_batch ? train->micro_batch : train->global_batch / comm_world(o->comm);
    int64_t most = PIXELS_MAX / (train->resolution * train->resolution);
    if (wanted > most) wanted = most;
    return wanted < 1 ? 1 : wanted;
}

static Status process(const PrecomputeOptions *o, const PrecomputedSpec *spec, ShardStore *store,
                      const ShardTable *shards, PrecomputeTotals *totals)
{
    Status status = STATUS_OK;
    const int64_t side = spec->resolution;
    Backend *backend = NULL;
    Precompute p = {.run = o->run, .spec = spec, .store = store, .totals = *totals};
    p.pictures.capacity = o->pictures ? o->pictures : pictures_at_once(o);
    p.captions.capacity = o->captions ? o->captions : CAPTIONS_DEFAULT;
    PrecomputeProgress progress = {.work = &p, .shards = shards->count, .start = clock_seconds()};
    progress.last_line = progress.start;
    for (int64_t i = 0; i < shards->count; i++) progress.samples += shards->items[i].samples;
    p.tick = show_progress;
    p.tick_context = &progress;
    TRY(network_open_backend(o->run, o->comm, &backend)); /* collective: also where nothing is left to do */
    if (shards->count > 0) {
        PrecomputeNetworksOptions options = {
            .run = o->run, .pictures = p.pictures.capacity, .captions = p.captions.capacity};
        memcpy(options.wanted, spec->wanted, sizeof options.wanted);
        TRY(precompute_networks_create(&options, backend, &p.networks));
        TRY(precompute_open_buffers(&p));
        TRY(shard_reader_open(&o->run->data, store, (int)side, spec->wanted[PRECOMPUTED_LATENTS], &p.reader));
    }
    for (int64_t i = 0; i < shards->count; i++) TRY(precompute_shard(&p, &shards->items[i]));
    *totals = p.totals;
fail:
    log_live_line(NULL);
    shard_reader_close(p.reader);
    precompute_close_buffers(&p);
    precompute_networks_free(p.networks);
    if (backend) backend_close(backend);
    return status;
}

Status precompute_run(const PrecomputeOptions *o)
{
    Status status = STATUS_OK;
    PrecomputedSpec spec = {0};
    ShardStore *store = NULL;
    ShardTable shards = {0};
    PrecomputeTotals totals = {0};
    const DataConfig *data = &o->run->data;
    const int rank = comm_rank(o->comm), world = comm_world(o->comm), threads = loader_threads(data);
    double start = clock_seconds();
    TRY(signals_install());
    TRY(frozen_spec_create(o->run, o->comm, true, &spec));
    TRY(shard_store_open(&(ShardStoreOptions){.config = data,
                                              .write_index = data->write_index && rank == 0,
                                              .progress = rank == 0,
                                              .threads = threads,
                                              .windows = threads + 1},
                         &totals.bad, &store));
    TRY(list_shards(o->run, store, &shards));
    TRY(check_names(o->run, &spec, &shards));
    TRY(find_missing(o, &spec, store, &shards));
    int64_t all = shards.count, pending = take_own(&shards, rank, world);
    log_info("%" PRId64 " shards, of which %" PRId64 " are precomputed already; %d rank%s", all, all - pending, world,
             world > 1 ? "s" : "");
    TRY(process(o, &spec, store, &shards, &totals));
    TRY(report(o, &totals, all, pending, clock_seconds() - start));
fail:
    free(shards.items);
    shard_store_close(store);
    precomputed_spec_free(&spec);
    return status;
}
