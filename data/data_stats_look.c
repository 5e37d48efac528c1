/* One sample of the statistics: its fields, what each filter says, its verdict, its picture's header. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/candidate_inside.h"
#include "data/data_stats_inside.h"
#include "data/picture_size.h"

#define FIRST_HEADER 4096

/* ---- fields ---- */

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static int letter(char c)
{
    return (c | 0x20) - 'a';
}

/* The place of a code's base in the counts. */
static int language_place(const char *text, size_t size)
{
    size_t base = 0;
    while (base < size && is_letter(text[base])) base++;
    if (base < 2 || base > 3 || (base < size && text[base] != '-' && text[base] != '_')) return STATS_LANGUAGES - 1;
    int place = letter(text[0]) * 26 + letter(text[1]);
    return base == 2 ? place : 26 * 26 + place * 26 + letter(text[2]);
}

void stats_language_name(int language, char out[8])
{
    if (language == STATS_LANGUAGES - 1) {
        memcpy(out, "other", 6);
        return;
    }
    int size = language < 26 * 26 ? 2 : 3, rest = language < 26 * 26 ? language : language - 26 * 26;
    out[size] = 0;
    for (int i = size - 1; i >= 0; i--, rest /= 26) out[i] = (char)('a' + rest % 26);
}

static int compare_places(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static Status see_language(SeenSample *seen, const char *text, size_t size)
{
    Status status = STATUS_OK;
    TRY(mem_grow(&seen->languages, &seen->language_capacity, seen->language_count + 1, sizeof seen->languages[0]));
    seen->languages[seen->language_count++] = language_place(text, size);
fail:
    return status;
}

/* Each language once. */
static Status see_languages(SeenSample *seen, const SampleTable *table, const Sample *sample, const Metadata *meta)
{
    Status status = STATUS_OK;
    seen->language_count = 0;
    for (size_t i = 0; json_is_object(meta->captions) && i < json_count(meta->captions); i++) {
        const char *language;
        (void)json_member(meta->captions, i, &language);
        TRY(see_language(seen, language, strlen(language)));
    }
    for (uint32_t i = 0; i < sample->member_count; i++) {
        const char *suffix = sample_suffix(table, &table->members[sample->first_member + i]);
        size_t size = caption_member_language(suffix);
        if (size > 0) TRY(see_language(seen, suffix, size));
    }
    if (seen->language_count == 0 && meta->language) TRY(see_language(seen, meta->language, meta->language_size));
    if (seen->language_count < 2) return STATUS_OK;
    qsort(seen->languages, seen->language_count, sizeof seen->languages[0], compare_places);
    size_t count = 1;
    for (size_t i = 1; i < seen->language_count; i++)
        if (seen->languages[i] != seen->languages[count - 1]) seen->languages[count++] = seen->languages[i];
    seen->language_count = count;
fail:
    return status;
}

static void see_values(SeenSample *seen, const Metadata *meta)
{
    double least = (double)(meta->width < meta->height ? meta->width : meta->height);
    double most = (double)(meta->width > meta->height ? meta->width : meta->height);
    seen->values[STATS_WATERMARK] = meta->watermark;
    seen->values[STATS_UNSAFE] = meta->unsafe;
    seen->values[STATS_SIMILARITY] = meta->similarity;
    seen->values[STATS_AESTHETIC] = meta->aesthetic;
    seen->values[STATS_SIDE] = least > 0 ? least : NAN;
    seen->values[STATS_ASPECT] = least > 0 ? most / least : NAN;
    seen->values[STATS_CAPTION_LENGTH] = meta->caption_length >= 0 ? (double)meta->caption_length : NAN;
    seen->values[STATS_STORED_SIDE] = NAN;
}

/* What each filter says by itself, in the order of StatsSource.filters. */
static Status see_filters(StatsLooker *looker, int32_t source, const Metadata *meta, int64_t min_side)
{
    Status status = STATUS_OK;
    SeenSample *seen = &looker->seen;
    const FilterConfig *filter = &looker->context.config->filter;
    const FilterSet *set = looker->context.filters;
    StatsFilter *filters = looker->stats->sources[source].filters;
    char detail[128];
    size_t at = 0, capacity = seen->filter_capacity, count = METADATA_RULES + filter_set_count(set, source);
    TRY(mem_grow(&seen->left_out, &capacity, count, sizeof seen->left_out[0]));
    TRY(mem_grow(&seen->lacks, &seen->filter_capacity, count, sizeof seen->lacks[0]));
    for (int r = 0; r < METADATA_RULES; r++) {
        MetadataRule rule = (MetadataRule)r;
        if (!metadata_rule_asked(rule, filter, min_side)) continue;
        seen->lacks[at] = metadata_rule_lacks(rule, meta);
        seen->left_out[at++] =
            metadata_rule_check(rule, meta, filter, min_side, detail, sizeof detail) != SAMPLE_ACCEPTED;
    }
    for (size_t i = 0; i < filter_set_count(set, source); i++) {
        const FilterItem *item = filter_set_item(set, source, i);
        filter_count_fields(item->expression, meta, filters[at].have);
        seen->lacks[at] = filter_item_check(item, meta, MISSING_DROP, detail, sizeof detail) == SAMPLE_MISSING_FIELD;
        seen->left_out[at++] =
            filter_item_check(item, meta, (MissingField)filter->missing, detail, sizeof detail) != SAMPLE_ACCEPTED;
    }
fail:
    return status;
}

void stats_look(void *looker_pointer, const Candidate *candidate, const SampleTable *table, const Sample *sample,
                const Metadata *meta, int64_t min_side)
{
    StatsLooker *looker = looker_pointer;
    Status status = see_filters(looker, candidate->source, meta, min_side);
    if (status == STATUS_OK) status = see_languages(&looker->seen, table, sample, meta);
    see_values(&looker->seen, meta);
    looker->seen.fields = status == STATUS_OK;
    looker->failure = status;
}

/* ---- the picture's header ---- */

/* Its first bytes, and more of them while they do not tell its size. */
static Status read_size(StatsLooker *looker, const ShardWindow *window, const SampleMember *member, int64_t *width,
                        int64_t *height)
{
    Status status = STATUS_OK;
    int64_t size = 0;
    do {
        size = size ? size * 16 : FIRST_HEADER;
        if (size > member->size) size = member->size;
        TRY(mem_grow(&looker->header, &looker->header_capacity, (size_t)size + 1, 1));
        TRY(shard_file_read(window->file, looker->header, size, member->offset));
        status = picture_read_size(looker->header, (size_t)size, width, height);
    } while (status == STATUS_END && size < member->size);
    if (status == STATUS_END) FAIL(ERR_FORMAT, "truncated");
fail:
    return status;
}

static SampleReason look_at_picture(StatsLooker *looker, const ShardWindow *window, const Sample *sample)
{
    const DataConfig *config = looker->context.config;
    int64_t min_side = config->filter.min_side < 0 ? looker->context.resolution : config->filter.min_side;
    const SampleMember *member = candidate_picture_member(&window->index->table, sample);
    int64_t width, height;
    if (!member) return SAMPLE_NO_PICTURE;
    if (member->size > config->limits.member_bytes) return SAMPLE_TOO_LARGE;
    Status status = read_size(looker, window, member, &width, &height);
    if (status == ERR_IO || status == ERR_MISMATCH) return SAMPLE_READ_ERROR;
    if (status != STATUS_OK && status != ERR_FORMAT) {
        looker->failure = status;
        return SAMPLE_READ_ERROR;
    }
    size_t first = member->size < FIRST_HEADER ? (size_t)member->size : FIRST_HEADER;
    looker->stats->pictures[picture_sniff(looker->header, first)]++;
    if (status != STATUS_OK) return candidate_broken_picture(looker->header, first);
    looker->seen.values[STATS_STORED_SIDE] = (double)(width < height ? width : height);
    if (width > config->limits.picture_pixels / height) return SAMPLE_TOO_LARGE;
    return width < min_side || height < min_side ? SAMPLE_SMALL : SAMPLE_ACCEPTED;
}

/* ---- counting ---- */

static void count_value(StatsHistogram *histogram, const StatsScale *scale, double value, bool kept)
{
    int bin = 0;
    while (bin < scale->count && value >= scale->edges[bin]) bin++;
    for (int k = 0; k <= (kept ? 1 : 0); k++) {
        if (isnan(value))
            histogram->missing[k]++;
        else
            histogram->bins[k][bin]++;
    }
}

static void count_sample(StatsLooker *looker, int32_t source_number, bool kept)
{
    DataStats *stats = looker->stats;
    StatsSource *source = &stats->sources[source_number];
    const SeenSample *seen = &looker->seen;
    bool before = true;
    if (!seen->fields) return;
    stats->with_fields++;
    for (int i = 0; i < source->filter_count; i++) {
        StatsFilter *filter = &source->filters[i];
        filter->asked++;
        filter->missing += seen->lacks[i];
        filter->alone += seen->left_out[i];
        filter->after += before && seen->left_out[i];
        before = before && !seen->left_out[i];
    }
    for (int f = 0; f < STATS_FIELDS; f++)
        count_value(&stats->histograms[f], stats_scale((StatsField)f), seen->values[f], kept);
    for (int k = 0; k <= (kept ? 1 : 0); k++) {
        stats->languageless[k] += seen->language_count == 0;
        for (size_t i = 0; i < seen->language_count; i++) stats->languages[k][seen->languages[i]]++;
    }
}

Status stats_look_at(StatsLooker *looker, const ShardWindow *window, int32_t source, int32_t shard, int64_t sample)
{
    Status status = STATUS_OK;
    Candidate *c = &looker->candidate;
    c->source = source;
    c->shard = shard;
    c->first = window->first;
    c->count = window->count;
    c->sample = sample;
    looker->seen.fields = false;
    looker->failure = STATUS_OK;
    candidate_process(&looker->context, &looker->scratch, c);
    if (c->fatal != STATUS_OK) FAIL(c->fatal, "%s", c->detail);
    TRY(looker->failure);
    if (c->reason == SAMPLE_ACCEPTED) c->reason = look_at_picture(looker, window, candidate_sample(c, window));
    TRY(looker->failure);
    looker->stats->sources[source].counts.counts[c->reason]++;
    count_sample(looker, source, c->reason == SAMPLE_ACCEPTED);
fail:
    return status;
}

void stats_looker_free(StatsLooker *looker)
{
    candidate_free(&looker->candidate);
    candidate_scratch_free(&looker->scratch);
    free(looker->seen.left_out);
    free(looker->seen.lacks);
    free(looker->seen.languages);
    free(looker->header);
    data_stats_free(looker->stats);
}
