/* Inputs of micro-batches, from a batch of the loader into the inputs of the training graph.
 *
 * On the host they are written where they belong, just before the run. On a GPU they are put together in page-locked
 * memory and sent while the micro-batch before still computes; feed_take moves them to their place once it is their
 * turn. */
#ifndef TRAIN_FEED_H
#define TRAIN_FEED_H

#include "data/loader.h"
#include "engine/executor.h"
#include "model/training_graph.h"
#include "train/training_mask.h"

typedef struct Feed Feed;

typedef struct FeedOptions {
    Backend *backend;
    Executor *executor;
    const TrainingGraph *graph;
    const Diffusion *diffusion; /* timesteps are drawn here */
    const MaskConfig *masks;    /* drawn here too, where the graph wants them */
    uint64_t seed;
    int64_t micro_batch, max_tokens;
    int64_t factor;         /* pixels of a latent's side (model_latent_factor) */
    const float *timesteps; /* (micro_batch), read at every feed_fill; NULL: they are drawn */
} FeedOptions;

/* All but the numbers is borrowed and must outlive the feed. */
Status feed_create(const FeedOptions *options, Feed **out);
void feed_free(Feed *feed); /* NULL is fine */
/* Whether the next micro-batch may be filled in while one computes. */
bool feed_runs_ahead(const Feed *feed);
/* Rows [first, first + micro_batch) of the batch, which is not needed any more afterwards. */
Status feed_fill(Feed *feed, const Batch *batch, int64_t first);
/* What was filled in becomes the inputs of the next executor_run. Once for each fill. */
Status feed_take(Feed *feed);

/* What it takes on a GPU for a graph, and as much page-locked on the host. */
int64_t feed_bytes(const Graph *graph);

#endif
