#include "train/feed.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "data/pixels.h"

enum { ALIGN = 256 };

/* One input of the graph. Those that the graph does without (a text encoder that reads no mask) have no memory. */
typedef struct Slot {
    TensorId tensor;
    size_t bytes;
    size_t offset; /* in a staging block */
    void *place;   /* where the run reads it; NULL: not at all */
} Slot;

typedef enum SlotName {
    SLOT_PIXELS,
    SLOT_MOMENTS,
    SLOT_TOKENS1,
    SLOT_MASK1,
    SLOT_TOKENS2,
    SLOT_MASK2,
    SLOT_FULL1,
    SLOT_POOLED1,
    SLOT_FULL2,
    SLOT_TEXT_MASK,
    SLOT_TIMESTEPS,
    SLOT_INDEX,
    SLOT_KEEP,
    SLOTS
} SlotName;

struct Feed {
    FeedOptions options;
    Slot slots[SLOTS];
    float *timesteps;   /* (micro_batch) */
    int32_t *indices;   /* (micro_batch, 2): low and high word of the global sample index */
    int32_t *text_mask; /* (micro_batch, 2 max_tokens): mask1 then mask2 of each sample */
    int64_t side;       /* latents along a side; 0: the graph takes no mask */
    float *keep;        /* (micro_batch, side, side), and behind it two of (side, side) for training_mask */
    /* a GPU only */
    size_t staging_bytes;
    uint8_t *locked;  /* page-locked; written while the GPU computes, and free again once it was sent */
    uint8_t *staging; /* on the GPU; free again once the inputs were copied out of it, early in a micro-batch */
};

