#include "engine/cuda/queue.h"

#include <stdlib.h>
#include <time.h>

#include "base/arena.h"
#include "engine/cuda/collectives.h"
#include "engine/cuda/convert_kernels.h"
#include "engine/cuda/hash_kernels.h"
#include "engine/cuda/update_kernels.h"

struct CudaQueue {
    cudaEvent_t sent, consumed; /* the last send; the last use of what was sent */
    cudaEvent_t *marks;
    int32_t mark_count;
};

struct Recording {
    cudaGraph_t graph;
    cudaGraphExec_t exec;
};

Status cuda_fail(cudaError_t error, const char *file, int line, const char *call)
{
    Status status = error == cudaErrorMemoryAllocation ? ERR_MEMORY : ERR_INTERNAL;
    (void)cudaGetLastError(); /* so that the next call does not report this one */
    return status_fail(status, file, line, "CUDA: %s: %s (%s)", call, cudaGetErrorString(error),
                       cudaGetErrorName(error));
}

Status cuda_queue_open(Cuda *cuda)
{
    Status status = STATUS_OK;
    struct CudaQueue *queue = mem_alloc_array(1, sizeof *queue);
    if (!queue) FAIL(ERR_MEMORY, "no memory for the queue of a device");
    cuda->queue = queue;
    TRY_CUDA(cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking));
    TRY_CUDA(cudaStreamCreateWithFlags(&cuda->sender, cudaStreamNonBlocking));
    TRY_CUDA(cudaEventCreateWithFlags(&queue->sent, cudaEventDisableTiming));
    TRY_CUDA(cudaEventCreateWithFlags(&queue->consumed, cudaEventDisableTiming));
fail:
    return status;
}

void cuda_queue_close(Cuda *cuda)
{
    struct CudaQueue *queue = cuda->queue;
    if (!queue) return;
    for (int32_t k = 0; k < queue->mark_count; k++) cudaEventDestroy(queue->marks[k]);
    free(queue->marks);
    if (queue->sent) cudaEventDestroy(queue->sent);
    if (queue->consumed) cudaEventDestroy(queue->consumed);
    if (cuda->sender) cudaStreamDestroy(cuda->sender);
    if (cuda->stream) cudaStreamDestroy(cuda->stream);
    free(queue);
    cuda->queue = NULL;
}

/* Quick steps are waited for by asking; longer ones do not cost a core. */
enum { EAGER_TURNS = 50, PAUSE_NANOSECONDS = 20000, LONG_PAUSE_NANOSECONDS = 200000, LONG_AFTER_TURNS = 1000 };

Status cuda_wait(Cuda *cuda, cudaStream_t stream)
{
    Status status = STATUS_OK;
    if (!cuda->check) {
        TRY_CUDA(cudaStreamSynchronize(stream));
        return STATUS_OK;
    }
    for (int64_t turn = 0;; turn++) {
        const cudaError_t state = cudaStreamQuery(stream);
        if (state != cudaErrorNotReady) TRY_CUDA(state);
        (void)cudaGetLastError(); /* being busy is noted like an error */
        TRY(cuda->check(cuda));   /* after that: what failed may seem to be done */
        if (state == cudaSuccess) return STATUS_OK;
        if (turn < EAGER_TURNS) continue;
        nanosleep(&(struct timespec){.tv_nsec = turn < LONG_AFTER_TURNS ? PAUSE_NANOSECONDS : LONG_PAUSE_NANOSECONDS},
                  NULL);
    }
fail:
    return status;
}

/* ---- memory ---- */

void *cuda_alloc(Backend *backend, size_t bytes)
{
    Cuda *cuda = cuda_of(backend);
    void *memory = NULL;
    if (cuda->plans_only || cudaMalloc(&memory, bytes) != cudaSuccess) {
        (void)cudaGetLastError();
        return NULL;
    }
    if (cudaMemsetAsync(memory, 0, bytes, cuda->stream) != cudaSuccess ||
        cudaStreamSynchronize(cuda->stream) != cudaSuccess) {
        (void)cudaGetLastError();
        cudaFree(memory);
        return NULL;
    }
    return memory;
}

void cuda_free(Backend *backend, void *memory)
{
    if (memory) cudaFree(memory); /* waits for what still uses it */
}

