/* The statistics as text and as JSON. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "data/data_stats.h"

#define BAR 40
#define SHOWN_LANGUAGES 20

const StatsScale *stats_scale(StatsField field)
{
#define TWENTIETHS                                                                              \
    20,                                                                                         \
    {                                                                                           \
        0, .05, .1, .15, .2, .25, .3, .35, .4, .45, .5, .55, .6, .65, .7, .75, .8, .85, .9, .95 \
    }
#define SIDES                                                             \
    13,                                                                   \
    {                                                                     \
        1, 64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096 \
    }
    static const StatsScale scales[STATS_FIELDS] = {
        [STATS_WATERMARK] = {"watermark", TWENTIETHS},
        [STATS_UNSAFE] = {"unsafe", TWENTIETHS},
        [STATS_SIMILARITY] = {"similarity",
                              18,
                              {0, .02, .04, .06, .08, .1, .12, .14, .16, .18, .2, .22, .24, .26, .28, .3, .35, .4}},
        [STATS_AESTHETIC] = {"aesthetic", 17, {0, 1, 2, 3, 3.5, 4, 4.25, 4.5, 4.75, 5, 5.25, 5.5, 6, 6.5, 7, 8, 9}},
        [STATS_SIDE] = {"side", SIDES},
        [STATS_STORED_SIDE] = {"stored_side", SIDES},
        [STATS_ASPECT] = {"aspect", 11, {1, 1.1, 1.25, 1.35, 1.5, 1.8, 2, 2.5, 3, 4, 6}},
        [STATS_CAPTION_LENGTH] = {"caption_length", 13, {0, 1, 5, 10, 20, 40, 60, 80, 120, 160, 250, 500, 1000}},
    };
#undef TWENTIETHS
#undef SIDES
    return &scales[field];
}

static double percent(int64_t part, int64_t whole)
{
    return whole > 0 ? 100.0 * (double)part / (double)whole : 0;
}

static int64_t looked_at(const BadSamples *counts)
{
    return bad_samples_seen(counts);
}

/* Texts come from configs and shards: what a terminal obeys is shown as '?'. */
static Status print_safely(const char *text, int width, StrBuf *out)
{
    Status status = STATUS_OK;
    size_t size = strlen(text), at = out->size, characters = 0;
    bool odd = utf8_has_controls(text, size);
    for (size_t i = 0; i < size; i++) characters += ((unsigned char)text[i] & 0xc0) != 0x80;
    TRY(strbuf_append(out, text, size));
    for (size_t i = at; odd && i < out->size; i++)
        if ((unsigned char)out->data[i] < 0x20 || (unsigned char)out->data[i] == 0x7f ||
            (unsigned char)out->data[i] >= 0x80)
            out->data[i] = '?';
    for (; characters < (size_t)width; characters++) TRY(strbuf_append(out, " ", 1));
fail:
    return status;
}

/* ---- text ---- */

static Status print_sources(const DataStats *stats, StrBuf *out)
{
    Status status = STATUS_OK;
    TRY(strbuf_printf(out, "%-28s %8s %12s %12s %12s %7s %8s\n", "source", "shards", "samples", "looked at", "kept",
                      "yield", "mixture"));
    for (int s = 0; s < stats->source_count; s++) {
        const StatsSource *source = &stats->sources[s];
        int64_t seen = looked_at(&source->counts), kept = source->counts.counts[SAMPLE_ACCEPTED];
        TRY(print_safely(source->name, 28, out));
        TRY(strbuf_printf(out, " %8" PRId64 " %12" PRId64 " %12" PRId64 " %12" PRId64 " %6.2f%% %7.2f%%\n",
                          source->shards, source->available, seen, kept, percent(kept, seen), 100 * source->share));
    }
    int64_t seen = looked_at(&stats->counts), kept = stats->counts.counts[SAMPLE_ACCEPTED];
    TRY(strbuf_printf(out, "%-28s %8s %12s %12" PRId64 " %12" PRId64 " %6.2f%%\n", "all", "", "", seen, kept,
                      percent(kept, seen)));
fail:
    return status;
}

