/* What blas.c (descriptions of products, running them) and blas_choose.c (which algorithm) share. */
#ifndef ENGINE_CUDA_BLAS_INTERNAL_H
#define ENGINE_CUDA_BLAS_INTERNAL_H

#include <cublasLt.h>

#include "engine/cuda/blas.h"

enum {
    BLAS_WORKSPACE = 32 << 20, /* bytes, at most: what cuBLAS itself takes on compute capability 9 */
    BLAS_ALIGNMENT = 16        /* of operands, bytes: no algorithm gains from more */
};

/* Algorithms for a product: for operands whose addresses are divisible by BLAS_ALIGNMENT, and for any others. */
typedef struct BlasChoice {
    cublasLtMatmulAlgo_t aligned, unaligned;
    bool has_aligned, has_unaligned;
    size_t workspace;
    char name[80];
} BlasChoice;

/* Choices made so far: a network has many products of the same few shapes. */
typedef struct BlasChosen {
    BlasSpec spec;
    BlasChoice choice;
} BlasChosen;

struct Blas {
    cublasLtHandle_t handle; /* NULL: no device */
    cudaStream_t stream;
    bool deterministic;
    BlasChosen *chosen;
    size_t chosen_count, chosen_capacity;
};

/* cuBLASLt's matrices are column-major, so it is asked for the transposed product d' (n,m) = b' (n,k) a' (k,m): its
 * first operand is our b. */
struct BlasProduct {
    Blas *blas;
    BlasSpec spec;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, d; /* ours; d's is c's as well */
    BlasChoice choice;
};

Status blas_fail(cublasStatus_t error, const char *file, int line, const char *call);
#define TRY_BLAS(call)                                                 \
    do {                                                               \
        const cublasStatus_t blas_error = (call);                      \
        if (blas_error != CUBLAS_STATUS_SUCCESS) {                     \
            status = blas_fail(blas_error, __FILE__, __LINE__, #call); \
            goto fail;                                                 \
        }                                                              \
    } while (0)

/* Fills in product->choice, from earlier ones of the same spec if there are. */
Status blas_choose(BlasProduct *product);
/* Runs with this algorithm: cublasLtMatmul with the operands in its order. */
cublasStatus_t blas_launch(const BlasProduct *product, const BlasArgs *args, const cublasLtMatmulAlgo_t *algorithm,
                           size_t workspace);
/* "bf16 24576x1152x384" */
void blas_format_spec(const BlasSpec *spec, char *out, size_t capacity);

#endif
