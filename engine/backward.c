/* Appends gradient ops: a walk over the forward ops in reverse, each by its own rule.
 *
 * Gradients belong to roots: a view's gradient is a view of its root's gradient. The first op to write a gradient sets
 * it, later ones add. Where a segment is recomputed, its forward ops are appended once more just before the segment's
 * first gradient op, writing fresh tensors that the rules then read through backward_value. */
#include "engine/backward.h"

#include <stdlib.h>
#include <string.h>

#include "engine/graph_internal.h"

struct Backward {
    Graph *graph;
    bool recompute;
    TensorId *grad;      /* per root: the tensor that holds its gradient (a root itself), or TENSOR_NONE */
    bool *written;       /* per root: the gradient has had its first writer */
    TensorId *copy;      /* per tensor: its recomputed copy, or TENSOR_NONE */
    bool *kept;          /* per root: read outside its segment, so never recomputed */
    size_t tensor_count; /* of the forward graph: the length of the arrays above */
    int32_t op;          /* the forward op whose rule runs */
    TensorId passed;     /* the gradient root that this rule has given away by backward_pass */
};

Graph *backward_graph(Backward *b)
{
    return b->graph;
}

bool backward_wants(const Backward *b, TensorId tensor)
{
    return tensor != TENSOR_NONE && b->graph->tensors[tensor].requires_grad;
}

TensorId backward_value(Backward *b, TensorId tensor)
{
    if (tensor == TENSOR_NONE || (size_t)tensor >= b->tensor_count) return tensor;
    TensorId root = graph_root(b->graph, tensor);
    if (b->copy[root] == TENSOR_NONE) return tensor;
    return graph_view(b->graph, b->copy[root], b->graph->tensors[tensor].shape);
}

TensorId backward_upstream(Backward *b, TensorId output)
{
    TensorId root = graph_root(b->graph, output);
    if (root == TENSOR_NONE || !b->written[root]) return TENSOR_NONE;
    return graph_view(b->graph, b->grad[root], b->graph->tensors[output].shape);
}

/* The tensor into which the next gradient of `target` goes, and whether it adds to what is there. */
static TensorId gradient_slot(Backward *b, TensorId target, bool *accumulate)
{
    Graph *graph = b->graph;
    TensorId root = graph_root(graph, target);
    if (b->grad[root] == TENSOR_NONE) {
        Tensor grad = graph->tensors[root];
        grad.kind = grad.kind == TENSOR_PARAM ? TENSOR_PARAM_GRAD : TENSOR_VALUE;
        grad.is_output = graph->tensors[root].kind == TENSOR_INPUT;
        grad.requires_grad = false;
        grad.view_of = grad.grad = TENSOR_NONE;
        grad.constant = NULL;
        b->grad[root] = graph_add_tensor(graph, &grad);
    }
    *accumulate = b->written[root];
    b->written[root] = true;
    return graph_view(graph, b->grad[root], graph->tensors[target].shape);
}

Status backward_emit(Backward *b, OpKind kind, const OpAttr *attr, const TensorId *in, int32_t in_count,
                     const TensorId *target, int32_t target_count)
{
    Op op = {.kind = kind,
             .in_count = in_count,
             .out_count = target_count,
             .attr = *attr,
             .segment = -1,
             .forward = b->op,
             .is_backward = true};
    bool wanted = false;
    for (int32_t k = 0; k < in_count; k++) op.in[k] = in[k];
    for (int32_t k = 0; k < target_count; k++) {
        op.out[k] = TENSOR_NONE;
        if (!backward_wants(b, target[k])) continue;
        bool accumulate = false;
        op.out[k] = gradient_slot(b, target[k], &accumulate);
        op.accumulate |= (uint32_t)accumulate << k;
        wanted = true;
    }
    if (wanted) graph_append(b->graph, &op);
    return graph_status(b->graph);
}

Status backward_pass(Backward *b, TensorId target, TensorId dy)
{
    if (!backward_wants(b, target)) return STATUS_OK;
    Graph *graph = b->graph;
    TensorId root = graph_root(graph, target), dy_root = graph_root(graph, dy);
    /* After this rule nobody reads dy as the gradient of the op's output, so the target may take its storage, once. */
    bool can_share = !b->written[root] && dy_root != b->passed && graph->tensors[dy_root].kind == TENSOR_VALUE &&
                     graph->tensors[root].kind == TENSOR_VALUE &&
                     graph->tensors[dy_root].dtype == graph->tensors[root].dtype &&
                     shape_count(&graph->tensors[dy_root].shape) == shape_count(&graph->tensors[root].shape);
    if (can_share) {
        b->grad[root] = dy_root;
        b->written[root] = true;
        b->passed = dy_root;
        return STATUS_OK;
    }
    OpAttr attr = {0};
    return backward_emit(b, OP_CAST, &attr, &dy, 1, &target, 1);
}

