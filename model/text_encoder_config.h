/* The config sections `model.text_encoder1:` and `model.text_encoder2:`: the sizes of the frozen text encoders. Their
 * widths are model.text1_dim and model.text2_dim. Defaults are those of Kandinsky 2.0's encoders. */
#ifndef MODEL_TEXT_ENCODER_CONFIG_H
#define MODEL_TEXT_ENCODER_CONFIG_H

#include "base/config.h"

/* XLM-R-CLIP: XLM-RoBERTa and a linear map of its mean state, text1_dim -> pooled_dim (model/xlmr_clip.h). */
typedef struct XlmrConfig {
    const char *weights;  /* weight file; empty: drawn from the run's seed */
    int64_t vocab;        /* rows of the token table: at least the tokenizer's size */
    int64_t layers;       /* transformer layers */
    int64_t heads;        /* divides the width */
    int64_t feed_forward; /* width inside a layer's feed-forward part */
    int64_t positions;    /* rows of the position table; the first token is at row 2 */
} XlmrConfig;

/* The encoder of mT5 (model/mt5.h). */
typedef struct Mt5Config {
    const char *weights;
    int64_t vocab, layers, heads;
    int64_t head_channels; /* heads x head_channels need not be the width */
    int64_t feed_forward;
    int64_t buckets;      /* of relative positions, both directions together */
    int64_t max_distance; /* from here on, one bucket a direction */
} Mt5Config;

extern const ConfigSchema XLMR_CONFIG_SCHEMA;
extern const ConfigSchema MT5_CONFIG_SCHEMA;

#endif
