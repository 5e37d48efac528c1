#include "model/probe.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"
#include "engine/executor.h"
#include "engine/param_image.h"
#include "model/safetensors.h"
#include "model/sampling_graph.h"
#include "model/weights.h"

typedef struct Probe {
    const ModelConfig *model;
    const char *in_path;
    Safetensors *in;
    ParamTable *params;
    ParamStore store;
    UnetGraph unet;
    Plan *plan;
    Executor *executor;
    UnetGraphOptions options;
    float *file, *engine; /* one tensor in the file's and in our layout */
} Probe;

/* A tensor of the input file with its dimensions checked where `dims` is not 0; dims that are 0 are filled in. */
static Status find_input(const Probe *probe, const char *name, int32_t ndim, int64_t *dims)
{
    Status status = STATUS_OK;
    const SafeTensor *t = safetensors_find(probe->in, name);
    if (t == NULL)
        FAIL(ERR_FORMAT,
             "%s: tensor '%s' is missing; x, timesteps, full_emb1, pooled_emb1, full_emb2 are needed, and "
             "grad_out with --backward",
             probe->in_path, name);
    if (t->ndim != ndim)
        FAIL(ERR_FORMAT, "%s: tensor '%s' has %d dimensions, it needs %d", probe->in_path, name, t->ndim, ndim);
    for (int32_t d = 0; d < ndim; d++) {
        if (dims[d] == 0) dims[d] = t->shape[d];
        if (t->shape[d] != dims[d])
            FAIL(ERR_FORMAT, "%s: tensor '%s' has %lld along dimension %d; the config and the other tensors say %lld",
                 probe->in_path, name, (long long)t->shape[d], d, (long long)dims[d]);
        if (t->shape[d] < 1 || t->shape[d] > 1 << 20)
            FAIL(ERR_LIMIT, "%s: tensor '%s' has %lld along dimension %d; 1 to 1048576 are possible", probe->in_path,
                 name, (long long)t->shape[d], d);
    }
fail:
    return status;
}

/* Batch, size and text rows from the input file, all shapes checked against the config and each other. */
static Status read_shapes(Probe *probe, bool backward)
{
    Status status = STATUS_OK;
    const ModelConfig *m = probe->model;
    UnetGraphOptions *o = &probe->options;
    int64_t x[4] = {0, m->in_channels, 0, 0};
    TRY(find_input(probe, "x", 4, x));
    int64_t timesteps[1] = {x[0]}, full1[3] = {x[0], 0, m->text1_dim}, pooled1[2] = {x[0], m->pooled_dim};
    int64_t full2[3] = {x[0], 0, m->text2_dim}, grad_out[4] = {x[0], m->out_channels, x[2], x[3]};
    TRY(find_input(probe, "timesteps", 1, timesteps));
    TRY(find_input(probe, "full_emb1", 3, full1));
    TRY(find_input(probe, "pooled_emb1", 2, pooled1));
    TRY(find_input(probe, "full_emb2", 3, full2));
    if (backward) TRY(find_input(probe, "grad_out", 4, grad_out));
    o->batch = x[0];
    o->height = x[2];
    o->width = x[3];
    o->tokens1 = full1[1];
    o->tokens2 = full2[1];
fail:
    return status;
}

/* Between NCHW and NHWC: rows of `channels` by `positions` to rows of `positions` by `channels`, or back. */
static void transpose(const float *from, float *to, int64_t batch, int64_t rows, int64_t columns)
{
    for (int64_t n = 0; n < batch; n++)
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < columns; c++) to[(n * columns + c) * rows + r] = from[(n * rows + r) * columns + c];
}

static size_t tensor_bytes(const Probe *probe, TensorId id)
{
    return (size_t)shape_count(&graph_tensor(probe->unet.graph, id)->shape) * sizeof(float);
}

/* Copies an input to its tensor; pictures from NCHW. */
static Status write_input(Probe *probe, const char *name, TensorId id)
{
    Status status = STATUS_OK;
    const Shape *shape = &graph_tensor(probe->unet.graph, id)->shape;
    float *values = probe->file;
    safetensors_to_f32(safetensors_find(probe->in, name), probe->file);
    if (shape->ndim == 4) {
        transpose(probe->file, probe->engine, shape->dim[0], shape->dim[3], shape->dim[1] * shape->dim[2]);
        values = probe->engine;
    }
    TRY(executor_write(probe->executor, id, values, tensor_bytes(probe, id)));
fail:
    return status;
}

/* A tensor of the graph into probe->file; pictures to NCHW. */
static Status read_output(Probe *probe, TensorId id)
{
    Status status = STATUS_OK;
    const Shape *shape = &graph_tensor(probe->unet.graph, id)->shape;
    float *to = shape->ndim == 4 ? probe->engine : probe->file;
    TRY(executor_read(probe->executor, id, to, tensor_bytes(probe, id)));
    if (shape->ndim == 4)
        transpose(probe->engine, probe->file, shape->dim[0], shape->dim[1] * shape->dim[2], shape->dim[3]);
fail:
    return status;
}

/* The graph's tensors that go to the file besides weight gradients. */
typedef struct Result {
    const char *name;
    TensorId tensor;
} Result;

static SafeTensor declare(const char *name, const Shape *shape, bool picture)
{
    SafeTensor t = {.name = name, .dtype = SAFE_F32, .ndim = shape->ndim};
    for (int32_t d = 0; d < shape->ndim; d++) t.shape[d] = shape->dim[d];
    if (picture) {
        t.shape[1] = shape->dim[3];
        t.shape[2] = shape->dim[1];
        t.shape[3] = shape->dim[2];
    }
    return t;
}

