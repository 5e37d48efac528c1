/* The CUDA backend: a table with a kernel for every op, on one device and one queue. Nothing is served by ref: an op
 * without a kernel would be named when a plan is made. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "engine/cuda/collectives.h"
#include "engine/cuda/nccl.h"
#include "engine/cuda/properties.h"
#include "engine/cuda/queue.h"

#define PROPERTIES_LIMIT (1 << 20)

typedef struct CudaBackend {
    Backend backend;
    Cuda cuda;
    DeviceOps device;
    DeviceProperties properties;
} CudaBackend;

static const Kernel *const KERNELS[OP_COUNT] = {
#define OP(NAME, family) [OP_##NAME] = &cuda_kernel_##NAME,
#include "engine/ops.def"
#undef OP
};

const int32_t vasily_cuda_version = BACKEND_PLUGIN_VERSION;
BackendOpen vasily_cuda_open;

Status cuda_prepare_plain(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    out->state = backend->context;
    return STATUS_OK;
}

static bool has_bf16(const Backend *backend)
{
    return true; /* compute capability 8.0 and later, which open_device asks for */
}

static void describe(const Backend *backend, char *out, size_t capacity)
{
    const CudaBackend *self = (const CudaBackend *)(const void *)backend;
    const size_t dnn = dnn_version(), blas = blas_version();
    int runtime = 0, driver = 0;
    (void)cudaRuntimeGetVersion(&runtime);
    char driver_text[32] = "no driver";
    if (cudaDriverGetVersion(&driver) == cudaSuccess && driver > 0)
        snprintf(driver_text, sizeof driver_text, "driver for %d.%d", driver / 1000, driver % 1000 / 10);
    snprintf(out, capacity,
             "cuda: %s, %d multiprocessors, %.1f GB, compute capability %d.%d, CUDA %d.%d, %s, cuDNN %zu.%zu.%zu, "
             "cuBLASLt %zu, %s%s%s",
             self->properties.name, self->properties.processors, (double)self->properties.memory * 1e-9,
             self->properties.capability / 10, self->properties.capability % 10, runtime / 1000, runtime % 1000 / 10,
             driver_text, dnn / 10000, dnn / 100 % 100, dnn % 100, blas,
             cuda_nccl_collectives() ? cuda_nccl_collectives()->version() : "no NCCL",
             self->cuda.deterministic ? ", deterministic" : "", self->cuda.plans_only ? ", planned only" : "");
}

static void close_backend(Backend *backend)
{
    CudaBackend *self = (CudaBackend *)(void *)backend;
    dnn_close(self->cuda.dnn);
    blas_close(self->cuda.blas);
    cuda_nccl_close(&self->cuda);
    cuda_collectives_close(&self->cuda);
    cuda_queue_close(&self->cuda);
    free(self);
}

static Status open_device(int32_t local_rank, DeviceProperties *out)
{
    Status status = STATUS_OK;
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count < 1) {
        (void)cudaGetLastError();
        FAIL(ERR_UNSUPPORTED, "no CUDA device: %s",
             error != cudaSuccess ? cudaGetErrorString(error) : "none is visible");
    }
    if (count == 1) local_rank = 0; /* a launcher may show each process one device of its own */
    if (local_rank >= count)
        FAIL(ERR_UNSUPPORTED,
             "this machine shows %d CUDA device%s, and rank %d of it wants one of its own; start no "
             "more ranks than devices",
             count, count == 1 ? "" : "s", local_rank);
    TRY_CUDA(cudaSetDevice(local_rank));
    TRY(properties_of_device(local_rank, out));
    if (out->capability < 80)
        FAIL(ERR_UNSUPPORTED, "%s has compute capability %d.%d; 8.0 and later are supported (bf16)", out->name,
             out->capability / 10, out->capability % 10);
fail:
    return status;
}

/* A device that is only described: no memory, no queue. */
static Status planned_memory(Backend *backend, int64_t *free_bytes, int64_t *total)
{
    const CudaBackend *self = (const CudaBackend *)(const void *)backend;
    *total = *free_bytes = self->properties.memory;
    return STATUS_OK;
}

Status vasily_cuda_open(const BackendOptions *options, Backend **out)
{
    Status status = STATUS_OK;
    char *text = NULL;
    size_t size = 0;
    CudaBackend *self = mem_alloc_array(1, sizeof *self);
    if (!self) FAIL(ERR_MEMORY, "no memory for the CUDA backend");
    Cuda *cuda = &self->cuda;
    cuda->plans_only = options->properties != NULL;
    cuda->deterministic = options->deterministic;
    self->device = cuda_device_ops;
    if (cuda->plans_only) {
        TRY(file_read(options->properties, PROPERTIES_LIMIT, &text, &size));
        TRY(properties_parse(options->properties, text, size, &self->properties));
        self->device.memory = planned_memory;
        self->device.planned = true;
    } else {
        TRY(open_device(options->local_rank, &self->properties));
        TRY(cuda_queue_open(cuda));
        self->device.collectives = cuda_nccl_collectives();
    }
    cuda->processors = self->properties.processors;
    self->device.matmul_nominal = self->properties.matmul_nominal;
    self->device.reserve = self->properties.reserved;
    TRY(blas_open(cuda->stream, cuda->plans_only, cuda->deterministic, &cuda->blas));
    TRY(dnn_open(
        &(DnnOptions){
            .stream = cuda->stream, .properties = text, .deterministic = cuda->deterministic, .cache = options->cache},
        &cuda->dnn));
    self->backend = (Backend){.name = "cuda",
                              .threads = options->threads > 0 ? options->threads : 1,
                              .param_alignment = 64,
                              .context = cuda,
                              .has_bf16 = has_bf16,
                              .alloc = cuda_alloc,
                              .free = cuda_free,
                              .upload = cuda_upload,
                              .download = cuda_download,
                              .matmul_peak = cuda->plans_only ? NULL : cuda_matmul_peak,
                              .device = &self->device,
                              .describe = describe,
                              .close = close_backend};
    memcpy(self->backend.kernel, KERNELS, sizeof KERNELS);
    *out = &self->backend;
    self = NULL;
fail:
    if (self) close_backend(&self->backend);
    free(text);
    return status;
}
