/* Trainable parameters in the order of the flat buffers (engine/params.h). */
#ifndef ENGINE_PARAM_ORDER_H
#define ENGINE_PARAM_ORDER_H

#include "engine/params.h"

typedef struct ParamOrder {
    const Param **params; /* (count), ascending offsets; borrowed from the table */
    int32_t count;
    int64_t largest; /* elements; at least 1 */
} ParamOrder;

/* The table must be laid out. */
Status param_order_make(const ParamTable *table, ParamOrder *out);
void param_order_free(ParamOrder *order);

#endif
