/* A sample's captions, those of its .json or .txt members that data.caption_language lets through. */
#include <string.h>

#include "base/json.h"
#include "data/candidate_inside.h"
#include "data/metadata.h"

#define MAX_CAPTION_BYTES 8192 /* far more than any encoder's tokens */
#define MAX_CAPTIONS 4096

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
    caption_trim(&text, &size);
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

/* With `first` one caption is all that is wanted. */
static bool has_enough(const Candidate *c, const CaptionChoice *choice)
{
    return choice->end == CAPTION_END_FIRST && c->caption_count > 0;
}

static bool reject_language(Candidate *c)
{
    candidate_reject_with(c, SAMPLE_LANGUAGE, "it has no caption in data.caption_language");
    return false;
}

/* A value of "captions" has a text: it is one, or a list with one. */
static bool has_text(const JsonValue *value)
{
    size_t size;
    const char *text = json_text(value, &size);
    for (size_t i = 0; !text && i < json_count(value); i++) {
        text = json_text(json_item(value, i), &size);
        if (text) caption_trim(&text, &size);
        if (size == 0) text = NULL;
    }
    if (text) caption_trim(&text, &size);
    return text && size > 0;
}

/* A text, or a list of texts, in one language. */
static bool add_texts(Candidate *c, const CaptionChoice *choice, const char *language, size_t language_size,
                      const JsonValue *value)
{
    size_t size;
    const char *text = json_text(value, &size);
    if (text) return candidate_add_caption(c, language, language_size, text, size);
    for (size_t i = 0; i < json_count(value) && !has_enough(c, choice); i++) {
        text = json_text(json_item(value, i), &size);
        if (text && !candidate_add_caption(c, language, language_size, text, size)) return false;
    }
    return true;
}

/* {"captions": {"en": "...", "ru": ["...", "..."]}}: those of the best language. */
static bool add_by_language(Candidate *c, const CaptionChoice *choice, const JsonValue *captions)
{
    int best = -1;
    bool any = false;
    const char *language;
    for (size_t i = 0; i < json_count(captions); i++) {
        if (!has_text(json_member(captions, i, &language))) continue;
        int rank = caption_choice_rank(choice, language, strlen(language));
        if (rank >= 0 && (best < 0 || rank < best)) best = rank;
        any = true;
    }
    if (best < 0) return any ? reject_language(c) : true;
    for (size_t i = 0; i < json_count(captions) && !has_enough(c, choice); i++) {
        const JsonValue *value = json_member(captions, i, &language);
        if (caption_choice_rank(choice, language, strlen(language)) != best) continue;
        if (!add_texts(c, choice, language, strlen(language), value)) return false;
    }
    return true;
}

/* Of the sample's one language, which may be unknown: then the captions are taken whatever is wanted. */
static bool language_fits(const CaptionChoice *choice, const Metadata *meta)
{
    return !meta->language || caption_choice_rank(choice, meta->language, meta->language_size) >= 0;
}

/* {"captions": ["...", "..."]} */
static bool add_list(Candidate *c, const CaptionChoice *choice, const Metadata *meta)
{
    if (!has_text(meta->captions)) return true;
    if (!language_fits(choice, meta)) return reject_language(c);
    return add_texts(c, choice, meta->language ? meta->language : "", meta->language_size, meta->captions);
}

static bool add_single(Candidate *c, const CaptionChoice *choice, const Metadata *meta, const char *text, size_t size)
{
    if (!language_fits(choice, meta)) return reject_language(c);
    return candidate_add_caption(c, meta->language ? meta->language : "", meta->language_size, text, size);
}

/* Members en.txt, ru.txt, ...: the best language of which the text is not empty. */
static bool add_members(const CandidateContext *context, CandidateScratch *scratch, Candidate *c,
                        const ShardWindow *window, const Sample *sample, const CaptionChoice *choice)
{
    const SampleTable *table = &window->index->table;
    bool any = false;
    for (int rank = 0; rank <= choice->count && c->caption_count == 0 && (rank == 0 || any); rank++) {
        for (uint32_t i = 0; i < sample->member_count && !has_enough(c, choice); i++) {
            const SampleMember *member = &table->members[sample->first_member + i];
            const char *suffix = sample_suffix(table, member);
            size_t size = caption_member_language(suffix);
            if (size == 0 || member->size == 0) continue;
            any = true;
            if (caption_choice_rank(choice, suffix, size) != rank) continue;
            if (!candidate_read_member(context, scratch, c, window, member, context->config->limits.json_bytes) ||
                !candidate_add_caption(c, suffix, size, (const char *)scratch->member, (size_t)member->size))
                return false;
        }
    }
    return any && c->caption_count == 0 && choice->end == CAPTION_END_NONE ? reject_language(c) : true;
}

bool candidate_read_captions(const CandidateContext *context, CandidateScratch *scratch, Candidate *c,
                             const ShardWindow *window, const Sample *sample, const Metadata *meta)
{
    const SampleMember *txt = sample_member(&window->index->table, sample, "txt");
    const CaptionChoice *choice = filter_set_captions(context->filters, c->source);
    int32_t from = data_config_source(context->config, (size_t)c->source)->caption;
    if (from != CAPTION_TXT && meta->captions) {
        bool by_language = json_is_object(meta->captions);
        if (!(by_language ? add_by_language(c, choice, meta->captions) : add_list(c, choice, meta))) return false;
    }
    if (c->caption_count == 0 && from != CAPTION_JSON && !add_members(context, scratch, c, window, sample, choice))
        return false;
    if (c->caption_count == 0 && from != CAPTION_TXT && meta->caption &&
        !add_single(c, choice, meta, meta->caption, meta->caption_size))
        return false;
    if (c->caption_count == 0 && from != CAPTION_JSON && txt) {
        if (!candidate_read_member(context, scratch, c, window, txt, context->config->limits.json_bytes)) return false;
        if (!add_single(c, choice, meta, (const char *)scratch->member, (size_t)txt->size)) return false;
    }
    if (c->caption_count > 0) return true;
    candidate_reject_with(c, SAMPLE_NO_CAPTION,
                          txt || meta->root ? "its caption is empty or missing" : "it has no .txt and no .json");
    return false;
}
