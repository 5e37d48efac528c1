/* Where the memory of one rank goes: every use of it, known before training begins, and the peak they make together.
 * The measured peak (engine/memory.h) is held against it. With a GPU each use is counted where it lies: on the GPU, on
 * the host, or (weights, inputs) on both. */
#ifndef TRAIN_MEMORY_PLAN_H
#define TRAIN_MEMORY_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/params.h"
#include "engine/plan.h"
#include "train/run_config.h"

typedef enum MemoryUse {
    MEMORY_WEIGHTS,       /* fp32: the master weights themselves */
    MEMORY_HALVES,        /* GPU: their bf16 copies */
    MEMORY_GRADIENTS,     /* fp32 */
    MEMORY_OPTIMIZER,     /* moments, moving average */
    MEMORY_ACTIVATIONS,   /* the plan's slab */
    MEMORY_WORKSPACE,     /* with packed weights, where they are made in scratch */
    MEMORY_PACKED,        /* packed weights that are kept */
    MEMORY_FROZEN,        /* weights of the frozen networks in memory of our own */
    MEMORY_FROZEN_MAPPED, /* those read where they lie in a mapped weight file: ranks of one machine share the pages */
    MEMORY_INPUTS,        /* GPU: a micro-batch on its way there */
    MEMORY_BATCHES,       /* of the loader: ready and under way */
    MEMORY_COMMUNICATION, /* buffers of the collectives */
    MEMORY_PREVIEWS,      /* on rank 0 */
    MEMORY_VALIDATION,    /* held-out samples, and what their pass through the network takes */
    MEMORY_CHECKPOINT,    /* what writing a checkpoint takes beside */
    MEMORY_SNAPSHOT,      /* the copy that is written while training goes on */
    MEMORY_PROCESS,       /* program, libraries, prepared kernels: measured in this process */
    MEMORY_USES
} MemoryUse;

typedef struct MemoryPlan {
    int64_t bytes[MEMORY_USES]; /* host memory */
    int64_t total;
    int64_t device[MEMORY_USES]; /* GPU memory; all 0 where the host computes */
    int64_t device_total;
} MemoryPlan;

const char *memory_use_key(MemoryUse use);   /* "weights", "packed_weights", ... */
const char *memory_use_label(MemoryUse use); /* for tables */

/* What validation takes (train/validation.h): where the kernels compute, and in the host's memory besides. */
typedef struct ValidationBytes {
    int64_t computing, host;
} ValidationBytes;

typedef struct MemoryPlanOptions {
    const RunConfig *run; /* micro_batch resolved */
    const ParamTable *params;
    const Plan *plan;
    int64_t ranks;
    int64_t previews; /* bytes that drawing previews takes beside */
    ValidationBytes validation;
    bool training;         /* with loader, collectives, checkpoints; else what `vasily bench step` uses */
    bool snapshot;         /* a copy of what a checkpoint holds */
    bool precomputed_text; /* what the loader's batches hold */
    bool precomputed_latents;
} MemoryPlanOptions;

void memory_plan_make(const MemoryPlanOptions *options, MemoryPlan *out);
/* Whether the host's part can be had by each of `sharing` ranks of this machine, with a twentieth to spare. */
bool memory_plan_fits(const MemoryPlan *memory, int sharing);
/* The sum without what the executor allocates and what is in memory already: plan_choose_pack's `beside`. */
int64_t memory_plan_beside(const MemoryPlan *memory);

/* ERR_MEMORY, with both figures, the largest uses and the remedies that would help this run, when the totals cannot be
 * had: the host's by each of `sharing` ranks of this machine, the GPU's by this one. */
Status memory_plan_check(const MemoryPlan *memory, const RunConfig *run, Backend *backend, int sharing);

#endif
