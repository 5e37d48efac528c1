#include "train/memory_plan.h"

#include <stdio.h>
#include <string.h>

#include "data/loader.h"
#include "engine/comm.h"
#include "engine/exchange.h"
#include "engine/memory.h"
#include "optim/optimizer.h"
#include "train/checkpoint_write.h"
#include "train/feed.h"
#include "train/frozen_data.h"

/* What a trainer's process has besides, once it runs: threads, pages of libraries not called before (measured). */
#define TRAINER_BYTES ((int64_t)8 << 20)

static const struct {
    const char *key, *label;
} USES[MEMORY_USES] = {
    [MEMORY_WEIGHTS] = {"weights", "weights"},
    [MEMORY_HALVES] = {"half_weights", "bf16 copies of weights"},
    [MEMORY_GRADIENTS] = {"gradients", "gradients"},
    [MEMORY_OPTIMIZER] = {"optimizer", "optimizer and EMA"},
    [MEMORY_ACTIVATIONS] = {"activations", "activations"},
    [MEMORY_WORKSPACE] = {"workspace", "workspace"},
    [MEMORY_PACKED] = {"packed_weights", "packed weights"},
    [MEMORY_FROZEN] = {"frozen_weights", "frozen weights"},
    [MEMORY_FROZEN_MAPPED] = {"frozen_mapped", "frozen, mapped files"},
    [MEMORY_INPUTS] = {"inputs", "inputs on their way"},
    [MEMORY_BATCHES] = {"prefetched_batches", "batches made ahead"},
    [MEMORY_COMMUNICATION] = {"communication_buffers", "communication buffers"},
    [MEMORY_PREVIEWS] = {"previews", "previews"},
    [MEMORY_VALIDATION] = {"validation", "validation"},
    [MEMORY_CHECKPOINT] = {"checkpoint", "saving a checkpoint"},
    [MEMORY_SNAPSHOT] = {"checkpoint_copy", "copy for a checkpoint"},
    [MEMORY_PROCESS] = {"process", "program and libraries"},
};

const char *memory_use_key(MemoryUse use)
{
    return USES[use].key;
}

const char *memory_use_label(MemoryUse use)
{
    return USES[use].label;
}

/* The weight file that a frozen parameter comes from; "" where it is drawn. */
static const char *file_of(const ModelConfig *model, const char *name)
{
    if (strncmp(name, "autoencoder.", strlen("autoencoder.")) == 0) return model->autoencoder.weights;
    if (strncmp(name, "text_encoder1.", strlen("text_encoder1.")) == 0) return model->text_encoder1.weights;
    if (strncmp(name, "text_encoder2.", strlen("text_encoder2.")) == 0) return model->text_encoder2.weights;
    return "";
}

/* A convolution's weights lie differently in files, so they are converted into memory of our own; everything else is
 * read where it is, as long as the file has it in fp32. */
static void add_frozen(const MemoryPlanOptions *o, MemoryPlan *memory)
{
    for (int32_t i = 0; i < param_table_size(o->params); i++) {
        const Param *param = param_table_get(o->params, i);
        if (param->trainable) continue;
        const bool mapped = file_of(&o->run->model, param->name)[0] && param->layout != PARAM_CONV;
        memory->bytes[mapped ? MEMORY_FROZEN_MAPPED : MEMORY_FROZEN] += param->count * (int64_t)sizeof(float);
    }
}

static int64_t batch_bytes(const MemoryPlanOptions *o)
{
    const RunConfig *run = o->run;
    PrecomputedSpec precomputed;
    frozen_spec_sizes(run, &precomputed);
    precomputed.wanted[PRECOMPUTED_LATENTS] = o->precomputed_latents;
    precomputed.wanted[PRECOMPUTED_TEXT] = o->precomputed_text;
    return loader_memory(&run->data, &(LoaderOptions){.resolution = (int)run->train.resolution,
                                                      .global_batch = run->train.global_batch,
                                                      .world = (int)o->ranks,
                                                      .precomputed = &precomputed});
}

