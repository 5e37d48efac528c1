/* Looks at all shards of a config, a shard a thread at a time. */
#include "data/data_stats.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/random.h"
#include "data/data_stats_inside.h"
#include "data/loader.h"

/* ---- counts ---- */

static Status describe_fields(const FilterExpression *expression, StatsFilter *filter)
{
    Status status = STATUS_OK;
    size_t count = filter_field_count(expression);
    filter->fields = mem_alloc_array(count + 1, sizeof filter->fields[0]);
    filter->have = mem_alloc_array(count + 1, sizeof filter->have[0]);
    if (!filter->fields || !filter->have) FAIL(ERR_MEMORY, "out of memory for statistics");
    while (filter->field_count < count) {
        char *name = filter->fields[filter->field_count] = strdup(filter_field_name(expression, filter->field_count));
        if (!name) FAIL(ERR_MEMORY, "out of memory for statistics");
        filter->field_count++;
    }
fail:
    return status;
}

static void free_filter(StatsFilter *filter)
{
    for (size_t i = 0; i < filter->field_count; i++) free(filter->fields[i]);
    free(filter->fields);
    free(filter->have);
    free(filter->text);
}

static Status describe_filters(const DataConfig *data, const FilterSet *filters, int32_t s, int64_t min_side,
                               StatsSource *source)
{
    Status status = STATUS_OK;
    StrBuf text = {0};
    size_t own = filter_set_count(filters, s);
    source->filters = mem_alloc_array(METADATA_RULES + own, sizeof source->filters[0]);
    if (!source->filters) FAIL(ERR_MEMORY, "out of memory for statistics");
    for (size_t i = 0; i < METADATA_RULES + own; i++) {
        text.size = 0;
        if (i >= METADATA_RULES)
            TRY(strbuf_printf(&text, "%s", filter_set_item(filters, s, i - METADATA_RULES)->text));
        else if (metadata_rule_asked((MetadataRule)i, &data->filter, min_side))
            TRY(metadata_rule_format((MetadataRule)i, &data->filter, min_side, &text));
        else
            continue;
        StatsFilter *filter = &source->filters[source->filter_count++];
        filter->text = strdup(text.data);
        if (!filter->text) FAIL(ERR_MEMORY, "out of memory for statistics");
        if (i >= METADATA_RULES)
            TRY(describe_fields(filter_set_item(filters, s, i - METADATA_RULES)->expression, filter));
    }
fail:
    strbuf_free(&text);
    return status;
}

Status stats_create(const DataConfig *data, const FilterSet *filters, int64_t min_side, DataStats **out)
{
    Status status = STATUS_OK;
    *out = NULL;
    DataStats *stats = mem_alloc_array(1, sizeof *stats);
    if (!stats) FAIL(ERR_MEMORY, "out of memory for statistics");
    stats->sources = mem_alloc_array(data->sources.count, sizeof stats->sources[0]);
    for (int k = 0; k < 2; k++) stats->languages[k] = mem_alloc_array(STATS_LANGUAGES, sizeof(int64_t));
    if (!stats->sources || !stats->languages[0] || !stats->languages[1])
        FAIL(ERR_MEMORY, "out of memory for statistics");
    while (stats->source_count < (int)data->sources.count) {
        int32_t s = stats->source_count++;
        stats->sources[s].name = data_config_source(data, (size_t)s)->name;
        TRY(describe_filters(data, filters, s, min_side, &stats->sources[s]));
    }
    *out = stats;
    return STATUS_OK;
fail:
    data_stats_free(stats);
    return status;
}

int64_t data_stats_unreadable(const DataStats *stats)
{
    int64_t count = stats->counts.counts[SHARD_BROKEN];
    for (int s = 0; s < stats->source_count; s++) count += stats->sources[s].unreadable_shards;
    return count;
}

void data_stats_free(DataStats *stats)
{
    if (!stats) return;
    for (int s = 0; s < stats->source_count; s++) {
        StatsSource *source = &stats->sources[s];
        for (int i = 0; i < source->filter_count; i++) free_filter(&source->filters[i]);
        free(source->filters);
    }
    free(stats->sources);
    free(stats->languages[0]);
    free(stats->languages[1]);
    free(stats);
}

static void add_counts(int64_t *into, const int64_t *from, size_t count)
{
    for (size_t i = 0; i < count; i++) into[i] += from[i];
}

