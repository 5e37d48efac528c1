#include "data/data_config.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "data/filter_set.h"
#include "data/shard_list.h"

static const char *const caption_words[] = {"auto", "json", "txt", NULL};
static const char *const style_words[] = {"xlmr", "mt5", "mt5-bytes", NULL};
static const char *const missing_words[] = {"pass", "drop", "error", NULL};
static const char *const mixture_words[] = {"weights", "size", NULL};
static const char *const crop_words[] = {"middle", "random", NULL};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const ConfigField source_fields[] = {
    {.key = "name",
     .type = CONFIG_STRING,
     .offset = offsetof(SourceConfig, name),
     .help = "what this source is called in the log and in checkpoints"},
    {.key = "shards",
     .type = CONFIG_STRING_LIST,
     .offset = offsetof(SourceConfig, shards),
     .help = "tar files: paths, globs, {000..123}, http(s)://, list:FILE, pipe:COMMAND"},
    {.key = "weight",
     .type = CONFIG_FLOAT,
     .offset = offsetof(SourceConfig, weight),
     .default_text = "1",
     .min = 0,
     .max = 1e12,
     .help = "share of the mixture, relative to the sum of all weights (see data.mixture)"},
    {.key = "caption",
     .type = CONFIG_ENUM,
     .offset = offsetof(SourceConfig, caption),
     .default_text = "auto",
     .words = caption_words,
     .help = "where captions stand; auto: the .json's captions, its caption, the .txt"},
    {.key = "repeat",
     .type = CONFIG_BOOL,
     .offset = offsetof(SourceConfig, repeat),
     .default_text = "true",
     .help = "begin again at its end; false: it leaves the mixture there, and the run ends with the last source"},
    {.key = "where",
     .type = CONFIG_STRING_LIST,
     .offset = offsetof(SourceConfig, where),
     .default_text = "[]",
     .help = "filter expressions of this source, on top of data.filter"},
    {.key = "language",
     .type = CONFIG_STRING,
     .offset = offsetof(SourceConfig, language),
     .default_text = "\"\"",
     .help = "as data.caption_language, for this source; empty: that"},
};
const ConfigSchema source_config_schema = {"source", source_fields, COUNT(source_fields), sizeof(SourceConfig)};

static const ConfigField filter_fields[] = {
    {.key = "watermark_max",
     .type = CONFIG_FLOAT,
     .offset = offsetof(FilterConfig, watermark_max),
     .default_text = "0.5",
     .min = 0,
     .max = 10,
     .help = "kept when the watermark score is below; above 1: off"},
    {.key = "unsafe_max",
     .type = CONFIG_FLOAT,
     .offset = offsetof(FilterConfig, unsafe_max),
     .default_text = "1.01",
     .min = 0,
     .max = 10,
     .help = "kept when the unsafe score is below; above 1: off"},
    {.key = "similarity_min",
     .type = CONFIG_FLOAT,
     .offset = offsetof(FilterConfig, similarity_min),
     .default_text = "0.26",
     .min = -1,
     .max = 1,
     .help = "least picture-text similarity; -1: off"},
    {.key = "aesthetic_min",
     .type = CONFIG_FLOAT,
     .offset = offsetof(FilterConfig, aesthetic_min),
     .default_text = "0",
     .min = 0,
     .max = 10,
     .help = "least aesthetic score; 0: off"},
    {.key = "min_side",
     .type = CONFIG_INT,
     .offset = offsetof(FilterConfig, min_side),
     .default_text = "-1",
     .min = -1,
     .max = 65536,
     .help = "least side of original and stored picture, pixels; -1: the resolution; 0: off"},
    {.key = "where",
     .type = CONFIG_STRING_LIST,
     .offset = offsetof(FilterConfig, where),
     .default_text = "[]",
     .help = "expressions that must hold, such as \"aspect < 2 and language in [ru, uk]\""},
    {.key = "missing",
     .type = CONFIG_ENUM,
     .offset = offsetof(FilterConfig, missing),
     .default_text = "pass",
     .words = missing_words,
     .help = "what becomes of a sample without a field that a filter asks for"},
};
static const ConfigSchema filter_schema = {"filter", filter_fields, COUNT(filter_fields), sizeof(FilterConfig)};

static const ConfigField augment_fields[] = {
    {.key = "crop",
     .type = CONFIG_ENUM,
     .offset = offsetof(AugmentConfig, crop),
     .default_text = "middle",
     .words = crop_words,
     .help = "which square of a picture is taken"},
    {.key = "flip",
     .type = CONFIG_FLOAT,
     .offset = offsetof(AugmentConfig, flip),
     .default_text = "0",
     .min = 0,
     .max = 1,
     .help = "share of pictures that are mirrored left to right"},
};
static const ConfigSchema augment_schema = {"augment", augment_fields, COUNT(augment_fields), sizeof(AugmentConfig)};

