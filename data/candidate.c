#include "data/candidate.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "data/metadata.h"

#define KEEP_BYTES ((size_t)32 << 20)
#define KEEP_TEXT ((size_t)64 << 10)
#define MAX_CAPTION_BYTES 8192 /* far more than any encoder's tokens */
#define MAX_CAPTIONS 4096

static const char *const picture_suffixes[] = {"jpg", "jpeg", "png", "webp", "image", "img", NULL};

/* Passes the candidate over with the last recorded message as its detail. */
static void reject(Candidate *c, SampleReason reason)
{
    c->reason = reason;
    snprintf(c->detail, sizeof c->detail, "%s", status_message());
}

static void reject_with(Candidate *c, SampleReason reason, const char *detail)
{
    c->reason = reason;
    if (detail != c->detail) snprintf(c->detail, sizeof c->detail, "%s", detail);
}

static void stop_run(Candidate *c, Status status)
{
    c->fatal = status;
    snprintf(c->detail, sizeof c->detail, "%s", status_message());
}

/* A member into the scratch buffer, NUL-terminated. False: the candidate is settled. */
static bool read_member(CandidateScratch *scratch, Candidate *c, const OpenShard *shard, const SampleMember *member,
                        int64_t limit)
{
    if (member->size > limit) {
        c->reason = SAMPLE_TOO_LARGE;
        snprintf(c->detail, sizeof c->detail, "its .%s has %" PRId64 " bytes, the limit is %" PRId64,
                 sample_suffix(&shard->index->table, member), member->size, limit);
        return false;
    }
    Status status = mem_grow(&scratch->member, &scratch->member_capacity, (size_t)member->size + 1, 1);
    if (status != STATUS_OK) {
        stop_run(c, status);
        return false;
    }
    status = shard_read_member(shard, member, scratch->member);
    if (status != STATUS_OK) {
        reject(c, SAMPLE_READ_ERROR);
        return false;
    }
    scratch->member[member->size] = 0;
    c->bytes_read += member->size;
    return true;
}

static bool is_space(char b)
{
    return b == ' ' || b == '\t' || b == '\n' || b == '\r' || b == '\f' || b == '\v';
}

static Status append_text(StrBuf *out, const char *text, size_t size, uint32_t *at)
{
    Status status = STATUS_OK;
    *at = (uint32_t)out->size;
    TRY(strbuf_append(out, text, size));
    TRY(strbuf_append(out, "", 1));
fail:
    return status;
}

/* Appends a caption without the blanks around it; an empty one is left out. False: the candidate is settled. */
static bool add_caption(Candidate *c, const char *language, size_t language_size, const char *text, size_t size)
{
    if (!utf8_valid(text, size) || !utf8_valid(language, language_size)) {
        reject_with(c, SAMPLE_BAD_UTF8, "its caption is not valid UTF-8");
        return false;
    }
    while (size > 0 && is_space(text[0])) text++, size--;
    while (size > 0 && is_space(text[size - 1])) size--;
    if (size == 0 || c->caption_count >= MAX_CAPTIONS) return true;
    if (size > MAX_CAPTION_BYTES) {
        size = MAX_CAPTION_BYTES;
        while (size > 0 && ((unsigned char)text[size] & 0xc0) == 0x80) size--;
    }
    Caption caption = {.text_size = (uint32_t)size};
    Status status = mem_grow(&c->captions, &c->caption_capacity, c->caption_count + 1, sizeof c->captions[0]);
    if (status == STATUS_OK) status = append_text(&c->text, language, language_size, &caption.language);
    if (status == STATUS_OK) status = append_text(&c->text, text, size, &caption.text);
    if (status != STATUS_OK) {
        stop_run(c, status);
        return false;
    }
    c->captions[c->caption_count] = caption;
    c->caption_count++;
    return true;
}

