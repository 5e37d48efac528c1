/* One shard through the frozen networks. */
#include <inttypes.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "data/pixels.h"
#include "data/shard_reader.h"
#include "data/tokenizer.h"
#include "train/precompute.h"
#include "train/signals.h"

/* ---- buffers ---- */

static Status alloc_rows(int64_t rows, int64_t count, void *out_pointer)
{
    size_t bytes;
    void *memory = NULL;
    if (mem_mul_size((size_t)rows, (size_t)count * 4, &bytes)) memory = mem_alloc_aligned(bytes);
    if (!memory)
        return status_fail(ERR_MEMORY, __FILE__, __LINE__,
                           "out of memory for batches of %" PRId64 "; --pictures and --captions make them smaller",
                           rows);
    memcpy(out_pointer, &memory, sizeof memory);
    return STATUS_OK;
}

static Status open_batch(PrecomputeBatch *batch)
{
    batch->keys = mem_alloc_array((size_t)batch->capacity, sizeof batch->keys[0]);
    return batch->keys ? STATUS_OK : status_fail(ERR_MEMORY, __FILE__, __LINE__, "out of memory");
}

static void close_batch(PrecomputeBatch *batch)
{
    for (int64_t i = 0; batch->keys && i < batch->capacity; i++) strbuf_free(&batch->keys[i]);
    free(batch->keys);
}

Status precompute_open_buffers(Precompute *p)
{
    Status status = STATUS_OK;
    const PrecomputedSpec *spec = p->spec;
    const TokenizerConfig *configs[2] = {&p->run->data.tokenizer1, &p->run->data.tokenizer2};
    TRY(open_batch(&p->pictures));
    TRY(open_batch(&p->captions));
    if (spec->wanted[PRECOMPUTED_LATENTS]) {
        TRY(alloc_rows(p->pictures.capacity, spec->resolution * spec->resolution * 3, &p->pixels));
        TRY(alloc_rows(p->pictures.capacity, precomputed_moment_values(spec), &p->moments));
    }
    if (spec->wanted[PRECOMPUTED_TEXT]) {
        PrecomputedText *t = &p->text;
        int64_t n = p->captions.capacity;
        TRY(alloc_rows(n, spec->tokens, &t->tokens1));
        TRY(alloc_rows(n, spec->tokens, &t->mask1));
        TRY(alloc_rows(n, spec->tokens, &t->tokens2));
        TRY(alloc_rows(n, spec->tokens, &t->mask2));
        TRY(alloc_rows(n, spec->tokens * spec->width1, &t->states1));
        TRY(alloc_rows(n, spec->pooled, &t->pooled1));
        TRY(alloc_rows(n, spec->tokens * spec->width2, &t->states2));
        for (int e = 0; e < 2; e++)
            TRY(tokenizer_open(configs[e]->model, (TokenizerStyle)configs[e]->style, (int)configs[e]->max_tokens,
                               &p->tokenizers[e]));
    }
fail:
    return status;
}

void precompute_close_buffers(Precompute *p)
{
    void *const blocks[] = {p->pixels,     p->moments,      p->text.tokens1, p->text.mask1,  p->text.tokens2,
                            p->text.mask2, p->text.states1, p->text.pooled1, p->text.states2};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) mem_free_aligned(blocks[i]);
    for (int e = 0; e < 2; e++) tokenizer_free(p->tokenizers[e]);
    close_batch(&p->pictures);
    close_batch(&p->captions);
}

/* ---- batches ---- */

static Status check_signals(void)
{
    double wishes[WISH_COUNT];
    signals_take(wishes);
    if (wishes[WISH_STOP] == 0 && wishes[WISH_REQUEUE] == 0) return STATUS_OK;
    return status_fail(ERR_INTERRUPTED, __FILE__, __LINE__,
                       "stopped by a signal; finished shards stay, the same command goes on with the others");
}

static Status name_row(PrecomputeBatch *batch, const char *key)
{
    StrBuf *name = &batch->keys[batch->count];
    name->size = 0;
    return strbuf_append(name, key, strlen(key));
}

static Status flush_pictures(Precompute *p)
{
    Status status = STATUS_OK;
    int64_t values = precomputed_moment_values(p->spec);
    if (p->pictures.count == 0) return STATUS_OK;
    TRY(check_signals());
    /* rows behind the last one hold an earlier batch, or zeros: nobody reads what becomes of them */
    TRY(precompute_networks_pictures(p->networks, p->pixels, p->moments));
    for (int64_t k = 0; k < p->pictures.count; k++)
        TRY(precomputed_writer_add_moments(p->writers[PRECOMPUTED_LATENTS], p->pictures.keys[k].data,
                                           p->moments + k * values));
    p->totals.pictures += p->pictures.count;
    p->pictures.count = 0;
fail:
    return status;
}

/* Row k of the batch of captions. */
static PrecomputedText text_row(const Precompute *p, int64_t k)
{
    const PrecomputedSpec *s = p->spec;
    const PrecomputedText *t = &p->text;
    return (PrecomputedText){.tokens1 = t->tokens1 + k * s->tokens,
                             .mask1 = t->mask1 + k * s->tokens,
                             .tokens2 = t->tokens2 + k * s->tokens,
                             .mask2 = t->mask2 + k * s->tokens,
                             .states1 = t->states1 + k * s->tokens * s->width1,
                             .pooled1 = t->pooled1 + k * s->pooled,
                             .states2 = t->states2 + k * s->tokens * s->width2};
}