/* Ordinary host memory: the driver stages it, so both wait. */
Status cuda_upload(Backend *backend, void *to, const void *from, size_t bytes)
{
    Status status = STATUS_OK;
    Cuda *cuda = cuda_of(backend);
    TRY_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, cuda->stream));
    TRY(cuda_wait(cuda, cuda->stream));
fail:
    return status;
}

Status cuda_download(Backend *backend, void *to, const void *from, size_t bytes)
{
    Status status = STATUS_OK;
    Cuda *cuda = cuda_of(backend);
    /* Work of other ranks may be waited for first, and then this must not wait inside the driver. */
    if (cuda->check) TRY(cuda_wait(cuda, cuda->stream));
    TRY_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, cuda->stream));
    TRY(cuda_wait(cuda, cuda->stream));
fail:
    return status;
}

static void *host_alloc(Backend *backend, size_t bytes)
{
    void *memory = NULL;
    if (cudaHostAlloc(&memory, bytes, cudaHostAllocDefault) != cudaSuccess) {
        (void)cudaGetLastError();
        return NULL;
    }
    for (size_t i = 0; i < bytes; i++) ((char *)memory)[i] = 0;
    return memory;
}

static void host_free(Backend *backend, void *memory)
{
    if (memory) cudaFreeHost(memory);
}

static Status memory(Backend *backend, int64_t *free_bytes, int64_t *total)
{
    Status status = STATUS_OK;
    size_t available = 0, all = 0;
    TRY_CUDA(cudaMemGetInfo(&available, &all));
    *free_bytes = (int64_t)available;
    *total = (int64_t)all;
fail:
    return status;
}

/* ---- queued copies ---- */

static Status finish(Backend *backend)
{
    Status status = STATUS_OK;
    Cuda *cuda = cuda_of(backend);
    TRY(cuda_wait(cuda, cuda->stream));
    if (cuda->collectives) TRY(cuda_wait(cuda, cuda->collectives->stream));
fail:
    return status;
}

static Status copy(Backend *backend, void *to, const void *from, size_t bytes)
{
    Status status = STATUS_OK;
    TRY_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, cuda_of(backend)->stream));
fail:
    return status;
}

static Status fetch(Backend *backend, void *host, const void *from, size_t bytes)
{
    Status status = STATUS_OK;
    TRY_CUDA(cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, cuda_of(backend)->stream));
fail:
    return status;
}

static Status halve(Backend *backend, uint16_t *to, const float *from, int64_t count)
{
    Status status = STATUS_OK;
    if (count == 0) return STATUS_OK;
    TRY_CUDA(convert_launch(from, DTYPE_F32, to, DTYPE_BF16, count, false, cuda_of(backend)->stream));
fail:
    return status;
}

/* ---- sending beside what computes ---- */

static Status send(Backend *backend, void *to, const void *host, size_t bytes)
{
    Status status = STATUS_OK;
    Cuda *cuda = cuda_of(backend);
    TRY_CUDA(cudaStreamWaitEvent(cuda->sender, cuda->queue->consumed, 0));
    TRY_CUDA(cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, cuda->sender));
fail:
    return status;
}

static Status sent(Backend *backend)
{
    Status status = STATUS_OK;
    Cuda *cuda = cuda_of(backend);
    TRY_CUDA(cudaEventRecord(cuda->queue->sent, cuda->sender));
    TRY_CUDA(cudaStreamWaitEvent(cuda->stream, cuda->queue->sent, 0));
fail:
    return status;
}

static Status consumed(Backend *backend)
{
    Status status = STATUS_OK;
    Cuda *cuda = cuda_of(backend);
    TRY_CUDA(cudaEventRecord(cuda->queue->consumed, cuda->stream));
fail:
    return status;
}

static Status sent_wait(Backend *backend)
{
    Status status = STATUS_OK;
    Cuda *cuda = cuda_of(backend);
    TRY(cuda_wait(cuda, cuda->sender));
fail:
    return status;
}

/* ---- recordings ---- */

static Status record_begin(Backend *backend)
{
    Status status = STATUS_OK;
    /* Thread-local: the loader's threads may go on with calls of their own. */
    TRY_CUDA(cudaStreamBeginCapture(cuda_of(backend)->stream, cudaStreamCaptureModeThreadLocal));
fail:
    return status;
}

