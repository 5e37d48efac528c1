#include "model/probe_text.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/log.h"
#include "model/frozen_weights.h"
#include "model/mt5.h"
#include "model/probe_graph.h"
#include "model/xlmr_clip.h"

typedef struct Probe {
    const ModelConfig *model;
    const char *path;
    int64_t vocab;
    const char *weights;
    Safetensors *in;
    ParamTable *params;
    ParamStore store;
    FrozenWeights *frozen;
    Graph *graph;
    ProbeTensor inputs[2]; /* tokens, mask */
    int32_t input_count;
} Probe;

static void probe_free(Probe *probe)
{
    graph_free(probe->graph);
    param_store_free(&probe->store);
    frozen_weights_free(probe->frozen);
    param_table_free(probe->params);
    safetensors_close(probe->in);
}

/* Of two names of one tensor the one that the file has; the first where it has neither. */
static const char *name_in(const Safetensors *in, const char *name, const char *other)
{
    return safetensors_find(in, name) == NULL && safetensors_find(in, other) != NULL ? other : name;
}

/* That every element of an integer tensor lies in [0, limit). */
static Status check_integers(const Probe *probe, const char *name, int64_t limit)
{
    Status status = STATUS_OK;
    const SafeTensor *t = safetensors_find(probe->in, name);
    float *values = NULL;
    if (t->dtype > SAFE_U64) FAIL(ERR_FORMAT, "%s: tensor '%s' is not of an integer type", probe->path, name);
    values = mem_alloc_array((size_t)t->count, sizeof *values);
    if (values == NULL) FAIL(ERR_MEMORY, "out of memory for tensor '%s'", name);
    safetensors_to_f32(t, values);
    for (int64_t i = 0; i < t->count; i++)
        if (!(values[i] >= 0 && values[i] < (float)limit))
            FAIL(ERR_FORMAT, "%s: element %lld of tensor '%s' is %.0f; 0 to %lld are possible", probe->path,
                 (long long)i, name, (double)values[i], (long long)limit - 1);
fail:
    free(values);
    return status;
}

/* Inputs for what the file holds: tokens (N,T), and a mask, or ones in its place. */
static Status add_inputs(Probe *probe, int64_t rows_max, TensorId *tokens, TensorId *mask)
{
    Status status = STATUS_OK;
    static const char NEEDED[] = "a text encoder reads `tokens`, and `mask` where some are padding";
    int32_t *ones = NULL;
    int64_t dims[2] = {0, 0};
    const char *name = name_in(probe->in, "tokens", "input_ids");
    TRY(probe_find(probe->in, probe->path, NEEDED, name, 2, dims));
    if (dims[1] > rows_max)
        FAIL(ERR_FORMAT, "%s: tensor '%s' has %lld tokens a row; the positions allow %lld", probe->path, name,
             (long long)dims[1], (long long)rows_max);
    TRY(check_integers(probe, name, probe->vocab));
    *tokens = graph_input(probe->graph, "tokens", DTYPE_I32, SHAPE2(dims[0], dims[1]), false);
    probe->inputs[probe->input_count++] = (ProbeTensor){name, *tokens};
    name = name_in(probe->in, "mask", "attention_mask");
    if (safetensors_find(probe->in, name) != NULL) {
        TRY(probe_find(probe->in, probe->path, NEEDED, name, 2, dims));
        TRY(check_integers(probe, name, 2));
        *mask = graph_input(probe->graph, "mask", DTYPE_I32, SHAPE2(dims[0], dims[1]), false);
        probe->inputs[probe->input_count++] = (ProbeTensor){name, *mask};
    } else {
        ones = mem_alloc_array((size_t)(dims[0] * dims[1]), sizeof *ones);
        if (ones == NULL) FAIL(ERR_MEMORY, "out of memory for a mask");
        for (int64_t i = 0; i < dims[0] * dims[1]; i++) ones[i] = 1;
        *mask = graph_constant(probe->graph, "mask", DTYPE_I32, SHAPE2(dims[0], dims[1]), ones);
    }
fail:
    free(ones);
    return status;
}

/* Fills in weights, runs, and writes the outputs. */
static Status finish(Probe *probe, Backend *backend, uint64_t seed, const char *out, const ProbeTensor *outputs,
                     int32_t output_count)
{
    Status status = STATUS_OK;
    for (int32_t i = 0; i < output_count; i++) graph_mark_output(probe->graph, outputs[i].tensor);
    TRY(graph_status(probe->graph));
    TRY(param_table_layout(probe->params, NULL, 0));
    TRY(param_store_create(probe->params, false, &probe->store));
    TRY(frozen_weights_load(probe->model, &probe->store, &probe->frozen));
    param_store_init(&probe->store, seed);
    if (probe->weights == NULL || probe->weights[0] == 0)
        log_info("probe: no weight file, the network has its initial weights of seed %llu", (unsigned long long)seed);
    TRY(probe_graph_run(probe->graph, &probe->store, backend, probe->in, probe->inputs, probe->input_count, out,
                        outputs, output_count));
fail:
    return status;
}

static Status open_inputs(Probe *probe, Dtype compute, int64_t rows_max, TensorId *tokens, TensorId *mask)
{
    Status status = STATUS_OK;
    TRY(model_config_check(probe->model, NULL));
    TRY(safetensors_open(probe->path, &probe->in));
    TRY(param_table_create(&probe->params));
    TRY(graph_create(probe->params, compute, &probe->graph));
    TRY(add_inputs(probe, rows_max, tokens, mask));
fail:
    return status;
}

Status probe_xlmr_clip(const ModelConfig *model, Backend *backend, Dtype compute, const char *in, const char *out,
                       uint64_t seed)
{
    Status status = STATUS_OK;
    const XlmrConfig *config = &model->text_encoder1;
    Probe probe = {.model = model, .path = in, .vocab = config->vocab, .weights = config->weights};
    TensorId tokens, mask;
    TRY(open_inputs(&probe, compute, config->positions - XLMR_PADDING_ID - 1, &tokens, &mask));
    XlmrStates states = xlmr_clip_forward(probe.graph, model, tokens, mask);
    const ProbeTensor outputs[] = {{"states", states.states}, {"pooled", states.pooled}};
    TRY(finish(&probe, backend, seed, out, outputs, 2));
fail:
    probe_free(&probe);
    return status;
}

Status probe_mt5(const ModelConfig *model, Backend *backend, Dtype compute, const char *in, const char *out,
                 uint64_t seed)
{
    Status status = STATUS_OK;
    const Mt5Config *config = &model->text_encoder2;
    Probe probe = {.model = model, .path = in, .vocab = config->vocab, .weights = config->weights};
    TensorId tokens, mask;
    TRY(open_inputs(&probe, compute, 4096, &tokens, &mask));
    const ProbeTensor outputs[] = {{"states", mt5_forward(probe.graph, model, tokens, mask)}};
    TRY(finish(&probe, backend, seed, out, outputs, 1));
fail:
    probe_free(&probe);
    return status;
}
