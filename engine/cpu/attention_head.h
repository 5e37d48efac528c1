/* Attention of one head of one sample at a time, a block of queries after the other: matrix products of oneDNN on one
 * thread with our softmax between them. Heads are shared out between the threads. ATTENTION and CROSS_ATTENTION differ
 * only in where their operands lie. */
#ifndef ENGINE_CPU_ATTENTION_HEAD_H
#define ENGINE_CPU_ATTENTION_HEAD_H

#include "engine/cpu/cpu.h"

typedef struct HeadPlan HeadPlan;

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

Status head_plan_create(const Cpu *cpu, const HeadShape *shape, bool backward, HeadPlan **out);
void head_plan_free(HeadPlan *plan);
size_t head_plan_workspace(const HeadPlan *plan);
const char *head_plan_detail(const HeadPlan *plan);

Status head_forward(HeadPlan *plan, const HeadOperands *operands, void *workspace);
Status head_backward(HeadPlan *plan, const HeadOperands *operands, void *workspace);

#endif
