/* Which of cuBLASLt's algorithms: its own first guess, or, where results may differ from one start of the program to
 * the next, the fastest of its first few by trying them on memory of their own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "engine/cuda/blas_internal.h"

#define CANDIDATES 6
#define FASTER 0.97 /* of the first guess's time: less is noise, and no reason to leave it */

static bool same_spec(const BlasSpec *x, const BlasSpec *y)
{
    return x->m == y->m && x->n == y->n && x->k == y->k && x->ab == y->ab && x->cd == y->cd &&
           x->transpose_a == y->transpose_a && x->transpose_b == y->transpose_b && x->lda == y->lda &&
           x->ldb == y->ldb && x->ldd == y->ldd && x->batch == y->batch && x->stride_a == y->stride_a &&
           x->stride_b == y->stride_b && x->stride_d == y->stride_d && x->bias == y->bias && x->add == y->add;
}

/* ---- cuBLASLt's guesses ---- */

/* `ab`, `cd`: bytes that the addresses of a and b, and of c, d and bias, are multiples of. */
static Status set_preference(cublasLtMatmulPreference_t preference, uint32_t ab, uint32_t cd)
{
    static const cublasLtMatmulPreferenceAttributes_t ALIGNMENTS[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    Status status = STATUS_OK;
    const uint64_t workspace = BLAS_WORKSPACE;
    /* Parts of a long sum over k meet in fp32, not in bf16 outputs. */
    const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    TRY_BLAS(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                                  sizeof workspace));
    TRY_BLAS(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions,
                                                  sizeof reductions));
    for (size_t i = 0; i < sizeof ALIGNMENTS / sizeof ALIGNMENTS[0]; i++)
        TRY_BLAS(cublasLtMatmulPreferenceSetAttribute(preference, ALIGNMENTS[i], i < 2 ? &ab : &cd, sizeof ab));
fail:
    return status;
}

/* The library's guesses for operands so aligned, best first; none is no failure. */
static Status guess(const BlasProduct *product, uint32_t ab, uint32_t cd, cublasLtMatmulHeuristicResult_t *out,
                    int *count)
{
    Status status = STATUS_OK;
    cublasLtMatmulPreference_t preference = NULL;
    *count = 0;
    TRY_BLAS(cublasLtMatmulPreferenceCreate(&preference));
    TRY(set_preference(preference, ab, cd));
    if (product->spec.bias) { /* nothing is read there: only the address's alignment is looked at */
        const uintptr_t bias = cd;
        TRY_BLAS(
            cublasLtMatmulDescSetAttribute(product->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias));
    }
    const cublasStatus_t error =
        cublasLtMatmulAlgoGetHeuristic(product->blas->handle, product->operation, product->b, product->a, product->d,
                                       product->d, preference, CANDIDATES, out, count);
    if (error == CUBLAS_STATUS_NOT_SUPPORTED)
        *count = 0;
    else
        TRY_BLAS(error);
fail:
    if (preference) cublasLtMatmulPreferenceDestroy(preference);
    return status;
}

/* ---- timing ---- */

/* Bytes from the first element of a batch of row-major matrices to behind the last. */
static size_t extent(Dtype type, int64_t rows, int64_t columns, int64_t row_stride, int64_t batch, int64_t batch_stride)
{
    return (size_t)((batch - 1) * batch_stride + (rows - 1) * row_stride + columns) * dtype_size(type);
}

typedef struct Trial {
    char *memory;
    cudaEvent_t begin, end;
    BlasArgs args;
    int runs;
} Trial;

static void trial_close(Trial *trial)
{
    if (trial->memory) cudaFree(trial->memory);
    if (trial->begin) cudaEventDestroy(trial->begin);
    if (trial->end) cudaEventDestroy(trial->end);
    (void)cudaGetLastError();
}

/* False where there is no room for it. */
static bool trial_open(const BlasProduct *product, Trial *trial)
{
    const BlasSpec *s = &product->spec;
    const size_t sizes[] = {
        extent(s->ab, s->transpose_a ? s->k : s->m, s->transpose_a ? s->m : s->k, s->lda, s->batch, s->stride_a),
        extent(s->ab, s->transpose_b ? s->n : s->k, s->transpose_b ? s->k : s->n, s->ldb, s->batch, s->stride_b),
        extent(s->cd, s->m, s->n, s->ldd, s->batch, s->stride_d), (size_t)s->n * dtype_size(s->cd), BLAS_WORKSPACE};
    size_t at[5], total = 0;
    for (int i = 0; i < 5; i++) {
        at[i] = total;
        total += (sizes[i] + 255) / 256 * 256;
    }
    *trial = (Trial){0};
    trial->runs = 2.0 * (double)s->m * (double)s->n * (double)s->k * (double)s->batch > 1e11 ? 3 : 10;
    if (cudaMalloc((void **)&trial->memory, total) != cudaSuccess ||
        cudaMemsetAsync(trial->memory, 0x3c, total, product->blas->stream) != cudaSuccess || /* small normal numbers */
        cudaEventCreate(&trial->begin) != cudaSuccess || cudaEventCreate(&trial->end) != cudaSuccess) {
        trial_close(trial);
        return false;
    }
    trial->args = (BlasArgs){.a = trial->memory + at[0],
                             .b = trial->memory + at[1],
                             .c = trial->memory + at[2],
                             .d = trial->memory + at[2],
                             .bias = trial->memory + at[3],
                             .alpha = 1e-3f,
                             .beta = s->add ? 0.5f : 0,
                             .workspace = trial->memory + at[4]};
    return true;
}

