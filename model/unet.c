#include "model/unet.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/ops.h"

#define NORM_EPS 1e-5f
#define MAX_PERIOD 10000

typedef struct Unet {
    Graph *graph;
    const ModelConfig *model;
    TensorId emb;     /* compute dtype (N,4 channels): SiLU of the sum of time and pooled text embeddings */
    TensorId context; /* compute dtype (N,T1+T2,context_dim) */
    TensorId mask;    /* I32 (N,T1+T2) of the context's rows; TENSOR_NONE: all are seen */
    TensorId *skips;  /* outputs of the input blocks, not yet consumed */
    int32_t skip_count;
} Unet;

typedef struct Name {
    char text[128];
} Name;

static Name join(const char *prefix, const char *suffix)
{
    Name name;
    snprintf(name.text, sizeof name.text, "%s.%s", prefix, suffix);
    return name;
}

static int64_t dim(const Graph *graph, TensorId tensor, int32_t axis)
{
    return tensor == TENSOR_NONE ? 1 : graph_tensor(graph, tensor)->shape.dim[axis];
}

/* ---- parameters, PyTorch's default initialisation ---- */

static TensorId param(Graph *graph, const char *prefix, const char *suffix, Shape shape, ParamLayout layout,
                      ParamInit init, double scale)
{
    Name name = join(prefix, suffix);
    return graph_param(graph, &(Param){.name = name.text,
                                       .shape = shape,
                                       .layout = layout,
                                       .init = init,
                                       .init_scale = (float)scale,
                                       .trainable = true});
}

typedef struct Weights {
    TensorId weight, bias;
} Weights;

/* `zero`: the reference's zero_module. */
static Weights dense_params(Graph *graph, const char *name, Shape shape, ParamLayout layout, bool zero)
{
    ParamInit init = zero ? PARAM_INIT_ZERO : PARAM_INIT_UNIFORM;
    int64_t out = shape.dim[0], fan_in = shape_count(&shape) / out;
    double bound = 1 / sqrt((double)fan_in);
    Weights w;
    w.weight = param(graph, name, "weight", shape, layout, init, bound);
    w.bias = param(graph, name, "bias", SHAPE1(out), PARAM_PLAIN, init, bound);
    return w;
}

static Weights norm_params(Graph *graph, const char *name, int64_t channels)
{
    Weights w;
    w.weight = param(graph, name, "weight", SHAPE1(channels), PARAM_PLAIN, PARAM_INIT_ONE, 0);
    w.bias = param(graph, name, "bias", SHAPE1(channels), PARAM_PLAIN, PARAM_INIT_ZERO, 0);
    return w;
}

/* ---- layers ---- */

static TensorId to_dtype(Graph *graph, TensorId x, Dtype dtype)
{
    if (x == TENSOR_NONE || graph_tensor(graph, x)->dtype == dtype) return x;
    return op_cast(graph, x, dtype);
}

/* x (...,in) -> (...,out). */
static TensorId linear(Graph *graph, const char *name, TensorId x, int64_t in, int64_t out)
{
    Weights w = dense_params(graph, name, SHAPE2(out, in), PARAM_PLAIN, false);
    TensorId y = op_linear(graph, x, w.weight, w.bias, TENSOR_NONE, ACT_NONE);
    graph_name(graph, y, "%s", name);
    return y;
}

/* The reference's 1x1 convolutions over sequences: x (N,T,in) -> (N,T,out), plus the residual. */
static TensorId linear1d(Graph *graph, const char *name, TensorId x, int64_t in, int64_t out, TensorId residual,
                         bool zero)
{
    Weights w = dense_params(graph, name, SHAPE2(out, in), PARAM_CONV1D, zero);
    TensorId y = op_linear(graph, x, w.weight, w.bias, residual, ACT_NONE);
    graph_name(graph, y, "%s", name);
    return y;
}

static TensorId conv3x3(Graph *graph, const char *name, TensorId x, int64_t in, int64_t out, TensorId residual,
                        bool zero)
{
    Weights w = dense_params(graph, name, SHAPE4(out, 3, 3, in), PARAM_CONV, zero);
    TensorId y = op_conv2d(graph, x, w.weight, w.bias, residual, conv_same(3));
    graph_name(graph, y, "%s", name);
    return y;
}

/* The first convolution of an inpainting network: the channels of the picture itself, and then those of the hint, what
 * is known and where. In one convolution over all of them a kernel may add in another order; in two, a network widened
 * by zeros computes what the narrow one does, with its very kernel, and adds 0. One parameter holds both, as in the
 * published files. x (N,H,W,2 picture + 1) -> (N,H,W,out). */
