/* Attention of all heads of all samples on the device. ATTENTION and CROSS_ATTENTION differ only in where their
 * operands lie; what they share is here. Two ways:
 *
 *   fused      cuDNN's attention (dnn.h): bf16, heads of at most 128 elements in eights, no bias; its gradient: of two
 *              keys at least
 *   composed   products of cuBLASLt with our softmax between them: everything else
 */
#ifndef ENGINE_CUDA_ATTENTION_HEAD_H
#define ENGINE_CUDA_ATTENTION_HEAD_H

#include "engine/cuda/attention_pack_kernels.h"
#include "engine/cuda/cuda.h"

/* The keys are two runs, one after the other; either may be empty. Only those of the first can be masked. */
enum { MASKABLE, VISIBLE, KEY_RUNS };

typedef struct HeadShape {
    int64_t samples, heads, d; /* N */
    int64_t queries;           /* T */
    int64_t keys[KEY_RUNS];
    float scale; /* of q.k */
    Dtype type;  /* of every operand but mask, bias and lse */
    bool masked, biased;
} HeadShape;

static inline int64_t head_keys(const HeadShape *shape)
{
    return shape->keys[MASKABLE] + shape->keys[VISIBLE];
}

typedef struct HeadOutput {
    HeadRows rows; /* of pitch 0 where not wanted */
    bool add;      /* known when prepared: activations' gradients carry no micro-batch flag */
} HeadOutput;

/* While preparing, all data are NULL and only the pitches count. k and v of a run have the same ones, and so have the
 * gradients of each operand and the operand itself. */
typedef struct HeadOperands {
    HeadRows q, k[KEY_RUNS], v[KEY_RUNS], y;
    const int32_t *mask; /* (N,keys[MASKABLE]): 0 hides */
    const float *bias;   /* (heads,T,keys), forward only */
    float *lse;          /* (N,heads,T) */
    HeadRows dy;         /* this and what follows: backward only */
    HeadOutput dq, dk[KEY_RUNS], dv[KEY_RUNS];
} HeadOperands;

/* Rows in an operand (N,rows,heads,parts,d): the part-th of each head. Nothing where the tensor is absent. */
HeadRows head_rows(const Tensor *tensor, void *data, const Op *op, int parts, int part);

/* Prepare, run and release of all four kernels. */
Status head_prepare(Backend *backend, const HeadShape *shape, const HeadOperands *operands, bool backward,
                    Prepared *out);
Status head_run(const KernelCall *call, const HeadOperands *operands);
void head_release(void *state);

/* The two ways. ERR_UNSUPPORTED from cuDNN means: none of its engines. */
typedef struct HeadFused HeadFused;
Status head_fused_create(Cuda *cuda, const HeadShape *shape, const HeadOperands *operands, bool backward,
                         HeadFused **out);
void head_fused_free(HeadFused *fused); /* NULL is fine */
size_t head_fused_workspace(const HeadFused *fused, const HeadOperands *operands);
const char *head_fused_name(const HeadFused *fused);
Status head_fused_run(const HeadFused *fused, const HeadOperands *operands, void *workspace);

typedef struct HeadComposed HeadComposed;
Status head_composed_create(Cuda *cuda, const HeadShape *shape, const HeadOperands *operands, bool backward,
                            HeadComposed **out);
void head_composed_free(HeadComposed *composed); /* NULL is fine */
size_t head_composed_workspace(const HeadComposed *composed, const HeadOperands *operands);
const char *head_composed_name(const HeadComposed *composed);
Status head_composed_run(const HeadComposed *composed, const HeadOperands *operands, void *workspace);

/* Helpers of both. */
static inline bool head_wanted(const HeadRows *rows)
{
    return rows->row != 0;
}
/* The element that lies `elements` after `data`; NULL stays NULL. */
void *head_at(void *data, Dtype type, int64_t elements);
/* Dense rows (N,rows,heads,d) at `data`. */
HeadRows head_dense(const HeadShape *shape, void *data, int64_t rows);
/* Adds a move of `rows` rows to `moves`, unless there are none or one side is not there. */
void head_move_add(HeadMoves *moves, HeadMove move);

#endif
