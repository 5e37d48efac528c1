/* What the device can do, measured: products of large square matrices, and copying. */
#include <stdlib.h>

#include "base/arena.h"
#include "base/bf16.h"
#include "base/file.h"
#include "engine/cuda/queue.h"

enum {
    SIDE = 8192,      /* of the matrices */
    SMALL_SIDE = 128, /* where there is no memory for them */
    VALUES = 1 << 20, /* made up for a matrix, again and again */
    RUNS = 8          /* between two looks at the clock */
};
#define COPY_BYTES ((size_t)1 << 30)
#define SMALL_COPY_BYTES ((size_t)1 << 16)
#define SMALL_DEVICE ((size_t)6 << 30) /* bytes of memory; with less, sizes are small */
#define SECONDS 1.0

static Status is_small(bool *out)
{
    Status status = STATUS_OK;
    size_t available = 0, total = 0;
    TRY_CUDA(cudaMemGetInfo(&available, &total));
    *out = total < SMALL_DEVICE;
fail:
    return status;
}

/* Queues one run of what is measured. */
typedef Status Work(void *context);

/* Runs for about SECONDS, several at a time between two events: the shortest mean of a run. */
static Status measure(cudaStream_t stream, Work *work, void *context, double *seconds)
{
    Status status = STATUS_OK;
    cudaEvent_t begin = NULL, end = NULL;
    double best = 0;
    TRY_CUDA(cudaEventCreateWithFlags(&begin, cudaEventDefault));
    TRY_CUDA(cudaEventCreateWithFlags(&end, cudaEventDefault));
    TRY(work(context)); /* loads the kernel */
    TRY_CUDA(cudaStreamSynchronize(stream));
    const double stop = clock_seconds() + SECONDS;
    do {
        float milliseconds = 0;
        TRY_CUDA(cudaEventRecord(begin, stream));
        for (int i = 0; i < RUNS; i++) TRY(work(context));
        TRY_CUDA(cudaEventRecord(end, stream));
        TRY_CUDA(cudaStreamSynchronize(stream));
        TRY_CUDA(cudaEventElapsedTime(&milliseconds, begin, end));
        const double one = 1e-3 * (double)milliseconds / RUNS;
        if (one > 0 && (best == 0 || one < best)) best = one;
    } while (clock_seconds() < stop);
    if (best == 0) FAIL(ERR_UNSUPPORTED, "nothing could be measured in %g s", SECONDS);
    *seconds = best;
fail:
    if (begin) cudaEventDestroy(begin);
    if (end) cudaEventDestroy(end);
    return status;
}

/* ---- products ---- */

typedef struct Product {
    BlasProduct *product;
    BlasArgs args;
} Product;

static Status multiply(void *context)
{
    const Product *p = context;
    return blas_product_run(p->product, &p->args);
}

/* Numbers of both signs with all bits in use: on zeros a chip draws less power and is faster than in training. */
static void make_values(void *values, Dtype dtype)
{
    uint32_t random = 12345;
    for (int64_t i = 0; i < VALUES; i++) {
        random = random * 1664525u + 1013904223u; /* Numerical Recipes' generator */
        const float value = (float)(int32_t)random * 0x1p-31f;
        if (dtype == DTYPE_BF16)
            ((uint16_t *)values)[i] = bf16_from_f32(value);
        else
            ((float *)values)[i] = value;
    }
}

static Status fill(Backend *backend, void *matrix, int64_t elements, Dtype dtype)
{
    Status status = STATUS_OK;
    const size_t size = dtype_size(dtype);
    void *values = mem_alloc_aligned(VALUES * size);
    if (!values) FAIL(ERR_MEMORY, "no memory to measure the matrix product");
    make_values(values, dtype);
    for (int64_t at = 0; at < elements; at += VALUES) {
        const int64_t count = elements - at < VALUES ? elements - at : VALUES;
        TRY(backend->upload(backend, (char *)matrix + (size_t)at * size, values, (size_t)count * size));
    }
fail:
    mem_free_aligned(values);
    return status;
}

Status cuda_matmul_peak(Backend *backend, Dtype dtype, double *flops_per_second)
{
    Status status = STATUS_OK;
    const Cuda *cuda = cuda_of(backend);
    Product p = {.args = {.alpha = 1}};
    void *a = NULL, *b = NULL, *d = NULL, *workspace = NULL;
    bool small = false;
    double seconds = 0;
    if (cuda->plans_only) FAIL(ERR_UNSUPPORTED, "there is no device to measure");
    TRY(is_small(&small));
    const int64_t side = small ? SMALL_SIDE : SIDE, elements = side * side;
    const size_t bytes = (size_t)elements * dtype_size(dtype);
    TRY(blas_product_create(cuda->blas,
                            &(BlasSpec){.m = side,
                                        .n = side,
                                        .k = side,
                                        .ab = dtype,
                                        .cd = dtype,
                                        .transpose_b = true, /* as a linear layer's weights */
                                        .lda = side,
                                        .ldb = side,
                                        .ldd = side,
                                        .batch = 1},
                            &p.product));
    a = backend->alloc(backend, bytes);
    b = backend->alloc(backend, bytes);
    d = backend->alloc(backend, bytes);
    workspace = backend->alloc(backend, blas_product_workspace(p.product) + 256);
    if (!a || !b || !d || !workspace)
        FAIL(ERR_MEMORY, "the device has no room to measure the product of %lld x %lld matrices", (long long)side,
             (long long)side);
    TRY(fill(backend, a, elements, dtype));
    TRY(fill(backend, b, elements, dtype));
    p.args.a = a;
    p.args.b = b;
    p.args.d = d;
    p.args.workspace = workspace;
    TRY(measure(cuda->stream, multiply, &p, &seconds));
    *flops_per_second = 2.0 * (double)side * (double)side * (double)side / seconds;
fail:
    backend->free(backend, a);
    backend->free(backend, b);
    backend->free(backend, d);
    backend->free(backend, workspace);
    blas_product_free(p.product);
    return status;
}

/* ---- copying ---- */

typedef struct Copy {
    cudaStream_t stream;
    void *from, *to;
    size_t bytes;
} Copy;

static Status copy(void *context)
{
    Status status = STATUS_OK;
    const Copy *c = context;
    TRY_CUDA(cudaMemcpyAsync(c->to, c->from, c->bytes, cudaMemcpyDeviceToDevice, c->stream));
fail:
    return status;
}

Status cuda_copy_peak(Backend *backend, double *bytes_per_second)
{
    Status status = STATUS_OK;
    const Cuda *cuda = cuda_of(backend);
    Copy c = {.stream = cuda->stream};
    bool small = false;
    double seconds = 0;
    if (cuda->plans_only) FAIL(ERR_UNSUPPORTED, "there is no device to measure");
    TRY(is_small(&small));
    c.bytes = small ? SMALL_COPY_BYTES : COPY_BYTES;
    c.from = backend->alloc(backend, c.bytes);
    c.to = backend->alloc(backend, c.bytes);
    if (!c.from || !c.to) FAIL(ERR_MEMORY, "the device has no room to measure a copy of %zu bytes", c.bytes);
    TRY(measure(cuda->stream, copy, &c, &seconds));
    *bytes_per_second = 2.0 * (double)c.bytes / seconds;
fail:
    backend->free(backend, c.from);
    backend->free(backend, c.to);
    return status;
}
