#include "data/metadata.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"

static const char *const watermark_names[] = {"pwatermark", "watermark_score", NULL};
static const char *const unsafe_names[] = {"punsafe", NULL};
static const char *const similarity_names[] = {"similarity", "clip_similarity_vitb32", "clip_similarity_vitl14", NULL};
static const char *const aesthetic_names[] = {"aesthetic", "AESTHETIC_SCORE", "aesthetic_score_laion_v2", NULL};
static const char *const caption_names[] = {"caption", "TEXT", "top_caption", NULL};
static const char *const language_names[] = {"LANGUAGE", "language", NULL};
static const char *const status_names[] = {"status", NULL};
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

void caption_trim(const char **text, size_t *size)
{
    static const char blanks[] = {' ', '\t', '\n', '\r', '\f', '\v'};
    utf8_skip_mark(text, size); /* a .txt may have one, and who reads it into a .json hands it on */
    while (*size > 0 && memchr(blanks, (*text)[0], sizeof blanks)) (*text)++, (*size)--;
    while (*size > 0 && memchr(blanks, (*text)[*size - 1], sizeof blanks)) (*size)--;
}

int64_t caption_length(const char *text, size_t size)
{
    int64_t count = 0;
    caption_trim(&text, &size);
    for (size_t i = 0; i < size; i++) count += ((unsigned char)text[i] & 0xc0) != 0x80;
    return count;
}

void metadata_read(const JsonValue *root, Metadata *out)
{
    *out = (Metadata){0};
    if (!json_is_object(root)) root = NULL;
    out->root = root;
    out->watermark = find_number(root, watermark_names);
    out->unsafe = find_number(root, unsafe_names);
    out->similarity = find_number(root, similarity_names);
    out->aesthetic = find_number(root, aesthetic_names);
    out->caption = find_text(root, caption_names, &out->caption_size);
    out->caption_length = out->caption ? caption_length(out->caption, out->caption_size) : -1;
    out->language = find_text(root, language_names, &out->language_size);
    out->status = find_text(root, status_names, &out->status_size);
    out->failed = out->status && strncmp(out->status, "failed", 6) == 0;
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
    if (json_count(captions) > 0) out->captions = captions;
}

/* ---- thresholds ---- */

/* A score, what the config wants of it, and which side of that is the wrong one. */
typedef struct Threshold {
    const char *name;
    SampleReason reason;
    double value, limit;
    bool asked, fails;
} Threshold;

static Threshold threshold_of(MetadataRule rule, const Metadata *m, const FilterConfig *f)
{
    switch (rule) {
    case RULE_WATERMARK:
        return (Threshold){"watermark",      SAMPLE_WATERMARK,      m->watermark,
                           f->watermark_max, f->watermark_max <= 1, m->watermark >= f->watermark_max};
    case RULE_UNSAFE:
        return (Threshold){"unsafe",      SAMPLE_UNSAFE,      m->unsafe,
                           f->unsafe_max, f->unsafe_max <= 1, m->unsafe >= f->unsafe_max};
    case RULE_SIMILARITY:
        return (Threshold){"similarity",      SAMPLE_SIMILARITY,      m->similarity,
                           f->similarity_min, f->similarity_min > -1, m->similarity < f->similarity_min};
    case RULE_AESTHETIC:
        return (Threshold){"aesthetic",      SAMPLE_AESTHETIC,     m->aesthetic,
                           f->aesthetic_min, f->aesthetic_min > 0, m->aesthetic < f->aesthetic_min};
    case RULE_DOWNLOADED:
    case RULE_SIDE:
    case METADATA_RULES:
        break;
    }
    return (Threshold){0};
}

bool metadata_rule_asked(MetadataRule rule, const FilterConfig *filter, int64_t min_side)
{
    static const Metadata none;
    if (rule == RULE_DOWNLOADED) return true;
    return rule == RULE_SIDE ? min_side > 0 : threshold_of(rule, &none, filter).asked;
}

Status metadata_rule_format(MetadataRule rule, const FilterConfig *filter, int64_t min_side, StrBuf *out)
{
    static const Metadata none;
    if (rule == RULE_DOWNLOADED) return strbuf_printf(out, "downloaded");
    if (rule == RULE_SIDE) return strbuf_printf(out, "side >= %" PRId64, min_side);
    Threshold t = threshold_of(rule, &none, filter);
    return strbuf_printf(out, "%s %s %g", t.name, rule == RULE_WATERMARK || rule == RULE_UNSAFE ? "<" : ">=", t.limit);
}

bool metadata_rule_lacks(MetadataRule rule, const Metadata *meta)
{
    static const FilterConfig none;
    if (rule == RULE_DOWNLOADED) return !meta->status;
    return rule == RULE_SIDE ? meta->width == 0 : isnan(threshold_of(rule, meta, &none).value);
}

static SampleReason check_side(const Metadata *meta, int64_t min_side, char *detail, size_t detail_size)
{
    if (min_side <= 0 || meta->width == 0 || (meta->width >= min_side && meta->height >= min_side))
        return SAMPLE_ACCEPTED;
    snprintf(detail, detail_size, "original %" PRId64 "x%" PRId64 ", wanted at least %" PRId64, meta->width,
             meta->height, min_side);
    return SAMPLE_SMALL;
}

SampleReason metadata_rule_check(MetadataRule rule, const Metadata *meta, const FilterConfig *filter, int64_t min_side,
                                 char *detail, size_t detail_size)
{
    if (rule == RULE_SIDE) return check_side(meta, min_side, detail, detail_size);
    if (rule == RULE_DOWNLOADED) {
        if (!meta->failed) return SAMPLE_ACCEPTED;
        snprintf(detail, detail_size, "its download failed, says the .json");
        return SAMPLE_NOT_DOWNLOADED;
    }
    Threshold t = threshold_of(rule, meta, filter);
    if (!t.asked) return SAMPLE_ACCEPTED;
    if (isnan(t.value)) {
        if (filter->missing == MISSING_PASS) return SAMPLE_ACCEPTED;
        snprintf(detail, detail_size, "no %s in the .json", t.name);
        return SAMPLE_MISSING_FIELD;
    }
    if (!t.fails) return SAMPLE_ACCEPTED;
    snprintf(detail, detail_size, "%s %g", t.name, t.value);
    return t.reason;
}

SampleReason metadata_filter(const Metadata *meta, const FilterConfig *filter, int64_t min_side, char *detail,
                             size_t detail_size)
{
    SampleReason reason = SAMPLE_ACCEPTED;
    for (int rule = 0; rule < METADATA_RULES && reason == SAMPLE_ACCEPTED; rule++)
        reason = metadata_rule_check((MetadataRule)rule, meta, filter, min_side, detail, detail_size);
    return reason;
}
