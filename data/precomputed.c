/* What the reader and the writer of precomputed files share: names, facts, paths. */
#include "data/precomputed.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "data/caption_choice.h"
#include "data/precomputed_inside.h"

const char *const PRECOMPUTED_TYPE_WORDS[] = {"f32", "f16", "bf16", NULL};
const char *const PRECOMPUTED_KIND_WORDS[] = {"latents", "text"};
#define MAX_WHERE 500 /* bytes of a fact that messages show */

static const char *const caption_words[] = {"auto", "json", "txt"};
static const char *const missing_words[] = {"pass", "drop", "error"};

/* ---- facts ---- */

Status precomputed_facts_add(PrecomputedFacts *facts, const char *key, const char *format, ...)
{
    Status status = STATUS_OK;
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    TRY(mem_grow(&facts->items, &facts->capacity, facts->count + 1, sizeof facts->items[0]));
    PrecomputedFact fact = {strdup(key), strdup(text)};
    if (!fact.key || !fact.value) {
        free(fact.key);
        free(fact.value);
        FAIL(ERR_MEMORY, "out of memory");
    }
    facts->items[facts->count++] = fact;
fail:
    return status;
}

void precomputed_facts_free(PrecomputedFacts *facts)
{
    for (size_t i = 0; i < facts->count; i++) {
        free(facts->items[i].key);
        free(facts->items[i].value);
    }
    free(facts->items);
    *facts = (PrecomputedFacts){0};
}

/* ", where watermark < 0.5; aspect < 2": nothing without expressions, so that older files stay valid. Long ones are
 * told apart by a hash. */
static Status describe_where(const DataConfig *config, const SourceConfig *source, StrBuf *out)
{
    Status status = STATUS_OK;
    const ConfigStrings *lists[] = {&config->filter.where, &source->where};
    const char *before = ", where ";
    for (int l = 0; l < 2; l++) {
        for (size_t i = 0; i < lists[l]->count; i++) {
            TRY(strbuf_printf(out, "%s%s", before, lists[l]->items[i]));
            before = "; ";
        }
    }
    if (out->size <= MAX_WHERE) return STATUS_OK;
    uint64_t hash = hash_string64(out->data);
    out->size = 0;
    TRY(strbuf_printf(out, ", where %zu expressions with the hash %016llx", lists[0]->count + lists[1]->count,
                      (unsigned long long)hash));
fail:
    return status;
}

/* The effective choice, in one way of writing. */
static Status describe_captions(const DataConfig *config, const SourceConfig *source, StrBuf *out)
{
    Status status = STATUS_OK;
    CaptionChoice choice;
    TRY(caption_choice_parse(source->language && source->language[0] ? source->language : config->caption_language,
                             &choice));
    TRY(caption_choice_format(&choice, out));
fail:
    return status;
}

Status precomputed_facts_of_data(const DataConfig *config, const SourceConfig *source, int64_t resolution,
                                 PrecomputedFacts *out)
{
    Status status = STATUS_OK;
    const FilterConfig *f = &config->filter;
    const LimitsConfig *l = &config->limits;
    StrBuf where = {0}, captions = {0};
    char watermark[40], unsafe[40], similarity[40], aesthetic[40];
    float_format(f->watermark_max, watermark);
    float_format(f->unsafe_max, unsafe);
    float_format(f->similarity_min, similarity);
    float_format(f->aesthetic_min, aesthetic);
    TRY(describe_where(config, source, &where));
    TRY(describe_captions(config, source, &captions));
    TRY(precomputed_facts_add(out, "data.filter",
                              "watermark_max %s, unsafe_max %s, similarity_min %s, aesthetic_min %s, min_side %lld, "
                              "missing %s%s",
                              watermark, unsafe, similarity, aesthetic,
                              (long long)(f->min_side < 0 ? resolution : f->min_side), missing_words[f->missing],
                              where.data ? where.data : ""));
    TRY(precomputed_facts_add(out, "data.limits", "member_bytes %lld, json_bytes %lld, picture_pixels %lld",
                              (long long)l->member_bytes, (long long)l->json_bytes, (long long)l->picture_pixels));
    TRY(precomputed_facts_add(out, "data.caption_language", "%s", captions.data));
    TRY(precomputed_facts_add(out, "data.sources[].caption", "%s", caption_words[source->caption]));
fail:
    strbuf_free(&where);
    strbuf_free(&captions);
    return status;
}