static TensorId hinted_conv3x3(Graph *graph, const char *name, TensorId x, int64_t picture, int64_t out)
{
    const int64_t hint = picture + 1;
    Weights w = dense_params(graph, name, SHAPE4(out, 3, 3, picture + hint), PARAM_CONV, false);
    TensorId y = op_conv2d(graph, op_slice(graph, x, 3, 0, picture), op_slice(graph, w.weight, 3, 0, picture), w.bias,
                           TENSOR_NONE, conv_same(3));
    graph_name(graph, y, "%s of the picture", name);
    y = op_conv2d(graph, op_slice(graph, x, 3, picture, hint), op_slice(graph, w.weight, 3, picture, hint), TENSOR_NONE,
                  y, conv_same(3));
    graph_name(graph, y, "%s", name);
    return y;
}

static TensorId group_norm(Graph *graph, const char *name, TensorId x, int64_t channels, TensorId scale_shift,
                           Activation act)
{
    Weights w = norm_params(graph, name, channels);
    TensorId y = op_group_norm(graph, x, w.weight, w.bias, scale_shift, MODEL_NORM_GROUPS, NORM_EPS, act);
    graph_name(graph, y, "%s", name);
    return y;
}

static TensorId layer_norm(Graph *graph, const char *name, TensorId x, int64_t channels)
{
    Weights w = norm_params(graph, name, channels);
    TensorId y = op_layer_norm(graph, x, w.weight, w.bias, NORM_EPS);
    graph_name(graph, y, "%s", name);
    return y;
}

/* The 1x1 convolution where a block changes its width: (N,H,W,in) -> (N,H,W,out), as a matmul over N H W rows. */
static TensorId skip_connection(Graph *graph, const char *name, TensorId x, int64_t in, int64_t out)
{
    Weights w = dense_params(graph, name, SHAPE4(out, 1, 1, in), PARAM_CONV, false);
    TensorId y = op_linear(graph, x, graph_view(graph, w.weight, SHAPE2(out, in)), w.bias, TENSOR_NONE, ACT_NONE);
    graph_name(graph, y, "%s", name);
    return y;
}

/* ---- blocks; each is one recomputation segment ---- */

typedef enum Resampling { KEEP_SIZE, HALVE, DOUBLE } Resampling;

/* ResBlock with scale-shift norm: x (N,H,W,in) [; skip (N,H,W,.) concatenated before it] -> (N,H',W',out). */
static TensorId res_block(Unet *u, const char *name, TensorId x, TensorId skip, int64_t out, Resampling how)
{
    Graph *graph = u->graph;
    int64_t emb_channels = 4 * u->model->channels;
    graph_segment_begin(graph);
    if (skip != TENSOR_NONE) {
        x = op_concat(graph, (TensorId[]){x, skip}, 2, 3);
        graph_name(graph, x, "%s.concat", name);
    }
    int64_t in = dim(graph, x, 3);
    TensorId h = group_norm(graph, join(name, "in_layers.0").text, x, in, TENSOR_NONE, ACT_SILU);
    if (how != KEEP_SIZE) {
        ResampleMode mode = how == HALVE ? RESAMPLE_DOWN2_AVERAGE : RESAMPLE_UP2_NEAREST;
        h = op_resample(graph, h, mode);
        graph_name(graph, h, "%s.h_resample", name);
        x = op_resample(graph, x, mode);
        graph_name(graph, x, "%s.x_resample", name);
    }
    h = conv3x3(graph, join(name, "in_layers.2").text, h, in, out, TENSOR_NONE, false);
    TensorId scale_shift = linear(graph, join(name, "emb_layers.1").text, u->emb, emb_channels, 2 * out);
    h = group_norm(graph, join(name, "out_layers.0").text, h, out, scale_shift, ACT_SILU);
    if (in != out) x = skip_connection(graph, join(name, "skip_connection").text, x, in, out);
    h = conv3x3(graph, join(name, "out_layers.3").text, h, out, out, x, true);
    graph_segment_end(graph);
    return h;
}

