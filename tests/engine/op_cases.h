/* Small graphs that between them reach every op of ops.def, gradient ops included: one declaration of a case serves
 * the comparison of backends and the directional derivatives.
 *
 * And a way to run such a graph op by op on any backend: every tensor, the workspace and the packed weights lie in
 * blocks of their exact size between guard bytes. Where the backend has memory of its own, these are mirrors, and
 * op_case_device.h does the same there. */
#ifndef TESTS_ENGINE_OP_CASES_H
#define TESTS_ENGINE_OP_CASES_H

#include "engine/backend.h"
#include "engine/graph.h"
#include "engine/ops.h"

typedef enum CaseUse {
    CASE_FORWARD,    /* no gradient */
    CASE_GRADIENT,   /* graph_backward from a seed; the scalar is sum(seed * output) */
    CASE_LOSS,       /* graph_backward from a loss op; the scalar is loss_scale * sum of its terms */
    CASE_LOSS_FROZEN /* the same, but the loss leaves out part of the derivative on purpose: backends only */
} CaseUse;

#define CASE_ARGS 12

typedef struct CaseGraph {
    ParamTable *params;
    Graph *graph;
    Dtype dtype; /* of activations */
    CaseUse use;
    TensorId output;
    TensorId seed; /* the gradient of output, an input; TENSOR_NONE without */
} CaseGraph;

typedef struct OpCase {
    const char *name;
    CaseUse use;
    TensorId (*build)(CaseGraph *c, const int64_t *args); /* returns the output */
    int64_t args[CASE_ARGS];
} OpCase;

extern const OpCase op_cases[];
extern const int32_t op_case_count;

/* Builds the graph, its backward pass where the case has one, and lays out its parameters. */
Status case_open(const OpCase *op_case, Dtype dtype, CaseGraph *out);
void case_close(CaseGraph *c);

/* A block of exactly `size` bytes between guards: 64-byte aligned, but for parameters, which may be anywhere
 * (ParamStore's bound ones) and so are at odd multiples of what the backend asks for here. */
typedef struct Guarded {
    uint8_t *data; /* NULL when size was 0 */
    uint8_t *block;
    size_t size;
} Guarded;

typedef struct CaseRun {
    const CaseGraph *c;
    Backend *backend;
    Guarded *memory; /* per tensor; views have none of their own */
} CaseRun;

/* Allocates, and fills inputs, constants and parameters: normals from the seed, rounded through
 * bf16 where `rounded`. The same seed gives two graphs of one case the same values. */
Status case_run_open(const CaseGraph *c, Backend *backend, uint64_t seed, bool rounded, CaseRun *out);
void case_run_close(CaseRun *run);
void *case_run_data(const CaseRun *run, TensorId tensor); /* NULL for TENSOR_NONE */
/* Prepares op `index` for `accumulate`, packs its weights and runs it, with workspace and packed weights of exactly the
 * sizes asked for, filled with garbage. False in `guards_hold` when it wrote around them. As in an executor, what is
 * known when the op is prepared is op->accumulate; bits of parameter gradients may be set at the call alone. */
Status case_run_op(CaseRun *run, int32_t index, uint32_t accumulate, bool *guards_hold);
bool case_run_guards_hold(const CaseRun *run);

int64_t case_count(const CaseRun *run, TensorId tensor);
size_t case_bytes(const CaseRun *run, TensorId tensor);
double case_get(const CaseRun *run, TensorId tensor, int64_t i);
void case_set(CaseRun *run, TensorId tensor, int64_t i, double value);

#endif
