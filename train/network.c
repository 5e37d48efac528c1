#include "train/network.h"

#include <string.h>

#include "engine/param_image.h"
#include "train/frozen_data.h"
#include "train/held_params.h"

TrainingGraphOptions network_graph_options(const RunConfig *run, NetworkInputs inputs, const Diffusion *diffusion,
                                           Dtype compute)
{
    return (TrainingGraphOptions){
        .model = &run->model,
        .diffusion = diffusion,
        .resolution = run->train.resolution,
        .batch = run->train.micro_batch,
        .seed = (uint64_t)run->seed,
        .loss_scale = (float)(1.0 / (double)run->train.global_batch),
        .moments_given = inputs == NETWORK_GIVEN || run->frozen.latents == FROZEN_PRECOMPUTED,
        .text_given = inputs == NETWORK_GIVEN || run->frozen.text == FROZEN_PRECOMPUTED,
        .round_to = (FrozenDtype)run->frozen.dtype,
        .backward = true,
        .recompute = run->train.recompute,
        .compute = compute,
    };
}

static Status plan(const RunConfig *run, Backend *backend, NetworkInputs inputs, bool estimate, Network *out)
{
    Status status = STATUS_OK;
    const char *missing;
    /* What is inline must be there when training begins, whether it is on this machine or not. */
    const bool frozen_inline = run->frozen.latents == FROZEN_INLINE && run->frozen.text == FROZEN_INLINE;
    memset(out, 0, sizeof *out);
    out->backend = backend;
    out->previews = inputs == NETWORK_PIXELS && run->preview.every > 0 && run->preview.prompts.count > 0 &&
                    (frozen_inline || frozen_can_draw(run, &missing));
    out->micro_batch = run->train.micro_batch;
    out->compute = model_compute_dtype(&run->model, backend);
    const int32_t shares = run->parallel.group > 1 ? (int32_t)run->parallel.group : 1;
    TRY(param_table_create(&out->params));
    param_table_pad(out->params, (int64_t)UPDATE_NORM_BLOCK * shares);
    TRY(held_params_declare(run, out->params));
    TRY(diffusion_create(&run->diffusion, &out->diffusion));
    TrainingGraphOptions options = network_graph_options(run, inputs, out->diffusion, out->compute);
    options.drawing = out->previews;
    options.drawing_from_picture = run->preview.init[0] != 0;
    TRY(training_graph_create(out->params, &options, &out->training));
    TRY(plan_create(out->training.graph, backend,
                    &(PlanOptions){.reuse = run->train.plan_reuse,
                                   .bucket_bytes = run->train.bucket_bytes,
                                   .shares = shares,
                                   .pack = backend->device ? PLAN_PACK_IMAGE : PLAN_PACK_KEEP,
                                   .estimate = estimate},
                    &out->plan));
    return STATUS_OK;
fail:
    network_free(out); /* the backend stays the caller's */
    return status;
}

Status network_plan(const RunConfig *run, Backend *backend, NetworkInputs inputs, Network *out)
{
    return plan(run, backend, inputs, false, out);
}

Status network_estimate(const RunConfig *run, Backend *backend, NetworkInputs inputs, Network *out)
{
    return plan(run, backend, inputs, true, out);
}

static void make_memory_plan(Network *network, const RunConfig *run, const NetworkSurroundings *around, bool snapshot)
{
    const bool kept = network->plan->pack == PLAN_PACK_KEEP;
    memory_plan_make(&(MemoryPlanOptions){.run = run,
                                          .params = network->params,
                                          .plan = network->plan,
                                          .ranks = around->ranks,
                                          .training = around->training,
                                          .snapshot = snapshot,
                                          .previews = kept ? around->previews_kept : around->previews_scratch,
                                          .validation = around->validation,
                                          .precomputed_latents = run->frozen.latents == FROZEN_PRECOMPUTED,
                                          .precomputed_text = run->frozen.text == FROZEN_PRECOMPUTED},
                     &network->memory);
}

static void choose_pack(Network *network, const RunConfig *run, const NetworkSurroundings *around, bool snapshot)
{
    const PlanPack asked = run_config_pack(run);
    if (network->backend->device) { /* the update writes bf16 copies beside the weights */
        plan_set_pack(network->plan, PLAN_PACK_IMAGE);
        return;
    }
    plan_set_pack(network->plan, PLAN_PACK_KEEP);
    if (asked == PLAN_PACK_AUTO) {
        make_memory_plan(network, run, around, snapshot);
        plan_choose_pack(network->plan, memory_plan_beside(&network->memory), around->sharing);
    } else {
        plan_set_pack(network->plan, asked);
    }
}

/* Packed weights gain more than writing checkpoints beside training, so a copy for that takes what they leave. */
void network_plan_memory(Network *network, const RunConfig *run, const NetworkSurroundings *around)
{
    const CheckpointAsync async = (CheckpointAsync)run->checkpoint.async;
    const DeviceOps *device = network->backend->device;
    choose_pack(network, run, around, async == CHECKPOINT_ASYNC_TRUE);
    make_memory_plan(network, run, around, async != CHECKPOINT_ASYNC_FALSE);
    const bool elsewhere = device && device->planned;
    if (async == CHECKPOINT_ASYNC_AUTO && !elsewhere && !memory_plan_fits(&network->memory, around->sharing))
        make_memory_plan(network, run, around, false);
}

Status network_start(Network *network, const RunConfig *run)
{
    Status status = STATUS_OK;
    TRY(param_store_create(network->params, true, &network->store));
    TRY(frozen_weights_load(&run->model, &network->store, &network->frozen));
    param_store_init(&network->store, (uint64_t)run->seed);
    TRY(param_image_open(&network->store, network->backend, plan_reads_halves(network->plan)));
    TRY(executor_create(network->plan, &network->store, &network->executor));
fail:
    return status;
}

Status network_weights_loaded(Network *network)
{
    Status status = STATUS_OK;
    TRY(param_image_upload(&network->store));
    executor_weights_changed(network->executor);
fail:
    return status;
}

void network_free(Network *network)
{
    executor_free(network->executor);
    param_store_free(&network->store);
    frozen_weights_free(network->frozen);
    plan_free(network->plan);
    training_graph_free(&network->training);
    diffusion_free(network->diffusion);
    param_table_free(network->params);
    memset(network, 0, sizeof *network);
}