static const ConfigField limits_fields[] = {
    {.key = "member_bytes",
     .type = CONFIG_INT,
     .offset = offsetof(LimitsConfig, member_bytes),
     .default_text = "256Mi",
     .min = 1024,
     .max = 1073741824,
     .help = "largest file inside a shard, bytes"},
    {.key = "json_bytes",
     .type = CONFIG_INT,
     .offset = offsetof(LimitsConfig, json_bytes),
     .default_text = "1Mi",
     .min = 256,
     .max = 16777216,
     .help = "largest .json or .txt, bytes"},
    {.key = "picture_pixels",
     .type = CONFIG_INT,
     .offset = offsetof(LimitsConfig, picture_pixels),
     .default_text = "64Mi",
     .min = 1,
     .max = 268435456,
     .help = "largest picture, width x height"},
};
static const ConfigSchema limits_schema = {"limits", limits_fields, COUNT(limits_fields), sizeof(LimitsConfig)};

#define TOKENIZER_FIELDS(default_style)                                                                         \
    {                                                                                                           \
        {.key = "model",                                                                                        \
         .type = CONFIG_STRING,                                                                                 \
         .offset = offsetof(TokenizerConfig, model),                                                            \
         .default_text = "\"\"",                                                                                \
         .help = "a SentencePiece model; empty: no tokens of this encoder"},                                    \
            {.key = "style",                                                                                    \
             .type = CONFIG_ENUM,                                                                               \
             .offset = offsetof(TokenizerConfig, style),                                                        \
             .default_text = default_style,                                                                     \
             .words = style_words,                                                                              \
             .help = "layout of ids and special tokens; mt5-bytes: unknown characters as bytes, not as <unk>"}, \
            {.key = "max_tokens",                                                                               \
             .type = CONFIG_INT,                                                                                \
             .offset = offsetof(TokenizerConfig, max_tokens),                                                   \
             .default_text = "77",                                                                              \
             .min = 3,                                                                                          \
             .max = 512,                                                                                        \
             .help = "tokens a caption, special ones included"},                                                \
    }
static const ConfigField tokenizer1_fields[] = TOKENIZER_FIELDS("xlmr");
static const ConfigField tokenizer2_fields[] = TOKENIZER_FIELDS("mt5");
static const ConfigSchema tokenizer1_schema = {"tokenizer1", tokenizer1_fields, COUNT(tokenizer1_fields),
                                               sizeof(TokenizerConfig)};
static const ConfigSchema tokenizer2_schema = {"tokenizer2", tokenizer2_fields, COUNT(tokenizer2_fields),
                                               sizeof(TokenizerConfig)};

