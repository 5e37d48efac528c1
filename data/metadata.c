#include "data/metadata.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const watermark_names[] = {"pwatermark", "watermark_score", NULL};
static const char *const unsafe_names[] = {"punsafe", NULL};
static const char *const similarity_names[] = {"similarity", "clip_similarity_vitb32", "clip_similarity_vitl14", NULL};
static const char *const aesthetic_names[] = {"aesthetic", "AESTHETIC_SCORE", "aesthetic_score_laion_v2", NULL};
static const char *const caption_names[] = {"caption", "TEXT", "top_caption", NULL};
static const char *const language_names[] = {"LANGUAGE", "language", NULL};
static const char *const size_names[][2] = {
    {"original_width", "original_height"}, {"WIDTH", "HEIGHT"}, {"width", "height"}, {NULL, NULL}};

static double find_number(const JsonValue *root, const char *const *names)
{
    for (; *names; names++) {
        double value;
        if (json_number(json_get(root, *names), &value) && isfinite(value)) return value;
    }
    return NAN;
}

static const char *find_text(const JsonValue *root, const char *const *names, size_t *size)
{
    for (; *names; names++) {
        const char *text = json_text(json_get(root, *names), size);
        if (text && *size > 0) return text;
    }
    *size = 0;
    return NULL;
}

void metadata_read(const JsonValue *root, Metadata *out)
{
    *out = (Metadata){0};
    if (!json_is_object(root)) root = NULL;
    out->watermark = find_number(root, watermark_names);
    out->unsafe = find_number(root, unsafe_names);
    out->similarity = find_number(root, similarity_names);
    out->aesthetic = find_number(root, aesthetic_names);
    out->caption = find_text(root, caption_names, &out->caption_size);
    out->language = find_text(root, language_names, &out->language_size);
    for (int i = 0; size_names[i][0]; i++) {
        double width, height;
        if (json_number(json_get(root, size_names[i][0]), &width) && width >= 1 && width <= 1e9 &&
            json_number(json_get(root, size_names[i][1]), &height) && height >= 1 && height <= 1e9) {
            out->width = (int64_t)width;
            out->height = (int64_t)height;
            break;
        }
    }
    const JsonValue *captions = json_get(root, "captions");
    if (json_is_object(captions) && json_count(captions) > 0) out->captions = captions;
    size_t size;
    const char *state = json_text(json_get(root, "status"), &size);
    out->failed = state && strncmp(state, "failed", 6) == 0;
}

/* One threshold: `fails` says whether the value is on the wrong side. */
static SampleReason check(double value, bool asked, bool fails, SampleReason reason, const char *name,
                          const FilterConfig *filter, char *detail, size_t detail_size)
{
    if (!asked) return SAMPLE_ACCEPTED;
    if (isnan(value)) {
        if (filter->missing == MISSING_PASS) return SAMPLE_ACCEPTED;
        snprintf(detail, detail_size, "no %s in the .json", name);
        return SAMPLE_MISSING_FIELD;
    }
    if (!fails) return SAMPLE_ACCEPTED;
    snprintf(detail, detail_size, "%s %g", name, value);
    return reason;
}

SampleReason metadata_filter(const Metadata *meta, const FilterConfig *filter, int64_t min_side, char *detail,
                             size_t detail_size)
{
    SampleReason reason = SAMPLE_ACCEPTED;
    if (meta->failed) {
        snprintf(detail, detail_size, "its download failed, says the .json");
        return SAMPLE_NOT_DOWNLOADED;
    }
    if (reason == SAMPLE_ACCEPTED)
        reason = check(meta->watermark, filter->watermark_max <= 1, meta->watermark >= filter->watermark_max,
                       SAMPLE_WATERMARK, "watermark", filter, detail, detail_size);
    if (reason == SAMPLE_ACCEPTED)
        reason = check(meta->unsafe, filter->unsafe_max <= 1, meta->unsafe >= filter->unsafe_max, SAMPLE_UNSAFE,
                       "unsafe", filter, detail, detail_size);
    if (reason == SAMPLE_ACCEPTED)
        reason = check(meta->similarity, filter->similarity_min > -1, meta->similarity < filter->similarity_min,
                       SAMPLE_SIMILARITY, "similarity", filter, detail, detail_size);
    if (reason == SAMPLE_ACCEPTED)
        reason = check(meta->aesthetic, filter->aesthetic_min > 0, meta->aesthetic < filter->aesthetic_min,
                       SAMPLE_AESTHETIC, "aesthetic", filter, detail, detail_size);
    if (reason == SAMPLE_ACCEPTED && min_side > 0 && meta->width > 0 &&
        (meta->width < min_side || meta->height < min_side)) {
        snprintf(detail, detail_size, "original %" PRId64 "x%" PRId64 ", wanted at least %" PRId64, meta->width,
                 meta->height, min_side);
        reason = SAMPLE_SMALL;
    }
    return reason;
}
