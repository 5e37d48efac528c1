/* engine/cpu/onednn.h: what both C APIs of oneDNN have in common. */
#include "engine/cpu/onednn.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "engine/cpu/onednn_api.h"

#define ARGS_MAX 5

/* A primitive with memory objects for one run at a time, whose handles are set at each run, and a stream to run in. */
typedef struct Call {
    dnnl_primitive_t primitive;
    dnnl_stream_t stream;
    dnnl_exec_arg_t arg[ARGS_MAX];
    int count;
} Call;

struct DnnPrimitive {
    DnnSpec spec;
    dnnl_engine_t engine;
    dnnl_primitive_attr_t attr;
    dnnl_primitive_desc_t desc;
    Call *run; /* one a lane */
    Call pack, unpack_set, unpack_add;
    const char *implementation; /* the library's string, valid as long as desc */
    size_t scratchpad_bytes, packed_bytes;
    DnnBlocked packed; /* how packed weights lie, if is_blocked */
    bool is_blocked;
};

#define DNN_TRY(call)                                                                                 \
    do {                                                                                              \
        dnnl_status_t code_ = (call);                                                                 \
        if (code_ != dnnl_success) {                                                                  \
            status = status_fail(code_ == dnnl_out_of_memory   ? ERR_MEMORY                           \
                                 : code_ == dnnl_unimplemented ? ERR_UNSUPPORTED                      \
                                                               : ERR_INTERNAL,                        \
                                 __FILE__, __LINE__, "oneDNN: %s gave status %d", #call, (int)code_); \
            goto fail;                                                                                \
        }                                                                                             \
    } while (0)

/* What each kind calls its arguments. */
static const struct {
    int src, weights, bias, dst;
    dnnl_query_t weights_query;
} KIND[] = {
    [DNN_CONV_FORWARD] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DST, dnnl_query_weights_md},
    [DNN_CONV_BACKWARD_DATA] = {DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DIFF_DST,
                                dnnl_query_weights_md},
    [DNN_CONV_BACKWARD_WEIGHTS] = {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_BIAS, DNNL_ARG_DIFF_DST,
                                   dnnl_query_diff_weights_md},
    [DNN_MATMUL] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DST, dnnl_query_weights_md},
};

static dnnl_data_type_t data_type(DnnType type)
{
    return type == DNN_BF16 ? dnnl_bf16 : dnnl_f32;
}

static Status call_add(DnnPrimitive *p, Call *call, int kind, DnnLayout layout)
{
    Status status = STATUS_OK;
    dnnl_exec_arg_t *arg = &call->arg[call->count];
    arg->arg = kind;
    DNN_TRY(dnnl_memory_create(&arg->memory, layout, p->engine, DNNL_MEMORY_NONE));
    call->count++;
fail:
    return status;
}

/* Begins a call; its scratchpad is to be the last argument added. */
static Status call_begin(DnnPrimitive *p, Call *call, const_dnnl_primitive_desc_t desc)
{
    Status status = STATUS_OK;
    DNN_TRY(dnnl_stream_create(&call->stream, p->engine, dnnl_stream_default_flags));
    DNN_TRY(dnnl_primitive_create(&call->primitive, desc));
    size_t bytes = dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0));
    if (bytes > p->scratchpad_bytes) p->scratchpad_bytes = bytes;
fail:
    return status;
}

static Status call_add_scratchpad(DnnPrimitive *p, Call *call, const_dnnl_primitive_desc_t desc)
{
    return call_add(p, call, DNNL_ARG_SCRATCHPAD, dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0));
}

static void call_free(Call *call)
{
    for (int i = 0; i < call->count; i++) dnnl_memory_destroy(call->arg[i].memory);
    if (call->primitive) dnnl_primitive_destroy(call->primitive);
    if (call->stream) dnnl_stream_destroy(call->stream);
}

static Status call_execute(Call *call, const void *const *handles)
{
    Status status = STATUS_OK;
    for (int i = 0; i < call->count; i++) {
        /* The library's handles are not const; it writes the destination and the scratchpad only. */
        union {
            const void *in;
            void *out;
        } handle = {handles[i]};
        DNN_TRY(dnnl_memory_set_data_handle(call->arg[i].memory, handle.out));
    }
    DNN_TRY(dnnl_primitive_execute(call->primitive, call->stream, call->count, call->arg));
    DNN_TRY(dnnl_stream_wait(call->stream));
fail:
    return status;
}

static Status attr_create(bool add, dnnl_primitive_attr_t *out)
{
    Status status = STATUS_OK;
    dnnl_post_ops_t post_ops = NULL;
    DNN_TRY(dnnl_primitive_attr_create(out));
    DNN_TRY(dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user));
    if (add) {
        DNN_TRY(dnnl_post_ops_create(&post_ops));
        DNN_TRY(api_append_sum(post_ops));
        DNN_TRY(dnnl_primitive_attr_set_post_ops(*out, post_ops));
    }
