/* The `data:` section of a run's config: where the samples come from, which are kept, how they are mixed and read. */
#ifndef DATA_DATA_CONFIG_H
#define DATA_DATA_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/status.h"

typedef enum CaptionFrom {
    CAPTION_AUTO, /* the .json's "captions", else its "caption", else the .txt */
    CAPTION_JSON, /* the .json only */
    CAPTION_TXT   /* the .txt only */
} CaptionFrom;

typedef enum TokenizerStyle {
    TOKENIZER_XLMR,     /* <s> pieces </s>, ids as fairseq counts them: bos 0, pad 1, eos 2, unk 3, piece id + 1 */
    TOKENIZER_MT5,      /* pieces </s>, the model's own ids: pad 0, eos 1 */
    TOKENIZER_MT5_BYTES /* the same, with unknown characters as bytes where the model has pieces for them */
} TokenizerStyle;

typedef enum MissingField { MISSING_PASS, MISSING_DROP, MISSING_ERROR } MissingField;

/* One source of the mixture. */
typedef struct SourceConfig {
    char *name;
    ConfigStrings shards; /* paths, globs, {000..123}; relative ones from the current directory */
    double weight;        /* its share is weight / sum of weights */
    int32_t caption;      /* CaptionFrom */
} SourceConfig;

/* Which samples are kept, by the logical fields of data/metadata.h. */
typedef struct FilterConfig {
    double watermark_max;  /* kept when below; 1.01 or more keeps all */
    double unsafe_max;     /* kept when below */
    double similarity_min; /* kept when not below; -1 keeps all */
    double aesthetic_min;
    int64_t min_side; /* of the original and of the stored picture, pixels; -1: the resolution asked for; 0: any */
    int32_t missing;  /* MissingField: what becomes of a sample that lacks a field that a filter asks for */
} FilterConfig;

typedef struct LimitsConfig {
    int64_t member_bytes, json_bytes, picture_pixels;
} LimitsConfig;

typedef struct TokenizerConfig {
    char *model;        /* a SentencePiece model; empty: no tokens of this encoder */
    int32_t style;      /* TokenizerStyle */
    int64_t max_tokens; /* special tokens included */
} TokenizerConfig;

typedef struct DataConfig {
    ConfigList sources; /* of SourceConfig */
    int64_t lanes;      /* L of the order (data/order.h): the ranks must divide it */
    int64_t shuffle_block;
    char *caption_language; /* "random", "first" or a language code */
    double text_dropout;
    int64_t decode_threads;   /* 0: as many as this process may use cores, at most 16 */
    int64_t prefetch_batches; /* ready in the ring, ahead of the trainer */
    double max_bad_share;     /* broken samples (not filtered ones) among those looked at */
    bool write_index;
    FilterConfig filter;
    LimitsConfig limits;
    TokenizerConfig tokenizer1, tokenizer2;
} DataConfig;

extern const ConfigSchema data_config_schema;

/* What no single key shows: at least one source, distinct names, a positive sum of weights. `section` is the key under
 * which this struct stands ("data"); `config` may be NULL (messages then lack file and line). */
Status data_config_check(const Config *config, const char *section, const DataConfig *data);

static inline const SourceConfig *data_config_source(const DataConfig *data, size_t i)
{
    return (const SourceConfig *)data->sources.items + i;
}

#endif