/* Marks the roots that some op outside their own segment reads, or that are outputs: they stay. */
static void find_kept(Backward *b)
{
    Graph *graph = b->graph;
    int32_t *producer_segment = mem_alloc_array(b->tensor_count, sizeof *producer_segment);
    if (producer_segment == NULL) {
        graph_fail(graph, ERR_MEMORY, "out of memory for the backward pass");
        return;
    }
    for (size_t t = 0; t < b->tensor_count; t++) producer_segment[t] = -1;
    for (int32_t i = 0; i < graph->forward_op_count; i++)
        for (int32_t k = 0; k < graph->ops[i].out_count; k++)
            if (graph->ops[i].out[k] != TENSOR_NONE)
                producer_segment[graph_root(graph, graph->ops[i].out[k])] = graph->ops[i].segment;
    for (size_t t = 0; t < b->tensor_count; t++) b->kept[t] = producer_segment[t] < 0 || graph->tensors[t].is_output;
    for (int32_t i = 0; i < graph->forward_op_count; i++)
        for (int32_t k = 0; k < graph->ops[i].in_count; k++) {
            TensorId root = graph_root(graph, graph->ops[i].in[k]);
            if (root != TENSOR_NONE && producer_segment[root] != graph->ops[i].segment) b->kept[root] = true;
        }
    free(producer_segment);
}

/* Appends the ops of a segment again, writing fresh tensors for everything that was not kept. */
static void recompute_segment(Backward *b, int32_t segment)
{
    Graph *graph = b->graph;
    for (int32_t i = 0; i < graph->forward_op_count && graph_ok(graph); i++) {
        if (graph->ops[i].segment != segment) continue;
        Op op = graph->ops[i];
        bool needed = false;
        for (int32_t k = 0; k < op.out_count; k++)
            needed |= op.out[k] != TENSOR_NONE && !b->kept[graph_root(graph, op.out[k])];
        if (!needed) continue;
        for (int32_t k = 0; k < op.in_count; k++) op.in[k] = backward_value(b, op.in[k]);
        for (int32_t k = 0; k < op.out_count; k++) {
            if (op.out[k] == TENSOR_NONE) continue;
            TensorId root = graph_root(graph, op.out[k]);
            Tensor fresh = graph->tensors[root];
            fresh.requires_grad = fresh.is_output = false;
            TensorId copy = graph_add_tensor(graph, &fresh);
            if (!b->kept[root]) b->copy[root] = copy;
            op.out[k] = graph_view(graph, copy, graph->tensors[op.out[k]].shape);
        }
        op.is_backward = op.is_recomputed = true;
        op.forward = i;
        op.segment = -1;
        graph_append(graph, &op);
    }
}

/* Removes recomputed ops that no later op reads. */
static void drop_unread_copies(Graph *graph)
{
    bool *read = mem_alloc_array(graph->tensor_count, sizeof *read);
    if (read == NULL) {
        graph_fail(graph, ERR_MEMORY, "out of memory for the backward pass");
        return;
    }
    bool *drop = mem_alloc_array(graph->op_count, sizeof *drop);
    if (drop == NULL) {
        graph_fail(graph, ERR_MEMORY, "out of memory for the backward pass");
        free(read);
        return;
    }
    for (size_t i = graph->op_count; i-- > 0;) {
        const Op *op = &graph->ops[i];
        if (op->is_recomputed) {
            drop[i] = true;
            for (int32_t k = 0; k < op->out_count; k++)
                if (op->out[k] != TENSOR_NONE && read[graph_root(graph, op->out[k])]) drop[i] = false;
        }
        for (int32_t k = 0; k < op->in_count && !drop[i]; k++)
            if (op->in[k] != TENSOR_NONE) read[graph_root(graph, op->in[k])] = true;
    }
    size_t kept = 0;
    for (size_t i = 0; i < graph->op_count; i++)
        if (!drop[i]) graph->ops[kept++] = graph->ops[i];
    graph->op_count = kept;
    free(drop);
    free(read);
}

