#include "train/validation_samples.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "train/frozen_data.h"
#include "train/validation_overlap.h"

/* Arrays of a sample, one behind the other. */
typedef enum Part {
    PART_TOKENS1,
    PART_MASK1,
    PART_TOKENS2,
    PART_MASK2,
    PART_MOMENTS, /* latents precomputed */
    PART_STATES1, /* text precomputed, as the next two */
    PART_POOLED1,
    PART_STATES2,
    PART_PIXELS, /* latents inline; last, for its size need not be a multiple of 4 */
    PARTS
} Part;

typedef struct Layout {
    int64_t resolution, tokens;
    int64_t moments, width1, pooled, width2; /* 0 where not precomputed */
    size_t bytes[PARTS], offset[PARTS];
    size_t record; /* of all parts */
} Layout;

struct ValidationSamples {
    Layout layout;
    int rank, world;
    int64_t own;
    uint8_t *records; /* (own, layout.record) */
};

static Layout layout_of(const RunConfig *run)
{
    PrecomputedSpec spec;
    frozen_spec_sizes(run, &spec);
    const bool latents = spec.wanted[PRECOMPUTED_LATENTS], text = spec.wanted[PRECOMPUTED_TEXT];
    Layout l = {.resolution = run->train.resolution,
                .tokens = spec.tokens,
                .moments = latents ? precomputed_moment_values(&spec) : 0,
                .width1 = text ? spec.width1 : 0,
                .pooled = text ? spec.pooled : 0,
                .width2 = text ? spec.width2 : 0};
    const size_t number = sizeof(float), tokens = (size_t)l.tokens;
    for (int part = PART_TOKENS1; part <= PART_MASK2; part++) l.bytes[part] = tokens * sizeof(int32_t);
    l.bytes[PART_MOMENTS] = (size_t)l.moments * number;
    l.bytes[PART_STATES1] = tokens * (size_t)l.width1 * number;
    l.bytes[PART_POOLED1] = (size_t)l.pooled * number;
    l.bytes[PART_STATES2] = tokens * (size_t)l.width2 * number;
    l.bytes[PART_PIXELS] = latents ? 0 : (size_t)(l.resolution * l.resolution) * 3;
    for (int part = 0; part < PARTS; part++) {
        l.offset[part] = l.record;
        l.record += l.bytes[part];
    }
    l.record = (l.record + number - 1) / number * number;
    return l;
}

static int64_t own_of(int64_t samples, int64_t rank, int64_t world)
{
    return (samples - rank + world - 1) / world;
}

int64_t validation_samples_bytes(const RunConfig *run, int64_t ranks)
{
    return own_of(run->validation.samples, 0, ranks) * (int64_t)layout_of(run).record;
}

/* Where row `row` of each array lies. */
static void parts_of(const Batch *batch, int64_t row, void *out[PARTS])
{
    const int64_t t1 = batch->tokens1_max, t2 = batch->tokens2_max;
    out[PART_TOKENS1] = batch->tokens1 + row * t1;
    out[PART_MASK1] = batch->mask1 + row * t1;
    out[PART_TOKENS2] = batch->tokens2 + row * t2;
    out[PART_MASK2] = batch->mask2 + row * t2;
    out[PART_MOMENTS] = batch->moments ? batch->moments + row * batch->moment_values : NULL;
    out[PART_STATES1] = batch->states1 ? batch->states1 + row * t1 * batch->width1 : NULL;
    out[PART_POOLED1] = batch->pooled1 ? batch->pooled1 + row * batch->pooled : NULL;
    out[PART_STATES2] = batch->states2 ? batch->states2 + row * t2 * batch->width2 : NULL;
    out[PART_PIXELS] = batch->pixels ? batch->pixels[row] : NULL;
}

/* ---- reading: rank 0's side ---- */

typedef struct Reading {
    DataConfig data;
    Loader *loader;
    double last_shown;
} Reading;

static Status begin_reading(const RunConfig *run, const PrecomputedSpec *precomputed, Reading *r)
{
    Status status = STATUS_OK;
    const bool files = precomputed->wanted[PRECOMPUTED_LATENTS] || precomputed->wanted[PRECOMPUTED_TEXT];
    TRY(validation_config_data(&run->validation, &run->data, &r->data));
    validation_warn_overlap(&r->data, &run->data, precomputed);
    /* Batches of one: however many there are, none is left over. */
    TRY(loader_open(&r->data,
                    &(LoaderOptions){.seed = (uint64_t)run->validation.seed,
                                     .resolution = (int)run->train.resolution,
                                     .global_batch = 1,
                                     .world = 1,
                                     .precomputed = files ? precomputed : NULL},
                    &r->loader));
fail:
    if (status != STATUS_OK) status_prefix("validation: ");
    return status;
}

static Status read_one(const RunConfig *run, const Layout *layout, int64_t number, Reading *r, uint8_t *record)
{
    Status status = STATUS_OK;
    const Batch *batch = NULL;
    void *parts[PARTS];
    char line[96];
    status = loader_next(r->loader, &batch);
    if (status == STATUS_END)
        FAIL(ERR_CONFIG,
             "validation.samples is %lld, and validation.sources have %lld that the filters of data accept; lower it "
             "to that, or add shards",
             (long long)run->validation.samples, (long long)number);
    if (status != STATUS_OK) status_prefix("validation: ");
    TRY(status);
    parts_of(batch, 0, parts);
    for (int part = 0; part < PARTS; part++)
        if (layout->bytes[part]) memcpy(record + layout->offset[part], parts[part], layout->bytes[part]);
    loader_release(r->loader, batch);
    if (clock_seconds() - r->last_shown > 0.2) {
        r->last_shown = clock_seconds();
        snprintf(line, sizeof line, "reading held-out samples: %lld of %lld", (long long)number + 1,
                 (long long)run->validation.samples);
        log_live_line(line);
    }
fail:
    return status;
}

