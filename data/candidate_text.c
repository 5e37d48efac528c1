/* A sample's .json: its fields and the filters over them. */
#include "base/json.h"
#include "data/candidate_inside.h"
#include "data/metadata.h"

/* The .json, parsed; NULL when there is none. */
static bool read_json(const CandidateContext *context, CandidateScratch *scratch, Candidate *c,
                      const ShardWindow *window, const Sample *sample, JsonDoc **out)
{
    const SampleMember *json = sample_member(&window->index->table, sample, "json");
    size_t limit = (size_t)context->config->limits.json_bytes;
    *out = NULL;
    if (!json) return true;
    if (!candidate_read_member(context, scratch, c, window, json, (int64_t)limit)) return false;
    Status status = json_parse((const char *)scratch->member, (size_t)json->size, limit, out);
    if (status == STATUS_OK && json_is_object(json_root(*out))) return true;
    if (status == ERR_MEMORY)
        candidate_stop_run(c, status);
    else if (status != STATUS_OK)
        candidate_reject(c, SAMPLE_BAD_JSON);
    else
        candidate_reject_with(c, SAMPLE_BAD_JSON, "its .json is not an object");
    json_free(*out);
    *out = NULL;
    return false;
}

/* caption_length is of the caption that the .json gives, else of the .txt. That is read for it only where a filter
 * asks, or somebody looks on: which must not change what becomes of the sample. */
static bool measure_caption(const CandidateContext *context, CandidateScratch *scratch, Candidate *c,
                            const ShardWindow *window, const Sample *sample, Metadata *meta)
{
    int32_t from = data_config_source(context->config, (size_t)c->source)->caption;
    const SampleMember *txt = sample_member(&window->index->table, sample, "txt");
    if (from == CAPTION_TXT) meta->caption_length = -1;
    if (meta->caption_length >= 0 || from == CAPTION_JSON || !txt) return true;
    if (!filter_set_asks_caption_length(context->filters, c->source) &&
        (!context->look || txt->size > context->config->limits.json_bytes))
        return true;
    if (!candidate_read_member(context, scratch, c, window, txt, context->config->limits.json_bytes)) return false;
    const char *text = (const char *)scratch->member;
    if (utf8_valid(text, (size_t)txt->size)) meta->caption_length = caption_length(text, (size_t)txt->size);
    return true;
}

static bool filter(const CandidateContext *context, Candidate *c, const ShardWindow *window, const Sample *sample,
                   const Metadata *meta, int64_t min_side)
{
    SampleReason reason = filter_set_check(context->filters, c->source, meta, min_side, c->detail, sizeof c->detail);
    if (reason == SAMPLE_MISSING_FIELD && context->config->filter.missing == MISSING_ERROR) {
        candidate_stop_run(
            c, status_fail(ERR_FORMAT, __FILE__, __LINE__,
                           "%s in %s: %s, and data.filter.missing is error; set it to pass or drop, or add the "
                           "field",
                           sample_key(&window->index->table, sample), SHARD_SHOWN(window->path), c->detail));
        return false;
    }
    if (reason != SAMPLE_ACCEPTED) candidate_reject_with(c, reason, c->detail);
    return reason == SAMPLE_ACCEPTED;
}

bool candidate_read_texts(const CandidateContext *context, CandidateScratch *scratch, Candidate *c,
                          const ShardWindow *window, const Sample *sample, int64_t min_side)
{
    JsonDoc *doc;
    Metadata meta;
    if (!read_json(context, scratch, c, window, sample, &doc)) return false;
    metadata_read(doc ? json_root(doc) : NULL, &meta);
    bool going = measure_caption(context, scratch, c, window, sample, &meta);
    if (going && context->look) context->look(context->looker, c, &window->index->table, sample, &meta, min_side);
    going = going && filter(context, c, window, sample, &meta, min_side) &&
            candidate_read_captions(context, scratch, c, window, sample, &meta);
    json_free(doc);
    return going;
}