static size_t aligned(size_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static size_t tensor_bytes(const Graph *graph, TensorId id)
{
    const Tensor *tensor = graph_tensor(graph, id);
    return (size_t)shape_count(&tensor->shape) * dtype_size(tensor->dtype);
}

int64_t feed_bytes(const Graph *graph)
{
    size_t bytes = 0;
    for (TensorId id = 0; id < graph_tensor_count(graph); id++)
        if (graph_tensor(graph, id)->kind == TENSOR_INPUT && graph_tensor(graph, id)->view_of == TENSOR_NONE)
            bytes += aligned(tensor_bytes(graph, id));
    return (int64_t)bytes;
}

static Status allocate_staging(Feed *feed)
{
    Status status = STATUS_OK;
    Backend *backend = feed->options.backend;
    if (!backend->device || feed->staging_bytes == 0) return STATUS_OK;
    feed->staging = backend->alloc(backend, feed->staging_bytes);
    feed->locked = backend->device->host_alloc(backend, feed->staging_bytes);
    if (!feed->locked || !feed->staging)
        FAIL(ERR_MEMORY, "no room for %.1f MB of inputs on their way to the GPU", 1e-6 * (double)feed->staging_bytes);
fail:
    return status;
}

static Status allocate_masks(Feed *feed)
{
    Status status = STATUS_OK;
    const FeedOptions *o = &feed->options;
    if (!feed->slots[SLOT_KEEP].place) return STATUS_OK;
    if (!o->masks || o->factor < 1) FAIL(ERR_INTERNAL, "an inpainting model is fed without masks");
    feed->side = graph_tensor(o->graph->graph, o->graph->keep)->shape.dim[1];
    feed->keep = mem_alloc_array((size_t)o->micro_batch + 2, (size_t)(feed->side * feed->side) * sizeof *feed->keep);
    if (!feed->keep) FAIL(ERR_MEMORY, "no memory for a step's masks");
fail:
    return status;
}

Status feed_create(const FeedOptions *options, Feed **out)
{
    Status status = STATUS_OK;
    const TrainingGraph *g = options->graph;
    const TensorId tensors[SLOTS] = {[SLOT_PIXELS] = g->pixels,
                                     [SLOT_MOMENTS] = g->moments,
                                     [SLOT_TOKENS1] = g->tokens1,
                                     [SLOT_MASK1] = g->mask1,
                                     [SLOT_TOKENS2] = g->tokens2,
                                     [SLOT_MASK2] = g->mask2,
                                     [SLOT_FULL1] = g->full_emb1,
                                     [SLOT_POOLED1] = g->pooled_emb1,
                                     [SLOT_FULL2] = g->full_emb2,
                                     [SLOT_TEXT_MASK] = g->text_mask,
                                     [SLOT_TIMESTEPS] = g->timesteps,
                                     [SLOT_INDEX] = g->sample_index,
                                     [SLOT_KEEP] = g->keep};
    const size_t n = (size_t)options->micro_batch;
    Feed *feed = mem_alloc_array(1, sizeof *feed);
    if (!feed) FAIL(ERR_MEMORY, "out of memory");
    feed->options = *options;
    for (int s = 0; s < SLOTS; s++) {
        Slot *slot = &feed->slots[s];
        slot->tensor = tensors[s];
        /* moments and text states are inputs only where they are given */
        if (slot->tensor == TENSOR_NONE || graph_tensor(g->graph, slot->tensor)->kind != TENSOR_INPUT) continue;
        slot->place = executor_memory(options->executor, slot->tensor);
        if (!slot->place) continue;
        slot->bytes = tensor_bytes(g->graph, slot->tensor);
        slot->offset = feed->staging_bytes;
        feed->staging_bytes += aligned(slot->bytes);
    }
    feed->timesteps = mem_alloc_array(n, sizeof *feed->timesteps);
    feed->indices = mem_alloc_array(2 * n, sizeof *feed->indices);
    feed->text_mask = mem_alloc_array(2 * n, (size_t)options->max_tokens * sizeof *feed->text_mask);
    if (!feed->timesteps || !feed->indices || !feed->text_mask) FAIL(ERR_MEMORY, "no memory for a step's inputs");
    TRY(allocate_masks(feed));
    TRY(allocate_staging(feed));
    *out = feed;
    return STATUS_OK;
fail:
    feed_free(feed);
    return status;
}

void feed_free(Feed *feed)
{
    if (!feed) return;
    Backend *backend = feed->options.backend;
    if (backend->device) {
        if (feed->staging) (void)backend->device->sent_wait(backend);
        backend->device->host_free(backend, feed->locked);
        if (feed->staging) backend->free(backend, feed->staging);
    }
    free(feed->timesteps);
    free(feed->indices);
    free(feed->text_mask);
    free(feed->keep);
    free(feed);
}

bool feed_runs_ahead(const Feed *feed)
{
    return feed->options.backend->device != NULL;
}

/* `data`: the slot's bytes. */
static Status put(Feed *feed, SlotName name, const void *data)
{
    const Slot *slot = &feed->slots[name];
    if (!slot->place) return STATUS_OK;
    if (!feed_runs_ahead(feed)) return executor_write(feed->options.executor, slot->tensor, data, slot->bytes);
    memcpy(feed->locked + slot->offset, data, slot->bytes);
    return STATUS_OK;
}

/* Pixels become floats where they are wanted: in the input itself, or in page-locked memory. */
static void put_pixels(Feed *feed, const Batch *batch, int64_t first)
{
    const Slot *slot = &feed->slots[SLOT_PIXELS];
    const size_t count = (size_t)batch->resolution * (size_t)batch->resolution * 3;
    float *out = feed_runs_ahead(feed) ? (void *)(feed->locked + slot->offset) : slot->place;
    for (int64_t k = 0; slot->place && k < feed->options.micro_batch; k++, out += count)
        pixels_to_floats(batch->pixels[first + k], count, out);
}

/* The text: tokens for the encoders of the graph, or the states that they would give. */
static Status put_text(Feed *feed, const Batch *batch, int64_t first)
{
    Status status = STATUS_OK;
    const int64_t n = feed->options.micro_batch, rows1 = batch->tokens1_max, rows2 = batch->tokens2_max;
    const int32_t *mask1 = batch->mask1 + first * rows1, *mask2 = batch->mask2 + first * rows2;
    for (int64_t k = 0; k < n; k++) {
        memcpy(feed->text_mask + k * (rows1 + rows2), mask1 + k * rows1, (size_t)rows1 * sizeof *mask1);
        memcpy(feed->text_mask + k * (rows1 + rows2) + rows1, mask2 + k * rows2, (size_t)rows2 * sizeof *mask2);
    }
    TRY(put(feed, SLOT_TEXT_MASK, feed->text_mask));
    TRY(put(feed, SLOT_MASK2, mask2));
    if (batch->states1) {
        TRY(put(feed, SLOT_FULL1, batch->states1 + first * rows1 * batch->width1));
        TRY(put(feed, SLOT_POOLED1, batch->pooled1 + first * batch->pooled));
        TRY(put(feed, SLOT_FULL2, batch->states2 + first * rows2 * batch->width2));
        return STATUS_OK;
    }
    TRY(put(feed, SLOT_TOKENS1, batch->tokens1 + first * rows1));
    TRY(put(feed, SLOT_MASK1, mask1));
    TRY(put(feed, SLOT_TOKENS2, batch->tokens2 + first * rows2));
fail:
    return status;
}

/* The sample's own random numbers: they depend on its global index alone. */
static void draw(Feed *feed, const Batch *batch, int64_t first)
{
    const FeedOptions *o = &feed->options;
    const int64_t places = feed->side * feed->side;
    for (int64_t k = 0; k < o->micro_batch; k++) {
        const uint64_t index = (uint64_t)batch->index[first + k];
        feed->timesteps[k] =
            o->timesteps ? o->timesteps[k] : (float)diffusion_draw_timestep(o->diffusion, o->seed, index);
        feed->indices[2 * k] = (int32_t)(uint32_t)index;
        feed->indices[2 * k + 1] = (int32_t)(uint32_t)(index >> 32);
        if (feed->side > 0)
            training_mask(o->masks, o->seed, index, feed->side, o->factor, feed->keep + o->micro_batch * places,
                          feed->keep + k * places);
    }
}

Status feed_fill(Feed *feed, const Batch *batch, int64_t first)
{
    Status status = STATUS_OK;
    Backend *backend = feed->options.backend;
    /* The last send began when the micro-batch before took its inputs: it is over long since, as a rule. */
    if (feed_runs_ahead(feed)) TRY(backend->device->sent_wait(backend));
    draw(feed, batch, first);
    if (batch->moments)
        TRY(put(feed, SLOT_MOMENTS, batch->moments + first * batch->moment_values));
    else
        put_pixels(feed, batch, first);
    TRY(put_text(feed, batch, first));
    TRY(put(feed, SLOT_TIMESTEPS, feed->timesteps));
    TRY(put(feed, SLOT_INDEX, feed->indices));
    TRY(put(feed, SLOT_KEEP, feed->keep));
    if (feed_runs_ahead(feed)) TRY(backend->device->send(backend, feed->staging, feed->locked, feed->staging_bytes));
fail:
    return status;
}

Status feed_take(Feed *feed)
{
    Status status = STATUS_OK;
    Backend *backend = feed->options.backend;
    if (!feed_runs_ahead(feed)) return STATUS_OK;
    TRY(backend->device->sent(backend));
    for (int s = 0; s < SLOTS; s++) {
        const Slot *slot = &feed->slots[s];
        if (slot->place) TRY(backend->device->copy(backend, slot->place, feed->staging + slot->offset, slot->bytes));
    }
    TRY(backend->device->consumed(backend)); /* the next send may overwrite the staging block from here on */
fail:
    return status;
}
