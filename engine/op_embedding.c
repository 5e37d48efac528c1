#include <inttypes.h>
#include <math.h>

#include "engine/op_build.h"

TensorId op_embedding(Graph *g, TensorId ids, TensorId table, TensorId positions, Dtype dtype)
{
    static const char name[] = "op_embedding";
    const Operand oids = operand_read(g, name, "ids", ids, OPERAND_I32);
    const Operand otable = operand_read(g, name, "table", table, OPERAND_F32);
    const Operand opositions = operand_read_optional(g, name, "positions", positions, OPERAND_F32);
    operand_want_dims(g, &oids, 2, 2);
    operand_want_dims(g, &otable, 2, 2);
    operand_want_dims(g, &opositions, 2, 2);
    if (!graph_ok(g)) return TENSOR_NONE;
    const int64_t n = oids.shape.dim[0], t = oids.shape.dim[1], d = otable.shape.dim[1];
    if (opositions.present) {
        operand_want_shape(g, &opositions, SHAPE2(opositions.shape.dim[0], d));
        if (graph_ok(g) && opositions.shape.dim[0] < t) {
            graph_fail(g, ERR_INTERNAL, "%s: %" PRId64 " tokens, but '%s' has %" PRId64 " positions", name, t,
                       graph_tensor(g, positions)->name, opositions.shape.dim[0]);
        }
    }
    if (graph_ok(g) && dtype != DTYPE_F32 && dtype != DTYPE_BF16) {
        graph_fail(g, ERR_INTERNAL, "%s: output in %s; only f32 and bf16 are", name, dtype_name(dtype));
    }
    if (!graph_ok(g)) return TENSOR_NONE;
    Op op = op_make(OP_EMBEDDING);
    op.in_count = 3;
    op.in[0] = ids, op.in[1] = table, op.in[2] = positions;
    return op_append(g, &op, dtype, SHAPE3(n, t, d));
}

TensorId op_masked_mean(Graph *g, TensorId x, TensorId mask)
{
    static const char name[] = "op_masked_mean";
    const Operand ox = operand_read(g, name, "x", x, OPERAND_ACTIVATION);
    const Operand omask = operand_read(g, name, "mask", mask, OPERAND_I32);
    operand_want_dims(g, &ox, 3, 3);
    if (!graph_ok(g)) return TENSOR_NONE;
    operand_want_shape(g, &omask, SHAPE2(ox.shape.dim[0], ox.shape.dim[1]));
    Op op = op_make(OP_MASKED_MEAN);
    op.in_count = 2;
    op.in[0] = x, op.in[1] = mask;
    return op_append(g, &op, ox.dtype, SHAPE2(ox.shape.dim[0], ox.shape.dim[2]));
}

TensorId op_position_ids(Graph *g, TensorId ids, int32_t padding_id)
{
    static const char name[] = "op_position_ids";
    const Operand oids = operand_read(g, name, "ids", ids, OPERAND_I32);
    operand_want_dims(g, &oids, 2, 2);
    if (!graph_ok(g)) return TENSOR_NONE;
    if (padding_id < 0 || oids.shape.dim[1] > INT32_MAX - padding_id) {
        graph_fail(g, ERR_INTERNAL, "%s: padding id %d and %" PRId64 " tokens; positions must lie in [0, 2^31)", name,
                   padding_id, oids.shape.dim[1]);
        return TENSOR_NONE;
    }
    Op op = op_make(OP_POSITION_IDS);
    op.in_count = 1;
    op.in[0] = ids;
    op.attr.text.padding_id = padding_id;
    return op_append(g, &op, DTYPE_I32, oids.shape);
}

TensorId op_relative_bias(Graph *g, TensorId table, int64_t rows, int32_t max_distance)
{
    static const char name[] = "op_relative_bias";
    const Operand otable = operand_read(g, name, "table", table, OPERAND_F32);
    operand_want_dims(g, &otable, 2, 2);
    if (!graph_ok(g)) return TENSOR_NONE;
    const int64_t buckets = otable.shape.dim[0];
    if (rows < 1 || rows > INT32_MAX || buckets < 4 || max_distance <= buckets / 2 / 2) {
        graph_fail(g, ERR_INTERNAL,
                   "%s: %" PRId64 " rows, %" PRId64 " buckets (4 or more), max_distance %d (more than a quarter "
                   "of the buckets)",
                   name, rows, buckets, max_distance);
        return TENSOR_NONE;
    }
    Op op = op_make(OP_RELATIVE_BIAS);
    op.in_count = 1;
    op.in[0] = table;
    op.attr.text.max_distance = max_distance;
    return op_append(g, &op, DTYPE_F32, SHAPE3(otable.shape.dim[1], rows, rows));
}

/* The logarithm is taken in fp32, as those who trained T5 took it: in fp64 a distance that lies on a boundary could
 * fall into another bucket. */
int64_t op_relative_bucket(int64_t distance, int64_t buckets, int32_t max_distance)
{
    const int64_t half = buckets / 2, exact = half / 2, first = distance > 0 ? half : 0;
    const int64_t away = distance < 0 ? -distance : distance;
    if (away < exact) return first + away;
    const float octaves = logf((float)away / (float)exact) / (float)log((double)max_distance / (double)exact);
    const int64_t far = exact + (int64_t)(octaves * (float)(half - exact));
    return first + (far < half - 1 ? far : half - 1);
}

static OpCost embedding_cost(const Graph *g, const Op *op)
{
    /* Only the rows that the ids name are read. */
    const Tensor *y = graph_tensor(g, op->out[0]);
    const double elements = (double)shape_count(&y->shape);
    const double sources = op->in[2] == TENSOR_NONE ? 1 : 2;
    return (OpCost){0, elements * ((double)dtype_size(y->dtype) + 4 * sources) + 4 * (double)shape_rows(&y->shape)};
}

const OpInfo op_info_EMBEDDING = {"embedding", NULL, embedding_cost};
const OpInfo op_info_MASKED_MEAN = {"masked_mean", NULL, op_cost_elementwise};
const OpInfo op_info_POSITION_IDS = {"position_ids", NULL, op_cost_elementwise};
const OpInfo op_info_RELATIVE_BIAS = {"relative_bias", NULL, op_cost_elementwise};
