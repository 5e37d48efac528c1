/* Matrix products by cuBLASLt. Everything is row-major: d (m,n) = alpha a (m,k) b (k,n) + beta c (m,n) [+ bias (n)].
 * tests/emu/blas_emu.c is the same interface in plain C, for machines without a device. */
#ifndef ENGINE_CUDA_BLAS_H
#define ENGINE_CUDA_BLAS_H

#include <cuda_runtime_api.h>

#include "base/status.h"
#include "engine/tensor.h"

typedef struct Blas Blas;
/* `stream`: where products run. plans_only: no device; choices are made at the device itself later, workspaces are the
 * most that any would take. deterministic: the library's first guess at an algorithm; else the fastest of its first
 * few, tried when a product is created, which may be another one at the next start. */
Status blas_open(cudaStream_t stream, bool plans_only, bool deterministic, Blas **out);
void blas_close(Blas *blas); /* NULL is fine */
size_t blas_version(void);

typedef struct BlasSpec {
    int64_t m, n, k;
    Dtype ab, cd;          /* F32 with F32, or BF16 with BF16 or F32; fp32 is computed in fp32, never in TF32 */
    bool transpose_a;      /* a is stored (k,m) */
    bool transpose_b;      /* b is stored (n,k): a weight (O,C) */
    int64_t lda, ldb, ldd; /* elements from one stored row to the next; ldd of c and d */
    int64_t batch;         /* 1 or more */
    int64_t stride_a, stride_b, stride_d; /* elements from one matrix of the batch to the next */
    bool bias;                            /* n values in the type cd, added to each row */
    bool add;                             /* c is read: beta may be other than 0 */
} BlasSpec;

typedef struct BlasProduct BlasProduct; /* a product with its algorithm chosen */
Status blas_product_create(Blas *blas, const BlasSpec *spec, BlasProduct **out);
void blas_product_free(BlasProduct *product);              /* NULL is fine */
size_t blas_product_workspace(const BlasProduct *product); /* bytes, 256-byte aligned */
const char *blas_product_name(const BlasProduct *product); /* for tables */

typedef struct BlasArgs {
    const void *a, *b;
    const void *c; /* may be d; not read where beta is 0 */
    const void *bias;
    void *d;
    float alpha, beta;
    void *workspace;
} BlasArgs;
Status blas_product_run(const BlasProduct *product, const BlasArgs *args); /* queued */

#endif