static Status print_reasons(const DataStats *stats, StrBuf *out)
{
    Status status = STATUS_OK;
    int64_t seen = looked_at(&stats->counts), unreadable = 0;
    TRY(strbuf_printf(out, "\npassed over, by reason\n"));
    for (int r = SAMPLE_ACCEPTED + 1; r < SHARD_EMPTY; r++) {
        int64_t count = stats->counts.counts[r];
        if (count > 0)
            TRY(strbuf_printf(out, "  %-20s %12" PRId64 " %6.2f%%\n", sample_reason_name((SampleReason)r), count,
                              percent(count, seen)));
    }
    for (int r = SHARD_EMPTY; r < SAMPLE_REASON_COUNT; r++)
        if (stats->counts.counts[r] > 0)
            TRY(strbuf_printf(out, "  %-20s %12" PRId64 " shards\n", sample_reason_name((SampleReason)r),
                              stats->counts.counts[r]));
    for (int s = 0; s < stats->source_count; s++) unreadable += stats->sources[s].unreadable_shards;
    if (unreadable > 0) TRY(strbuf_printf(out, "  %-20s %12" PRId64 " shards\n", "unreadable", unreadable));
fail:
    return status;
}

/* Fields that no sample has: a filter that asks for them says the same of all. */
static Status print_absent_fields(const DataStats *stats, const StatsSource *source, StrBuf *out)
{
    Status status = STATUS_OK;
    for (int i = 0; i < source->filter_count; i++) {
        const StatsFilter *filter = &source->filters[i];
        for (size_t k = 0; k < filter->field_count && filter->asked > 0; k++) {
            if (filter->have[k] > 0) continue;
            TRY(strbuf_printf(out, "  no sample"));
            if (stats->source_count > 1) {
                TRY(strbuf_printf(out, " of "));
                TRY(print_safely(source->name, 0, out));
            }
            TRY(strbuf_printf(out, " has "));
            TRY(print_safely(filter->fields[k], 0, out));
            TRY(strbuf_printf(out, " as it is asked for by "));
            TRY(print_safely(filter->text, 0, out));
            TRY(strbuf_printf(out, "; is it misspelt, or a number where a text is asked for, or the reverse?\n"));
        }
    }
fail:
    return status;
}

static Status print_filters(const DataStats *stats, StrBuf *out)
{
    Status status = STATUS_OK;
    TRY(strbuf_printf(out, "\n%-44s %12s %12s %12s\n", "left out by each filter", "alone", "after others", "no field"));
    for (int s = 0; s < stats->source_count; s++) {
        const StatsSource *source = &stats->sources[s];
        if (stats->source_count > 1) {
            TRY(print_safely(source->name, 0, out));
            TRY(strbuf_printf(out, "\n"));
        }
        for (int i = 0; i < source->filter_count; i++) {
            const StatsFilter *filter = &source->filters[i];
            TRY(strbuf_printf(out, "  "));
            TRY(print_safely(filter->text, 42, out));
            TRY(strbuf_printf(out, " %12" PRId64 " %12" PRId64 " %12" PRId64 "\n", filter->alone, filter->after,
                              filter->missing));
        }
        TRY(print_absent_fields(stats, source, out));
    }
fail:
    return status;
}

/* "######----": of `count`, the kept ones first. */
static Status print_row(const char *label, int64_t count, int64_t kept, int64_t most, StrBuf *out)
{
    char bar[BAR + 1];
    int size = most > 0 ? (int)((double)count / (double)most * BAR + 0.5) : 0;
    int full = most > 0 ? (int)((double)kept / (double)most * BAR + 0.5) : 0;
    for (int i = 0; i < size && i < BAR; i++) bar[i] = i < full ? '#' : '-';
    bar[size < BAR ? size : BAR] = 0;
    return strbuf_printf(out, "  %-16s %12" PRId64 " %12" PRId64 "%s%s\n", label, count, kept, size ? "  " : "", bar);
}