static Status flush_captions(Precompute *p)
{
    Status status = STATUS_OK;
    if (p->captions.count == 0) return STATUS_OK;
    TRY(check_signals());
    TRY(precompute_networks_captions(p->networks, &p->text));
    for (int64_t k = 0; k < p->captions.count; k++) {
        PrecomputedText row = text_row(p, k);
        TRY(precomputed_writer_add_text(p->writers[PRECOMPUTED_TEXT], p->captions.keys[k].data, &row));
    }
    p->totals.captions += p->captions.count;
    p->captions.count = 0;
fail:
    return status;
}

static Status add_picture(Precompute *p, const Candidate *c)
{
    Status status = STATUS_OK;
    int64_t values = p->spec->resolution * p->spec->resolution * 3;
    pixels_to_floats(c->pixels, (size_t)values, p->pixels + p->pictures.count * values);
    TRY(name_row(&p->pictures, c->key.data));
    if (++p->pictures.count == p->pictures.capacity) TRY(flush_pictures(p));
fail:
    return status;
}

static Status add_caption(Precompute *p, const char *key, const char *text, size_t size)
{
    Status status = STATUS_OK;
    PrecomputedText row = text_row(p, p->captions.count);
    TRY(tokenizer_encode(p->tokenizers[0], text, size, row.tokens1, row.mask1));
    TRY(tokenizer_encode(p->tokenizers[1], text, size, row.tokens2, row.mask2));
    TRY(name_row(&p->captions, key));
    if (++p->captions.count == p->captions.capacity) TRY(flush_captions(p));
fail:
    return status;
}

/* ---- the shard ---- */

static Status open_writers(Precompute *p, const PrecomputeShard *shard)
{
    Status status = STATUS_OK;
    const SourceConfig *source = data_config_source(&p->run->data, (size_t)shard->source);
    PrecomputedFacts facts = {0};
    TarIndex index = {0};
    char path[PATH_MAX], folder[PATH_MAX];
    TRY(precomputed_facts_of_data(&p->run->data, source, p->spec->resolution, &facts));
    TRY(shard_store_index(p->store, shard->source, shard->shard, &index));
    for (int kind = 0; kind < PRECOMPUTED_KINDS; kind++) {
        if (!shard->wanted[kind]) continue;
        TRY(precomputed_path(p->spec, (PrecomputedKind)kind, source->name, shard->path, path));
        memcpy(folder, path, sizeof folder);
        TRY(file_make_dirs(dirname(folder)));
        TRY(precomputed_writer_create(path, (PrecomputedKind)kind, p->spec, &facts, shard->path, &index,
                                      &p->writers[kind]));
    }
fail:
    precomputed_facts_free(&facts);
    tar_index_free(&index);
    return status;
}

static Status add_sample(Precompute *p, const Candidate *c)
{
    Status status = STATUS_OK;
    PrecomputedWriter *text = p->writers[PRECOMPUTED_TEXT];
    bad_samples_add(&p->totals.bad, c->reason, c->shard_path, c->key.data, c->detail);
    for (int kind = 0; kind < PRECOMPUTED_KINDS; kind++)
        if (p->writers[kind]) TRY(precomputed_writer_add_sample(p->writers[kind], c->reason, c->key.data));
    if (c->reason != SAMPLE_ACCEPTED) return bad_samples_check(&p->totals.bad, p->run->data.max_bad_share);
    if (p->writers[PRECOMPUTED_LATENTS]) TRY(add_picture(p, c));
    for (size_t i = 0; text && i < c->caption_count; i++) {
        const Caption *caption = &c->captions[i];
        const char *words = c->text.data + caption->text;
        TRY(precomputed_writer_add_caption(text, c->text.data + caption->language, words, caption->text_size));
        TRY(add_caption(p, c->key.data, words, caption->text_size));
    }
fail:
    return status;
}

static Status finish_writers(Precompute *p, const PrecomputeShard *shard)
{
    Status status = STATUS_OK;
    const char *source = data_config_source(&p->run->data, (size_t)shard->source)->name;
    char path[PATH_MAX];
    int64_t size;
    for (int kind = 0; kind < PRECOMPUTED_KINDS; kind++) {
        PrecomputedWriter *writer = p->writers[kind];
        if (!writer) continue;
        p->writers[kind] = NULL;
        TRY(precomputed_writer_finish(writer));
        TRY(precomputed_path(p->spec, (PrecomputedKind)kind, source, shard->path, path));
        TRY(file_size(path, &size));
        p->totals.bytes += size;
    }
fail:
    return status;
}

Status precompute_shard(Precompute *p, const PrecomputeShard *shard)
{
    Status status = STATUS_OK;
    const Candidate *c;
    TRY(open_writers(p, shard));
    shard_reader_begin(p->reader, shard->source, shard->shard, shard->samples);
    while ((status = shard_reader_next(p->reader, &c)) != STATUS_END) {
        TRY(status);
        status = add_sample(p, c);
        if (status != STATUS_OK) status_prefix("%s: ", SHARD_SHOWN(shard->path));
        TRY(status);
        TRY(check_signals());
        if (p->tick) p->tick(p->tick_context);
    }
    if (p->writers[PRECOMPUTED_LATENTS]) TRY(flush_pictures(p));
    if (p->writers[PRECOMPUTED_TEXT]) {
        TRY(add_caption(p, "the empty caption", "", 0));
        TRY(flush_captions(p));
    }
    TRY(finish_writers(p, shard));
    p->totals.shards++;
    return STATUS_OK;
fail:
    p->pictures.count = p->captions.count = 0;
    for (int kind = 0; kind < PRECOMPUTED_KINDS; kind++) {
        precomputed_writer_abort(p->writers[kind]);
        p->writers[kind] = NULL;
    }
    return status;
}
