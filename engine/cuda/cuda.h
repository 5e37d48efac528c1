/* What the files of the CUDA backend share. They are the shared object libvasily_cuda.so, which the program opens at
 * run time (engine/backend_plugin.c) and which calls back into the program for base/ and engine/.
 *
 * A family of ops FAMILY (engine/ops.def) has up to three files:
 *   FAMILY.cu         our kernels, and launchers that C can call; they queue and return what cudaPeekAtLastError says
 *   FAMILY_kernels.h  those launchers
 *   FAMILY.c          prepare and run of each op: cuda_kernel_NAME
 * Large matrix products go through blas.h, convolutions and fused attention through dnn.h. */
#ifndef ENGINE_CUDA_CUDA_H
#define ENGINE_CUDA_CUDA_H

#include <cuda_runtime_api.h>

#include "engine/backend.h"
#include "engine/cuda/blas.h"
#include "engine/cuda/dnn.h"

/* Backend.context. */
typedef struct Cuda {
    bool plans_only;     /* there is a description of a device and no device: prepare works, run does not */
    bool deterministic;  /* only algorithms that give the same bits every time */
    cudaStream_t stream; /* where everything computes, in order */
    cudaStream_t sender; /* copies from the host beside it */
    Blas *blas;
    Dnn *dnn;
    int32_t processors;                  /* streaming multiprocessors */
    struct CudaQueue *queue;             /* events and recordings: queue.c */
    struct CudaCollectives *collectives; /* their queue: collectives.c; NULL: no communicator was opened so far */
    /* Whether the communicators are well; NULL: there are none. nccl.c */
    Status (*check)(struct Cuda *cuda);
} Cuda;

static inline Cuda *cuda_of(const Backend *backend)
{
    return backend->context;
}

Status cuda_fail(cudaError_t error, const char *file, int line, const char *call);
/* For calls of the runtime and for launchers. */
#define TRY_CUDA(call)                                                 \
    do {                                                               \
        const cudaError_t cuda_error = (call);                         \
        if (cuda_error != cudaSuccess) {                               \
            status = cuda_fail(cuda_error, __FILE__, __LINE__, #call); \
            goto fail;                                                 \
        }                                                              \
    } while (0)

/* Operands of a call, and while preparing; NULL when absent. */
static inline const Tensor *cuda_operand(const Graph *graph, TensorId id)
{
    return id == TENSOR_NONE ? NULL : graph_tensor(graph, id);
}
static inline const Tensor *cuda_in(const KernelCall *call, int i)
{
    return cuda_operand(call->graph, call->op->in[i]);
}
static inline const Tensor *cuda_out(const KernelCall *call, int k)
{
    return cuda_operand(call->graph, call->op->out[k]);
}
static inline bool cuda_adds(const KernelCall *call, int k)
{
    return (call->accumulate >> k & 1u) != 0;
}

/* Prepare for kernels whose only state is the Cuda, and its way back. */
Status cuda_prepare_plain(Backend *backend, const Graph *graph, const Op *op, Prepared *out);
static inline const Cuda *cuda_of_call(const KernelCall *call)
{
    return call->state;
}

/* A workspace is carved twice by the same code: with a NULL base to learn its size, then for addresses. */
typedef struct CudaCarver {
    char *base;
    size_t used;
} CudaCarver;
static inline void *cuda_carve(CudaCarver *carver, size_t bytes) /* 256-byte aligned */
{
    const size_t at = carver->used;
    carver->used += (bytes + 255) / 256 * 256;
    return carver->base ? carver->base + at : NULL;
}

#define OP(NAME, family) extern const Kernel cuda_kernel_##NAME;
#include "engine/ops.def"
#undef OP

#endif