/* AttentionBlock: image rows attend to [text ; image]; x (N,H,W,C) -> the same. */
static TensorId attention_block(Unet *u, const char *name, TensorId x)
{
    Graph *graph = u->graph;
    int64_t n = dim(graph, x, 0), height = dim(graph, x, 1), width = dim(graph, x, 2), channels = dim(graph, x, 3);
    graph_segment_begin(graph);
    TensorId rows = graph_view(graph, x, SHAPE3(n, height * width, channels));
    TensorId h = group_norm(graph, join(name, "norm").text, rows, channels, TENSOR_NONE, ACT_NONE);
    TensorId qkv = linear1d(graph, join(name, "qkv").text, h, channels, 3 * channels, TENSOR_NONE, false);
    TensorId kv = linear1d(graph, join(name, "encoder_kv").text, u->context, u->model->context_dim, 2 * channels,
                           TENSOR_NONE, false);
    h = op_attention(graph, qkv, kv, u->mask, (int32_t)(channels / u->model->head_channels));
    graph_name(graph, h, "%s.attention", name);
    h = linear1d(graph, join(name, "proj_out").text, h, channels, channels, rows, true);
    graph_segment_end(graph);
    return graph_view(graph, h, SHAPE4(n, height, width, channels));
}

/* The attention pooling `proj2`: only its first output row is used, so only the first row asks.
 * full_emb2 (N,T,D), compute dtype -> (N,out). */
static TensorId attention_pooling(Unet *u, const char *name, TensorId x, TensorId mask, int64_t out)
{
    Graph *graph = u->graph;
    int64_t n = dim(graph, x, 0), width = dim(graph, x, 2);
    TensorId first = op_slice(graph, x, 1, 0, 1);
    TensorId q = linear(graph, join(name, "q_linear").text, first, width, width);
    TensorId v = linear(graph, join(name, "v_linear").text, x, width, width);
    TensorId k = linear(graph, join(name, "k_linear").text, x, width, width);
    TensorId pooled = op_cross_attention(graph, q, k, v, mask, TENSOR_NONE, (int32_t)u->model->text2_heads, 0);
    graph_name(graph, pooled, "%s.attention", name);
    pooled = graph_view(graph, pooled, SHAPE2(n, width));
    return linear(graph, join(name, "out").text, pooled, width, out);
}

/* Sets emb and context from the timesteps and the text. */
static void condition(Unet *u, const UnetInputs *inputs)
{
    Graph *graph = u->graph;
    const ModelConfig *model = u->model;
    Dtype compute = graph_compute(graph);
    int64_t emb_channels = 4 * model->channels;

    TensorId time = op_timestep_embedding(graph, inputs->timesteps, model->channels, MAX_PERIOD);
    graph_name(graph, time, "timestep_embedding");
    time = linear(graph, "time_embed.0", time, model->channels, emb_channels);
    time = op_activation(graph, time, ACT_SILU);
    time = linear(graph, "time_embed.2", time, emb_channels, emb_channels);

    TensorId full1 = to_dtype(graph, inputs->full_emb1, compute);
    TensorId full2 = to_dtype(graph, inputs->full_emb2, compute);
    TensorId parts[2];
    parts[0] = linear(graph, "to_model_dim", full1, model->text1_dim, model->context_dim);
    TensorId pooled1 = to_dtype(graph, inputs->pooled_emb1, DTYPE_F32);
    pooled1 = linear(graph, "proj", pooled1, model->pooled_dim, emb_channels);
    TensorId mask2 = inputs->masked ? inputs->mask2 : TENSOR_NONE;
    TensorId pooled2 = to_dtype(graph, attention_pooling(u, "proj2", full2, mask2, emb_channels), DTYPE_F32);
    parts[1] = linear(graph, "to_model_dim2", full2, model->text2_dim, model->context_dim);
    u->context = layer_norm(graph, "ln_model1", op_concat(graph, parts, 2, 1), model->context_dim);

    pooled1 = layer_norm(graph, "ln_model2", pooled1, emb_channels);
    pooled2 = layer_norm(graph, "ln_model3", pooled2, emb_channels);
    TensorId pooled = op_add(graph, pooled1, pooled2);
    TensorId emb = op_activation(graph, op_add(graph, time, pooled), ACT_SILU);
    u->emb = to_dtype(graph, emb, compute);
    graph_name(graph, u->emb, "emb");
}

static void push_skip(Unet *u, TensorId h)
{
    u->skips[u->skip_count++] = h;
}

