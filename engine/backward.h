/* What a gradient rule (OpInfo.gradient, in engine/op_*.c) writes with.
 *
 * First writer sets, later writers add: backward_emit knows which of the two an op is and sets op.accumulate. */
#ifndef ENGINE_BACKWARD_H
#define ENGINE_BACKWARD_H

#include "engine/graph.h"

typedef struct Backward Backward;

Graph *backward_graph(Backward *b);
/* The forward value of a tensor as backward ops may read it (a recomputed copy where its segment is recomputed). */
TensorId backward_value(Backward *b, TensorId tensor);
/* The gradient of a forward op's output, with that output's shape; TENSOR_NONE when nothing depends on it. */
TensorId backward_upstream(Backward *b, TensorId output);
bool backward_wants(const Backward *b, TensorId tensor); /* false for TENSOR_NONE and for what needs no gradient */

/* Appends a gradient op whose out[k] is the gradient of the forward tensor target[k] (TENSOR_NONE, or one that needs no
 * gradient, gives TENSOR_NONE). Appends nothing when no target wants one. */
Status backward_emit(Backward *b, OpKind kind, const OpAttr *attr, const TensorId *in, int32_t in_count,
                     const TensorId *target, int32_t target_count);
/* d(target) += dy, as for a residual: shares dy's storage where it can, else appends a copy or addition. Call it after
 * the rule's other ops, for they may still read dy. */
Status backward_pass(Backward *b, TensorId target, TensorId dy);

#endif
