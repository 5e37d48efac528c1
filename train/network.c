#include "train/network.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/hash.h"
#include "base/log.h"
#include "train/frozen_data.h"

/* The processors this process may use, divided by the ranks of this machine that may use the same ones: a launcher that
 * binds has divided already. */
static Status share_of_processors(Comm *comm, int32_t *threads)
{
    Status status = STATUS_OK;
    int64_t *masks = NULL;
    cpu_set_t set;
    CPU_ZERO(&set);
    int processors = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
    int sharing = 1;
    if (comm && comm_world(comm) > 1) {
        int64_t mask = (int64_t)hash_memory(&set, sizeof set).low;
        masks = mem_alloc_array((size_t)comm_world(comm), sizeof *masks);
        if (!masks) FAIL(ERR_MEMORY, "out of memory");
        TRY(comm_all_gather(comm, &mask, sizeof mask, masks));
        int same = 0;
        for (int r = 0; r < comm_world(comm); r++) same += masks[r] == mask;
        if (same > comm_local_world(comm)) same = comm_local_world(comm);
        if (same > 1) sharing = same;
    }
    *threads = processors > sharing ? processors / sharing : 1;
fail:
    free(masks);
    return status;
}

Status network_open_backend(const RunConfig *run, Comm *comm, Backend **out)
{
    Status status = STATUS_OK;
    BackendOptions options = {.threads = (int32_t)run->device.threads};
    /* Alone, or told by OMP_NUM_THREADS, the backend's own choice serves. */
    bool shared = comm && comm_world(comm) > 1 && !getenv("OMP_NUM_THREADS");
    if (!options.threads && shared) TRY(share_of_processors(comm, &options.threads));
    TRY(backend_open(device_word(&run->device), &options, out));
fail:
    return status;
}

Status network_plan(const RunConfig *run, Backend *backend, NetworkInputs inputs, Network *out)
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
    TRY(param_table_create(&out->params));
    TRY(diffusion_create(&run->diffusion, &out->diffusion));
    TRY(training_graph_create(out->params,
                              &(TrainingGraphOptions){
                                  .model = &run->model,
                                  .diffusion = out->diffusion,
                                  .resolution = run->train.resolution,
                                  .batch = run->train.micro_batch,
                                  .seed = (uint64_t)run->seed,
                                  .loss_scale = (float)(1.0 / (double)run->train.global_batch),
                                  .moments_given = inputs == NETWORK_GIVEN || run->frozen.latents == FROZEN_PRECOMPUTED,
                                  .text_given = inputs == NETWORK_GIVEN || run->frozen.text == FROZEN_PRECOMPUTED,
                                  .round_to = (FrozenDtype)run->frozen.dtype,
                                  .drawing = out->previews,
                                  .backward = true,
                                  .recompute = run->train.recompute,
                                  .compute = out->compute,
                              },
                              &out->training));
    TRY(plan_create(out->training.graph, backend,
                    &(PlanOptions){.reuse = run->train.plan_reuse, .bucket_bytes = run->train.bucket_bytes},
                    &out->plan));
    return STATUS_OK;
fail:
    network_free(out); /* the backend stays the caller's */
    return status;
}

static void make_memory_plan(Network *network, const RunConfig *run, const NetworkSurroundings *around)
{
    const bool kept = network->plan->pack == PLAN_PACK_KEEP;
    memory_plan_make(&(MemoryPlanOptions){.run = run,
                                          .params = network->params,
                                          .plan = network->plan,
                                          .ranks = around->ranks,
                                          .training = around->training,
                                          .previews = kept ? around->previews_kept : around->previews_scratch,
                                          .precomputed_latents = run->frozen.latents == FROZEN_PRECOMPUTED,
                                          .precomputed_text = run->frozen.text == FROZEN_PRECOMPUTED},
                     &network->memory);
}

void network_plan_memory(Network *network, const RunConfig *run, const NetworkSurroundings *around)
{
    const PlanPack asked = run_config_pack(run);
    plan_set_pack(network->plan, PLAN_PACK_KEEP);
    make_memory_plan(network, run, around);
    if (asked == PLAN_PACK_AUTO) {
        plan_choose_pack(network->plan, memory_plan_beside(&network->memory), around->sharing);
    } else {
        plan_set_pack(network->plan, asked);
    }
    make_memory_plan(network, run, around);
}

Status network_start(Network *network, const RunConfig *run)
{
    Status status = STATUS_OK;
    TRY(param_store_create(network->params, true, &network->store));
    TRY(frozen_weights_load(&run->model, &network->store, &network->frozen));
    param_store_init(&network->store, (uint64_t)run->seed);
    TRY(executor_create(network->plan, &network->store, &network->executor));
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