static void end_reading(Reading *r)
{
    log_live_line(NULL);
    loader_close(r->loader);
    validation_config_free_data(&r->data);
}

/* ---- all ranks ---- */

static Status read_all(const RunConfig *run, Comm *comm, Reading *reading, ValidationSamples *s)
{
    Status status = STATUS_OK;
    const Layout *layout = &s->layout;
    const bool root = s->rank == 0;
    uint8_t *record = mem_alloc_array(layout->record, 1);
    if (!record) FAIL(ERR_MEMORY, "no memory for a held-out sample");
    for (int64_t i = 0; i < run->validation.samples; i++) {
        if (root) TRY(read_one(run, layout, i, reading, record));
        if (s->world > 1) TRY(comm_broadcast(comm, record, layout->record, 0));
        if (i % s->world == s->rank)
            memcpy(s->records + (size_t)(i / s->world) * layout->record, record, layout->record);
    }
fail:
    free(record);
    return status;
}

Status validation_samples_read(const RunConfig *run, const PrecomputedSpec *precomputed, Comm *comm,
                               ValidationSamples **out)
{
    Status status = STATUS_OK;
    Reading reading = {0};
    const double start = clock_seconds();
    ValidationSamples *s = mem_alloc_array(1, sizeof *s);
    if (!s) FAIL(ERR_MEMORY, "out of memory");
    s->layout = layout_of(run);
    s->rank = comm_rank(comm);
    s->world = comm_world(comm);
    s->own = own_of(run->validation.samples, s->rank, s->world);
    s->records = mem_alloc_array((size_t)s->own + 1, s->layout.record);
    if (!s->records)
        FAIL(ERR_MEMORY, "no memory for %lld held-out samples; lower validation.samples", (long long)s->own);
    if (s->rank == 0) TRY(begin_reading(run, precomputed, &reading));
    TRY(read_all(run, comm, &reading, s));
    log_info("%lld held-out samples read (%.1f s)", (long long)run->validation.samples, clock_seconds() - start);
    *out = s;
    s = NULL;
fail:
    end_reading(&reading);
    validation_samples_free(s);
    return status;
}

void validation_samples_free(ValidationSamples *samples)
{
    if (!samples) return;
    free(samples->records);
    free(samples);
}

int64_t validation_samples_own(const ValidationSamples *samples)
{
    return samples->own;
}

int64_t validation_samples_number(const ValidationSamples *samples, int64_t k)
{
    return k * samples->world + samples->rank;
}

/* ---- batches ---- */

/* NULL for arrays that the batch does without; *failed where there is no memory. */
static void *room(size_t rows, size_t bytes, bool *failed)
{
    void *array = bytes ? mem_alloc_array(rows, bytes) : NULL;
    *failed = *failed || (bytes && !array);
    return array;
}

Status validation_batch_create(const ValidationSamples *samples, int32_t rows, Batch **out)
{
    Status status = STATUS_OK;
    const Layout *l = &samples->layout;
    const size_t n = (size_t)rows;
    bool failed = false;
    Batch *b = mem_alloc_array(1, sizeof *b);
    if (!b) FAIL(ERR_MEMORY, "out of memory");
    *b = (Batch){.count = rows,
                 .resolution = (int32_t)l->resolution,
                 .tokens1_max = (int32_t)l->tokens,
                 .tokens2_max = (int32_t)l->tokens,
                 .moment_values = l->moments,
                 .width1 = l->width1,
                 .pooled = l->pooled,
                 .width2 = l->width2};
    b->index = room(n, sizeof *b->index, &failed);
    b->tokens1 = room(n, l->bytes[PART_TOKENS1], &failed);
    b->mask1 = room(n, l->bytes[PART_MASK1], &failed);
    b->tokens2 = room(n, l->bytes[PART_TOKENS2], &failed);
    b->mask2 = room(n, l->bytes[PART_MASK2], &failed);
    b->moments = room(n, l->bytes[PART_MOMENTS], &failed);
    b->states1 = room(n, l->bytes[PART_STATES1], &failed);
    b->pooled1 = room(n, l->bytes[PART_POOLED1], &failed);
    b->states2 = room(n, l->bytes[PART_STATES2], &failed);
    b->pixels = room(n, l->bytes[PART_PIXELS] ? sizeof *b->pixels : 0, &failed);
    if (failed) FAIL(ERR_MEMORY, "no memory for a batch of %d held-out samples", rows);
    *out = b;
    return STATUS_OK;
fail:
    validation_batch_free(b);
    return status;
}

void validation_batch_free(Batch *batch)
{
    if (!batch) return;
    free(batch->index);
    free(batch->tokens1);
    free(batch->mask1);
    free(batch->tokens2);
    free(batch->mask2);
    free(batch->moments);
    free(batch->states1);
    free(batch->pooled1);
    free(batch->states2);
    free(batch->pixels); /* the pictures are the samples' */
    free(batch);
}

void validation_batch_put(const ValidationSamples *samples, int64_t k, Batch *batch, int32_t row)
{
    const Layout *l = &samples->layout;
    uint8_t *record = samples->records + (size_t)k * l->record;
    void *parts[PARTS];
    if (batch->pixels) batch->pixels[row] = record + l->offset[PART_PIXELS];
    parts_of(batch, row, parts);
    for (int part = 0; part < PART_PIXELS; part++)
        if (l->bytes[part]) memcpy(parts[part], record + l->offset[part], l->bytes[part]);
}
