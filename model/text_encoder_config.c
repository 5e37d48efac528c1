#include "model/text_encoder_config.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define WEIGHTS_HELP "weight file; empty: drawn from the run's seed, random features that a UNet can learn from"
#define VOCAB_HELP "rows of the token table, at least the tokenizer's size"
#define FEED_FORWARD_HELP "width inside the feed-forward part of a layer"

#define AT(field) offsetof(XlmrConfig, field)
static const ConfigField XLMR_FIELDS[] = {
    {"weights", CONFIG_STRING, AT(weights), "\"\"", 0, 0, NULL, NULL, WEIGHTS_HELP},
    {"vocab", CONFIG_INT, AT(vocab), "250002", 4, 4194304, NULL, NULL, VOCAB_HELP},
    {"layers", CONFIG_INT, AT(layers), "24", 1, 256, NULL, NULL, "transformer layers"},
    {"heads", CONFIG_INT, AT(heads), "16", 1, 1024, NULL, NULL, "attention heads; divides model.text1_dim"},
    {"feed_forward", CONFIG_INT, AT(feed_forward), "4096", 1, 1048576, NULL, NULL, FEED_FORWARD_HELP},
    {"positions", CONFIG_INT, AT(positions), "514", 3, 65536, NULL, NULL,
     "rows of the position table, at least model.max_tokens + 2"},
};
#undef AT
const ConfigSchema XLMR_CONFIG_SCHEMA = {"text_encoder1", XLMR_FIELDS, COUNT(XLMR_FIELDS), sizeof(XlmrConfig)};

#define AT(field) offsetof(Mt5Config, field)
static const ConfigField MT5_FIELDS[] = {
    {"weights", CONFIG_STRING, AT(weights), "\"\"", 0, 0, NULL, NULL, WEIGHTS_HELP},
    {"vocab", CONFIG_INT, AT(vocab), "250112", 4, 4194304, NULL, NULL, VOCAB_HELP},
    {"layers", CONFIG_INT, AT(layers), "8", 1, 256, NULL, NULL, "transformer layers"},
    {"heads", CONFIG_INT, AT(heads), "6", 1, 1024, NULL, NULL, "attention heads"},
    {"head_channels", CONFIG_INT, AT(head_channels), "64", 1, 1024, NULL, NULL, "channels of an attention head"},
    {"feed_forward", CONFIG_INT, AT(feed_forward), "1024", 1, 1048576, NULL, NULL, FEED_FORWARD_HELP},
    {"buckets", CONFIG_INT, AT(buckets), "32", 4, 4096, NULL, NULL,
     "of relative positions, both directions together; a multiple of 4"},
    {"max_distance", CONFIG_INT, AT(max_distance), "128", 2, 1048576, NULL, NULL,
     "positions further apart share a bucket a direction; more than buckets / 4"},
};
#undef AT
const ConfigSchema MT5_CONFIG_SCHEMA = {"text_encoder2", MT5_FIELDS, COUNT(MT5_FIELDS), sizeof(Mt5Config)};
