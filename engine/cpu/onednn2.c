/* engine/cpu/onednn_api.h on oneDNN 2: operation descriptors, memory descriptors by value. */
#include "engine/cpu/onednn_api.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

dnnl_status_t api_layout_create(int32_t ndim, const int64_t *dim, dnnl_data_type_t type, const int64_t *stride,
                                DnnLayout *out)
{
    dnnl_dims_t dims = {0}, strides = {0};
    memcpy(dims, dim, (size_t)ndim * sizeof *dim);
    if (stride) memcpy(strides, stride, (size_t)ndim * sizeof *stride);
    dnnl_memory_desc_t *desc = mem_alloc_array(1, sizeof *desc);
    if (!desc) return dnnl_out_of_memory;
    dnnl_status_t code = stride ? dnnl_memory_desc_init_by_strides(desc, ndim, dims, type, strides)
                                : dnnl_memory_desc_init_by_tag(desc, ndim, dims, type, dnnl_format_tag_any);
    if (code != dnnl_success) {
        free(desc);
        return code;
    }
    *out = desc;
    return dnnl_success;
}

void api_layout_free(DnnLayout layout)
{
    union {
        DnnLayout in;
        void *out;
    } owned = {layout};
    free(owned.out);
}

bool api_blocked(DnnLayout layout, DnnBlocked *out)
{
    const dnnl_memory_desc_t *desc = layout;
    if (desc->format_kind != dnnl_blocked || desc->extra.flags != dnnl_memory_extra_flag_none || desc->offset0 != 0)
        return false;
    const dnnl_blocking_desc_t *blocking = &desc->format_desc.blocking;
    if (desc->ndims > DNN_MAX_DIMS || blocking->inner_nblks > DNN_MAX_BLOCKS) return false;
    if (desc->data_type != dnnl_bf16 && desc->data_type != dnnl_f32) return false;
    *out = (DnnBlocked){.type = desc->data_type == dnnl_bf16 ? DNN_BF16 : DNN_F32, .blocks = blocking->inner_nblks};
    for (int i = 0; i < out->blocks; i++) {
        out->block_dim[i] = (int32_t)blocking->inner_idxs[i];
        out->block[i] = blocking->inner_blks[i];
    }
    for (int d = 0; d < desc->ndims; d++) {
        out->padded[d] = desc->padded_dims[d];
        out->stride[d] = blocking->strides[d];
    }
    return true;
}

dnnl_status_t api_append_sum(dnnl_post_ops_t post_ops)
{
    return dnnl_post_ops_append_sum(post_ops, 1.0f);
}

dnnl_status_t api_convolution(const DnnSpec *spec, const ConvolutionLayouts *l, dnnl_engine_t engine,
                              const_dnnl_primitive_attr_t attr, dnnl_primitive_desc_t *out)
{
    dnnl_convolution_desc_t forward, wanted;
    dnnl_primitive_desc_t hint = NULL;
    dnnl_dims_t strides = {spec->stride, spec->stride};
    dnnl_dims_t pad_begin = {spec->pad_top, spec->pad_left}, pad_end = {spec->pad_bottom, spec->pad_right};
    dnnl_status_t code =
        dnnl_convolution_forward_desc_init(&forward, dnnl_forward_training, dnnl_convolution_direct, l->src,
                                           l->forward_weights, l->bias, l->dst, strides, pad_begin, pad_end);
    if (code != dnnl_success) return code;
    if (spec->kind == DNN_CONV_FORWARD) return dnnl_primitive_desc_create(out, &forward, attr, engine, NULL);

    code = dnnl_primitive_desc_create(&hint, &forward, NULL, engine, NULL);
    if (code != dnnl_success) return code;
    code = spec->kind == DNN_CONV_BACKWARD_DATA
               ? dnnl_convolution_backward_data_desc_init(&wanted, dnnl_convolution_direct, l->src, l->weights, l->dst,
                                                          strides, pad_begin, pad_end)
               : dnnl_convolution_backward_weights_desc_init(&wanted, dnnl_convolution_direct, l->src, l->weights,
                                                             l->bias, l->dst, strides, pad_begin, pad_end);
    if (code == dnnl_success) code = dnnl_primitive_desc_create(out, &wanted, attr, engine, hint);
    dnnl_primitive_desc_destroy(hint);
    return code;
}

dnnl_status_t api_matmul(DnnLayout src, DnnLayout weights, DnnLayout bias, DnnLayout dst, dnnl_engine_t engine,
                         const_dnnl_primitive_attr_t attr, dnnl_primitive_desc_t *out)
{
    dnnl_matmul_desc_t wanted;
    dnnl_status_t code = dnnl_matmul_desc_init(&wanted, src, weights, bias, dst);
    return code == dnnl_success ? dnnl_primitive_desc_create(out, &wanted, attr, engine, NULL) : code;
}
