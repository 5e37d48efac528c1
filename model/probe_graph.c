#include "model/probe_graph.h"

#include <stdlib.h>

#include "base/arena.h"
#include "engine/executor.h"
#include "engine/param_image.h"

#define DIMENSION_MAX (1 << 20)

Status probe_find(const Safetensors *in, const char *path, const char *needed, const char *name, int32_t ndim,
                  int64_t *dims)
{
    Status status = STATUS_OK;
    const SafeTensor *t = safetensors_find(in, name);
    if (t == NULL) FAIL(ERR_FORMAT, "%s: tensor '%s' is missing; %s", path, name, needed);
    if (t->ndim != ndim) FAIL(ERR_FORMAT, "%s: tensor '%s' has %d dimensions, it needs %d", path, name, t->ndim, ndim);
    for (int32_t d = 0; d < ndim; d++) {
        if (dims[d] == 0) dims[d] = t->shape[d];
        if (t->shape[d] != dims[d])
            FAIL(ERR_FORMAT, "%s: tensor '%s' has %lld along dimension %d; the config and the other tensors say %lld",
                 path, name, (long long)t->shape[d], d, (long long)dims[d]);
        if (t->shape[d] < 1 || t->shape[d] > DIMENSION_MAX)
            FAIL(ERR_LIMIT, "%s: tensor '%s' has %lld along dimension %d; 1 to %d are possible", path, name,
                 (long long)t->shape[d], d, DIMENSION_MAX);
    }
fail:
    return status;
}

/* Rows of `columns` to columns of `rows`, in each of `batch`. */
static void transpose(const float *from, float *to, int64_t batch, int64_t rows, int64_t columns)
{
    for (int64_t n = 0; n < batch; n++)
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < columns; c++) to[(n * columns + c) * rows + r] = from[(n * rows + r) * columns + c];
}

typedef struct Run {
    const Graph *graph;
    Executor *executor;
    float *file, *engine; /* one tensor in the file's and in the engine's layout */
} Run;

static Status write_input(Run *run, const SafeTensor *from, TensorId to)
{
    Status status = STATUS_OK;
    const Tensor *tensor = graph_tensor(run->graph, to);
    const Shape *shape = &tensor->shape;
    int64_t count = shape_count(shape);
    const void *values = run->file;
    safetensors_to_f32(from, run->file);
    if (shape->ndim == 4) {
        transpose(run->file, run->engine, shape->dim[0], shape->dim[3], shape->dim[1] * shape->dim[2]);
        values = run->engine;
    }
    if (tensor->dtype == DTYPE_I32) { /* ids and masks: far below 2^24, where floats stop being exact */
        int32_t *integers = (int32_t *)(void *)run->engine;
        for (int64_t i = 0; i < count; i++) integers[i] = (int32_t)run->file[i];
        values = integers;
    }
    TRY(executor_write(run->executor, to, values, (size_t)count * sizeof(float)));
fail:
    return status;
}

/* Into run->file. */
static Status read_output(Run *run, TensorId from)
{
    Status status = STATUS_OK;
    const Shape *shape = &graph_tensor(run->graph, from)->shape;
    bool picture = shape->ndim == 4;
    TRY(executor_read(run->executor, from, picture ? run->engine : run->file,
                      (size_t)shape_count(shape) * sizeof(float)));
    if (picture) transpose(run->engine, run->file, shape->dim[0], shape->dim[1] * shape->dim[2], shape->dim[3]);
fail:
    return status;
}

static Status write_outputs(Run *run, const char *path, const ProbeTensor *outputs, int32_t count)
{
    Status status = STATUS_OK;
    SafetensorsWriter *writer = NULL;
    SafeTensor *declared = mem_alloc_array((size_t)count, sizeof *declared);
    if (declared == NULL) FAIL(ERR_MEMORY, "%s: out of memory", path);
    for (int32_t i = 0; i < count; i++) {
        const Shape *shape = &graph_tensor(run->graph, outputs[i].tensor)->shape;
        SafeTensor *t = &declared[i];
        *t = (SafeTensor){.name = outputs[i].name, .dtype = SAFE_F32, .ndim = shape->ndim};
        for (int32_t d = 0; d < shape->ndim; d++) t->shape[d] = shape->dim[d];
        if (shape->ndim != 4) continue;
        t->shape[1] = shape->dim[3];
        t->shape[2] = shape->dim[1];
        t->shape[3] = shape->dim[2];
    }
    TRY(safetensors_writer_create(path, declared, count, &writer));
    for (int32_t i = 0; i < count; i++) {
        TRY(read_output(run, outputs[i].tensor));
        TRY(safetensors_writer_add_f32(writer, run->file));
    }
    status = safetensors_writer_finish(writer);
    writer = NULL;
    TRY(status);
fail:
    safetensors_writer_abort(writer);
    free(declared);
    return status;
}

static int64_t largest(const Graph *graph, const ProbeTensor *tensors, int32_t count)
{
    int64_t most = 1;
    for (int32_t i = 0; i < count; i++) {
        int64_t elements = shape_count(&graph_tensor(graph, tensors[i].tensor)->shape);
        if (elements > most) most = elements;
    }
    return most;
}

Status probe_graph_run(const Graph *graph, ParamStore *store, Backend *backend, const Safetensors *in,
                       const ProbeTensor *inputs, int32_t input_count, const char *out, const ProbeTensor *outputs,
                       int32_t output_count)
{
    Status status = STATUS_OK;
    Run run = {.graph = graph};
    Plan *plan = NULL;
    int64_t most = largest(graph, inputs, input_count), most_out = largest(graph, outputs, output_count);
    if (most_out > most) most = most_out;
    run.file = mem_alloc_array((size_t)most, sizeof *run.file);
    run.engine = mem_alloc_array((size_t)most, sizeof *run.engine);
    if (run.file == NULL || run.engine == NULL) FAIL(ERR_MEMORY, "out of memory for the probe's tensors");
    TRY(plan_create(graph, backend, &(PlanOptions){.reuse = true}, &plan));
    TRY(param_image_open(store, backend, false));
    TRY(executor_create(plan, store, &run.executor));
    for (int32_t i = 0; i < input_count; i++)
        TRY(write_input(&run, safetensors_find(in, inputs[i].name), inputs[i].tensor));
    TRY(executor_run(run.executor, NULL));
    TRY(write_outputs(&run, out, outputs, output_count));
fail:
    executor_free(run.executor);
    plan_free(plan);
    free(run.file);
    free(run.engine);
    return status;
}