/* Lays out the parameters by the op that last writes each gradient; those never written come last. */
static Status lay_out_by_completion(Graph *graph)
{
    Status status = STATUS_OK;
    int32_t *order = NULL;
    bool *placed = NULL;
    int32_t total = param_table_size(graph->params), count = 0;
    if (param_table_is_laid_out(graph->params)) return STATUS_OK;
    order = mem_alloc_array((size_t)total + 1, sizeof *order);
    placed = mem_alloc_array((size_t)total + 1, sizeof *placed);
    if (order == NULL || placed == NULL) FAIL(ERR_MEMORY, "out of memory for %d parameters", total);
    /* From the end: the first time a parameter is met is its last write. */
    for (size_t i = graph->op_count; i-- > 0;)
        for (int32_t k = OP_MAX_OUT; k-- > 0;) {
            TensorId out = graph->ops[i].out[k];
            if (out == TENSOR_NONE || graph->tensors[out].kind != TENSOR_PARAM_GRAD) continue;
            int32_t param = graph->tensors[out].param;
            if (!placed[param]) order[count++] = param;
            placed[param] = true;
        }
    for (int32_t i = 0; i < count / 2; i++) {
        int32_t swap = order[i];
        order[i] = order[count - 1 - i];
        order[count - 1 - i] = swap;
    }
    TRY(param_table_layout(graph->params, order, count));
fail:
    free(order);
    free(placed);
    return status;
}

/* Runs the rule of every forward op whose output has a gradient, last op first. */
static Status walk(Backward *b, TensorId of, TensorId seed)
{
    Status status = STATUS_OK;
    Graph *graph = b->graph;
    TensorId of_root = graph_root(graph, of);
    int32_t open_segment = -1; /* the segment whose copies exist now */
    if (seed != TENSOR_NONE) {
        b->grad[of_root] = graph_root(graph, seed);
        b->written[of_root] = true;
    }
    for (int32_t i = graph->forward_op_count; i-- > 0;) {
        Op op = graph->ops[i]; /* a copy: rules append, and the array may move */
        bool wanted = false;
        for (int32_t k = 0; k < op.out_count; k++) {
            TensorId root = graph_root(graph, op.out[k]);
            if (root == TENSOR_NONE) continue;
            wanted |= b->written[root] || (seed == TENSOR_NONE && root == of_root);
        }
        if (!wanted || !graph->tensors[op.out[0]].requires_grad) continue;
        const OpInfo *info = op_info(op.kind);
        if (info->gradient == NULL) FAIL(ERR_INTERNAL, "op %s has no gradient, yet one is wanted", info->name);
        if (b->recompute && op.segment >= 0 && op.segment != open_segment) {
            open_segment = op.segment;
            recompute_segment(b, op.segment);
        }
        b->op = i;
        b->passed = TENSOR_NONE;
        TRY(info->gradient(b, &op));
        TRY(graph_status(graph));
    }
fail:
    return status;
}

Status graph_backward(Graph *graph, TensorId of, TensorId seed, bool recompute)
{
    Status status = STATUS_OK;
    Backward b = {.graph = graph, .recompute = recompute, .passed = TENSOR_NONE};
    TRY(graph_status(graph));
    if (graph->forward_op_count >= 0) FAIL(ERR_INTERNAL, "graph_backward was called twice");
    if (seed != TENSOR_NONE && (!shape_equal(&graph->tensors[seed].shape, &graph->tensors[of].shape) ||
                                graph->tensors[seed].dtype != graph->tensors[of].dtype))
        FAIL(ERR_INTERNAL, "the seed of graph_backward must have the shape and dtype of '%s'", graph->tensors[of].name);
    graph->forward_op_count = (int32_t)graph->op_count;

    b.tensor_count = graph->tensor_count;
    b.grad = mem_alloc_array(b.tensor_count, sizeof *b.grad);
    b.copy = mem_alloc_array(b.tensor_count, sizeof *b.copy);
    b.written = mem_alloc_array(b.tensor_count, sizeof *b.written);
    b.kept = mem_alloc_array(b.tensor_count, sizeof *b.kept);
    if (b.grad == NULL || b.copy == NULL || b.written == NULL || b.kept == NULL)
        FAIL(ERR_MEMORY, "out of memory for the backward pass of %zu tensors", b.tensor_count);
    for (size_t t = 0; t < b.tensor_count; t++) b.grad[t] = b.copy[t] = TENSOR_NONE;
    if (recompute) find_kept(&b);
    TRY(graph_status(graph));

    TRY(walk(&b, of, seed));
    if (recompute) drop_unread_copies(graph);
    for (size_t t = 0; t < b.tensor_count; t++) graph->tensors[t].grad = b.written[t] ? b.grad[t] : TENSOR_NONE;
    TRY(graph_status(graph));
    TRY(lay_out_by_completion(graph));
fail:
    free(b.grad);
    free(b.copy);
    free(b.written);
    free(b.kept);
    return status;
}
