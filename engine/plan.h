/* The plan decides everything before the first step: where every tensor lies, what is recomputed, which kernels run
 * with how much workspace, and where each bucket of gradients is complete. So memory, work and traffic are known
 * without running.
 *
 * Memory of one graph on one backend:
 *   slab       inputs, constants and values, placed by liveness over forward, recomputation and backward
 *   workspace  one block, the largest that any op asked for
 *   packed     weights in the kernels' own formats, if they are kept
 * Weights and gradients are the ParamStore's. */
#ifndef ENGINE_PLAN_H
#define ENGINE_PLAN_H

#include "base/arena.h"
#include "engine/backend.h"
#include "engine/graph.h"

/* Weights in the kernels' own formats and types (engine/backend.h). The results are the same bits either way. */
typedef enum PlanPack {
    PLAN_PACK_KEEP,    /* made for all ops when weights have changed, and kept: the fastest */
    PLAN_PACK_SCRATCH, /* made in the workspace each time an op runs: about as little memory as the largest one takes */
    PLAN_PACK_IMAGE, /* devices: read from the bf16 copies of the store's image (engine/param_image.h), which the update
                        writes beside the weights; only constants are packed, and kept. Not with bound weights */
    PLAN_PACK_AUTO   /* kept where they fit: plan_create chooses as plan_choose_pack does, with nothing beside */
} PlanPack;

typedef struct PlanOptions {
    bool reuse;           /* false: every tensor has its own place (for the test that holds both bit-identical) */
    int64_t bucket_bytes; /* of gradients; 0: chosen by the device and their number */
    int32_t shares;       /* ranks among which a bucket is divided (engine/comm.h); 0 or 1: none */
    PlanPack pack;
    bool estimate; /* places tensors only: no kernel is prepared, workspace and packed weights count as nothing, and
                      nothing can run. Quick, where a plan for a device may take minutes */
} PlanOptions;

/* A slice of the flat buffers of gradients and of weights: what is sent at once. Buckets lie one behind the other and
 * cover the buffers; each can be divided into PlanOptions.shares equal shares of whole norm blocks (engine/update.h).
 * They cut through parameters. */
typedef struct Bucket {
    int64_t offset, count; /* elements; multiples of UPDATE_NORM_BLOCK * shares */
    int32_t ready_after;   /* the op after which its gradients are complete */
    int32_t needed_by;     /* the first op that reads its weights; the number of ops: none does */
} Bucket;

typedef struct Plan {
    const Graph *graph;
    Backend *backend;
    int64_t *offset;    /* per tensor, bytes into the slab; -1 for parameters and unused tensors */
    Prepared *prepared; /* per op */
    PlanPack pack;
    int64_t *packed_offset; /* per op, bytes into the packed block, or in scratch mode into the workspace */
    size_t slab_bytes;      /* what training really uses: activations, inputs, constants, activation gradients */
    size_t workspace_bytes;
    size_t packed_bytes;    /* 0 in scratch mode */
    size_t peak_live_bytes; /* the lower bound of any placement: the largest sum of live tensors */
    Bucket *buckets;
    int32_t bucket_count;
    double forward_flops, backward_flops; /* of one run; recomputation counted in backward */
} Plan;

/* Prepares every kernel; ERR_UNSUPPORTED names each op without one. The parameter table must be laid out
 * (graph_backward or param_table_layout). The graph and backend must outlive the plan. */
Status plan_create(const Graph *graph, Backend *backend, const PlanOptions *options, Plan **out);
void plan_free(Plan *plan);

/* Another choice, before executors are made over the plan. */
void plan_set_pack(Plan *plan, PlanPack pack);
/* Keeps packed weights where all that the plan wants and `beside` bytes, which others will take, fit in the memory that
 * is available now (engine/memory.h) to each of `sharing` processes alike, with a twentieth to spare; else makes them
 * in scratch. */
void plan_choose_pack(Plan *plan, int64_t beside, int sharing);
/* What an executor allocates. */
size_t plan_bytes(const Plan *plan);
/* Room for op `index`'s packed weights; a multiple of 256. */
size_t plan_packed_bytes(const Plan *plan, int32_t index);
/* Whether any op reads bf16 copies of parameters, so that PLAN_PACK_IMAGE needs an image with halves. */
bool plan_reads_halves(const Plan *plan);
/* Whether any op writes the gradient of parameter `param`; if none does, it stays what it was. */
bool plan_writes_gradient(const Plan *plan, int32_t param);
/* Op `index` makes its packed weights in the workspace at every run: all do with PLAN_PACK_SCRATCH, and those whose
 * weights are computed in the graph always. */
bool plan_packs_in_scratch(const Plan *plan, int32_t index);
/* Op `index` is a recomputed copy that reads the packed weights of the forward op, where they are kept. */
bool plan_shares_packed(const Plan *plan, int32_t index);

/* A table: op, name, output shape, GFLOP, MB, kernel, place; ops served by ref are marked. */
Status plan_describe_ops(const Plan *plan, StrBuf *out);

#endif
