/* Attention of one head of one sample at a time, a block of queries after the other: matrix products of oneDNN on one
 * thread with our softmax between them. Heads are shared out between the threads. ATTENTION and CROSS_ATTENTION differ
 * only in where their operands lie. */
#ifndef ENGINE_CPU_ATTENTION_HEAD_H
#define ENGINE_CPU_ATTENTION_HEAD_H

#include "engine/cpu/cpu.h"

typedef struct HeadShape {
    int64_t samples, heads, d, queries, keys;
    float scale; /* of q.k */
    Dtype type;  /* of every operand but mask, bias and lse */
} HeadShape;

/* Rows of d elements:  data + sample * sample_pitch + row * row_pitch + head * head_pitch  (elements). */
typedef struct HeadRows {
    void *data;
    int64_t sample_pitch, row_pitch, head_pitch;
    bool add; /* outputs: to what is there */
} HeadRows;

typedef struct HeadOperands {
    HeadRows q;
    /* The keys are two runs, one after the other; the first may be empty. */
    int64_t first_keys;
    HeadRows k[2], v[2];
    const int32_t *mask; /* (samples, masked_keys) of the first keys, 0 hides; NULL: none */
    int64_t masked_keys;
    const float *bias; /* (heads, queries, keys); NULL: none */
    HeadRows y;
    float *lse; /* (samples, heads, queries) */
    /* Backward: outputs with data NULL are not wanted. */
    HeadRows dy, dq, dk[2], dv[2];
} HeadOperands;

/* Kernel.prepare and release of both ops: the state is a HeadPlan. */
Status head_prepare(const Cpu *cpu, const HeadShape *shape, bool backward, Prepared *out);
void head_release(void *plan);

/* Kernel.run, once the operands are found. */
Status head_forward(const KernelCall *call, const HeadOperands *operands);
Status head_backward(const KernelCall *call, const HeadOperands *operands);

#endif