/* The captions of {"captions": {"en": "...", ...}} that data.caption_language lets through. */
static bool add_captions_object(Candidate *c, const JsonValue *captions, const char *wanted)
{
    size_t size;
    bool any_text = false;
    for (size_t i = 0; i < json_count(captions); i++) {
        const char *language;
        const char *text = json_text(json_member(captions, i, &language), &size);
        if (!text || size == 0) continue;
        any_text = true;
        if (strcmp(wanted, "random") != 0 && strcmp(wanted, "first") != 0 && strcmp(wanted, language) != 0) continue;
        if (!add_caption(c, language, strlen(language), text, size)) return false;
        if (c->caption_count > 0 && strcmp(wanted, "first") == 0) break;
    }
    if (any_text && c->caption_count == 0 && strcmp(wanted, "random") != 0 && strcmp(wanted, "first") != 0) {
        reject_with(c, SAMPLE_LANGUAGE, "it has no caption in data.caption_language");
        return false;
    }
    return true;
}

/* A single caption of a language that may be unknown. */
static bool add_single(Candidate *c, const Metadata *meta, const char *wanted, const char *text, size_t size)
{
    bool any = strcmp(wanted, "random") == 0 || strcmp(wanted, "first") == 0;
    if (!any && meta->language && strcmp(meta->language, wanted) != 0) {
        reject_with(c, SAMPLE_LANGUAGE, "its caption is not in data.caption_language");
        return false;
    }
    return add_caption(c, meta->language ? meta->language : "", meta->language_size, text, size);
}

/* Filters by the .json and collects the captions. False: the candidate is settled. */
static bool read_texts(const CandidateContext *context, CandidateScratch *scratch, Candidate *c, const OpenShard *shard,
                       const Sample *sample, int64_t min_side)
{
    const DataConfig *config = context->config;
    const SampleTable *table = &shard->index->table;
    const SampleMember *json = sample_member(table, sample, "json");
    const SampleMember *txt = sample_member(table, sample, "txt");
    int32_t from = data_config_source(config, (size_t)c->source)->caption;
    const char *wanted = config->caption_language;
    char language[64] = "";
    JsonDoc *doc = NULL;
    Metadata meta;
    bool going = false;

    if (json) {
        if (!read_member(scratch, c, shard, json, config->limits.json_bytes)) return false;
        Status status =
            json_parse((const char *)scratch->member, (size_t)json->size, (size_t)config->limits.json_bytes, &doc);
        if (status == ERR_MEMORY) {
            stop_run(c, status);
            return false;
        }
        if (status != STATUS_OK) {
            reject(c, SAMPLE_BAD_JSON);
            return false;
        }
        if (!json_is_object(json_root(doc))) {
            reject_with(c, SAMPLE_BAD_JSON, "its .json is not an object");
            goto done;
        }
    }
    metadata_read(doc ? json_root(doc) : NULL, &meta);
    SampleReason reason = metadata_filter(&meta, &config->filter, min_side, c->detail, sizeof c->detail);
    if (reason == SAMPLE_MISSING_FIELD && config->filter.missing == MISSING_ERROR) {
        stop_run(c, status_fail(ERR_FORMAT, __FILE__, __LINE__,
                                "%s in %s: %s, and data.filter.missing is error; set it to pass or drop, or add the "
                                "field",
                                sample_key(table, sample), shard->path, c->detail));
        goto done;
    }
    if (reason != SAMPLE_ACCEPTED) {
        reject_with(c, reason, c->detail);
        goto done;
    }
    if (from != CAPTION_TXT) {
        if (meta.captions && !add_captions_object(c, meta.captions, wanted)) goto done;
        if (c->caption_count == 0 && meta.caption && !add_single(c, &meta, wanted, meta.caption, meta.caption_size))
            goto done;
    }
    if (c->caption_count == 0 && from != CAPTION_JSON && txt) {
        if (meta.language && meta.language_size < sizeof language) memcpy(language, meta.language, meta.language_size);
        json_free(doc);
        doc = NULL;
        meta.language = language[0] ? language : NULL;
        meta.language_size = strlen(language);
        if (!read_member(scratch, c, shard, txt, config->limits.json_bytes)) return false;
        if (!add_single(c, &meta, wanted, (const char *)scratch->member, (size_t)txt->size)) goto done;
    }
    if (c->caption_count == 0) {
        reject_with(c, SAMPLE_NO_CAPTION,
                    txt || json ? "its caption is empty or missing" : "it has no .txt and no .json");
        goto done;
    }
    going = true;
done:
    json_free(doc);
    return going;
}

