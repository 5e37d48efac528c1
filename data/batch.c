#include "data/batch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"

static bool is_precomputed(const BatchMaker *maker, PrecomputedKind kind)
{
    return maker->precomputed && maker->precomputed->wanted[kind];
}

bool batch_has_rows(const BatchMaker *maker)
{
    return !maker->keys_only && (is_precomputed(maker, PRECOMPUTED_LATENTS) || is_precomputed(maker, PRECOMPUTED_TEXT));
}

Status batch_maker_init(BatchMaker *maker, const DataConfig *config, const LoaderOptions *options)
{
    Status status = STATUS_OK;
    const TokenizerConfig *wanted[2] = {&config->tokenizer1, &config->tokenizer2};
    *maker = (BatchMaker){.config = config,
                          .seed = options->seed,
                          .count = (int32_t)(options->global_batch / options->world),
                          .resolution = options->resolution,
                          .keys_only = options->keys_only,
                          .precomputed = options->precomputed};
    for (int e = 0; e < 2 && !options->keys_only && !is_precomputed(maker, PRECOMPUTED_TEXT); e++) {
        if (!wanted[e]->model[0]) continue;
        size_t n = (size_t)wanted[e]->max_tokens;
        TRY(tokenizer_open(wanted[e]->model, (TokenizerStyle)wanted[e]->style, (int)n, &maker->tokenizers[e]));
        maker->empty_ids[e] = mem_alloc_array(n, sizeof(int32_t));
        maker->empty_mask[e] = mem_alloc_array(n, sizeof(int32_t));
        if (!maker->empty_ids[e] || !maker->empty_mask[e]) FAIL(ERR_MEMORY, "out of memory for tokens");
        TRY(tokenizer_encode(maker->tokenizers[e], "", 0, maker->empty_ids[e], maker->empty_mask[e]));
    }
    return STATUS_OK;
fail:
    batch_maker_free(maker);
    return status;
}

void batch_maker_free(BatchMaker *maker)
{
    for (int e = 0; e < 2; e++) {
        tokenizer_free(maker->tokenizers[e]);
        free(maker->empty_ids[e]);
        free(maker->empty_mask[e]);
    }
    *maker = (BatchMaker){0};
}

static Status alloc_floats(int32_t count, int64_t row, float **out)
{
    size_t bytes;
    if (row < 1 || !mem_mul_size((size_t)count, (size_t)row * sizeof(float), &bytes))
        return status_fail(ERR_LIMIT, __FILE__, __LINE__, "a batch of %d samples of %lld numbers", count,
                           (long long)row);
    *out = mem_alloc_aligned(bytes);
    if (!*out) return status_fail(ERR_MEMORY, __FILE__, __LINE__, "out of memory for a batch of %d samples", count);
    return STATUS_OK;
}

static Status alloc_pixels(int32_t count, int32_t resolution, uint8_t ***out)
{
    Status status = STATUS_OK;
    *out = mem_alloc_array((size_t)count, sizeof **out);
    if (!*out) FAIL(ERR_MEMORY, "out of memory for a batch of %d pictures", count);
    for (int32_t k = 0; k < count; k++) {
        (*out)[k] = mem_alloc_array((size_t)resolution * (size_t)resolution, 3);
        if (!(*out)[k]) FAIL(ERR_MEMORY, "out of memory for a batch of %d pictures", count);
    }
fail:
    return status;
}

static Status alloc_tokens(int32_t count, int32_t rows, int32_t **tokens, int32_t **mask)
{
    *tokens = mem_alloc_array((size_t)count, (size_t)rows * sizeof(int32_t));
    *mask = mem_alloc_array((size_t)count, (size_t)rows * sizeof(int32_t));
    if (!*tokens || !*mask) return status_fail(ERR_MEMORY, __FILE__, __LINE__, "out of memory for tokens");
    return STATUS_OK;
}

