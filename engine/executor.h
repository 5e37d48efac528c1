/* Runs a plan. Creating one allocates everything; running allocates nothing. */
#ifndef ENGINE_EXECUTOR_H
#define ENGINE_EXECUTOR_H

#include "engine/plan.h"

typedef struct Executor Executor;

/* The plan and the store must outlive the executor. On backends with memory of their own the store's buffers are in
 * that memory (engine/params.h's functions are for host memory). */
Status executor_create(const Plan *plan, const ParamStore *store, Executor **out);
void executor_free(Executor *executor);

/* Copies to an input or from an output; `bytes` must be the tensor's size. A run consumes its inputs: their memory is
 * used again once the last reader has run, so every input is written before every run. */
Status executor_write(Executor *executor, TensorId tensor, const void *data, size_t bytes);
Status executor_read(Executor *executor, TensorId tensor, void *data, size_t bytes);
/* The tensor's memory in the backend's address space (on CPU backends: readable and writable). */
void *executor_memory(Executor *executor, TensorId tensor);

/* Use another flat buffer of trainable weights (EMA) of the same layout; NULL: the store's own again. */
void executor_bind_weights(Executor *executor, const float *weights);
/* Weights were written: packed copies are made again before the next run. */
void executor_weights_changed(Executor *executor);
/* Makes them now, if need be. What replays a recording of executor_run (engine/recorder.h) calls it before. */
Status executor_pack(Executor *executor);

typedef struct ExecutorRun {
    bool
        add_gradients; /* parameter gradients are added to what the flat buffer holds (micro-batches after the first) */
    Status (*on_bucket)(void *context, int32_t bucket);  /* called as each bucket becomes complete; may be NULL */
    Status (*on_weights)(void *context, int32_t bucket); /* called before the first op that reads a bucket's weights, in
                                                            the order of those ops; may be NULL */
    void *context;
    double *op_seconds;   /* per op, packing left out; added to; NULL: not timed */
    double *pack_seconds; /* of packing weights, all ops together; added to; NULL: not timed */
} ExecutorRun;

Status executor_run(Executor *executor, const ExecutorRun *run); /* NULL: defaults */

#endif
