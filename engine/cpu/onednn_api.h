/* What differs between the C APIs of oneDNN 2 and 3, for onednn.c alone: onednn2.c and onednn3.c implement it.
 *
 * A layout is the library's memory descriptor: a struct in version 2, a handle in version 3; both are passed on as a
 * pointer, so this header needs no name for it. */
#ifndef ENGINE_CPU_ONEDNN_API_H
#define ENGINE_CPU_ONEDNN_API_H

#include <oneapi/dnnl/dnnl.h>

#include "engine/cpu/onednn.h"

typedef const void *DnnLayout;

/* `stride` NULL: the library chooses. */
dnnl_status_t api_layout_create(int32_t ndim, const int64_t *dim, dnnl_data_type_t type, const int64_t *stride,
                                DnnLayout *out);
void api_layout_free(DnnLayout layout); /* NULL is fine */

/* False where the layout is not a blocked one, or has more to it. */
bool api_blocked(DnnLayout layout, DnnBlocked *out);

dnnl_status_t api_append_sum(dnnl_post_ops_t post_ops);

typedef struct ConvolutionLayouts {
    DnnLayout src, weights, bias, dst; /* bias NULL: none */
    DnnLayout forward_weights;         /* of the forward pass, which the backward kinds must be told */
} ConvolutionLayouts;
dnnl_status_t api_convolution(const DnnSpec *spec, const ConvolutionLayouts *layouts, dnnl_engine_t engine,
                              const_dnnl_primitive_attr_t attr, dnnl_primitive_desc_t *out);
dnnl_status_t api_matmul(DnnLayout src, DnnLayout weights, DnnLayout bias, DnnLayout dst, dnnl_engine_t engine,
                         const_dnnl_primitive_attr_t attr, dnnl_primitive_desc_t *out);

#endif
