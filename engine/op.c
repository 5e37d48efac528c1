#include "engine/op_build.h"

#include <stdio.h>

static const OpInfo *const infos[OP_COUNT] = {
#define OP(NAME, family) [OP_##NAME] = &op_info_##NAME,
#include "engine/ops.def"
#undef OP
};

const OpInfo *op_info(OpKind kind)
{
    return infos[kind];
}

bool op_weights_are_computed(const Graph *graph, const Op *op)
{
    if (op->kind != OP_CONV2D && op->kind != OP_CONV2D_GRAD_X) return false;
    const TensorId weights = op->in[op->kind == OP_CONV2D ? 1 : 0];
    const TensorKind storage = graph_tensor(graph, graph_root(graph, weights))->kind;
    return storage != TENSOR_PARAM && storage != TENSOR_CONSTANT;
}

static void describe(const Graph *g, TensorId id, char *out, size_t capacity)
{
    const char *name = graph_tensor(g, id)->name;
    snprintf(out, capacity, "%s%s%s", name && name[0] ? "'" : "", name && name[0] ? name : "(unnamed)",
             name && name[0] ? "'" : "");
}

Operand operand_read_optional(Graph *g, const char *op, const char *role, TensorId id, OperandRole kind)
{
    Operand o = {.id = TENSOR_NONE, .op = op, .role = role};
    if (!graph_ok(g) || id == TENSOR_NONE) return o;
    if (id < 0 || id >= graph_tensor_count(g)) {
        graph_fail(g, ERR_INTERNAL, "%s: %s is tensor %d, and the graph has %d", op, role, id, graph_tensor_count(g));
        return o;
    }
    const Tensor *t = graph_tensor(g, id);
    o = (Operand){.id = id,
                  .present = true,
                  .requires_grad = t->requires_grad,
                  .dtype = t->dtype,
                  .shape = t->shape,
                  .op = op,
                  .role = role};
    bool fits = false;
    const char *wanted = "";
    switch (kind) {
    case OPERAND_ACTIVATION:
        fits = t->dtype == DTYPE_F32 || t->dtype == DTYPE_BF16, wanted = "f32 or bf16";
        break;
    case OPERAND_F32:
    case OPERAND_WEIGHT:
        fits = t->dtype == DTYPE_F32, wanted = "f32";
        break;
    case OPERAND_I32:
        fits = t->dtype == DTYPE_I32, wanted = "i32";
        break;
    }
    char name[160];
    describe(g, id, name, sizeof name);
    if (!fits) {
        graph_fail(g, ERR_INTERNAL, "%s: %s %s is %s, expected %s", op, role, name, dtype_name(t->dtype), wanted);
        return o;
    }
    if (kind == OPERAND_WEIGHT) {
        const TensorKind storage = graph_tensor(g, graph_root(g, id))->kind;
        if (storage != TENSOR_PARAM && storage != TENSOR_CONSTANT) {
            graph_fail(g, ERR_INTERNAL, "%s: %s %s is computed or an input; weights must be parameters or constants",
                       op, role, name);
        }
    }
    return o;
}

Operand operand_read(Graph *g, const char *op, const char *role, TensorId id, OperandRole kind)
{
    if (graph_ok(g) && id == TENSOR_NONE) graph_fail(g, ERR_INTERNAL, "%s: %s is missing", op, role);
    return operand_read_optional(g, op, role, id, kind);
}

void operand_want_dims(Graph *g, const Operand *o, int32_t least, int32_t most)
{
    if (!graph_ok(g) || !o->present || (o->shape.ndim >= least && o->shape.ndim <= most)) return;
    char name[160], have[96];
    describe(g, o->id, name, sizeof name);
    shape_format(&o->shape, have, sizeof have);
    graph_fail(g, ERR_INTERNAL, "%s: %s %s has shape %s, expected %d to %d dimensions", o->op, o->role, name, have,
               least, most);
}

void operand_want_shape(Graph *g, const Operand *o, Shape shape)
{
    if (!graph_ok(g) || !o->present || shape_equal(&o->shape, &shape)) return;
    char name[160], have[96], want[96];
    describe(g, o->id, name, sizeof name);
    shape_format(&o->shape, have, sizeof have);
    shape_format(&shape, want, sizeof want);
    graph_fail(g, ERR_INTERNAL, "%s: %s %s has shape %s, expected %s", o->op, o->role, name, have, want);
}

void operand_want_dtype_of(Graph *g, const Operand *o, const Operand *other)
{
    if (!graph_ok(g) || !o->present || !other->present || o->dtype == other->dtype) return;
    char name[160], other_name[160];
    describe(g, o->id, name, sizeof name);
    describe(g, other->id, other_name, sizeof other_name);
    graph_fail(g, ERR_INTERNAL, "%s: %s %s is %s but %s %s is %s; cast one (op_cast)", o->op, o->role, name,
               dtype_name(o->dtype), other->role, other_name, dtype_name(other->dtype));
}

Op op_make(OpKind kind)
{
    Op op = {.kind = kind, .segment = -1, .forward = -1};
    for (int i = 0; i < OP_MAX_IN; i++) op.in[i] = TENSOR_NONE;
    for (int i = 0; i < OP_MAX_OUT; i++) op.out[i] = TENSOR_NONE;
    return op;
}

TensorId op_append(Graph *g, Op *op, Dtype dtype, Shape shape)
{
    if (!graph_ok(g)) return TENSOR_NONE;
    op->out[0] = graph_new_value(g, dtype, shape);
    if (op->out_count < 1) op->out_count = 1;
    graph_append(g, op);
    return graph_ok(g) ? op->out[0] : TENSOR_NONE;
}

const Shape *op_shape(const Graph *g, TensorId id)
{
    return &graph_tensor(g, id)->shape;
}

static double tensor_bytes(const Graph *g, TensorId id)
{
    if (id == TENSOR_NONE) return 0;
    const Tensor *t = graph_tensor(g, id);
    return (double)shape_count(&t->shape) * (double)dtype_size(t->dtype);
}

double op_operand_bytes(const Graph *g, const Op *op)
{
    double bytes = 0;
    for (int32_t i = 0; i < op->in_count; i++) bytes += tensor_bytes(g, op->in[i]);
    for (int32_t k = 0; k < op->out_count; k++) {
        bytes += tensor_bytes(g, op->out[k]) * (op->accumulate >> k & 1u ? 2 : 1);
    }
    return bytes;
}

OpCost op_cost_elementwise(const Graph *g, const Op *op)
{
    return (OpCost){0, op_operand_bytes(g, op)};
}