/* What the network reads. */
static Status alloc_arrays(const BatchMaker *maker, Batch *b)
{
    Status status = STATUS_OK;
    const PrecomputedSpec *spec = maker->precomputed;
    bool text = is_precomputed(maker, PRECOMPUTED_TEXT);
    if (is_precomputed(maker, PRECOMPUTED_LATENTS)) b->moment_values = precomputed_moment_values(spec);
    if (b->moment_values)
        TRY(alloc_floats(b->count, b->moment_values, &b->moments));
    else
        TRY(alloc_pixels(b->count, maker->resolution, &b->pixels));
    if (text) {
        TRY(alloc_floats(b->count, spec->tokens * spec->width1, &b->states1));
        TRY(alloc_floats(b->count, spec->pooled, &b->pooled1));
        TRY(alloc_floats(b->count, spec->tokens * spec->width2, &b->states2));
        b->tokens1_max = b->tokens2_max = (int32_t)spec->tokens;
        b->width1 = spec->width1;
        b->pooled = spec->pooled;
        b->width2 = spec->width2;
    }
    if (maker->tokenizers[0]) b->tokens1_max = tokenizer_max_tokens(maker->tokenizers[0]);
    if (maker->tokenizers[1]) b->tokens2_max = tokenizer_max_tokens(maker->tokenizers[1]);
    if (b->tokens1_max) TRY(alloc_tokens(b->count, b->tokens1_max, &b->tokens1, &b->mask1));
    if (b->tokens2_max) TRY(alloc_tokens(b->count, b->tokens2_max, &b->tokens2, &b->mask2));
fail:
    return status;
}

Status batch_create(const BatchMaker *maker, const Cursor *shape, OwnBatch **out)
{
    Status status = STATUS_OK;
    size_t count = (size_t)maker->count;
    *out = NULL;
    OwnBatch *own = mem_alloc_array(1, sizeof *own);
    if (!own) FAIL(ERR_MEMORY, "out of memory for a batch");
    Batch *b = &own->batch;
    b->count = maker->count;
    b->resolution = maker->resolution;
    TRY(cursor_clone(shape, &own->cursor));
    b->cursor = own->cursor;
    b->index = mem_alloc_array(count, sizeof b->index[0]);
    b->keys = mem_alloc_array(count, sizeof b->keys[0]);
    b->captions = mem_alloc_array(count, sizeof b->captions[0]);
    b->languages = mem_alloc_array(count, sizeof b->languages[0]);
    b->dropped = mem_alloc_array(count, sizeof b->dropped[0]);
    b->sources = mem_alloc_array(count, sizeof b->sources[0]);
    own->key_at = mem_alloc_array(count, sizeof own->key_at[0]);
    own->caption_at = mem_alloc_array(count, sizeof own->caption_at[0]);
    own->language_at = mem_alloc_array(count, sizeof own->language_at[0]);
    if (!b->index || !b->keys || !b->captions || !b->languages || !b->dropped || !b->sources || !own->key_at ||
        !own->caption_at || !own->language_at)
        FAIL(ERR_MEMORY, "out of memory for a batch of %d samples", maker->count);
    if (!maker->keys_only) TRY(alloc_arrays(maker, b));
    *out = own;
    return STATUS_OK;
fail:
    batch_free(own);
    return status;
}

void batch_free(OwnBatch *own)
{
    if (!own) return;
    Batch *b = &own->batch;
    cursor_free(own->cursor);
    free(b->index);
    free(b->keys);
    free(b->captions);
    free(b->languages);
    free(b->dropped);
    free(b->sources);
    free(own->key_at);
    free(own->caption_at);
    free(own->language_at);
    for (int32_t k = 0; b->pixels && k < b->count; k++) free(b->pixels[k]);
    free(b->pixels);
    mem_free_aligned(b->moments);
    mem_free_aligned(b->states1);
    mem_free_aligned(b->pooled1);
    mem_free_aligned(b->states2);
    free(b->tokens1);
    free(b->mask1);
    free(b->tokens2);
    free(b->mask2);
    strbuf_free(&own->text);
    free(own);
}

void batch_begin(OwnBatch *own, int64_t step)
{
    own->batch.step = step;
    own->text.size = 0;
}

static Status put_text(OwnBatch *own, const char *text, size_t size, size_t *at)
{
    Status status = STATUS_OK;
    *at = own->text.size;
    TRY(strbuf_append(&own->text, text, size));
    TRY(strbuf_append(&own->text, "", 1));
fail:
    return status;
}

static Status put_tokens(const BatchMaker *maker, int e, const char *text, size_t size, bool dropped, int32_t *ids,
                         int32_t *mask)
{
    if (!dropped) return tokenizer_encode(maker->tokenizers[e], text, size, ids, mask);
    size_t bytes = (size_t)tokenizer_max_tokens(maker->tokenizers[e]) * sizeof ids[0];
    memcpy(ids, maker->empty_ids[e], bytes);
    memcpy(mask, maker->empty_mask[e], bytes);
    return STATUS_OK;
}