/* The way down; returns the last level's output. */
static TensorId input_blocks(Unet *u, TensorId x)
{
    const ModelConfig *model = u->model;
    size_t levels = model->channel_mult.count;
    Name name;
    int32_t index = 0;
    int64_t width = model->channels * model->channel_mult.items[0];
    TensorId h = model_paints(model)
                     ? hinted_conv3x3(u->graph, "input_blocks.0.0", x, model_latent_channels(model), width)
                     : conv3x3(u->graph, "input_blocks.0.0", x, model->in_channels, width, TENSOR_NONE, false);
    push_skip(u, h);
    for (size_t level = 0; level < levels; level++) {
        width = model->channels * model->channel_mult.items[level];
        for (int64_t b = 0; b < model->res_blocks; b++) {
            snprintf(name.text, sizeof name.text, "input_blocks.%d.0", ++index);
            h = res_block(u, name.text, h, TENSOR_NONE, width, KEEP_SIZE);
            snprintf(name.text, sizeof name.text, "input_blocks.%d.1", index);
            if (model_has_attention(model, (int64_t)1 << level)) h = attention_block(u, name.text, h);
            push_skip(u, h);
        }
        if (level + 1 == levels) break;
        snprintf(name.text, sizeof name.text, "input_blocks.%d.0", ++index);
        h = res_block(u, name.text, h, TENSOR_NONE, width, HALVE);
        push_skip(u, h);
    }
    return h;
}

/* The way up, consuming the skips. */
static TensorId output_blocks(Unet *u, TensorId h)
{
    const ModelConfig *model = u->model;
    Name name;
    int32_t index = 0;
    for (size_t level = model->channel_mult.count; level-- > 0;) {
        int64_t width = model->channels * model->channel_mult.items[level];
        for (int64_t b = 0; b <= model->res_blocks; b++, index++) {
            int32_t part = 0;
            snprintf(name.text, sizeof name.text, "output_blocks.%d.%d", index, part++);
            h = res_block(u, name.text, h, u->skips[--u->skip_count], width, KEEP_SIZE);
            if (model_has_attention(model, (int64_t)1 << level)) {
                snprintf(name.text, sizeof name.text, "output_blocks.%d.%d", index, part++);
                h = attention_block(u, name.text, h);
            }
            if (level == 0 || b != model->res_blocks) continue;
            snprintf(name.text, sizeof name.text, "output_blocks.%d.%d", index, part);
            h = res_block(u, name.text, h, TENSOR_NONE, width, DOUBLE);
        }
    }
    return h;
}

/* Refuses what would otherwise fail deep inside with less clear words. */
static bool inputs_fit(Graph *graph, const ModelConfig *model, const UnetInputs *inputs)
{
    if (!graph_ok(graph)) return false;
    const Shape *x = &graph_tensor(graph, inputs->x)->shape;
    int64_t unit = (int64_t)1 << (model->channel_mult.count - 1);
    if (x->ndim != 4 || x->dim[3] != model->in_channels || x->dim[1] % unit != 0 || x->dim[2] % unit != 0) {
        char text[96];
        shape_format(x, text, sizeof text);
        graph_fail(graph, ERR_CONFIG,
                   "the UNet's x has the shape %s; it takes N x H x W x %lld with H and W multiples of %lld", text,
                   (long long)model->in_channels, (long long)unit);
        return false;
    }
    return true;
}

TensorId unet_forward(Graph *graph, const ModelConfig *model, const UnetInputs *inputs)
{
    Unet u = {.graph = graph, .model = model, .mask = inputs->masked ? inputs->text_mask : TENSOR_NONE};
    TensorId out = TENSOR_NONE;
    if (!inputs_fit(graph, model, inputs)) return TENSOR_NONE;
    int64_t skips = (int64_t)model->channel_mult.count * (model->res_blocks + 1);
    u.skips = mem_alloc_array((size_t)skips, sizeof *u.skips);
    if (u.skips == NULL) {
        graph_fail(graph, ERR_MEMORY, "out of memory for the UNet's graph");
        return TENSOR_NONE;
    }
    condition(&u, inputs);
    TensorId h = input_blocks(&u, to_dtype(graph, inputs->x, graph_compute(graph)));
    int64_t width = dim(graph, h, 3), first = model->channels * model->channel_mult.items[0];
    h = res_block(&u, "middle_block.0", h, TENSOR_NONE, width, KEEP_SIZE);
    h = attention_block(&u, "middle_block.1", h);
    h = res_block(&u, "middle_block.2", h, TENSOR_NONE, width, KEEP_SIZE);
    h = output_blocks(&u, h);
    graph_segment_begin(graph);
    h = group_norm(graph, "out.0", h, first, TENSOR_NONE, ACT_SILU);
    h = conv3x3(graph, "out.2", h, first, model->out_channels, TENSOR_NONE, true);
    graph_segment_end(graph);
    out = to_dtype(graph, h, DTYPE_F32);
    graph_name(graph, out, "unet_out");
    free(u.skips);
    return out;
}
