/* engine/cuda/blas.h without a device: products in fp32, rounded once to the type of d. */
#include "engine/cuda/blas.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "emu.h"
#include "products.h"

struct Blas {
    cudaStream_t stream;
    bool plans_only;
};
struct BlasProduct {
    const Blas *blas;
    BlasSpec spec;
};

static const size_t workspace = 1024; /* garbage is written there, so that its users are seen not to share it */

Status blas_open(cudaStream_t stream, bool plans_only, bool deterministic, Blas **out)
{
    Status status = STATUS_OK;
    *out = mem_alloc_array(1, sizeof **out);
    if (!*out) FAIL(ERR_MEMORY, "no memory for products");
    **out = (Blas){stream, plans_only};
fail:
    return status;
}

void blas_close(Blas *blas)
{
    free(blas);
}

size_t blas_version(void)
{
    return 130000;
}

Status blas_product_create(Blas *blas, const BlasSpec *spec, BlasProduct **out)
{
    Status status = STATUS_OK;
    const int64_t a_row = spec->transpose_a ? spec->m : spec->k, b_row = spec->transpose_b ? spec->k : spec->n;
    *out = NULL;
    if (spec->m < 1 || spec->n < 1 || spec->k < 1 || spec->batch < 1)
        FAIL(ERR_INTERNAL, "a product of %lldx%lldx%lld, %lld times", (long long)spec->m, (long long)spec->n,
             (long long)spec->k, (long long)spec->batch);
    if (spec->lda < a_row || spec->ldb < b_row || spec->ldd < spec->n)
        FAIL(ERR_INTERNAL, "a row is longer than its step");
    if (spec->ab != spec->cd && !(spec->ab == DTYPE_BF16 && spec->cd == DTYPE_F32))
        FAIL(ERR_UNSUPPORTED, "a product of %s to %s", dtype_name(spec->ab), dtype_name(spec->cd));
    *out = mem_alloc_array(1, sizeof **out);
    if (!*out) FAIL(ERR_MEMORY, "no memory for a product");
    **out = (BlasProduct){blas, *spec};
fail:
    return status;
}

void blas_product_free(BlasProduct *product)
{
    free(product);
}

size_t blas_product_workspace(const BlasProduct *product)
{
    return workspace;
}

const char *blas_product_name(const BlasProduct *product)
{
    return "emulated";
}

typedef struct Run {
    BlasSpec spec;
    BlasArgs args;
} Run;

/* Rows [row, row + rows) of one matrix of the batch. */
static void run_rows(const Run *run, int64_t batch, int64_t row, int64_t rows, const Panels *b)
{
    const BlasSpec *s = &run->spec;
    const BlasArgs *args = &run->args;
    float *a = emu_floats(rows * s->k), *sum = emu_floats(rows * s->n);
    const int64_t step_m = s->transpose_a ? 1 : s->lda, step_k = s->transpose_a ? s->lda : 1;
    for (int64_t i = 0; i < rows; i++) {
        const int64_t at = batch * s->stride_a + (row + i) * step_m;
        for (int64_t k = 0; k < s->k; k++) a[i * s->k + k] = emu_get(args->a, s->ab, at + k * step_k);
    }
    panels_multiply(rows, a, b, sum, false);
    for (int64_t i = 0; i < rows; i++) {
        const int64_t at = batch * s->stride_d + (row + i) * s->ldd;
        for (int64_t j = 0; j < s->n; j++) {
            float value = args->alpha * sum[i * s->n + j];
            if (args->beta != 0) value += args->beta * emu_get(args->c, s->cd, at + j);
            if (s->bias) value += emu_get(args->bias, s->cd, j);
            emu_put(args->d, s->cd, at + j, value);
        }
    }
    free(a);
    free(sum);
}

static void run_product(void *closure)
{
    const Run *run = closure;
    const BlasSpec *s = &run->spec;
    const int64_t chunk = 32, size = s->ab == DTYPE_BF16 ? 2 : 4;
    memset(run->args.workspace, 0xff, workspace);
    for (int64_t batch = 0; batch < s->batch; batch++) {
        const char *matrix = (const char *)run->args.b + batch * s->stride_b * size;
        Panels b = panels_of(matrix, s->ab, s->k, s->n, s->transpose_b ? 1 : s->ldb, s->transpose_b ? s->ldb : 1);
#pragma omp parallel for schedule(dynamic)
        for (int64_t row = 0; row < s->m; row += chunk) {
            run_rows(run, batch, row, s->m - row < chunk ? s->m - row : chunk, &b);
        }
        panels_free(&b);
    }
}

Status blas_product_run(const BlasProduct *product, const BlasArgs *args)
{
    Status status = STATUS_OK;
    const Run run = {product->spec, *args};
    const void *wanted[] = {args->a,
                            args->b,
                            args->d,
                            args->workspace,
                            product->spec.bias ? args->bias : args->d,
                            args->beta != 0 ? args->c : args->d};
    if (product->blas->plans_only) FAIL(ERR_UNSUPPORTED, "there is no device to run a product on");
    if (args->beta != 0 && !product->spec.add) FAIL(ERR_INTERNAL, "a product adds that was not asked to");
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        if (!emu_is_device(wanted[i])) FAIL(ERR_INTERNAL, "operand %zu of a product is not in device memory", i);
    }
    if ((uintptr_t)args->workspace % 256 != 0) FAIL(ERR_INTERNAL, "a product's workspace is not aligned");
    if (emu_enqueue(product->blas->stream, run_product, &run, sizeof run) != cudaSuccess)
        FAIL(ERR_INTERNAL, "a product cannot be queued: %s", cudaGetErrorName(cudaPeekAtLastError()));
fail:
    return status;
}
