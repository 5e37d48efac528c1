/* A sample's .json and .txt: the filters, and its captions. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "data/candidate_inside.h"
#include "data/metadata.h"

#define MAX_CAPTION_BYTES 8192 /* far more than any encoder's tokens */
#define MAX_CAPTIONS 4096

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

bool candidate_add_caption(Candidate *c, const char *language, size_t language_size, const char *text, size_t size)
{
    if (!utf8_valid(text, size) || !utf8_valid(language, language_size)) {
        candidate_reject_with(c, SAMPLE_BAD_UTF8, "its caption is not valid UTF-8");
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
        candidate_stop_run(c, status);
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
        if (!candidate_add_caption(c, language, strlen(language), text, size)) return false;
        if (c->caption_count > 0 && strcmp(wanted, "first") == 0) break;
    }
    if (any_text && c->caption_count == 0 && strcmp(wanted, "random") != 0 && strcmp(wanted, "first") != 0) {
        candidate_reject_with(c, SAMPLE_LANGUAGE, "it has no caption in data.caption_language");
        return false;
    }
    return true;
}

/* A single caption of a language that may be unknown. */
static bool add_single(Candidate *c, const Metadata *meta, const char *wanted, const char *text, size_t size)
{
    bool any = strcmp(wanted, "random") == 0 || strcmp(wanted, "first") == 0;
    if (!any && meta->language && strcmp(meta->language, wanted) != 0) {
        candidate_reject_with(c, SAMPLE_LANGUAGE, "its caption is not in data.caption_language");
        return false;
    }
    return candidate_add_caption(c, meta->language ? meta->language : "", meta->language_size, text, size);
}

bool candidate_read_texts(const CandidateContext *context, CandidateScratch *scratch, Candidate *c,
                          const ShardWindow *window, const Sample *sample, int64_t min_side)
{
    const DataConfig *config = context->config;
    const SampleTable *table = &window->index->table;
    const SampleMember *json = sample_member(table, sample, "json");
    const SampleMember *txt = sample_member(table, sample, "txt");
    int32_t from = data_config_source(config, (size_t)c->source)->caption;
    const char *wanted = config->caption_language;
    char language[64] = "";
    JsonDoc *doc = NULL;
    Metadata meta;
    bool going = false;

    if (json) {
        if (!candidate_read_member(context, scratch, c, window, json, config->limits.json_bytes)) return false;
        Status status =
            json_parse((const char *)scratch->member, (size_t)json->size, (size_t)config->limits.json_bytes, &doc);
        if (status == ERR_MEMORY) {
            candidate_stop_run(c, status);
            return false;
        }
        if (status != STATUS_OK) {
            candidate_reject(c, SAMPLE_BAD_JSON);
            return false;
        }
        if (!json_is_object(json_root(doc))) {
            candidate_reject_with(c, SAMPLE_BAD_JSON, "its .json is not an object");
            goto done;
        }
    }
    metadata_read(doc ? json_root(doc) : NULL, &meta);
    SampleReason reason = metadata_filter(&meta, &config->filter, min_side, c->detail, sizeof c->detail);
    if (reason == SAMPLE_MISSING_FIELD && config->filter.missing == MISSING_ERROR) {
        candidate_stop_run(
            c, status_fail(ERR_FORMAT, __FILE__, __LINE__,
                           "%s in %s: %s, and data.filter.missing is error; set it to pass or drop, or add the "
                           "field",
                           sample_key(table, sample), window->path, c->detail));
        goto done;
    }
    if (reason != SAMPLE_ACCEPTED) {
        candidate_reject_with(c, reason, c->detail);
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
        if (!candidate_read_member(context, scratch, c, window, txt, config->limits.json_bytes)) return false;
        if (!add_single(c, &meta, wanted, (const char *)scratch->member, (size_t)txt->size)) goto done;
    }
    if (c->caption_count == 0) {
        candidate_reject_with(c, SAMPLE_NO_CAPTION,
                              txt || json ? "its caption is empty or missing" : "it has no .txt and no .json");
        goto done;
    }
    going = true;
done:
    json_free(doc);
    return going;
}
