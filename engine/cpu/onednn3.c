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

bool api_blocked(DnnLayout layout, DnnBlocked *out)
{
    const_dnnl_memory_desc_t desc = layout;
    dnnl_format_kind_t kind = dnnl_format_kind_undef;
    dnnl_data_type_t type = dnnl_data_type_undef;
    dnnl_dim_t offset = 0;
    int ndim = 0, blocks = 0;
    dnnl_dims_t padded = {0}, strides = {0}, sizes = {0}, dims = {0};
    const struct {
        dnnl_query_t what;
        void *to;
    } queries[] = {{dnnl_query_format_kind, &kind},
                   {dnnl_query_data_type, &type},
                   {dnnl_query_submemory_offset_s64, &offset},
                   {dnnl_query_ndims_s32, &ndim},
                   {dnnl_query_inner_nblks_s32, &blocks}};
    for (size_t i = 0; i < sizeof queries / sizeof *queries; i++)
        if (dnnl_memory_desc_query(desc, queries[i].what, queries[i].to) != dnnl_success) return false;
    if (kind != dnnl_blocked || offset != 0 || ndim > DNN_MAX_DIMS || blocks > DNN_MAX_BLOCKS) return false;
    if (type != dnnl_bf16 && type != dnnl_f32) return false;
    /* Arrays are told by pointers into the descriptor. */
    const struct {
        dnnl_query_t what;
        dnnl_dim_t *to;
        int count;
    } arrays[] = {{dnnl_query_padded_dims, padded, ndim},
                  {dnnl_query_strides, strides, ndim},
                  {dnnl_query_inner_blks, sizes, blocks},
                  {dnnl_query_inner_idxs, dims, blocks}};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        const dnnl_dims_t *found = NULL;
        if (arrays[i].count == 0) continue;
        if (dnnl_memory_desc_query(desc, arrays[i].what, (void *)&found) != dnnl_success || !found) return false;
        memcpy(arrays[i].to, *found, (size_t)arrays[i].count * sizeof(dnnl_dim_t));
    }
    *out = (DnnBlocked){.type = type == dnnl_bf16 ? DNN_BF16 : DNN_F32, .blocks = blocks};
    int64_t within = 1;
    for (int i = 0; i < blocks; i++) {
        out->block_dim[i] = (int32_t)dims[i];
        out->block[i] = sizes[i];
        within *= sizes[i];
    }
    int64_t elements = 1;
    for (int d = 0; d < ndim; d++) {
        out->padded[d] = padded[d];
        out->stride[d] = strides[d];
        elements *= padded[d];
    }
    /* Whatever lies behind the elements (compensation) is not known here. */
    return elements % within == 0 &&
           dnnl_memory_desc_get_size(desc) == (size_t)elements * (type == dnnl_bf16 ? 2 : sizeof(float));
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