/* What lies where the kernels compute. */
static void add_computing(const MemoryPlanOptions *o, int64_t bytes[MEMORY_USES])
{
    const int64_t elements = param_table_trainable_elements(o->params);
    bytes[MEMORY_WEIGHTS] = bytes[MEMORY_GRADIENTS] = elements * (int64_t)sizeof(float);
    const bool divided = o->run->parallel.shard != PARALLEL_SHARD_NONE && o->run->parallel.group > 1;
    bytes[MEMORY_OPTIMIZER] = optimizer_bytes(&o->run->optim, elements, divided ? (int)o->run->parallel.group : 1);
    bytes[MEMORY_ACTIVATIONS] = (int64_t)o->plan->slab_bytes;
    bytes[MEMORY_WORKSPACE] = (int64_t)o->plan->workspace_bytes;
    bytes[MEMORY_PACKED] = (int64_t)o->plan->packed_bytes;
    if (o->training) bytes[MEMORY_PREVIEWS] = o->previews;
    if (o->training) bytes[MEMORY_VALIDATION] = o->validation.computing;
}

/* The host's part of a run on a GPU: weights are drawn, loaded and saved there. */
static void add_device(const MemoryPlanOptions *o, MemoryPlan *memory)
{
    const int64_t elements = param_table_trainable_elements(o->params);
    const int64_t frozen = param_table_frozen_elements(o->params);
    add_computing(o, memory->device);
    memory->device[MEMORY_FROZEN] = frozen * (int64_t)sizeof(float);
    if (graph_compute(o->plan->graph) == DTYPE_BF16)
        memory->device[MEMORY_HALVES] = (elements + frozen) * (int64_t)sizeof(uint16_t);
    if (o->ranks > 1 || o->run->parallel.exchange_alone)
        memory->device[MEMORY_COMMUNICATION] =
            exchange_device_bytes(o->plan, (CommWire)o->run->parallel.wire, o->ranks, o->run->parallel.group);
    memory->device[MEMORY_INPUTS] = memory->bytes[MEMORY_INPUTS] = feed_bytes(o->plan->graph);
    memory->bytes[MEMORY_WEIGHTS] = elements * (int64_t)sizeof(float);
}

void memory_plan_make(const MemoryPlanOptions *o, MemoryPlan *memory)
{
    *memory = (MemoryPlan){0};
    int64_t *bytes = memory->bytes;
    if (o->plan->backend->device)
        add_device(o, memory);
    else
        add_computing(o, bytes);
    add_frozen(o, memory);
    if (o->training) {
        bytes[MEMORY_BATCHES] = batch_bytes(o);
        bytes[MEMORY_VALIDATION] += o->validation.host;
        bytes[MEMORY_COMMUNICATION] = comm_buffer_bytes((int)o->ranks, (CommWire)o->run->parallel.wire);
        bytes[MEMORY_CHECKPOINT] = checkpoint_writer_bytes(o->params, o->ranks);
        if (o->snapshot)
            bytes[MEMORY_SNAPSHOT] =
                snapshot_bytes(param_table_trainable_elements(o->params), o->run->optim.ema_decay > 0, o->ranks);
    }
    bytes[MEMORY_PROCESS] = memory_resident() + (o->training ? TRAINER_BYTES : 0);
    for (int use = 0; use < MEMORY_USES; use++) {
        memory->total += bytes[use];
        memory->device_total += memory->device[use];
    }
}

int64_t memory_plan_beside(const MemoryPlan *memory)
{
    return memory->total - memory->bytes[MEMORY_ACTIVATIONS] - memory->bytes[MEMORY_WORKSPACE] -
           memory->bytes[MEMORY_PACKED] - memory->bytes[MEMORY_PROCESS];
}

bool memory_plan_fits(const MemoryPlan *memory, int sharing)
{
    const int64_t wanted = memory->total - memory->bytes[MEMORY_PROCESS]; /* that is taken already */
    return wanted + wanted / 20 <= memory_available() / (sharing > 1 ? sharing : 1);
}

static Status add_remedy(StrBuf *remedies, const char *remedy)
{
    return strbuf_printf(remedies, "%s%s", remedies->size ? "; " : "", remedy);
}