void stats_merge(DataStats *into, const DataStats *from)
{
    for (int s = 0; s < into->source_count; s++) {
        StatsSource *a = &into->sources[s];
        const StatsSource *b = &from->sources[s];
        a->unreadable_shards += b->unreadable_shards;
        add_counts(a->counts.counts, b->counts.counts, SAMPLE_REASON_COUNT);
        for (int i = 0; i < a->filter_count; i++) {
            a->filters[i].alone += b->filters[i].alone;
            a->filters[i].missing += b->filters[i].missing;
            a->filters[i].after += b->filters[i].after;
            a->filters[i].asked += b->filters[i].asked;
            add_counts(a->filters[i].have, b->filters[i].have, a->filters[i].field_count);
        }
    }
    into->with_fields += from->with_fields;
    for (int k = 0; k < 2; k++) {
        for (int f = 0; f < STATS_FIELDS; f++) {
            add_counts(into->histograms[f].bins[k], from->histograms[f].bins[k], STATS_MAX_EDGES + 1);
            into->histograms[f].missing[k] += from->histograms[f].missing[k];
        }
        add_counts(into->languages[k], from->languages[k], STATS_LANGUAGES);
        into->languageless[k] += from->languageless[k];
    }
    add_counts(into->pictures, from->pictures, PICTURE_WEBP + 1);
}

/* ---- the work ---- */

/* The first `samples` of a shard. */
typedef struct StatsWork {
    int32_t source, shard;
    int64_t samples;
} StatsWork;

typedef struct Collection {
    DataConfig config; /* the caller's, but for data.filter.missing */
    const StatsOptions *options;
    FilterSet *filters;
    ShardStore *store;
    StatsWork *work;
    size_t work_count, work_capacity;
    atomic_size_t next;
    atomic_int_least64_t looked_at; /* samples */
    atomic_bool stop;
    pthread_mutex_t lock; /* of what follows */
    double shown;
    size_t shards_done;
    StatusRecord failure;
    bool failed;
} Collection;

/* What is to be looked at. With a limit, whole shards in an order that is spread over the source, and a part of the
 * last of them: few shards need be opened, and neighbours do not stand for the whole. */
static Status plan_source(Collection *all, int32_t s)
{
    Status status = STATUS_OK;
    const int64_t *samples = shard_store_samples(all->store, s);
    int32_t count = shard_store_count(all->store, s);
    int64_t left = all->options->samples > 0 ? all->options->samples : INT64_MAX;
    for (int32_t i = 0; i < count && left > 0; i++) {
        int32_t shard = i;
        if (all->options->samples > 0)
            shard = (int32_t)random_permute(0, RANDOM_SHARD_ORDER, (uint64_t)s, (uint64_t)count, (uint64_t)i);
        int64_t take = samples[shard] < left ? samples[shard] : left;
        if (take <= 0) continue;
        TRY(mem_grow(&all->work, &all->work_capacity, all->work_count + 1, sizeof all->work[0]));
        all->work[all->work_count++] = (StatsWork){s, shard, take};
        left -= take;
    }
fail:
    return status;
}

static void show_progress(Collection *all, bool shard_done)
{
    char line[160];
    double now = clock_seconds();
    pthread_mutex_lock(&all->lock);
    all->shards_done += shard_done;
    if (all->options->progress && now - all->shown > 0.2) {
        all->shown = now;
        snprintf(line, sizeof line, "looking at samples: %" PRId64 ", %zu of %zu shards", atomic_load(&all->looked_at),
                 all->shards_done, all->work_count);
        log_live_line(line);
    }
    pthread_mutex_unlock(&all->lock);
}

static Status look_at_shard(Collection *all, StatsLooker *looker, const StatsWork *work)
{
    Status status = STATUS_OK;
    const ShardWindow *window = NULL;
    const char *path = shard_store_path(all->store, work->source, work->shard);
    if (shard_kind(path) == SHARD_LOCAL) status = file_check_readable(path); /* not tried again and again */
    if (status == STATUS_OK)
        status = shard_store_acquire(all->store, work->source, work->shard, 0, work->samples, &window);
    if (status == ERR_MEMORY || status == ERR_INTERRUPTED || status == ERR_SPACE) return status;
    if (status != STATUS_OK) {
        log_warn("passed over, a shard that cannot be read: %s", status_message());
        looker->stats->sources[work->source].unreadable_shards++;
        return STATUS_OK;
    }
    for (int64_t i = 0; i < work->samples && !atomic_load(&all->stop); i++) {
        TRY(stats_look_at(looker, window, work->source, work->shard, i));
        if (atomic_fetch_add(&all->looked_at, 1) % 256 == 0) show_progress(all, false);
    }
fail:
    shard_store_release(all->store, window);
    return status;
}

typedef struct StatsThread {
    pthread_t id;
    Collection *all;
    StatsLooker looker;
} StatsThread;

static void *look_at_shards(void *argument)
{
    StatsThread *thread = argument;
    Collection *all = thread->all;
    while (!atomic_load(&all->stop)) {
        size_t i = atomic_fetch_add(&all->next, 1);
        if (i >= all->work_count) break;
        Status status = look_at_shard(all, &thread->looker, &all->work[i]);
        if (status == STATUS_OK) {
            show_progress(all, true);
            continue;
        }
        pthread_mutex_lock(&all->lock);
        if (!all->failed) status_save(status, &all->failure);
        all->failed = true;
        pthread_mutex_unlock(&all->lock);
        atomic_store(&all->stop, true);
    }
    return NULL;
}

