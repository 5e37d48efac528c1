#include "engine/cuda/collectives.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "engine/cuda/convert_kernels.h"

Status cuda_collectives_open(Cuda *cuda)
{
    Status status = STATUS_OK;
    CudaCollectives *queue = NULL;
    int least = 0, greatest = 0;
    if (cuda->collectives) return STATUS_OK;
    queue = mem_alloc_array(1, sizeof *queue);
    if (!queue) FAIL(ERR_MEMORY, "no memory for the queue of collectives");
    cuda->collectives = queue;
    /* Before what computes: the few blocks of a collective would wait behind the thousands of a kernel, and with them
     * the other ranks. */
    TRY_CUDA(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    TRY_CUDA(cudaStreamCreateWithPriority(&queue->stream, cudaStreamNonBlocking, greatest));
    TRY_CUDA(cudaEventCreateWithFlags(&queue->fork, cudaEventDisableTiming));
    return STATUS_OK;
fail:
    cuda_collectives_close(cuda);
    return status;
}

static void destroy_mark(CudaMark *mark)
{
    if (mark->reached) cudaEventDestroy(mark->reached);
    if (mark->waits) cudaEventDestroy(mark->waits);
    if (mark->goes_on) cudaEventDestroy(mark->goes_on);
    *mark = (CudaMark){0};
}

void cuda_collectives_close(Cuda *cuda)
{
    CudaCollectives *queue = cuda->collectives;
    if (!queue) return;
    for (int32_t k = 0; k < queue->mark_count; k++) destroy_mark(&queue->marks[k]);
    free(queue->marks);
    if (queue->fork) cudaEventDestroy(queue->fork);
    if (queue->stream) cudaStreamDestroy(queue->stream);
    free(queue);
    cuda->collectives = NULL;
}

Status cuda_collectives_identity(Backend *backend, char out[DEVICE_IDENTITY_BYTES])
{
    Status status = STATUS_OK;
    struct cudaDeviceProp properties;
    char place[32] = "";
    int device = 0;
    size_t used = 0;
    memset(out, 0, DEVICE_IDENTITY_BYTES);
    TRY_CUDA(cudaGetDevice(&device));
    TRY_CUDA(cudaGetDeviceProperties(&properties, device));
    TRY_CUDA(cudaDeviceGetPCIBusId(place, (int)sizeof place, device));
    for (size_t i = 0; i < sizeof properties.uuid.bytes; i++)
        used += (size_t)snprintf(out + used, DEVICE_IDENTITY_BYTES - used, "%02x",
                                 (unsigned)(unsigned char)properties.uuid.bytes[i]);
    snprintf(out + used, DEVICE_IDENTITY_BYTES - used, " at %s", place);
fail:
    return status;
}

/* ---- the wire's type ---- */

Status cuda_collectives_narrow(Backend *backend, uint16_t *to, const float *from, int64_t count)
{
    Status status = STATUS_OK;
    if (count == 0) return STATUS_OK;
    TRY_CUDA(convert_launch(from, DTYPE_F32, to, DTYPE_BF16, count, false, cuda_of(backend)->collectives->stream));
fail:
    return status;
}

Status cuda_collectives_widen(Backend *backend, float *to, const uint16_t *from, int64_t count)
{
    Status status = STATUS_OK;
    if (count == 0) return STATUS_OK;
    TRY_CUDA(convert_launch(from, DTYPE_BF16, to, DTYPE_F32, count, false, cuda_of(backend)->collectives->stream));
fail:
    return status;
}

/* ---- order ---- */

Status cuda_collectives_fork(Backend *backend)
{
    Status status = STATUS_OK;
    Cuda *cuda = cuda_of(backend);
    CudaCollectives *queue = cuda->collectives;
    TRY_CUDA(cudaEventRecord(queue->fork, cuda->stream));
    TRY_CUDA(cudaStreamWaitEvent(queue->stream, queue->fork, 0));
fail:
    return status;
}

static Status create_mark(CudaMark *mark)
{
    Status status = STATUS_OK;
    *mark = (CudaMark){0};
    TRY_CUDA(cudaEventCreateWithFlags(&mark->reached, cudaEventDisableTiming));
    TRY_CUDA(cudaEventCreateWithFlags(&mark->waits, cudaEventDefault));
    TRY_CUDA(cudaEventCreateWithFlags(&mark->goes_on, cudaEventDefault));
    return STATUS_OK;
fail:
    destroy_mark(mark);
    return status;
}

Status cuda_collectives_marks_reserve(Backend *backend, int32_t count)
{
    Status status = STATUS_OK;
    Cuda *cuda = cuda_of(backend);
    TRY(cuda_collectives_open(cuda));
    CudaCollectives *queue = cuda->collectives;
    if (count <= queue->mark_count) return STATUS_OK;
    CudaMark *grown = realloc(queue->marks, (size_t)count * sizeof *grown);
    if (!grown) FAIL(ERR_MEMORY, "no memory for %d marks", count);
    queue->marks = grown;
    while (queue->mark_count < count) {
        TRY(create_mark(&queue->marks[queue->mark_count]));
        queue->mark_count++;
    }
fail:
    return status;
}

Status cuda_collectives_mark(Backend *backend, int32_t k)
{
    Status status = STATUS_OK;
    CudaCollectives *queue = cuda_of(backend)->collectives;
    TRY_CUDA(cudaEventRecord(queue->marks[k].reached, queue->stream));
fail:
    return status;
}

Status cuda_collectives_join(Backend *backend, int32_t k)
{
    Status status = STATUS_OK;
    Cuda *cuda = cuda_of(backend);
    CudaMark *mark = &cuda->collectives->marks[k];
    enum cudaStreamCaptureStatus capture;
    TRY_CUDA(cudaStreamIsCapturing(cuda->stream, &capture));
    /* Times are taken when a recording is replayed: to it, both events are outside. */
    const bool recorded = capture == cudaStreamCaptureStatusActive;
    const unsigned flags = recorded ? cudaEventRecordExternal : cudaEventRecordDefault;
    TRY_CUDA(cudaEventRecordWithFlags(mark->waits, cuda->stream, flags));
    TRY_CUDA(cudaStreamWaitEvent(cuda->stream, mark->reached, 0));
    TRY_CUDA(cudaEventRecordWithFlags(mark->goes_on, cuda->stream, flags));
    if (recorded)
        mark->recorded = true;
    else
        mark->joined = true;
fail:
    return status;
}

Status cuda_collectives_exposed_seconds(Backend *backend, double *seconds)
{
    Status status = STATUS_OK;
    CudaCollectives *queue = cuda_of(backend)->collectives;
    *seconds = 0;
    for (int32_t k = 0; queue && k < queue->mark_count; k++) {
        CudaMark *mark = &queue->marks[k];
        float milliseconds = 0;
        if (!mark->joined && !mark->recorded) continue;
        const cudaError_t known = cudaEventElapsedTime(&milliseconds, mark->waits, mark->goes_on);
        if (known == cudaErrorInvalidResourceHandle && mark->recorded) { /* a recording that was never replayed */
            (void)cudaGetLastError();
            continue;
        }
        TRY_CUDA(known);
        *seconds += 1e-3 * (double)milliseconds;
        mark->joined = false;
    }
fail:
    return status;
}