/* Only what this run has not done yet. `bytes`: of the memory that is short. */
static Status list_remedies(const int64_t bytes[MEMORY_USES], int64_t total, const RunConfig *run, StrBuf *out)
{
    Status status = STATUS_OK;
    char text[96];
    if (!run->train.recompute && bytes[MEMORY_ACTIVATIONS] > 0)
        TRY(add_remedy(out, "train.recompute: true keeps fewer activations"));
    if (run->train.micro_batch > 1) TRY(add_remedy(out, "a smaller train.micro_batch (auto finds one)"));
    if (bytes[MEMORY_PACKED] > 0) {
        snprintf(text, sizeof text, "device.packed_weights: scratch saves about %.2f GB",
                 1e-9 * (double)bytes[MEMORY_PACKED]);
        TRY(add_remedy(out, text));
    }
    if (run->parallel.shard == PARALLEL_SHARD_NONE && run->parallel.group > 1)
        TRY(add_remedy(out, "parallel.shard: all divides optimizer and EMA among the ranks"));
    if (run->optim.ema_decay > 0 && bytes[MEMORY_OPTIMIZER] > 0) {
        snprintf(text, sizeof text, "optim.ema_decay: 0 saves %.2f GB", 1e-9 * (double)bytes[MEMORY_WEIGHTS]);
        TRY(add_remedy(out, text));
    }
    if (bytes[MEMORY_FROZEN] + bytes[MEMORY_FROZEN_MAPPED] > 0)
        TRY(add_remedy(out, "frozen.latents and frozen.text: precomputed leave the frozen networks out"));
    if (bytes[MEMORY_PREVIEWS] > 0) TRY(add_remedy(out, "preview.every: 0, or a smaller preview.batch"));
    if (bytes[MEMORY_VALIDATION] > total / 20)
        TRY(add_remedy(out, "a smaller validation.batch, or fewer validation.samples"));
    if (bytes[MEMORY_SNAPSHOT] > 0) {
        snprintf(text, sizeof text, "checkpoint.async: false saves %.2f GB", 1e-9 * (double)bytes[MEMORY_SNAPSHOT]);
        TRY(add_remedy(out, text));
    }
    if (bytes[MEMORY_BATCHES] > total / 20)
        TRY(add_remedy(out, "a smaller train.global_batch or data.prefetch_batches"));
    if (out->size == 0) TRY(add_remedy(out, "a smaller network, or a machine with more memory"));
fail:
    return status;
}

/* The four largest uses, "activations 5.06, ...". */
static Status list_largest(const int64_t bytes[MEMORY_USES], StrBuf *out)
{
    Status status = STATUS_OK;
    int64_t left[MEMORY_USES];
    memcpy(left, bytes, sizeof left);
    for (int k = 0; k < 4; k++) {
        int most = 0;
        for (int use = 1; use < MEMORY_USES; use++)
            if (left[use] > left[most]) most = use;
        TRY(strbuf_printf(out, "%s%s %.2f", k ? ", " : "", USES[most].label, 1e-9 * (double)left[most]));
        left[most] = 0;
    }
fail:
    return status;
}

static Status refuse(const char *where, const int64_t bytes[MEMORY_USES], int64_t wanted, int64_t available,
                     const RunConfig *run)
{
    Status status = STATUS_OK;
    StrBuf remedies = {0}, largest = {0};
    TRY(list_remedies(bytes, wanted, run, &remedies));
    TRY(list_largest(bytes, &largest));
    FAIL(ERR_MEMORY,
         "training takes %.2f GB more %s, and %.2f GB are free for it (%s; `vasily plan` has all). What helps: %s",
         1e-9 * (double)wanted, where, 1e-9 * (double)available, largest.data, remedies.data);
fail:
    strbuf_free(&remedies);
    strbuf_free(&largest);
    return status;
}

Status memory_plan_check(const MemoryPlan *memory, const RunConfig *run, Backend *backend, int sharing)
{
    Status status = STATUS_OK;
    const int64_t wanted = memory->total - memory->bytes[MEMORY_PROCESS]; /* that is taken already */
    const int64_t available = memory_available() / (sharing > 1 ? sharing : 1);
    const int64_t device_free = backend->device ? backend_memory_available(backend) : 0;
    if (backend->device && memory->device_total > device_free)
        FAIL_WITH(refuse("on the GPU", memory->device, memory->device_total, device_free, run));
    if (backend->device && backend->device->planned) return STATUS_OK;
    if (wanted > available) FAIL_WITH(refuse("on each rank", memory->bytes, wanted, available, run));
fail:
    return status;
}
