#include "engine/cuda/dnn_measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "engine/cuda/cuda.h"

enum { ROUNDS = 3, RUNS = 3 };

/* Operands one after another, then the workspace. */
typedef struct Scratch {
    char *memory;
    size_t bytes;
    DnnBinding binding[DNN_BINDINGS];
    float value[DNN_BINDINGS];
    int32_t count;
    void *workspace;
} Scratch;

static Status fill_counts(const Dnn *dnn, void *to, const DnnOperand *operand)
{
    Status status = STATUS_OK;
    int32_t *counts = malloc((size_t)operand->bytes);
    if (!counts) FAIL(ERR_MEMORY, "no memory for %lld bytes", (long long)operand->bytes);
    for (int64_t i = 0; i < operand->bytes / 4; i++) counts[i] = operand->fill;
    TRY_CUDA(cudaMemcpyAsync(to, counts, (size_t)operand->bytes, cudaMemcpyHostToDevice, dnn->stream));
    TRY_CUDA(cudaStreamSynchronize(dnn->stream));
fail:
    free(counts);
    return status;
}

/* False: not enough memory. */
static bool allocate(const DnnStep *steps, int32_t count, Scratch *s)
{
    CudaCarver carver = {0};
    int64_t workspace = 0;
    for (int32_t i = 0; i < steps[0].operands; i++) cuda_carve(&carver, (size_t)steps[0].operand[i].bytes);
    for (int32_t i = 0; i < count; i++) workspace = steps[i].workspace > workspace ? steps[i].workspace : workspace;
    cuda_carve(&carver, (size_t)workspace);
    s->bytes = carver.used;
    if (cudaMalloc((void **)&s->memory, s->bytes) == cudaSuccess) return true;
    (void)cudaGetLastError(); /* which else the next launch would report */
    log_warn("no %.1f GB of device memory to measure cuDNN's engines on: the first one is taken",
             (double)s->bytes / 1e9);
    return false;
}

static Status bind(const Dnn *dnn, const DnnStep *step, Scratch *s)
{
    Status status = STATUS_OK;
    CudaCarver carver = {.base = s->memory};
    /* Small numbers rather than zeros, which draw less power and look faster than they are: 0x3c3c is 0.0115 in bf16,
     * 0x3c3c3c3c the same in fp32. */
    TRY_CUDA(cudaMemsetAsync(s->memory, 0x3c, s->bytes, dnn->stream));
    s->count = step->operands;
    for (int32_t i = 0; i < step->operands; i++) {
        const DnnOperand *operand = &step->operand[i];
        void *memory = cuda_carve(&carver, (size_t)operand->bytes);
        s->value[i] = operand->value;
        s->binding[i] = (DnnBinding){operand->uid, operand->by_value ? (void *)&s->value[i] : memory};
        if (operand->fill) TRY(fill_counts(dnn, memory, operand));
    }
    s->workspace = s->memory + carver.used;
fail:
    return status;
}

/* One stretch of runs; a step that fails is out of the choice. */
static bool time_runs(const Dnn *dnn, const DnnStep *step, const Scratch *s, cudaEvent_t from, cudaEvent_t to, int runs,
                      double *seconds)
{
    float milliseconds = 0;
    bool ran = cudaEventRecord(from, dnn->stream) == cudaSuccess;
    for (int run = 0; run < runs && ran; run++)
        ran = dnn_step_run(dnn, step, s->binding, s->count, s->workspace) == STATUS_OK;
    ran = ran && cudaEventRecord(to, dnn->stream) == cudaSuccess && cudaEventSynchronize(to) == cudaSuccess &&
          cudaEventElapsedTime(&milliseconds, from, to) == cudaSuccess;
    if (!ran) (void)cudaGetLastError(); /* which else the next launch would report */
    *seconds = milliseconds * 1e-3 / runs;
    return ran;
}

/* The steps take turns: clocks rise at first, which would favour the later ones. */
static void time_steps(const Dnn *dnn, const DnnStep *steps, int32_t count, const Scratch *s, cudaEvent_t from,
                       cudaEvent_t to, double *seconds)
{
    bool runs[DNN_MEASURED_MAX];
    double one;
    for (int32_t i = 0; i < count; i++) runs[i] = time_runs(dnn, &steps[i], s, from, to, 1, &one); /* loads its code */
    for (int round = 0; round < ROUNDS; round++) {
        for (int32_t i = 0; i < count; i++) {
            if (runs[i]) runs[i] = time_runs(dnn, &steps[i], s, from, to, RUNS, &one);
            if (runs[i] && one < seconds[i]) seconds[i] = one;
        }
    }
    for (int32_t i = 0; i < count; i++) {
        if (!runs[i]) seconds[i] = INFINITY;
    }
}

Status dnn_measure(const Dnn *dnn, const DnnStep *steps, int32_t count, double *seconds)
{
    Status status = STATUS_OK;
    Scratch scratch = {0};
    cudaEvent_t from = NULL, to = NULL;
    for (int32_t i = 0; i < count; i++) seconds[i] = INFINITY;
    if (!allocate(steps, count, &scratch)) return STATUS_OK;
    TRY(bind(dnn, &steps[0], &scratch));
    TRY_CUDA(cudaEventCreate(&from));
    TRY_CUDA(cudaEventCreate(&to));
    time_steps(dnn, steps, count, &scratch, from, to, seconds);
fail:
    if (from) cudaEventDestroy(from);
    if (to) cudaEventDestroy(to);
    cudaFree(scratch.memory);
    return status;
}