void precomputed_spec_free(PrecomputedSpec *spec)
{
    for (int kind = 0; kind < PRECOMPUTED_KINDS; kind++) precomputed_facts_free(&spec->facts[kind]);
}

const char *precomputed_command(const PrecomputedSpec *spec, PrecomputeCommand out)
{
    snprintf(out, sizeof(PrecomputeCommand), "vasily precompute CONFIG%s%s", spec->stage[0] ? " --stage " : "",
             spec->stage);
    return out;
}

int64_t precomputed_moment_values(const PrecomputedSpec *spec)
{
    return spec->side * spec->side * spec->moments;
}

/* ---- names ---- */

static bool ends_with(const char *text, size_t size, const char *end)
{
    size_t n = strlen(end);
    return size > n && memcmp(text + size - n, end, n) == 0;
}

size_t precomputed_stem_size(const char *name)
{
    static const char *const ends[] = {".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar*"};
    size_t size = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (ends_with(name, size, ends[i])) return size - strlen(ends[i]);
    return size;
}

void precomputed_suffix(const PrecomputedSpec *spec, PrecomputedKind kind, char out[64])
{
    if (kind == PRECOMPUTED_LATENTS)
        snprintf(out, 64, ".latents-%lld.h5", (long long)spec->resolution);
    else
        snprintf(out, 64, ".text.h5");
}

/* A source's name as the name of a folder. */
static void folder_name(const char *source, char out[256])
{
    size_t i = 0;
    for (; i < 255 && source[i]; i++) {
        unsigned char c = (unsigned char)source[i];
        out[i] = (char)(c <= ' ' || c == '/' || c == '\\' || c == 127 ? '_' : c);
    }
    out[i] = 0;
    if (out[0] == '.') out[0] = '_';
}

const char *precomputed_base_name(const char *shard, char out[SHARD_NAME_MAX])
{
    if (shard_kind(shard) == SHARD_PIPE)
        snprintf(out, SHARD_NAME_MAX, "pipe.%016" PRIx64, hash_string64(shard));
    else
        shard_plain(shard, out, SHARD_NAME_MAX);
    const char *slash = strrchr(out, '/');
    return slash ? slash + 1 : out;
}

Status precomputed_path(const PrecomputedSpec *spec, PrecomputedKind kind, const char *source, const char *shard,
                        char out[PATH_MAX])
{
    Status status = STATUS_OK;
    char suffix[64], folder[256] = "";
    char plain[SHARD_NAME_MAX];
    if (!spec->path[0] && shard_kind(shard) != SHARD_LOCAL)
        FAIL(ERR_CONFIG,
             "%s: precomputed files of a shard that is not a file here need a folder; set frozen.path (or --out)",
             SHARD_SHOWN(shard));
    const char *base = precomputed_base_name(shard, plain);
    const char *start = spec->path[0] ? base : plain;
    precomputed_suffix(spec, kind, suffix);
    if (spec->path[0]) folder_name(source, folder);
    int stem = (int)((size_t)(base - start) + precomputed_stem_size(base));
    int size = snprintf(out, PATH_MAX, "%s%s%s%s%.*s%s", spec->path, spec->path[0] ? "/" : "", folder,
                        spec->path[0] ? "/" : "", stem, start, suffix);
    if (size < 0 || size >= PATH_MAX)
        FAIL(ERR_LIMIT, "the path of precomputed data of %.100s... is too long", SHARD_SHOWN(shard));
fail:
    return status;
}

Status precomputed_hash_index(const TarIndex *index, Hash128 *out)
{
    Status status = STATUS_OK;
    StrBuf text = {0};
    const SampleTable *table = &index->table;
    for (size_t s = 0; s < table->sample_count; s++) {
        const Sample *sample = &table->samples[s];
        TRY(strbuf_printf(&text, "%s\n", sample_key(table, sample)));
        for (uint32_t m = 0; m < sample->member_count; m++) {
            const SampleMember *member = &table->members[sample->first_member + m];
            TRY(strbuf_printf(&text, "%s %lld %lld\n", sample_suffix(table, member), (long long)member->offset,
                              (long long)member->size));
        }
    }
    *out = hash_memory(text.data ? text.data : "", text.size);
fail:
    strbuf_free(&text);
    return status;
}