static SampleReason broken_picture(const uint8_t *data, size_t size)
{
    switch (picture_sniff(data, size)) {
    case PICTURE_PNG:
        return SAMPLE_BAD_PNG;
    case PICTURE_JPEG:
        return SAMPLE_BAD_JPEG;
    case PICTURE_WEBP:
        return SAMPLE_BAD_WEBP;
    case PICTURE_UNKNOWN:
        break;
    }
    return SAMPLE_UNKNOWN_PICTURE;
}

static void read_picture(const CandidateContext *context, CandidateScratch *scratch, Candidate *c,
                         const OpenShard *shard, const Sample *sample, int64_t min_side)
{
    const SampleMember *member = NULL;
    for (int i = 0; !member && picture_suffixes[i]; i++)
        member = sample_member(&shard->index->table, sample, picture_suffixes[i]);
    if (!member) {
        reject_with(c, SAMPLE_NO_PICTURE, "it has no .jpg, .png or .webp");
        return;
    }
    if (!read_member(scratch, c, shard, member, context->config->limits.member_bytes)) return;
    PictureLimits limits = {.max_pixels = context->config->limits.picture_pixels, .min_side = min_side};
    Picture *picture = &scratch->picture;
    Status status = picture_decode(scratch->member, (size_t)member->size, &limits, picture);
    if (status == STATUS_OK && c->pixels)
        status = resize_square(&scratch->resizer, picture->rgb, picture->width, picture->height, context->resolution,
                               c->pixels);
    if (status == ERR_MEMORY)
        stop_run(c, status);
    else if (status == ERR_LIMIT)
        reject(c, SAMPLE_TOO_LARGE);
    else if (status == ERR_UNSUPPORTED)
        reject(c, SAMPLE_SMALL);
    else if (status != STATUS_OK)
        reject(c, broken_picture(scratch->member, (size_t)member->size));
}

/* ---- precomputed ---- */

static Status take_caption(void *context, const char *language, size_t language_size, const char *text, size_t size)
{
    Candidate *c = context;
    size_t before = c->caption_count;
    if (!add_caption(c, language, language_size, text, size) || c->caption_count != before + 1)
        return status_fail(ERR_FORMAT, __FILE__, __LINE__, "its precomputed captions are damaged");
    return STATUS_OK;
}

/* The key, and whether the sample was accepted, as the precomputed files say. Where there are two, they agree unless
 * reading failed in one of the runs that made them. False: the candidate is settled. */
static bool read_verdict(Candidate *c, const OpenShard *shard)
{
    SampleReason reason;
    bool first = true;
    for (int kind = 0; kind < PRECOMPUTED_KINDS; kind++) {
        if (!shard->precomputed[kind]) continue;
        c->key.size = 0;
        Status status = precomputed_read_sample(shard->precomputed[kind], c->sample, &reason, &c->key);
        if (status != STATUS_OK) {
            stop_run(c, status);
            return false;
        }
        if (first || reason != SAMPLE_ACCEPTED) c->reason = reason;
        first = false;
    }
    if (c->reason != SAMPLE_ACCEPTED) reject_with(c, c->reason, "as `vasily precompute` found");
    return c->reason == SAMPLE_ACCEPTED;
}

static bool read_captions(CandidateScratch *scratch, Candidate *c, const OpenShard *shard)
{
    PrecomputedFile *file = shard->precomputed[PRECOMPUTED_TEXT];
    Status status =
        precomputed_read_captions(file, &scratch->precomputed, c->sample, take_caption, c, &c->first_caption);
    if (status == STATUS_OK && c->caption_count == 0)
        status = status_fail(ERR_FORMAT, __FILE__, __LINE__, "%s: an accepted sample without a caption",
                             precomputed_file_path(file));
    if (status != STATUS_OK) stop_run(c, status);
    return status == STATUS_OK;
}

