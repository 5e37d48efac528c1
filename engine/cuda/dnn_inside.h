/* What the files of dnn.h share: the library, and plans as one or two steps of cuDNN. */
#ifndef ENGINE_CUDA_DNN_INSIDE_H
#define ENGINE_CUDA_DNN_INSIDE_H

#include "base/hash.h"
#include "engine/cuda/dnn.h"
#include "engine/cuda/dnn_graph.h"

struct Dnn {
    cudnnHandle_t handle; /* NULL: plans only */
    DnnDesc device;       /* what plans are made for */
    char *properties;     /* the same as text */
    char *cache;          /* NULL: none */
    Hash128 identity;     /* of all that plans depend on but their graph: device, driver, cuDNN, our format */
    cudaStream_t stream;
    bool deterministic;
};

/* Choices are by time: with a device, and where the next time may choose another and with it the bits of results. */
static inline bool dnn_measures(const Dnn *dnn)
{
    return dnn->handle && !dnn->deterministic;
}

/* Plans of one device serve all of its name: what differs between them (clocks, the place in the machine) is left out,
 * but for the number under which this process sees it, which the plans' text holds. */
Hash128 dnn_device_hash(const char *properties);

/* One graph, planned. */
typedef struct DnnStep {
    DnnDesc plan;
    int64_t workspace;
    char engine[64]; /* dnn_engine_name: e.g. "A 41", heuristics that proposed it and cuDNN's number */
    DnnOperand operand[DNN_GRAPH_OPERANDS];
    int32_t operands;
} DnnStep;

enum { DNN_PLAN_STEPS = 2 };
struct DnnPlan {
    const Dnn *dnn;
    DnnStep step[DNN_PLAN_STEPS];
    int32_t steps;
    size_t workspace; /* the steps', then `extra` bytes from `behind` on */
    size_t behind, extra;
    char name[192];
    DnnConvSpec conv; /* of such plans */
    bool widened;
    DnnAttentionSpec attention; /* of such plans: of one slice of the batch */
    bool gradient;
    int64_t slices; /* run one after another */
};

/* What runs of a step are given. */
typedef struct DnnBinding {
    int64_t uid;
    const void *memory;
} DnnBinding;
enum { DNN_BINDINGS = DNN_GRAPH_OPERANDS };

/* dnn_plan.c: a step made of a graph, from the cache or chosen; the graph is done with afterwards. `precise`: products
 * of fp32 in fp32. ERR_UNSUPPORTED, not recorded as more than that, where cuDNN has no engine. */
Status dnn_step_make(const Dnn *dnn, DnnGraph *graph, bool precise, DnnStep *out);
void dnn_step_free(DnnStep *step);
/* Queues it. `bindings` may hold uids that the step does not have, and NULL for those it does not need. */
Status dnn_step_run(const Dnn *dnn, const DnnStep *step, const DnnBinding *bindings, int32_t count, void *workspace);

Status dnn_plan_create(const Dnn *dnn, DnnPlan **out);
Status dnn_plan_add(DnnPlan *plan, DnnGraph *graph, bool precise); /* the next step */
/* After the steps; extra: bytes behind the steps' workspace. design: e.g. "conv+bias". */
void dnn_plan_finish(DnnPlan *plan, const char *design, size_t extra);

#endif