static const ConfigField data_fields[] = {
    {.key = "sources",
     .type = CONFIG_LIST,
     .offset = offsetof(DataConfig, sources),
     .schema = &source_config_schema,
     .help = "what is mixed: name, shards, weight"},
    {.key = "lanes",
     .type = CONFIG_INT,
     .offset = offsetof(DataConfig, lanes),
     .default_text = "48",
     .min = 1,
     .max = 65536,
     .help = "L of the sample order; the number of ranks must divide it; part of the order"},
    {.key = "shuffle_block",
     .type = CONFIG_INT,
     .offset = offsetof(DataConfig, shuffle_block),
     .default_text = "256",
     .min = 1,
     .max = 1048576,
     .help = "most neighbouring samples of a shard taken together, the unit that epochs shuffle"},
    {.key = "shuffle_mix",
     .type = CONFIG_INT,
     .offset = offsetof(DataConfig, shuffle_mix),
     .default_text = "8",
     .min = 1,
     .max = 64,
     .help = "blocks of a lane whose samples are shuffled together"},
    {.key = "mixture",
     .type = CONFIG_ENUM,
     .offset = offsetof(DataConfig, mixture),
     .default_text = "weights",
     .words = mixture_words,
     .help = "shares of the sources: their weights, or weight x samples"},
    {.key = "caption_language",
     .type = CONFIG_STRING,
     .offset = offsetof(DataConfig, caption_language),
     .default_text = "random",
     .help = "of several captions: random, first, or language codes in order of preference: \"ru, en, random\""},
    {.key = "text_dropout",
     .type = CONFIG_FLOAT,
     .offset = offsetof(DataConfig, text_dropout),
     .default_text = "0.1",
     .min = 0,
     .max = 1,
     .help = "share of samples trained with the empty caption"},
    {.key = "decode_threads",
     .type = CONFIG_INT,
     .offset = offsetof(DataConfig, decode_threads),
     .default_text = "0",
     .min = 0,
     .max = 256,
     .help = "threads that read and decode, a rank; 0: one a core, at most 16"},
    {.key = "prefetch_batches",
     .type = CONFIG_INT,
     .offset = offsetof(DataConfig, prefetch_batches),
     .default_text = "2",
     .min = 1,
     .max = 64,
     .help = "batches made ahead of the trainer, a rank"},
    {.key = "max_bad_share",
     .type = CONFIG_FLOAT,
     .offset = offsetof(DataConfig, max_bad_share),
     .default_text = "0.1",
     .min = 0,
     .max = 1,
     .help = "stop when a larger share of 100 or more samples is broken"},
    {.key = "write_index",
     .type = CONFIG_BOOL,
     .offset = offsetof(DataConfig, write_index),
     .default_text = "true",
     .help = "keep NAME.tar.idx beside each shard, so that the next start need not scan it"},
    {.key = "scaled_decode",
     .type = CONFIG_BOOL,
     .offset = offsetof(DataConfig, scaled_decode),
     .default_text = "true",
     .help = "decode JPEGs at a half, quarter or eighth of their size where that is still twice what is needed"},
    {.key = "filter",
     .type = CONFIG_SECTION,
     .offset = offsetof(DataConfig, filter),
     .schema = &filter_schema,
     .help = "which samples are kept"},
    {.key = "augment",
     .type = CONFIG_SECTION,
     .offset = offsetof(DataConfig, augment),
     .schema = &augment_schema,
     .help = "what is drawn anew for each picture and epoch"},
    {.key = "read",
     .type = CONFIG_SECTION,
     .offset = offsetof(DataConfig, read),
     .schema = &read_config_schema,
     .help = "how shards are reached"},
    {.key = "limits",
     .type = CONFIG_SECTION,
     .offset = offsetof(DataConfig, limits),
     .schema = &limits_schema,
     .help = "sizes above which a sample is passed over"},
    {.key = "tokenizer1",
     .type = CONFIG_SECTION,
     .offset = offsetof(DataConfig, tokenizer1),
     .schema = &tokenizer1_schema,
     .help = "of the first text encoder (XLM-R)"},
    {.key = "tokenizer2",
     .type = CONFIG_SECTION,
     .offset = offsetof(DataConfig, tokenizer2),
     .schema = &tokenizer2_schema,
     .help = "of the second text encoder (mT5)"},
};
const ConfigSchema data_config_schema = {"data", data_fields, COUNT(data_fields), sizeof(DataConfig)};

/* config_error where there is a document, else the bare message. */
#define CHECK_FAIL(key, ...)                                 \
    do {                                                     \
        if (config) {                                        \
            status = config_error(config, key, __VA_ARGS__); \
            goto fail;                                       \
        }                                                    \
        FAIL(ERR_CONFIG, __VA_ARGS__);                       \
    } while (0)

Status data_config_check(const Config *config, const char *section, const DataConfig *data)
{
    Status status = STATUS_OK;
    FilterSet *filters = NULL;
    char key[256];
    double sum = 0;
    snprintf(key, sizeof key, "%s.sources", section);
    if (data->sources.count == 0)
        CHECK_FAIL(key, "no source of data; write a list of {name: ..., shards: [path/*.tar]}");
    if (data->sources.count > 4096) CHECK_FAIL(key, "%zu sources, at most 4096 are possible", data->sources.count);
    for (size_t i = 0; i < data->sources.count; i++) {
        const SourceConfig *source = data_config_source(data, i);
        snprintf(key, sizeof key, "%s.sources[%zu].shards", section, i);
        if (source->shards.count == 0)
            CHECK_FAIL(key, "source %s has no shards; give paths of tar files", source->name);
        for (size_t j = 0; j < source->shards.count; j++)
            if (shard_list_check(source->shards.items[j], source->shards.items[j]) != STATUS_OK)
                CHECK_FAIL(key, "%s", status_message());
        snprintf(key, sizeof key, "%s.sources[%zu].name", section, i);
        if (!source->name[0] || strlen(source->name) > 200)
            CHECK_FAIL(key, "the name of a source has 1 to 200 bytes, this one has %zu", strlen(source->name));
        for (size_t j = 0; j < i; j++)
            if (strcmp(data_config_source(data, j)->name, source->name) == 0)
                CHECK_FAIL(key, "two sources are called %s; each needs a name of its own", source->name);
        snprintf(key, sizeof key, "%s.sources[%zu].weight", section, i);
        if (!isfinite(source->weight) || source->weight < 0)
            CHECK_FAIL(key, "the weight of source %s must be 0 or more", source->name);
        sum += source->weight;
    }
    snprintf(key, sizeof key, "%s.sources", section);
    if (!(sum > 0)) CHECK_FAIL(key, "all weights are 0; at least one source needs a positive weight");
    TRY(filter_set_create(config, section, data, &filters));
fail:
    filter_set_free(filters);
    return status;
}
