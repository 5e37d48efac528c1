#include "engine/cuda/blas_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"

Status blas_fail(cublasStatus_t error, const char *file, int line, const char *call)
{
    const Status status = error == CUBLAS_STATUS_ALLOC_FAILED    ? ERR_MEMORY
                          : error == CUBLAS_STATUS_NOT_SUPPORTED ? ERR_UNSUPPORTED
                                                                 : ERR_INTERNAL;
    return status_fail(status, file, line, "cuBLASLt: %s: %s", call, cublasLtGetStatusString(error));
}

Status blas_open(cudaStream_t stream, bool plans_only, bool deterministic, Blas **out)
{
    Status status = STATUS_OK;
    Blas *blas = mem_alloc_array(1, sizeof *blas);
    if (!blas) FAIL(ERR_MEMORY, "no memory for cuBLASLt");
    blas->stream = stream;
    blas->deterministic = deterministic;
    if (!plans_only) TRY_BLAS(cublasLtCreate(&blas->handle)); /* wants a driver */
    *out = blas;
    return STATUS_OK;
fail:
    blas_close(blas);
    return status;
}

void blas_close(Blas *blas)
{
    if (!blas) return;
    if (blas->handle) cublasLtDestroy(blas->handle);
    free(blas->chosen);
    free(blas);
}

size_t blas_version(void)
{
    return cublasLtGetVersion();
}

/* ---- descriptions ---- */

static cudaDataType_t data_type(Dtype type)
{
    return type == DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

/* A row-major (rows,columns) is a column-major (columns,rows). */
static Status describe_matrix(Dtype type, int64_t rows, int64_t columns, int64_t row_stride, const BlasSpec *spec,
                              int64_t batch_stride, cublasLtMatrixLayout_t *out)
{
    Status status = STATUS_OK;
    const int32_t batch = (int32_t)spec->batch;
    TRY_BLAS(cublasLtMatrixLayoutCreate(out, data_type(type), (uint64_t)columns, (uint64_t)rows, row_stride));
    if (batch > 1) {
        TRY_BLAS(cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof batch));
        TRY_BLAS(cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &batch_stride,
                                                  sizeof batch_stride));
    }
fail:
    return status;
}