/* Samples whose latents, text or both are in precomputed files; what is not comes from the shard. */
static void process_precomputed(const CandidateContext *context, CandidateScratch *scratch, Candidate *c,
                                const OpenShard *shard, int64_t min_side)
{
    const SampleTable *table = &shard->index->table;
    if (!read_verdict(c, shard)) return;
    if (shard->precomputed[PRECOMPUTED_TEXT]) {
        if (!read_captions(scratch, c, shard)) return;
    } else if (!read_texts(context, scratch, c, shard, &table->samples[c->sample], min_side)) {
        return;
    }
    if (!shard->precomputed[PRECOMPUTED_LATENTS])
        read_picture(context, scratch, c, shard, &table->samples[c->sample], min_side);
}

void candidate_process(const CandidateContext *context, CandidateScratch *scratch, Candidate *c)
{
    const OpenShard *shard = NULL;
    const FilterConfig *filter = &context->config->filter;
    int64_t min_side = filter->min_side < 0 ? context->resolution : filter->min_side;
    c->reason = SAMPLE_ACCEPTED;
    c->fatal = STATUS_OK;
    c->detail[0] = 0;
    c->shard_path = "";
    c->key.size = c->text.size = c->caption_count = 0;
    c->bytes_read = 0;

    if (shard_store_acquire(context->store, c->source, c->shard, &shard) != STATUS_OK) {
        reject(c, SAMPLE_READ_ERROR);
        if (strbuf_append(&c->key, "?", 1) != STATUS_OK) stop_run(c, ERR_MEMORY);
        return;
    }
    const SampleTable *table = &shard->index->table;
    c->shard_path = shard->path;
    if (shard->fd < 0) { /* nothing is read from the shard itself */
        process_precomputed(context, scratch, c, shard, min_side);
        goto done;
    }
    if (c->sample >= (int64_t)table->sample_count) {
        reject_with(c, SAMPLE_READ_ERROR, "the shard has fewer samples now than when it was indexed");
        if (strbuf_append(&c->key, "?", 1) != STATUS_OK) stop_run(c, ERR_MEMORY);
        goto done;
    }
    if (shard->precomputed[PRECOMPUTED_LATENTS] || shard->precomputed[PRECOMPUTED_TEXT]) {
        process_precomputed(context, scratch, c, shard, min_side);
        goto done;
    }
    const Sample *sample = &table->samples[c->sample];
    const char *key = sample_key(table, sample);
    if (strbuf_append(&c->key, key, strlen(key)) != STATUS_OK) {
        stop_run(c, ERR_MEMORY);
        goto done;
    }
    if (sample->duplicate) {
        reject_with(c, SAMPLE_DUPLICATE_MEMBER, "two of its members have the same suffix");
        goto done;
    }
    if (read_texts(context, scratch, c, shard, sample, min_side))
        read_picture(context, scratch, c, shard, sample, min_side);
done:
    shard_store_release(context->store, shard);
    picture_trim(&scratch->picture);
    if (scratch->member_capacity > KEEP_BYTES) {
        free(scratch->member);
        scratch->member = NULL;
        scratch->member_capacity = 0;
    }
    if (c->reason != SAMPLE_ACCEPTED && c->text.capacity > KEEP_TEXT) strbuf_free(&c->text);
}

void candidate_free(Candidate *c)
{
    strbuf_free(&c->key);
    strbuf_free(&c->text);
    free(c->captions);
    free(c->pixels);
}

void candidate_scratch_free(CandidateScratch *scratch)
{
    free(scratch->member);
    picture_free(&scratch->picture);
    resizer_free(&scratch->resizer);
    precomputed_scratch_free(&scratch->precomputed);
}
