#include "train/precompute_networks.h"

#include <stdlib.h>

#include "engine/executor.h"
#include "engine/param_image.h"
#include "model/frozen_weights.h"
#include "model/sampling_graph.h"

struct PrecomputeNetworks {
    PrecomputeNetworksOptions options;
    ParamTable *params;
    ParamStore store;
    FrozenWeights *frozen;
    TextGraph text;
    PictureGraph picture;
    Plan *plans[PRECOMPUTED_KINDS];
    Executor *executors[PRECOMPUTED_KINDS];
};

static Status make_runnable(PrecomputeNetworks *n, const Graph *graph, Backend *backend, PrecomputedKind kind)
{
    Status status = STATUS_OK;
    TRY(plan_create(graph, backend, &(PlanOptions){.reuse = n->options.run->train.plan_reuse}, &n->plans[kind]));
    TRY(executor_create(n->plans[kind], &n->store, &n->executors[kind]));
fail:
    return status;
}

Status precompute_networks_create(const PrecomputeNetworksOptions *options, Backend *backend, PrecomputeNetworks **out)
{
    Status status = STATUS_OK;
    const RunConfig *run = options->run;
    const ModelConfig *model = &run->model;
    const Dtype compute = model_compute_dtype(model, backend);
    const int64_t side = run->train.resolution;
    *out = NULL;
    PrecomputeNetworks *n = mem_alloc_array(1, sizeof *n);
    if (!n) FAIL(ERR_MEMORY, "out of memory for the frozen networks");
    n->options = *options;
    TRY(param_table_create(&n->params));
    if (options->wanted[PRECOMPUTED_LATENTS])
        TRY(encode_graph_create(n->params, model, options->pictures, side, side, false, compute, &n->picture));
    if (options->wanted[PRECOMPUTED_TEXT])
        TRY(text_graph_create(n->params, model, options->captions, compute, &n->text));
    TRY(param_table_layout(n->params, NULL, 0));
    TRY(param_store_create(n->params, false, &n->store));
    TRY(frozen_weights_load(model, &n->store, &n->frozen));
    param_store_init(&n->store, (uint64_t)run->seed);
    TRY(param_image_open(&n->store, backend, false));
    if (options->wanted[PRECOMPUTED_LATENTS]) TRY(make_runnable(n, n->picture.graph, backend, PRECOMPUTED_LATENTS));
    if (options->wanted[PRECOMPUTED_TEXT]) TRY(make_runnable(n, n->text.graph, backend, PRECOMPUTED_TEXT));
    *out = n;
    return STATUS_OK;
fail:
    precompute_networks_free(n);
    return status;
}

void precompute_networks_free(PrecomputeNetworks *n)
{
    if (!n) return;
    for (int kind = 0; kind < PRECOMPUTED_KINDS; kind++) {
        executor_free(n->executors[kind]);
        plan_free(n->plans[kind]);
    }
    text_graph_free(&n->text);
    picture_graph_free(&n->picture);
    param_store_free(&n->store);
    frozen_weights_free(n->frozen);
    param_table_free(n->params);
    free(n);
}

/* An input that the graph does without has no memory. */
static Status write_input(Executor *executor, TensorId tensor, const void *data, int64_t count)
{
    if (!executor_memory(executor, tensor)) return STATUS_OK;
    return executor_write(executor, tensor, data, (size_t)count * 4);
}

Status precompute_networks_pictures(PrecomputeNetworks *n, const float *pixels, float *moments)
{
    Status status = STATUS_OK;
    Executor *executor = n->executors[PRECOMPUTED_LATENTS];
    const Shape *in = &graph_tensor(n->picture.graph, n->picture.pixels)->shape;
    const Shape *out = &graph_tensor(n->picture.graph, n->picture.moments)->shape;
    TRY(write_input(executor, n->picture.pixels, pixels, shape_count(in)));
    TRY(executor_run(executor, NULL));
    TRY(executor_read(executor, n->picture.moments, moments, (size_t)shape_count(out) * sizeof *moments));
fail:
    return status;
}

Status precompute_networks_captions(PrecomputeNetworks *n, const PrecomputedText *batch)
{
    Status status = STATUS_OK;
    Executor *executor = n->executors[PRECOMPUTED_TEXT];
    const ModelConfig *m = &n->options.run->model;
    int64_t captions = n->options.captions, rows = captions * m->max_tokens;
    TRY(write_input(executor, n->text.tokens1, batch->tokens1, rows));
    TRY(write_input(executor, n->text.mask1, batch->mask1, rows));
    TRY(write_input(executor, n->text.tokens2, batch->tokens2, rows));
    TRY(write_input(executor, n->text.mask2, batch->mask2, rows));
    TRY(executor_run(executor, NULL));
    TRY(executor_read(executor, n->text.full_emb1, batch->states1, (size_t)(rows * m->text1_dim) * 4));
    TRY(executor_read(executor, n->text.pooled_emb1, batch->pooled1, (size_t)(captions * m->pooled_dim) * 4));
    TRY(executor_read(executor, n->text.full_emb2, batch->states2, (size_t)(rows * m->text2_dim) * 4));
fail:
    return status;
}
