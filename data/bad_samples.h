/* Why samples and shards were passed over, counted by reason. */
#ifndef DATA_BAD_SAMPLES_H
#define DATA_BAD_SAMPLES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"

/* Precomputed files keep these numbers: a new reason of a sample goes before SHARD_EMPTY. */
typedef enum SampleReason {
    SAMPLE_ACCEPTED,
    /* broken: these count towards data.max_bad_share */
    SAMPLE_READ_ERROR,       /* the operating system refused, or the shard has changed since it was indexed */
    SAMPLE_DUPLICATE_MEMBER, /* two members with the same suffix */
    SAMPLE_TOO_LARGE,        /* a member or a picture above data.limits */
    SAMPLE_NO_PICTURE,
    SAMPLE_NO_CAPTION,
    SAMPLE_BAD_UTF8,
    SAMPLE_BAD_JSON,
    SAMPLE_UNKNOWN_PICTURE, /* neither PNG nor JPEG nor WebP by its first bytes */
    SAMPLE_BAD_PNG,
    SAMPLE_BAD_JPEG,
    SAMPLE_BAD_WEBP,
    /* left out by a filter */
    SAMPLE_SMALL,
    SAMPLE_WATERMARK,
    SAMPLE_UNSAFE,
    SAMPLE_SIMILARITY,
    SAMPLE_AESTHETIC,
    SAMPLE_LANGUAGE, /* has no caption in data.caption_language */
    SAMPLE_MISSING_FIELD,
    SAMPLE_NOT_DOWNLOADED, /* img2dataset's status is not "success" */
    SAMPLE_WHERE,          /* an expression of data.filter.where or of the source's own says no */
    /* shards, counted once each when they are indexed */
    SHARD_EMPTY,
    SHARD_BROKEN, /* truncated or not a tar; the whole samples before the break are used */
    SAMPLE_REASON_COUNT
} SampleReason;

typedef struct BadSamples {
    int64_t counts[SAMPLE_REASON_COUNT]; /* SAMPLE_ACCEPTED too */
} BadSamples;

const char *sample_reason_name(SampleReason reason);
bool sample_reason_is_broken(SampleReason reason);
bool sample_reason_is_filter(SampleReason reason);

/* Counts it, and writes a warning for the first few of a reason and then ever fewer (1..5, 10, 100, ...). */
void bad_samples_add(BadSamples *bad, SampleReason reason, const char *shard, const char *key, const char *detail);
int64_t bad_samples_seen(const BadSamples *bad);   /* samples looked at */
int64_t bad_samples_broken(const BadSamples *bad); /* of these, broken */
/* ERR_FORMAT when broken / seen is above max_share and at least 100 samples were seen. */
Status bad_samples_check(const BadSamples *bad, double max_share);
/* "bad_png 3, no_caption 1"; "none" when nothing was passed over. */
Status bad_samples_format(const BadSamples *bad, StrBuf *out);

#endif