/* Accumulation in fp32, and fp32 operands as they are: neither TF32 nor sums of bf16 products. */
static Status describe_operation(const BlasSpec *spec, cublasLtMatmulDesc_t *out)
{
    Status status = STATUS_OK;
    const cublasOperation_t transpose = CUBLAS_OP_T;
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    const int32_t bias_type = data_type(spec->cd);
    TRY_BLAS(cublasLtMatmulDescCreate(out, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    if (spec->transpose_b)
        TRY_BLAS(cublasLtMatmulDescSetAttribute(*out, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof transpose));
    if (spec->transpose_a)
        TRY_BLAS(cublasLtMatmulDescSetAttribute(*out, CUBLASLT_MATMUL_DESC_TRANSB, &transpose, sizeof transpose));
    if (spec->bias) {
        TRY_BLAS(cublasLtMatmulDescSetAttribute(*out, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue));
        TRY_BLAS(
            cublasLtMatmulDescSetAttribute(*out, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias_type, sizeof bias_type));
    }
fail:
    return status;
}

static Status describe(BlasProduct *product)
{
    Status status = STATUS_OK;
    const BlasSpec *s = &product->spec;
    const int64_t m = s->m, n = s->n, k = s->k;
    TRY(describe_operation(s, &product->operation));
    TRY(describe_matrix(s->ab, s->transpose_a ? k : m, s->transpose_a ? m : k, s->lda, s, s->stride_a, &product->a));
    TRY(describe_matrix(s->ab, s->transpose_b ? n : k, s->transpose_b ? k : n, s->ldb, s, s->stride_b, &product->b));
    TRY(describe_matrix(s->cd, m, n, s->ldd, s, s->stride_d, &product->d));
fail:
    return status;
}

static Status check_spec(const BlasSpec *s)
{
    Status status = STATUS_OK;
    const bool types = (s->ab == DTYPE_F32 && s->cd == DTYPE_F32) ||
                       (s->ab == DTYPE_BF16 && (s->cd == DTYPE_BF16 || s->cd == DTYPE_F32));
    if (!types) FAIL(ERR_INTERNAL, "a product of %s into %s", dtype_name(s->ab), dtype_name(s->cd));
    if (s->m < 1 || s->n < 1 || s->k < 1 || s->batch < 1 || s->batch > INT32_MAX ||
        s->lda < (s->transpose_a ? s->m : s->k) || s->ldb < (s->transpose_b ? s->k : s->n) || s->ldd < s->n)
        FAIL(ERR_INTERNAL, "a product of %lld x %lld x %lld, %lld times, with rows of %lld, %lld and %lld",
             (long long)s->m, (long long)s->n, (long long)s->k, (long long)s->batch, (long long)s->lda,
             (long long)s->ldb, (long long)s->ldd);
fail:
    return status;
}

Status blas_product_create(Blas *blas, const BlasSpec *spec, BlasProduct **out)
{
    Status status = STATUS_OK;
    BlasProduct *product = NULL;
    TRY(check_spec(spec));
    product = mem_alloc_array(1, sizeof *product);
    if (!product) FAIL(ERR_MEMORY, "no memory for a product");
    product->blas = blas;
    product->spec = *spec;
    if (blas->handle) {
        TRY(describe(product));
        TRY(blas_choose(product));
    } else {
        product->choice.workspace = BLAS_WORKSPACE;
        snprintf(product->choice.name, sizeof product->choice.name, "cuBLASLt");
    }
    *out = product;
    return STATUS_OK;
fail:
    blas_product_free(product);
    return status;
}

void blas_product_free(BlasProduct *product)
{
    if (!product) return;
    if (product->operation) cublasLtMatmulDescDestroy(product->operation);
    if (product->a) cublasLtMatrixLayoutDestroy(product->a);
    if (product->b) cublasLtMatrixLayoutDestroy(product->b);
    if (product->d) cublasLtMatrixLayoutDestroy(product->d);
    free(product);
}

size_t blas_product_workspace(const BlasProduct *product)
{
    return product->choice.workspace;
}

const char *blas_product_name(const BlasProduct *product)
{
    return product->choice.name;
}

void blas_format_spec(const BlasSpec *spec, char *out, size_t capacity)
{
    snprintf(out, capacity, "%s %lldx%lldx%lld", dtype_name(spec->ab), (long long)spec->m, (long long)spec->n,
             (long long)spec->k);
}

/* ---- running ---- */

cublasStatus_t blas_launch(const BlasProduct *product, const BlasArgs *args, const cublasLtMatmulAlgo_t *algorithm,
                           size_t workspace)
{
    const Blas *blas = product->blas;
    if (product->spec.bias) { /* kept by the description; the library reads it before it returns */
        const cublasStatus_t error = cublasLtMatmulDescSetAttribute(
            product->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &args->bias, sizeof args->bias);
        if (error != CUBLAS_STATUS_SUCCESS) return error;
    }
    return cublasLtMatmul(blas->handle, product->operation, &args->alpha, args->b, product->b, args->a, product->a,
                          &args->beta, args->beta != 0 ? args->c : args->d, product->d, args->d, product->d, algorithm,
                          args->workspace, workspace, blas->stream);
}

static bool is_aligned(const BlasSpec *spec, const BlasArgs *args)
{
    uintptr_t address = (uintptr_t)args->a | (uintptr_t)args->b | (uintptr_t)args->d;
    if (args->beta != 0) address |= (uintptr_t)args->c;
    if (spec->bias) address |= (uintptr_t)args->bias;
    return address % BLAS_ALIGNMENT == 0;
}

Status blas_product_run(const BlasProduct *product, const BlasArgs *args)
{
    Status status = STATUS_OK;
    const BlasChoice *choice = &product->choice;
    const bool aligned = choice->has_aligned && is_aligned(&product->spec, args);
    char what[80];
    blas_format_spec(&product->spec, what, sizeof what);
    if (!product->blas->handle) FAIL(ERR_INTERNAL, "a product (%s) without a device", what);
    if (!aligned && !choice->has_unaligned)
        FAIL(ERR_UNSUPPORTED, "cuBLASLt has no algorithm for a product (%s) at these addresses", what);
    TRY_BLAS(blas_launch(product, args, aligned ? &choice->aligned : &choice->unaligned, choice->workspace));
fail:
    return status;
}
