#include "engine/param_order.h"

#include <stdlib.h>

#include "base/arena.h"

static int by_offset(const void *a, const void *b)
{
    const Param *const *p = a, *const *q = b;
    return ((*p)->offset > (*q)->offset) - ((*p)->offset < (*q)->offset);
}

Status param_order_make(const ParamTable *table, ParamOrder *out)
{
    Status status = STATUS_OK;
    *out = (ParamOrder){.largest = 1};
    out->params = mem_alloc_array((size_t)param_table_size(table) + 1, sizeof(Param *));
    if (!out->params) FAIL(ERR_MEMORY, "out of memory");
    for (int32_t i = 0; i < param_table_size(table); i++) {
        const Param *param = param_table_get(table, i);
        if (!param->trainable) continue;
        out->params[out->count++] = param;
        if (param->count > out->largest) out->largest = param->count;
    }
    qsort(out->params, (size_t)out->count, sizeof(Param *), by_offset);
fail:
    return status;
}

void param_order_free(ParamOrder *order)
{
    free(order->params);
    *order = (ParamOrder){0};
}
