/* What a config would keep of its data: every sample's fields, filters and captions looked at, nothing decoded.
 *
 * Shards are looked at in parallel, each by one thread. All is counted in whole numbers, so the result does not depend
 * on the number of threads. Nothing stops at data.max_bad_share, and data.filter.missing: error counts as drop. A
 * shard that cannot be read is a warning and passed over. Of a picture only the header is read: the share of pictures
 * that turn out to be broken when they are decoded is not known here. */
#ifndef DATA_DATA_STATS_H
#define DATA_DATA_STATS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"
#include "data/bad_samples.h"
#include "data/data_config.h"
#include "data/picture.h"

/* How samples are distributed over the values of a field. */
typedef enum StatsField {
    STATS_WATERMARK,
    STATS_UNSAFE,
    STATS_SIMILARITY,
    STATS_AESTHETIC,
    STATS_SIDE, /* of the original picture, as the .json says */
    STATS_STORED_SIDE,
    STATS_ASPECT,
    STATS_CAPTION_LENGTH,
    STATS_FIELDS
} StatsField;

#define STATS_MAX_EDGES 24
typedef struct StatsScale {
    const char *name;
    int count;
    double edges[STATS_MAX_EDGES]; /* ascending; bin k holds [edges[k - 1], edges[k]), bin 0 what is below, bin `count`
                                      what is not below the last */
} StatsScale;
const StatsScale *stats_scale(StatsField field);

/* Counts of all samples whose fields could be read [0], and of those kept [1]. STATS_STORED_SIDE needs the picture: it
 * is missing where filters or captions left the sample out before. */
typedef struct StatsHistogram {
    int64_t bins[2][STATS_MAX_EDGES + 1], missing[2];
} StatsHistogram;

/* Base codes of languages, two or three letters: "zh" for "zh-CN". Whatever is no code is the last of them. */
#define STATS_LANGUAGES (26 * 26 + 26 * 26 * 26 + 1)
void stats_language_name(int language, char out[8]);

/* A threshold or an expression that samples of a source are asked. */
typedef struct StatsFilter {
    char *text;
    int64_t alone;   /* samples that it leaves out by itself */
    int64_t missing; /* that lack what it asks for: among `alone` unless data.filter.missing is pass */
    int64_t after;   /* that it leaves out of those which all filters before it keep */
    int64_t asked;   /* samples that it was asked of */
    char **fields;   /* (field_count) those that an expression names; a threshold: none */
    int64_t *have;   /* (field_count) samples that have them, of the type that is asked for */
    size_t field_count;
} StatsFilter;

typedef struct StatsSource {
    const char *name; /* the config's */
    double share;     /* of the mixture, 1 in all */
    int64_t shards, unreadable_shards;
    int64_t available; /* samples in its shards */
    BadSamples counts; /* of the samples looked at; SAMPLE_ACCEPTED are the kept ones */
    StatsFilter *filters;
    int filter_count;
} StatsSource;

typedef struct DataStats {
    StatsSource *sources;
    int source_count;
    BadSamples counts;   /* of all sources, empty and broken shards among them */
    int64_t with_fields; /* samples whose fields could be read: what the histograms are of */
    StatsHistogram histograms[STATS_FIELDS];
    int64_t pictures[PICTURE_WEBP + 1]; /* by format, of the samples that filters and captions let through */
    int64_t *languages[2];   /* (STATS_LANGUAGES) samples with a caption in it: of those with fields, of those kept */
    int64_t languageless[2]; /* samples that tell no language */
} DataStats;

typedef struct StatsOptions {
    int resolution;  /* for data.filter.min_side: -1 */
    int64_t samples; /* most of each source that are looked at, of shards spread over it; 0: all */
    int threads;     /* 0: as many as data.decode_threads says */
    bool progress;   /* a live line */
} StatsOptions;

/* `data` must outlive *out. */
Status data_stats_collect(const DataConfig *data, const StatsOptions *options, DataStats **out);
void data_stats_free(DataStats *stats);
int64_t data_stats_unreadable(const DataStats *stats); /* shards that are damaged or could not be read */

/* For people; and as one JSON object. */
Status data_stats_print(const DataStats *stats, StrBuf *out);
Status data_stats_write_json(const DataStats *stats, StrBuf *out);

#endif