static Status run_threads(Collection *all, int count, DataStats *stats)
{
    Status status = STATUS_OK;
    int ready = 0, started = 0;
    StatsThread *threads = mem_alloc_array((size_t)count, sizeof threads[0]);
    if (!threads) FAIL(ERR_MEMORY, "out of memory for statistics");
    int64_t min_side = all->config.filter.min_side < 0 ? all->options->resolution : all->config.filter.min_side;
    for (; ready < count; ready++) {
        StatsLooker *looker = &threads[ready].looker;
        threads[ready].all = all;
        TRY(stats_create(&all->config, all->filters, min_side, &looker->stats));
        looker->context = (CandidateContext){.config = &all->config,
                                             .filters = all->filters,
                                             .store = all->store,
                                             .resolution = all->options->resolution,
                                             .without_pictures = true,
                                             .look = stats_look,
                                             .looker = looker};
    }
    while (started < count - 1 && pthread_create(&threads[started].id, NULL, look_at_shards, &threads[started]) == 0)
        started++;
    (void)look_at_shards(&threads[started]); /* this one, too */
    for (int i = 0; i < started; i++) pthread_join(threads[i].id, NULL);
    if (all->failed) TRY(status_restore(&all->failure));
    for (int i = 0; i < ready; i++) stats_merge(stats, threads[i].looker.stats);
fail:
    for (int i = 0; i < ready; i++) stats_looker_free(&threads[i].looker);
    free(threads);
    return status;
}

/* What a source has, and its share of the mixture. */
static void describe_sources(const DataConfig *data, const ShardStore *store, DataStats *stats)
{
    double sum = 0;
    for (int s = 0; s < stats->source_count; s++) {
        StatsSource *source = &stats->sources[s];
        source->shards = shard_store_count(store, s);
        for (int64_t i = 0; i < source->shards; i++) source->available += shard_store_samples(store, s)[i];
        source->share = data_config_source(data, (size_t)s)->weight;
        if (data->mixture == MIXTURE_SIZE) source->share *= (double)source->available;
        sum += source->share;
    }
    for (int s = 0; s < stats->source_count && sum > 0; s++) stats->sources[s].share /= sum;
}

static Status warn_of_repeated(const ShardStore *store, int sources)
{
    Status status = STATUS_OK;
    size_t count = 0, at = 0;
    for (int s = 0; s < sources; s++) count += (size_t)shard_store_count(store, s);
    const char **paths = mem_alloc_array(count + 1, sizeof paths[0]);
    if (!paths) FAIL(ERR_MEMORY, "out of memory for statistics");
    for (int s = 0; s < sources; s++)
        for (int32_t i = 0; i < shard_store_count(store, s); i++) paths[at++] = shard_store_path(store, s, i);
    shard_paths_warn(paths, count);
fail:
    free(paths);
    return status;
}

Status data_stats_collect(const DataConfig *data, const StatsOptions *options, DataStats **out)
{
    Status status = STATUS_OK;
    DataStats *stats = NULL;
    Collection all = {.config = *data, .options = options};
    int threads = options->threads > 0 ? options->threads : loader_threads(data);
    int64_t min_side = data->filter.min_side < 0 ? options->resolution : data->filter.min_side;
    BadSamples bad = {0};
    *out = NULL;
    if (all.config.filter.missing == MISSING_ERROR) all.config.filter.missing = MISSING_DROP;
    if (pthread_mutex_init(&all.lock, NULL) != 0) return status_fail(ERR_MEMORY, __FILE__, __LINE__, "no lock");
    TRY(filter_set_create(NULL, "data", &all.config, &all.filters));
    TRY(stats_create(data, all.filters, min_side, &stats));
    TRY(shard_store_open(&(ShardStoreOptions){.config = &all.config,
                                              .write_index = data->write_index,
                                              .progress = options->progress,
                                              .pass_over = true,
                                              .threads = threads,
                                              .windows = threads + 1},
                         &bad, &all.store));
    describe_sources(data, all.store, stats);
    TRY(warn_of_repeated(all.store, stats->source_count));
    for (int s = 0; s < stats->source_count; s++) TRY(plan_source(&all, s));
    TRY(run_threads(&all, threads, stats));
    stats->counts = bad; /* of shards, when they were counted */
    for (int s = 0; s < stats->source_count; s++)
        add_counts(stats->counts.counts, stats->sources[s].counts.counts, SAMPLE_REASON_COUNT);
    *out = stats;
    stats = NULL;
fail:
    if (options->progress) log_live_line(NULL);
    data_stats_free(stats);
    shard_store_close(all.store);
    filter_set_free(all.filters);
    free(all.work);
    pthread_mutex_destroy(&all.lock);
    return status;
}