static void recording_free(Backend *backend, Recording *recording)
{
    if (!recording) return;
    if (recording->exec) cudaGraphExecDestroy(recording->exec);
    if (recording->graph) cudaGraphDestroy(recording->graph);
    free(recording);
}

static Status record_end(Backend *backend, Recording **out)
{
    Status status = STATUS_OK;
    cudaGraph_t graph = NULL;
    Recording *recording = mem_alloc_array(1, sizeof *recording);
    const cudaError_t ended = cudaStreamEndCapture(cuda_of(backend)->stream, &graph);
    if (!recording) FAIL(ERR_MEMORY, "no memory for a recording");
    recording->graph = graph;
    TRY_CUDA(ended);
    if (out) {
        TRY_CUDA(cudaGraphInstantiate(&recording->exec, recording->graph, 0));
        *out = recording;
        return STATUS_OK;
    }
fail:
    recording_free(backend, recording);
    return status;
}

static Status replay(Backend *backend, Recording *recording)
{
    Status status = STATUS_OK;
    TRY_CUDA(cudaGraphLaunch(recording->exec, cuda_of(backend)->stream));
fail:
    return status;
}

/* ---- marks ---- */

static Status marks_reserve(Backend *backend, int32_t count)
{
    Status status = STATUS_OK;
    struct CudaQueue *queue = cuda_of(backend)->queue;
    cudaEvent_t *grown;
    if (count <= queue->mark_count) return STATUS_OK;
    grown = realloc(queue->marks, (size_t)count * sizeof(cudaEvent_t));
    if (!grown) FAIL(ERR_MEMORY, "no memory for %d marks", count);
    queue->marks = grown;
    while (queue->mark_count < count) {
        TRY_CUDA(cudaEventCreateWithFlags(&queue->marks[queue->mark_count], cudaEventDefault));
        queue->mark_count++;
    }
fail:
    return status;
}

static Status mark(Backend *backend, int32_t k)
{
    Status status = STATUS_OK;
    Cuda *cuda = cuda_of(backend);
    TRY_CUDA(cudaEventRecord(cuda->queue->marks[k], cuda->stream));
fail:
    return status;
}

static Status mark_seconds(Backend *backend, int32_t from, int32_t to, double *seconds)
{
    Status status = STATUS_OK;
    struct CudaQueue *queue = cuda_of(backend)->queue;
    float milliseconds = 0;
    TRY_CUDA(cudaEventElapsedTime(&milliseconds, queue->marks[from], queue->marks[to]));
    *seconds = 1e-3 * (double)milliseconds;
fail:
    return status;
}

/* ---- the update ---- */

static Status update_norm(Backend *backend, const DeviceUpdate *what)
{
    Status status = STATUS_OK;
    TRY_CUDA(update_norm_launch(what, cuda_of(backend)->stream));
fail:
    return status;
}

static Status update_apply(Backend *backend, const DeviceUpdate *what)
{
    Status status = STATUS_OK;
    TRY_CUDA(update_apply_launch(what, cuda_of(backend)->stream));
fail:
    return status;
}

static Status hash(Backend *backend, const void *words, int64_t count, uint64_t first, uint64_t *out)
{
    Status status = STATUS_OK;
    TRY_CUDA(hash_launch(words, count, first, out, cuda_of(backend)->stream));
fail:
    return status;
}

static Status properties(Backend *backend, char **json)
{
    return dnn_describe_device(cuda_of(backend)->dnn, json);
}

const DeviceOps cuda_device_ops = {.finish = finish,
                                   .host_alloc = host_alloc,
                                   .host_free = host_free,
                                   .copy = copy,
                                   .fetch = fetch,
                                   .halve = halve,
                                   .send = send,
                                   .sent = sent,
                                   .consumed = consumed,
                                   .sent_wait = sent_wait,
                                   .record_begin = record_begin,
                                   .record_end = record_end,
                                   .replay = replay,
                                   .recording_free = recording_free,
                                   .marks_reserve = marks_reserve,
                                   .mark = mark,
                                   .mark_seconds = mark_seconds,
                                   .update_norm = update_norm,
                                   .update_apply = update_apply,
                                   .hash = hash,
                                   .memory = memory,
                                   .properties = properties,
                                   .copy_peak = cuda_copy_peak};