fail:
    if (post_ops) dnnl_post_ops_destroy(post_ops);
    return status;
}

static Status prepare_reorder(DnnPrimitive *p, Call *call, DnnLayout from, DnnLayout to, bool add)
{
    Status status = STATUS_OK;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t desc = NULL;
    TRY(attr_create(add, &attr));
    DNN_TRY(dnnl_reorder_primitive_desc_create(&desc, from, p->engine, to, p->engine, attr));
    TRY(call_begin(p, call, desc));
    TRY(call_add(p, call, DNNL_ARG_FROM, from));
    TRY(call_add(p, call, DNNL_ARG_TO, to));
    TRY(call_add_scratchpad(p, call, desc));
fail:
    if (desc) dnnl_primitive_desc_destroy(desc);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return status;
}

/* The layouts of the arguments as the caller has them (src, weights, dst, bias) or the library wants them. */
typedef struct Layouts {
    DnnLayout src, weights, forward_weights, plain, dst, bias;
} Layouts;

static Status layouts_create(const DnnSpec *spec, Layouts *out)
{
    Status status = STATUS_OK;
    const DnnTensor *w = &spec->weights;
    const int64_t *weight_stride = spec->pack_weights ? NULL : w->stride;
    DNN_TRY(api_layout_create(spec->src.ndim, spec->src.dim, data_type(spec->src.type), spec->src.stride, &out->src));
    DNN_TRY(api_layout_create(spec->dst.ndim, spec->dst.dim, data_type(spec->dst.type), spec->dst.stride, &out->dst));
    DNN_TRY(api_layout_create(w->ndim, w->dim, data_type(w->type), weight_stride, &out->weights));
    DNN_TRY(api_layout_create(w->ndim, w->dim, data_type(spec->src.type), weight_stride, &out->forward_weights));
    DNN_TRY(api_layout_create(w->ndim, w->dim, dnnl_f32, w->stride, &out->plain));
    if (spec->bias) {
        /* A matmul's bias has as many dimensions as its destination. */
        bool matmul = spec->kind == DNN_MATMUL;
        int64_t count = spec->dst.dim[matmul ? spec->dst.ndim - 1 : 1];
        int64_t dim[DNN_MAX_DIMS] = {1, 1, 1, 1}, stride[DNN_MAX_DIMS] = {count, count, count, count};
        int32_t ndim = matmul ? spec->dst.ndim : 1;
        dim[ndim - 1] = count;
        stride[ndim - 1] = 1;
        DNN_TRY(api_layout_create(ndim, dim, dnnl_f32, stride, &out->bias));
    }
fail:
    return status;
}

static void layouts_free(Layouts *l)
{
    api_layout_free(l->src);
    api_layout_free(l->weights);
    api_layout_free(l->forward_weights);
    api_layout_free(l->plain);
    api_layout_free(l->dst);
    api_layout_free(l->bias);
}

Status dnn_create(const DnnSpec *spec, DnnPrimitive **out)
{
    Status status = STATUS_OK;
    Layouts l = {0};
    DnnPrimitive *p = mem_alloc_array(1, sizeof *p);
    if (!p) return ERR_MEMORY;
    p->spec = *spec;
    if (p->spec.lanes < 1) p->spec.lanes = 1;
    p->run = mem_alloc_array((size_t)p->spec.lanes, sizeof *p->run);
    if (!p->run) FAIL(ERR_MEMORY, "%d calls of a oneDNN primitive", p->spec.lanes);
    DNN_TRY(dnnl_engine_create(&p->engine, dnnl_cpu, 0));
    TRY(layouts_create(spec, &l));
    TRY(attr_create(spec->accumulate, &p->attr));
    if (spec->kind == DNN_MATMUL) {
        DNN_TRY(api_matmul(l.src, l.weights, l.bias, l.dst, p->engine, p->attr, &p->desc));
    } else {
        ConvolutionLayouts conv = {l.src, l.weights, l.bias, l.dst, l.forward_weights};
        DNN_TRY(api_convolution(spec, &conv, p->engine, p->attr, &p->desc));
    }
    DNN_TRY(dnnl_primitive_desc_query(p->desc, dnnl_query_impl_info_str, 0, &p->implementation));

    DnnLayout packed = dnnl_primitive_desc_query_md(p->desc, KIND[spec->kind].weights_query, 0);
    for (int32_t i = 0; i < p->spec.lanes; i++) {
        Call *call = &p->run[i];
        TRY(call_begin(p, call, p->desc));
        TRY(call_add(p, call, KIND[spec->kind].src, l.src));
        TRY(call_add(p, call, KIND[spec->kind].weights, packed));
        TRY(call_add(p, call, KIND[spec->kind].dst, l.dst));
        if (spec->bias) TRY(call_add(p, call, KIND[spec->kind].bias, l.bias));
        TRY(call_add_scratchpad(p, call, p->desc));
    }
    if (spec->pack_weights && !dnnl_memory_desc_equal(packed, l.plain)) {
        p->packed_bytes = dnnl_memory_desc_get_size(packed);
        p->is_blocked = api_blocked(packed, &p->packed);
        if (spec->kind == DNN_CONV_BACKWARD_WEIGHTS) {
            TRY(prepare_reorder(p, &p->unpack_set, packed, l.plain, false));
            TRY(prepare_reorder(p, &p->unpack_add, packed, l.plain, true));
        } else {
            TRY(prepare_reorder(p, &p->pack, l.plain, packed, false));
        }
    }
    layouts_free(&l);
    *out = p;
    return STATUS_OK;
fail:
    layouts_free(&l);
    dnn_free(p);
    return status;
}

