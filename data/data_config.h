/* The `data:` section of a run's config: where the samples come from, which are kept, how they are mixed and read. */
#ifndef DATA_DATA_CONFIG_H
#define DATA_DATA_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/status.h"
#include "data/read_config.h"

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

typedef enum MixtureBy {
    MIXTURE_WEIGHTS, /* a source's share is weight / sum of weights */
    MIXTURE_SIZE     /* weight x samples (before any filter) / sum of these */
} MixtureBy;

typedef enum CropKind { CROP_MIDDLE, CROP_RANDOM } CropKind;

/* One source of the mixture. */
typedef struct SourceConfig {
    char *name;
    ConfigStrings shards; /* as data/shard_list.h says */
    double weight;        /* see MixtureBy */
    int32_t caption;      /* CaptionFrom */
    bool repeat;          /* begins again at its end; else it leaves the mixture there */
    ConfigStrings where;  /* filter expressions (data/filter.h), on top of data.filter */
    char *language;       /* as data.caption_language; empty: that */
} SourceConfig;

/* Which samples are kept, by the logical fields of data/metadata.h. */
typedef struct FilterConfig {
    double watermark_max;  /* kept when below; 1.01 or more keeps all */
    double unsafe_max;     /* kept when below */
    double similarity_min; /* kept when not below; -1 keeps all */
    double aesthetic_min;
    int64_t min_side;    /* of the original and of the stored picture, pixels; -1: the resolution asked for; 0: any */
    ConfigStrings where; /* expressions (data/filter.h), all of which must hold */
    int32_t missing;     /* MissingField: what becomes of a sample that lacks a field that a filter asks for */
} FilterConfig;

typedef struct LimitsConfig {
    int64_t member_bytes, json_bytes, picture_pixels;
} LimitsConfig;

/* Of pictures as they are drawn, by Philox: the same whatever the rank, thread or resume. */
typedef struct AugmentConfig {
    int32_t crop; /* CropKind: which square of the picture */
    double flip;  /* share of pictures that are mirrored left to right */
} AugmentConfig;

typedef struct TokenizerConfig {
    char *model;        /* a SentencePiece model; empty: no tokens of this encoder */
    int32_t style;      /* TokenizerStyle */
    int64_t max_tokens; /* special tokens included */
} TokenizerConfig;

typedef struct DataConfig {
    const char *section;    /* whose sources they are, for messages; NULL: data */
    ConfigList sources;     /* of SourceConfig */
    int64_t lanes;          /* L of the order (data/order.h): the ranks must divide it */
    int64_t shuffle_block;  /* samples */
    int64_t shuffle_mix;    /* blocks of a lane that are shuffled together */
    int32_t mixture;        /* MixtureBy */
    char *caption_language; /* "random", "first", or language codes in order of preference (data/caption_choice.h) */
    double text_dropout;
    int64_t decode_threads;   /* 0: as many as this process may use cores, at most 16 */
    int64_t prefetch_batches; /* ready in the ring, ahead of the trainer */
    double max_bad_share;     /* broken samples (not filtered ones) among those looked at */
    bool write_index;
    bool scaled_decode; /* JPEGs are decoded at a half, quarter or eighth where that is still twice what is needed */
    FilterConfig filter;
    AugmentConfig augment;
    ReadConfig read;
    LimitsConfig limits;
    TokenizerConfig tokenizer1, tokenizer2;
} DataConfig;

extern const ConfigSchema data_config_schema;
extern const ConfigSchema source_config_schema; /* of one source, for other lists of them */

/* What no single key shows: at least one source, distinct names, a positive sum of weights, filter expressions and
 * choices of captions that can be read. `section` is the key under
 * which this struct stands ("data"); `config` may be NULL (messages then lack file and line). */
Status data_config_check(const Config *config, const char *section, const DataConfig *data);

static inline const char *data_config_section(const DataConfig *data)
{
    return data->section ? data->section : "data";
}

static inline const SourceConfig *data_config_source(const DataConfig *data, size_t i)
{
    return (const SourceConfig *)data->sources.items + i;
}

#endif
