/* A very small model for tests of whole graphs: 8x8 pixels, 4x4 latents of 12 channels. */
#ifndef TESTS_MODEL_TINY_H
#define TESTS_MODEL_TINY_H

#include "model/model_config.h"

#define TINY_RESOLUTION 8
#define TINY_TOKENS 6

static inline ModelConfig tiny_model(void)
{
    static int64_t mult[] = {1, 2}, attention[] = {2};
    return (ModelConfig){
        .in_channels = 12,
        .out_channels = 24,
        .channels = 32,
        .channel_mult = {mult, 2},
        .res_blocks = 1,
        .attention_levels = {attention, 1},
        .head_channels = 16,
        .context_dim = 24,
        .text1_dim = 32,
        .pooled_dim = 20,
        .text2_dim = 16,
        .text2_heads = 2,
        .max_tokens = TINY_TOKENS,
        .autoencoder = {.kind = AUTOENCODER_PATCH, .factor = 2, .scale = 0.5},
        .text_encoder1 = {.vocab = 50, .layers = 2, .heads = 2, .feed_forward = 40, .positions = TINY_TOKENS + 2},
        .text_encoder2 = {.vocab = 40,
                          .layers = 2,
                          .heads = 3,
                          .head_channels = 8,
                          .feed_forward = 24,
                          .buckets = 8,
                          .max_distance = 4},
    };
}

#endif
