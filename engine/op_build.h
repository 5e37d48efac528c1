/* What the op families share: reading and checking the operands of a constructor, appending, counting traffic.
 *
 * The checks do nothing once the graph has failed, so a constructor runs through all of them and asks graph_ok before
 * it computes with the shapes. */
#ifndef ENGINE_OP_BUILD_H
#define ENGINE_OP_BUILD_H

#include "engine/backward.h"
#include "engine/graph.h"
#include "engine/op.h"
#include "engine/ops.h"

#define OP(NAME, family) extern const OpInfo op_info_##NAME;
#include "engine/ops.def"
#undef OP

typedef enum OperandRole {
    OPERAND_ACTIVATION, /* F32 or BF16 */
    OPERAND_F32,
    OPERAND_I32,
    OPERAND_WEIGHT /* F32, and a parameter or constant: kernels keep packed copies of these */
} OperandRole;

/* A copy of what a constructor wants to know of an input; tensors move when the graph grows, so no pointers to them. */
typedef struct Operand {
    TensorId id;
    bool present;
    bool requires_grad;
    Dtype dtype;
    Shape shape;
    const char *op, *role; /* for messages: "op_conv2d", "x" */
} Operand;

Operand operand_read(Graph *g, const char *op, const char *role, TensorId id, OperandRole kind);
/* TENSOR_NONE gives an operand that is not present; the checks below pass it. */
Operand operand_read_optional(Graph *g, const char *op, const char *role, TensorId id, OperandRole kind);
void operand_want_dims(Graph *g, const Operand *o, int32_t least, int32_t most);
void operand_want_shape(Graph *g, const Operand *o, Shape shape);
void operand_want_dtype_of(Graph *g, const Operand *o, const Operand *other);

/* An op of this kind with every operand absent. */
Op op_make(OpKind kind);
/* Appends `op` with one new output of this type and shape as out[0]; returns it. */
TensorId op_append(Graph *g, Op *op, Dtype dtype, Shape shape);

/* A tensor of an op that is there. */
const Shape *op_shape(const Graph *g, TensorId id);
/* Traffic: every operand once, outputs that are added to twice. */
double op_operand_bytes(const Graph *g, const Op *op);
OpCost op_cost_elementwise(const Graph *g, const Op *op); /* no flops counted, operand bytes */

#endif
