/* What a step of training computes with: backend, parameters, training graph, plan, and, once started, buffers and an
 * executor. `vasily plan` stops before the buffers; `vasily train` and `vasily bench` go on. */
#ifndef TRAIN_NETWORK_H
#define TRAIN_NETWORK_H

#include <limits.h>

#include "engine/comm.h"
#include "engine/executor.h"
#include "model/frozen_weights.h"
#include "model/training_graph.h"
#include "train/memory_plan.h"
#include "train/run_config.h"

typedef struct Network {
    Backend *backend;
    ParamTable *params;
    Diffusion *diffusion;
    TrainingGraph training; /* of one micro-batch */
    Plan *plan;
    Dtype compute;
    int64_t micro_batch;
    bool previews;         /* the parameters that drawing needs are in the table */
    MemoryPlan memory;     /* after network_plan_memory */
    ParamStore store;      /* started only */
    FrozenWeights *frozen; /* started only: what frozen parameters of the store are bound to */
    Executor *executor;    /* started only */
} Network;

typedef enum NetworkInputs {
    NETWORK_PIXELS, /* pictures and tokens: autoencoder and text encoders are part of the graph, but those whose outputs
                     * are precomputed (run->frozen) */
    NETWORK_GIVEN   /* moments and text states: the UNet and its loss alone */
} NetworkInputs;

/* The training graph that a run asks for, for one micro-batch. */
TrainingGraphOptions network_graph_options(const RunConfig *run, NetworkInputs inputs, const Diffusion *diffusion,
                                           Dtype compute);
/* Graph and plan for run->train.micro_batch, which must be resolved (run_config_check_ranks,
 * network_choose_micro_batch). Allocates nothing that grows with the model. */
Status network_plan(const RunConfig *run, Backend *backend, NetworkInputs inputs, Network *out);
/* The same without kernels: an estimate of the memory (PlanOptions.estimate). */
Status network_estimate(const RunConfig *run, Backend *backend, NetworkInputs inputs, Network *out);
typedef struct NetworkSurroundings {
    int64_t ranks;                           /* that train */
    int sharing;                             /* of them, those that share this machine's memory */
    bool training;                           /* all that a trainer has; else the network and its optimizer alone */
    int64_t previews_kept, previews_scratch; /* preview_plan_bytes, on the rank that draws */
    ValidationBytes validation;
} NetworkSurroundings;
/* ERR_MEMORY, with the remedies, where run->train.micro_batch does not fit what is free now, by a plan or, with
 * `estimate`, one without kernels; what previews take is not counted. */
Status network_check_memory(const RunConfig *run, Backend *backend, NetworkInputs inputs,
                            const NetworkSurroundings *around, bool estimate);
/* Where run->train.micro_batch is MICRO_BATCH_AUTO, sets it to the largest divisor of a rank's share of the batch whose
 * memory plan fits what is free now; `preferred` (a checkpoint's, or 0) is taken where it fits. ERR_MEMORY, with the
 * remedies, when not even 1 does. Ranks may find different numbers: the caller agrees on the least. */
Status network_choose_micro_batch(RunConfig *run, Backend *backend, NetworkInputs inputs,
                                  const NetworkSurroundings *around, int64_t preferred);
/* Settles whether packed weights are kept (device.packed_weights) and whether checkpoints are copied first
 * (checkpoint.async: MEMORY_SNAPSHOT), and fills network->memory. */
void network_plan_memory(Network *network, const RunConfig *run, const NetworkSurroundings *around);
/* Buffers, the frozen networks' weight files, all other weights drawn from run->seed, and the executor. On a device the
 * weights are there as well: after other weights were loaded into the store, network_weights_loaded. */
Status network_start(Network *network, const RunConfig *run);
Status network_weights_loaded(Network *network);
/* Everything but the backend, which is the caller's. */
void network_free(Network *network);

/* A file of configs/machines/, here or beside the program's build folder. */
bool network_find_machine_file(const char *name, char out[PATH_MAX]);
/* The GPU that a file describes (`gpu`: its path, or a name in configs/machines/), to plan for. */
Status network_open_planned_gpu(const RunConfig *run, const char *gpu, Backend **out);
/* The device of the config with its share of this machine's processors. `comm` NULL: alone. Collective. */
Status network_open_backend(const RunConfig *run, Comm *comm, Backend **out);

#endif