void dnn_free(DnnPrimitive *p)
{
    if (!p) return;
    for (int32_t i = 0; p->run && i < p->spec.lanes; i++) call_free(&p->run[i]);
    free(p->run);
    call_free(&p->pack);
    call_free(&p->unpack_set);
    call_free(&p->unpack_add);
    if (p->desc) dnnl_primitive_desc_destroy(p->desc);
    if (p->attr) dnnl_primitive_attr_destroy(p->attr);
    if (p->engine) dnnl_engine_destroy(p->engine);
    free(p);
}

const char *dnn_implementation(const DnnPrimitive *p)
{
    return p->implementation;
}

bool dnn_is_slow(const DnnPrimitive *p)
{
    return strstr(p->implementation, "ref") != NULL;
}

size_t dnn_scratchpad_bytes(const DnnPrimitive *p)
{
    return p->scratchpad_bytes;
}

size_t dnn_packed_bytes(const DnnPrimitive *p)
{
    return p->packed_bytes;
}

const DnnBlocked *dnn_packed_layout(const DnnPrimitive *p)
{
    return p->is_blocked ? &p->packed : NULL;
}

const DnnTensor *dnn_plain_weights(const DnnPrimitive *p)
{
    return &p->spec.weights;
}

Status dnn_run(DnnPrimitive *p, const DnnArgs *args)
{
    const void *handles[ARGS_MAX];
    int count = 0;
    handles[count++] = args->src;
    handles[count++] = args->weights;
    handles[count++] = args->dst;
    if (p->spec.bias) handles[count++] = args->bias;
    handles[count] = args->scratchpad;
    return call_execute(&p->run[args->lane], handles);
}

Status dnn_pack(DnnPrimitive *p, const float *plain, void *packed, void *scratchpad)
{
    return call_execute(&p->pack, (const void *const[]){plain, packed, scratchpad});
}

Status dnn_unpack(DnnPrimitive *p, const void *packed, float *plain, bool add, void *scratchpad)
{
    return call_execute(add ? &p->unpack_add : &p->unpack_set, (const void *const[]){packed, plain, scratchpad});
}

size_t dnn_alignment(void)
{
    /* Instructions before AVX insist on the alignment of their operands in memory, and the library uses them freely. */
    return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx) == dnnl_cpu_isa_avx ? sizeof(float) : 16;
}

bool dnn_has_bf16(void)
{
    /* The names are bit sets: each holds the bits of what it builds on. */
    return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
}

const char *dnn_isa_name(void)
{
    unsigned isa = dnnl_get_effective_cpu_isa();
    static const struct {
        unsigned bits;
        const char *name;
    } NAMES[] = {{dnnl_cpu_isa_avx512_core_amx, "avx512_core_amx"},
                 {dnnl_cpu_isa_avx512_core_bf16, "avx512_core_bf16"},
                 {dnnl_cpu_isa_avx512_core_vnni, "avx512_core_vnni"},
                 {dnnl_cpu_isa_avx512_core, "avx512_core"},
                 {dnnl_cpu_isa_avx2, "avx2"},
                 {dnnl_cpu_isa_avx, "avx"},
                 {dnnl_cpu_isa_sse41, "sse4.1"}};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        if ((isa & NAMES[i].bits) == NAMES[i].bits) return NAMES[i].name;
    return "plain C";
}

void dnn_version(int version[3])
{
    const dnnl_version_t *v = dnnl_version();
    version[0] = v->major;
    version[1] = v->minor;
    version[2] = v->patch;
}