static Status print_histogram(const StatsHistogram *histogram, const StatsScale *scale, StrBuf *out)
{
    Status status = STATUS_OK;
    int64_t most = 0, sum = 0;
    int first = scale->count, last = 0;
    char label[40];
    for (int k = 0; k <= scale->count; k++) {
        int64_t count = histogram->bins[0][k];
        sum += count;
        if (count > most) most = count;
        if (count > 0) last = k;
        if (count > 0 && k < first) first = k;
    }
    if (sum == 0) return strbuf_printf(out, "\n%s: no sample tells it\n", scale->name);
    TRY(strbuf_printf(out, "\n%-18s %12s %12s\n", scale->name, "all", "kept"));
    for (int k = first; k <= last; k++) {
        if (k == 0)
            snprintf(label, sizeof label, "below %g", scale->edges[0]);
        else if (k == scale->count)
            snprintf(label, sizeof label, "%g or more", scale->edges[k - 1]);
        else
            snprintf(label, sizeof label, "%g to %g", scale->edges[k - 1], scale->edges[k]);
        TRY(print_row(label, histogram->bins[0][k], histogram->bins[1][k], most, out));
    }
    if (histogram->missing[0] > 0) TRY(print_row("missing", histogram->missing[0], histogram->missing[1], 0, out));
fail:
    return status;
}

typedef struct LanguageCount {
    int language;
    int64_t all, kept;
} LanguageCount;

/* Most first; of equal ones by their code. */
static int compare_languages(const void *a, const void *b)
{
    const LanguageCount *x = a, *y = b;
    if (x->all != y->all) return x->all < y->all ? 1 : -1;
    return x->language - y->language;
}

static Status sort_languages(const DataStats *stats, LanguageCount **out, size_t *count)
{
    *count = 0;
    LanguageCount *list = *out = mem_alloc_array(STATS_LANGUAGES, sizeof list[0]);
    if (!list) return status_fail(ERR_MEMORY, __FILE__, __LINE__, "out of memory for statistics");
    for (int i = 0; i < STATS_LANGUAGES; i++)
        if (stats->languages[0][i] > 0)
            list[(*count)++] = (LanguageCount){i, stats->languages[0][i], stats->languages[1][i]};
    qsort(list, *count, sizeof list[0], compare_languages);
    return STATUS_OK;
}

static Status print_languages(const DataStats *stats, StrBuf *out)
{
    Status status = STATUS_OK;
    LanguageCount *list = NULL;
    size_t count;
    char name[8];
    TRY(sort_languages(stats, &list, &count));
    TRY(strbuf_printf(out, "\n%-18s %12s %12s\n", "captions in", "all", "kept"));
    for (size_t i = 0; i < count && i < SHOWN_LANGUAGES; i++) {
        stats_language_name(list[i].language, name);
        TRY(print_row(name, list[i].all, list[i].kept, list[0].all, out));
    }
    if (count > SHOWN_LANGUAGES) TRY(strbuf_printf(out, "  and %zu more\n", count - SHOWN_LANGUAGES));
    if (stats->languageless[0] > 0) TRY(print_row("not told", stats->languageless[0], stats->languageless[1], 0, out));
fail:
    free(list);
    return status;
}

Status data_stats_print(const DataStats *stats, StrBuf *out)
{
    Status status = STATUS_OK;
    TRY(print_sources(stats, out));
    TRY(print_reasons(stats, out));
    TRY(print_filters(stats, out));
    for (int f = 0; f < STATS_FIELDS; f++) TRY(print_histogram(&stats->histograms[f], stats_scale((StatsField)f), out));
    TRY(print_languages(stats, out));
    TRY(strbuf_printf(out, "\npictures, where nothing left the sample out before\n"));
    for (int p = PICTURE_UNKNOWN; p <= PICTURE_WEBP; p++)
        if (stats->pictures[p] > 0)
            TRY(strbuf_printf(out, "  %-16s %12" PRId64 "\n", picture_type_name((PictureType)p), stats->pictures[p]));
fail:
    return status;
}

