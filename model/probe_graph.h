/* What the probes of frozen networks share: one run of a graph between two safetensors files. Pictures lie in files as
 * N,C,H,W and in graphs as N,H,W,C; everything else is the same in both. */
#ifndef MODEL_PROBE_GRAPH_H
#define MODEL_PROBE_GRAPH_H

#include "engine/backend.h"
#include "engine/graph.h"
#include "model/safetensors.h"

/* A tensor of the graph and its name in the file. */
typedef struct ProbeTensor {
    const char *name;
    TensorId tensor;
} ProbeTensor;

/* Finds a tensor of an input file and checks its dimensions: those in `dims` that are 0 are filled in, the others must
 * agree. `needed`: what the probe reads, for the message. `path` names the file. */
Status probe_find(const Safetensors *in, const char *path, const char *needed, const char *name, int32_t ndim,
                  int64_t *dims);

/* Plans the graph, writes the inputs (F32, or I32 from any integer type) from `in`, runs it once, and writes the
 * outputs as F32 to safetensors file `out`. Shapes have been checked. */
Status probe_graph_run(const Graph *graph, ParamStore *store, Backend *backend, const Safetensors *in,
                       const ProbeTensor *inputs, int32_t input_count, const char *out, const ProbeTensor *outputs,
                       int32_t output_count);

#endif