/* Milliseconds of all runs; a negative value where it does not run. */
static float trial_time(const BlasProduct *product, const Trial *trial, const cublasLtMatmulHeuristicResult_t *which)
{
    const cudaStream_t stream = product->blas->stream;
    float milliseconds = -1;
    for (int i = -2; i < trial->runs; i++) { /* the first ones load and warm up */
        if (i == 0 && cudaEventRecord(trial->begin, stream) != cudaSuccess) return -1;
        if (blas_launch(product, &trial->args, &which->algo, BLAS_WORKSPACE) != CUBLAS_STATUS_SUCCESS) return -1;
    }
    if (cudaEventRecord(trial->end, stream) != cudaSuccess || cudaEventSynchronize(trial->end) != cudaSuccess ||
        cudaEventElapsedTime(&milliseconds, trial->begin, trial->end) != cudaSuccess)
        return -1;
    return milliseconds;
}

static int fastest(const BlasProduct *product, const cublasLtMatmulHeuristicResult_t *candidates, int count)
{
    Trial trial;
    int best = 0;
    float shortest = -1;
    if (count < 2 || product->blas->deterministic || !trial_open(product, &trial)) return 0;
    for (int i = 0; i < count; i++) {
        const float time = trial_time(product, &trial, &candidates[i]);
        if (time < 0 || (shortest >= 0 && time > FASTER * shortest)) continue;
        best = i;
        shortest = time;
    }
    trial_close(&trial);
    return best;
}

/* ---- choosing ---- */

static void name_choice(const cublasLtMatmulAlgo_t *algorithm, BlasChoice *out)
{
    int32_t id = -1, split = 1;
    uint32_t tile = 0, stages = 0;
    size_t written;
    (void)cublasLtMatmulAlgoConfigGetAttribute(algorithm, CUBLASLT_ALGO_CONFIG_ID, &id, sizeof id, &written);
    (void)cublasLtMatmulAlgoConfigGetAttribute(algorithm, CUBLASLT_ALGO_CONFIG_TILE_ID, &tile, sizeof tile, &written);
    (void)cublasLtMatmulAlgoConfigGetAttribute(algorithm, CUBLASLT_ALGO_CONFIG_STAGES_ID, &stages, sizeof stages,
                                               &written);
    (void)cublasLtMatmulAlgoConfigGetAttribute(algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &split, sizeof split,
                                               &written);
    const int length = snprintf(out->name, sizeof out->name, "cuBLASLt %d tile %u stages %u", (int)id, (unsigned)tile,
                                (unsigned)stages);
    if (split > 1) snprintf(out->name + length, sizeof out->name - (size_t)length, " split %d", (int)split);
}

static void take(const cublasLtMatmulHeuristicResult_t *which, cublasLtMatmulAlgo_t *algorithm, bool *has,
                 BlasChoice *out)
{
    *algorithm = which->algo;
    *has = true;
    const size_t workspace = (which->workspaceSize + 255) / 256 * 256;
    if (workspace > out->workspace) out->workspace = workspace;
}

static Status choose(const BlasProduct *product, BlasChoice *out)
{
    Status status = STATUS_OK;
    cublasLtMatmulHeuristicResult_t candidates[CANDIDATES];
    char what[80];
    int count;
    *out = (BlasChoice){.name = "cuBLASLt"};
    TRY(guess(product, BLAS_ALIGNMENT, BLAS_ALIGNMENT, candidates, &count));
    if (count > 0) {
        const int best = fastest(product, candidates, count);
        take(&candidates[best], &out->aligned, &out->has_aligned, out);
        name_choice(&out->aligned, out);
    }
    /* For other addresses, which training does not have; a library that refuses to answer for those has none. */
    const Status other = guess(product, (uint32_t)dtype_size(product->spec.ab), (uint32_t)dtype_size(product->spec.cd),
                               candidates, &count);
    if (other != STATUS_OK && !out->has_aligned) TRY(other);
    if (other == STATUS_OK && count > 0) take(&candidates[0], &out->unaligned, &out->has_unaligned, out);
    blas_format_spec(&product->spec, what, sizeof what);
    if (!out->has_aligned && !out->has_unaligned)
        FAIL(ERR_UNSUPPORTED, "cuBLASLt has no algorithm for a product: %s%s", what,
             product->spec.bias ? " with bias" : "");
fail:
    return status;
}

static Status remember(Blas *blas, const BlasSpec *spec, const BlasChoice *choice)
{
    Status status = STATUS_OK;
    if (blas->chosen_count == blas->chosen_capacity) {
        const size_t capacity = blas->chosen_capacity ? 2 * blas->chosen_capacity : 64;
        BlasChosen *grown = realloc(blas->chosen, capacity * sizeof *grown);
        if (!grown) FAIL(ERR_MEMORY, "no memory for choices of cuBLASLt's algorithms");
        blas->chosen = grown;
        blas->chosen_capacity = capacity;
    }
    blas->chosen[blas->chosen_count++] = (BlasChosen){*spec, *choice};
fail:
    return status;
}

Status blas_choose(BlasProduct *product)
{
    Status status = STATUS_OK;
    Blas *blas = product->blas;
    for (size_t i = 0; i < blas->chosen_count; i++) {
        if (!same_spec(&blas->chosen[i].spec, &product->spec)) continue;
        product->choice = blas->chosen[i].choice;
        return STATUS_OK;
    }
    TRY(choose(product, &product->choice));
    TRY(remember(blas, &product->spec, &product->choice));
fail:
    return status;
}