/* ---- JSON ---- */

static void write_counts(JsonWriter *w, const char *key, const BadSamples *counts, int end)
{
    json_object(w, key);
    for (int r = SAMPLE_ACCEPTED; r < end; r++) json_int(w, sample_reason_name((SampleReason)r), counts->counts[r]);
    json_end_object(w);
}

static void write_source(JsonWriter *w, const StatsSource *source)
{
    json_object(w, NULL);
    json_string(w, "name", source->name);
    json_float(w, "mixture", source->share);
    json_int(w, "shards", source->shards);
    json_int(w, "unreadable_shards", source->unreadable_shards);
    json_int(w, "samples", source->available);
    json_int(w, "looked_at", looked_at(&source->counts));
    json_int(w, "kept", source->counts.counts[SAMPLE_ACCEPTED]);
    write_counts(w, "reasons", &source->counts, SHARD_EMPTY);
    json_array(w, "filters");
    for (int i = 0; i < source->filter_count; i++) {
        json_object(w, NULL);
        json_string(w, "filter", source->filters[i].text);
        json_int(w, "alone", source->filters[i].alone);
        json_int(w, "after", source->filters[i].after);
        json_int(w, "missing", source->filters[i].missing);
        json_end_object(w);
    }
    json_end_array(w);
    json_end_object(w);
}

static void write_histogram(JsonWriter *w, const StatsHistogram *histogram, const StatsScale *scale)
{
    static const char *const bins[] = {"all", "kept"}, *const missing[] = {"missing", "missing_kept"};
    json_object(w, scale->name);
    json_array(w, "edges");
    for (int i = 0; i < scale->count; i++) json_float(w, NULL, scale->edges[i]);
    json_end_array(w);
    for (int k = 0; k < 2; k++) {
        json_array(w, bins[k]);
        for (int i = 0; i <= scale->count; i++) json_int(w, NULL, histogram->bins[k][i]);
        json_end_array(w);
        json_int(w, missing[k], histogram->missing[k]);
    }
    json_end_object(w);
}

static Status write_languages(JsonWriter *w, const DataStats *stats)
{
    Status status = STATUS_OK;
    LanguageCount *list = NULL;
    size_t count;
    char name[8];
    TRY(sort_languages(stats, &list, &count));
    json_object(w, "languages");
    for (size_t i = 0; i < count; i++) {
        stats_language_name(list[i].language, name);
        json_object(w, name);
        json_int(w, "all", list[i].all);
        json_int(w, "kept", list[i].kept);
        json_end_object(w);
    }
    json_end_object(w);
    json_object(w, "languages_not_told");
    json_int(w, "all", stats->languageless[0]);
    json_int(w, "kept", stats->languageless[1]);
    json_end_object(w);
fail:
    free(list);
    return status;
}

Status data_stats_write_json(const DataStats *stats, StrBuf *out)
{
    Status status = STATUS_OK;
    JsonWriter writer, *w = &writer;
    json_begin(w, out);
    json_object(w, NULL);
    json_int(w, "looked_at", looked_at(&stats->counts));
    json_int(w, "kept", stats->counts.counts[SAMPLE_ACCEPTED]);
    json_int(w, "with_fields", stats->with_fields);
    write_counts(w, "reasons", &stats->counts, SAMPLE_REASON_COUNT);
    json_array(w, "sources");
    for (int s = 0; s < stats->source_count; s++) write_source(w, &stats->sources[s]);
    json_end_array(w);
    json_object(w, "histograms");
    for (int f = 0; f < STATS_FIELDS; f++) write_histogram(w, &stats->histograms[f], stats_scale((StatsField)f));
    json_end_object(w);
    TRY(write_languages(w, stats));
    json_object(w, "pictures");
    for (int p = PICTURE_UNKNOWN; p <= PICTURE_WEBP; p++)
        json_int(w, picture_type_name((PictureType)p), stats->pictures[p]);
    json_end_object(w);
    json_end_object(w);
    TRY(strbuf_append(out, "\n", 1));
fail:
    return status;
}
