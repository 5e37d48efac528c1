#include "golden_unet.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/random.h"

#define SEED 20
#define SIGN_SEED 21
#define INTS(...)                                                                    \
    {                                                                                \
        (int64_t[]){__VA_ARGS__}, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t) \
    }

const char *const GOLDEN_UNET_NAMES[GOLDEN_UNET_CASES] = {"plain", "deep", "inpainting"};

const ModelConfig GOLDEN_UNET_MODELS[GOLDEN_UNET_CASES] = {
    {.in_channels = 4,
     .out_channels = 8,
     .channels = 32,
     .channel_mult = INTS(1, 2),
     .res_blocks = 1,
     .attention_levels = INTS(2),
     .head_channels = 16,
     .context_dim = 48,
     .text1_dim = 40,
     .pooled_dim = 24,
     .text2_dim = 512,
     .text2_heads = 8,
     .max_tokens = 7},
    {.in_channels = 4,
     .out_channels = 8,
     .channels = 64,
     .channel_mult = INTS(1, 2, 3),
     .res_blocks = 1,
     .attention_levels = INTS(2, 4),
     .head_channels = 32,
     .context_dim = 32,
     .text1_dim = 24,
     .pooled_dim = 40,
     .text2_dim = 24,
     .text2_heads = 4,
     .max_tokens = 9},
    {.in_channels = 9,
     .out_channels = 8,
     .channels = 32,
     .channel_mult = INTS(1, 3),
     .res_blocks = 2,
     .attention_levels = INTS(1),
     .head_channels = 32,
     .context_dim = 56,
     .text1_dim = 16,
     .pooled_dim = 8,
     .text2_dim = 16,
     .text2_heads = 2,
     .max_tokens = 6},
};

uint64_t golden_fnv1a(const char *name)
{
    uint64_t value = 0xcbf29ce484222325u;
    for (const unsigned char *c = (const unsigned char *)name; *c != 0; c++) value = (value ^ *c) * 0x100000001b3u;
    return value;
}

/* Elements 4 block to 4 block + 3 of the stream (seed, RANDOM_TEST, index), as base/random.h lays them out: a block at
 * a time, for a network has millions. */
static void draw_block(uint64_t seed, uint64_t index, uint64_t block, uint32_t out[4])
{
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32) | (uint32_t)RANDOM_TEST << 24,
                                 (uint32_t)index, (uint32_t)(index >> 32)};
    philox4x32(key, counter, out);
}

void golden_draw_weight(const char *name, const Shape *file_shape, float *values)
{
    int64_t count = shape_count(file_shape);
    size_t length = strlen(name);
    bool norm = length > 6 && strcmp(name + length - 6, "weight") == 0;
    int64_t fan_in = count / file_shape->dim[0];
    float bound = (float)sqrt(3.0 / (double)fan_in);
    uint64_t stream = golden_fnv1a(name);
    uint32_t words[4];
    for (int64_t e = 0; e < count; e++) {
        if (e % 4 == 0) draw_block(SEED, stream, (uint64_t)e / 4, words);
        float spread = 2.0f * ((float)(words[e % 4] >> 8) * 0x1p-24f) - 1.0f;
        if (file_shape->ndim > 1)
            values[e] = spread * bound;
        else
            values[e] = norm ? 1.0f + 0.25f * spread : 0.25f * spread;
    }
}

void golden_sketch(const char *name, const float *gradient, int64_t count, double *out)
{
    uint64_t stream = golden_fnv1a(name);
    int64_t buckets = count < GOLDEN_BUCKETS ? count : GOLDEN_BUCKETS;
    for (int64_t b = 0; b < buckets; b++) out[b] = 0;
    uint32_t words[4];
    for (int64_t e = 0; e < count; e++) {
        if (e % 4 == 0) draw_block(SIGN_SEED, stream, (uint64_t)e / 4, words);
        out[e % GOLDEN_BUCKETS] += words[e % 4] & 1 ? -gradient[e] : gradient[e];
    }
}

Status golden_fill_store(ParamStore *store)
{
    for (int32_t p = 0; p < param_table_size(store->table); p++) {
        const Param *param = param_table_get(store->table, p);
        Shape shape = param_file_shape(param);
        float *values = mem_alloc_array((size_t)param->count, sizeof *values);
        if (values == NULL) return ERR_MEMORY;
        golden_draw_weight(param->name, &shape, values);
        param_from_file(param, values, param_store_weight(store, p));
        free(values);
    }
    return STATUS_OK;
}