static Status write_results(Probe *probe, const char *path, bool backward)
{
    Status status = STATUS_OK;
    const Graph *g = probe->unet.graph;
    const UnetGraph *u = &probe->unet;
    SafetensorsWriter *writer = NULL;
    int32_t params = param_table_size(probe->params), count = 0, results = 1;
    Result result[5] = {{"out", u->out}};
    SafeTensor *tensors = mem_alloc_array((size_t)params + 5, sizeof *tensors);
    if (tensors == NULL) FAIL(ERR_MEMORY, "%s: out of memory", path);
    if (backward) {
        const Result inputs[4] = {
            {"x", u->x}, {"full_emb1", u->full_emb1}, {"pooled_emb1", u->pooled_emb1}, {"full_emb2", u->full_emb2}};
        for (int32_t i = 0; i < 4; i++)
            result[results++] = (Result){inputs[i].name, graph_tensor(g, inputs[i].tensor)->grad};
    }
    for (int32_t i = 0; i < results; i++) {
        const Shape *shape = &graph_tensor(g, result[i].tensor)->shape;
        tensors[count++] = declare(result[i].name, shape, shape->ndim == 4);
    }
    for (int32_t p = 0; backward && p < params; p++) {
        const Param *param = param_table_get(probe->params, p);
        Shape shape = param_file_shape(param);
        tensors[count++] = declare(param->name, &shape, false);
    }
    TRY(safetensors_writer_create(path, tensors, count, &writer));
    for (int32_t i = 0; i < results; i++) {
        TRY(read_output(probe, result[i].tensor));
        TRY(safetensors_writer_add_f32(writer, probe->file));
    }
    for (int32_t p = 0; backward && p < params; p++) {
        param_to_file(param_table_get(probe->params, p), param_store_grad(&probe->store, p), probe->file);
        TRY(safetensors_writer_add_f32(writer, probe->file));
    }
    status = safetensors_writer_finish(writer);
    writer = NULL;
    TRY(status);
fail:
    safetensors_writer_abort(writer);
    free(tensors);
    return status;
}

/* Room for the largest tensor that passes through. */
static Status allocate_staging(Probe *probe)
{
    Status status = STATUS_OK;
    const Graph *g = probe->unet.graph;
    int64_t most = shape_count(&graph_tensor(g, probe->unet.out)->shape);
    const TensorId inputs[] = {probe->unet.x, probe->unet.full_emb1, probe->unet.pooled_emb1, probe->unet.full_emb2};
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
        int64_t count = shape_count(&graph_tensor(g, inputs[i])->shape);
        if (count > most) most = count;
    }
    for (int32_t p = 0; p < param_table_size(probe->params); p++)
        if (param_table_get(probe->params, p)->count > most) most = param_table_get(probe->params, p)->count;
    probe->file = mem_alloc_array((size_t)most, sizeof *probe->file);
    probe->engine = mem_alloc_array((size_t)most, sizeof *probe->engine);
    if (probe->file == NULL || probe->engine == NULL) FAIL(ERR_MEMORY, "out of memory for the probe's tensors");
fail:
    return status;
}

static void probe_free(Probe *probe)
{
    executor_free(probe->executor);
    plan_free(probe->plan);
    unet_graph_free(&probe->unet);
    param_store_free(&probe->store);
    param_table_free(probe->params);
    safetensors_close(probe->in);
    free(probe->file);
    free(probe->engine);
}

Status probe_unet(const ModelConfig *model, Backend *backend, Dtype compute, const char *in, const char *out,
                  const char *weights, uint64_t seed, bool backward)
{
    Status status = STATUS_OK;
    Probe probe = {.model = model, .in_path = in};
    probe.options = (UnetGraphOptions){.model = model, .compute = compute, .backward = backward};
    TRY(model_config_check_unet(model, NULL));
    TRY(safetensors_open(in, &probe.in));
    TRY(read_shapes(&probe, backward));
    TRY(param_table_create(&probe.params));
    TRY(unet_graph_create(probe.params, &probe.options, &probe.unet));
    TRY(param_table_layout(probe.params, NULL, 0));
    TRY(param_store_create(probe.params, backward, &probe.store));
    param_store_init(&probe.store, seed);
    if (weights != NULL)
        TRY(weights_load(weights, &probe.store, WEIGHTS_UNET, false));
    else
        log_info("probe: no --weights, the network has its initial weights of seed %llu", (unsigned long long)seed);
    TRY(plan_create(probe.unet.graph, backend, &(PlanOptions){.reuse = true}, &probe.plan));
    TRY(param_image_open(&probe.store, backend, false));
    TRY(executor_create(probe.plan, &probe.store, &probe.executor));
    TRY(allocate_staging(&probe));

    TRY(write_input(&probe, "x", probe.unet.x));
    TRY(write_input(&probe, "timesteps", probe.unet.timesteps));
    TRY(write_input(&probe, "full_emb1", probe.unet.full_emb1));
    TRY(write_input(&probe, "pooled_emb1", probe.unet.pooled_emb1));
    TRY(write_input(&probe, "full_emb2", probe.unet.full_emb2));
    if (backward) TRY(write_input(&probe, "grad_out", probe.unet.grad_out));
    TRY(executor_run(probe.executor, NULL));
    if (backward) TRY(param_image_download_grads(&probe.store));
    TRY(write_results(&probe, out, backward));
fail:
    probe_free(&probe);
    return status;
}
