/* engine/cpu/onednn_api.h on oneDNN 3: no operation descriptors, memory descriptors as handles. */
#include "engine/cpu/onednn_api.h"

#include <string.h>

dnnl_status_t api_layout_create(int32_t ndim, const int64_t *dim, dnnl_data_type_t type, const int64_t *stride,
                                DnnLayout *out)
{
    dnnl_dims_t dims = {0}, strides = {0};
    memcpy(dims, dim, (size_t)ndim * sizeof *dim);
    if (stride) memcpy(strides, stride, (size_t)ndim * sizeof *stride);
    dnnl_memory_desc_t desc = NULL;
    dnnl_status_t code = stride ? dnnl_memory_desc_create_with_strides(&desc, ndim, dims, type, strides)
                                : dnnl_memory_desc_create_with_tag(&desc, ndim, dims, type, dnnl_format_tag_any);
    if (code == dnnl_success) *out = desc;
    return code;
}

void api_layout_free(DnnLayout layout)
{
    union {
        DnnLayout in;
        dnnl_memory_desc_t out;
    } owned = {layout};
    if (layout) dnnl_memory_desc_destroy(owned.out);
}

dnnl_status_t api_append_sum(dnnl_post_ops_t post_ops)
{
    return dnnl_post_ops_append_sum(post_ops, 1.0f, 0, dnnl_data_type_undef);
}

dnnl_status_t api_convolution(const DnnSpec *spec, const ConvolutionLayouts *l, dnnl_engine_t engine,
                              const_dnnl_primitive_attr_t attr, dnnl_primitive_desc_t *out)
{
    dnnl_primitive_desc_t hint = NULL;
    dnnl_dims_t strides = {spec->stride, spec->stride}, dilates = {0, 0};
    dnnl_dims_t pad_begin = {spec->pad_top, spec->pad_left}, pad_end = {spec->pad_bottom, spec->pad_right};
    bool forward = spec->kind == DNN_CONV_FORWARD;
    dnnl_status_t code = dnnl_convolution_forward_primitive_desc_create(
        forward ? out : &hint, engine, dnnl_forward_training, dnnl_convolution_direct, l->src, l->forward_weights,
        l->bias, l->dst, strides, dilates, pad_begin, pad_end, forward ? attr : NULL);
    if (forward || code != dnnl_success) return code;

    code = spec->kind == DNN_CONV_BACKWARD_DATA
               ? dnnl_convolution_backward_data_primitive_desc_create(out, engine, dnnl_convolution_direct, l->src,
                                                                      l->weights, l->dst, strides, dilates, pad_begin,
                                                                      pad_end, hint, attr)
               : dnnl_convolution_backward_weights_primitive_desc_create(out, engine, dnnl_convolution_direct, l->src,
                                                                         l->weights, l->bias, l->dst, strides, dilates,
                                                                         pad_begin, pad_end, hint, attr);
    dnnl_primitive_desc_destroy(hint);
    return code;
}

dnnl_status_t api_matmul(DnnLayout src, DnnLayout weights, DnnLayout bias, DnnLayout dst, dnnl_engine_t engine,
                         const_dnnl_primitive_attr_t attr, dnnl_primitive_desc_t *out)
{
    return dnnl_matmul_primitive_desc_create(out, engine, src, weights, bias, dst, attr);
}