Status batch_put(const BatchMaker *maker, OwnBatch *own, int32_t k, int64_t i, Candidate *c, BatchRow *row)
{
    Status status = STATUS_OK;
    Batch *b = &own->batch;
    uint64_t index = (uint64_t)i;
    const uint64_t drawn = random_below(maker->seed, RANDOM_CAPTION_PICK, index, 0, c->caption_count);
    const Caption *caption = &c->captions[drawn];
    const char *text = c->text.data + caption->text;
    const char *language = c->text.data + caption->language;
    b->index[k] = i;
    b->sources[k] = c->source;
    /* One draw for both encoders. */
    b->dropped[k] = random_uniform(maker->seed, RANDOM_CAPTION_DROP, index, 0) < (float)maker->config->text_dropout;
    TRY(put_text(own, c->key.data, c->key.size, &own->key_at[k]));
    TRY(put_text(own, text, caption->text_size, &own->caption_at[k]));
    TRY(put_text(own, language, strlen(language), &own->language_at[k]));
    if (maker->tokenizers[0])
        TRY(put_tokens(maker, 0, text, caption->text_size, b->dropped[k],
                       b->tokens1 + (size_t)k * (size_t)b->tokens1_max, b->mask1 + (size_t)k * (size_t)b->tokens1_max));
    if (maker->tokenizers[1])
        TRY(put_tokens(maker, 1, text, caption->text_size, b->dropped[k],
                       b->tokens2 + (size_t)k * (size_t)b->tokens2_max, b->mask2 + (size_t)k * (size_t)b->tokens2_max));
    if (b->pixels) { /* not copied: the candidate goes on with the row's old picture */
        uint8_t *old = b->pixels[k];
        b->pixels[k] = c->pixels;
        c->pixels = old;
    }
    if (batch_has_rows(maker))
        *row = (BatchRow){.kind = WORK_ROW,
                          .batch = b,
                          .k = k,
                          .source = c->source,
                          .shard = c->shard,
                          .first = c->first,
                          .window = c->count,
                          .sample = c->sample,
                          .caption = b->dropped[k] ? -1 : c->first_caption + (int64_t)drawn};
fail:
    return status;
}

static Status read_row(const ShardWindow *window, PrecomputedScratch *scratch, const BatchRow *row)
{
    Status status = STATUS_OK;
    const Batch *b = row->batch;
    size_t k = (size_t)row->k, t1 = (size_t)b->tokens1_max, t2 = (size_t)b->tokens2_max;
    if (b->moments)
        TRY(precomputed_read_moments(window->precomputed[PRECOMPUTED_LATENTS], scratch, row->sample,
                                     b->moments + k * (size_t)b->moment_values));
    if (b->states1)
        TRY(precomputed_read_text(window->precomputed[PRECOMPUTED_TEXT], scratch, row->caption,
                                  &(PrecomputedText){.tokens1 = b->tokens1 + k * t1,
                                                     .mask1 = b->mask1 + k * t1,
                                                     .tokens2 = b->tokens2 + k * t2,
                                                     .mask2 = b->mask2 + k * t2,
                                                     .states1 = b->states1 + k * t1 * (size_t)b->width1,
                                                     .pooled1 = b->pooled1 + k * (size_t)b->pooled,
                                                     .states2 = b->states2 + k * t2 * (size_t)b->width2}));
fail:
    return status;
}

void batch_read_row(ShardStore *store, PrecomputedScratch *scratch, BatchRow *row)
{
    const ShardWindow *window = NULL;
    Status status = shard_store_acquire(store, row->source, row->shard, row->first, row->window, &window);
    if (status == STATUS_OK) {
        status = read_row(window, scratch, row);
        shard_store_release(store, window);
    }
    if (status != STATUS_OK) snprintf(row->detail, sizeof row->detail, "%s", status_message());
    row->failed = status;
}

void batch_end(OwnBatch *own, const Cursor *cursor)
{
    Batch *b = &own->batch;
    for (int32_t k = 0; k < b->count; k++) {
        b->keys[k] = own->text.data + own->key_at[k];
        b->captions[k] = own->text.data + own->caption_at[k];
        b->languages[k] = own->text.data + own->language_at[k];
    }
    cursor_copy_positions(own->cursor, cursor);
}
