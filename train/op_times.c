#include "train/op_times.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

static int by_seconds(const void *a, const void *b)
{
    double x = ((const OpTime *)a)->seconds, y = ((const OpTime *)b)->seconds;
    return (x < y) - (x > y);
}

/* "32x16x16x128", of the first output that is there. */
static void describe_shape(const Graph *graph, const Op *op, char *out, size_t capacity)
{
    out[0] = '\0';
    for (int32_t k = 0; k < op->out_count; k++) {
        if (op->out[k] == TENSOR_NONE) continue;
        shape_format(&graph_tensor(graph, op->out[k])->shape, out, capacity);
        return;
    }
}

static OpTime *find(OpTimes *times, OpKind kind, const char *shape)
{
    for (int32_t i = 0; i < times->count; i++)
        if (times->items[i].kind == kind && strcmp(times->items[i].shape, shape) == 0) return &times->items[i];
    OpTime *item = &times->items[times->count++];
    *item = (OpTime){.kind = kind};
    snprintf(item->shape, sizeof item->shape, "%s", shape);
    return item;
}

Status op_times_make(const Graph *graph, const double *op_seconds, double runs, const OpRoofs *roofs, bool by_shape,
                     OpTimes *out)
{
    Status status = STATUS_OK;
    const int32_t ops = graph_op_count(graph);
    *out = (OpTimes){0};
    out->items = mem_alloc_array((size_t)ops + 1, sizeof *out->items);
    if (!out->items) FAIL(ERR_MEMORY, "no memory for the times of %d ops", ops);
    for (int32_t i = 0; i < ops; i++) {
        const Op *op = graph_op(graph, i);
        const OpCost cost = op_info(op->kind)->cost(graph, op);
        char shape[96] = "";
        if (by_shape) describe_shape(graph, op, shape, sizeof shape);
        OpTime *item = find(out, op->kind, shape);
        const double by_flops = roofs->flops > 0 ? cost.flops / roofs->flops : 0;
        const double by_bytes = roofs->bytes > 0 ? cost.bytes / roofs->bytes : 0;
        item->ops++;
        item->seconds += op_seconds[i] / runs;
        item->flops += cost.flops;
        item->bytes += cost.bytes;
        item->roof_seconds += by_flops > by_bytes ? by_flops : by_bytes;
    }
    qsort(out->items, (size_t)out->count, sizeof *out->items, by_seconds);
fail:
    return status;
}

void op_times_free(OpTimes *times)
{
    free(times->items);
    *times = (OpTimes){0};
}

void op_times_print(const OpTimes *times, double runs, double total)
{
    printf("\n  %-22s %5s %13s %7s %12s %10s %9s\n", "op", "count", "a step", "share", "GFLOP/s", "GB/s", "of roof");
    for (int32_t i = 0; i < times->count; i++) {
        const OpTime *t = &times->items[i];
        const double seconds = t->seconds * runs;
        printf("  %-22s %5d %10.3f ms %6.1f%%", op_info(t->kind)->name, t->ops, seconds * 1e3, 100 * seconds / total);
        if (t->seconds > 0 && t->flops > 0)
            printf(" %12.1f", t->flops / t->seconds / 1e9);
        else
            printf(" %12s", "");
        if (t->seconds > 0)
            printf(" %10.1f", t->bytes / t->seconds / 1e9);
        else
            printf(" %10s", "");
        if (t->seconds > 0 && t->roof_seconds > 0) printf(" %8.1f%%", 100 * t->roof_seconds / t->seconds);
        printf("%s%s\n", t->shape[0] ? "  " : "", t->shape);
    }
}

void op_times_print_other(const char *name, double seconds, double total)
{
    printf("  %-22s %5d %10.3f ms %6.1f%%\n", name, 1, seconds * 1e3, 100 * seconds / total);
}

void op_times_json(const OpTimes *times, double runs, JsonWriter *w)
{
    for (int32_t i = 0; i < times->count; i++) {
        const OpTime *t = &times->items[i];
        json_object(w, NULL);
        json_string(w, "op", op_info(t->kind)->name);
        if (t->shape[0]) json_string(w, "shape", t->shape);
        json_int(w, "count", t->ops);
        json_float(w, "seconds", t->seconds * runs);
        json_float(w, "gflop", t->flops * runs / 1e9);
        json_float(w, "gbyte", t->bytes * runs / 1e9);
        if (t->seconds > 0 && t->roof_seconds > 0) json_float(w, "share_of_roof", t->roof_seconds / t->seconds);
        json_end_object(w);
    }
}
