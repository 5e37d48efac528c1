#include "model/autoencoder_kl.h"

#include <math.h>
#include <stdio.h>

#include "engine/ops.h"

#define NORM_EPS 1e-6f
#define COLOURS 3

typedef struct Name {
    char text[128];
} Name;

static Name join(const char *prefix, const char *suffix)
{
    Name name;
    snprintf(name.text, sizeof name.text, "%s.%s", prefix, suffix);
    return name;
}

static int64_t channels_of(const Graph *graph, TensorId x)
{
    return x == TENSOR_NONE ? 1 : graph_tensor(graph, x)->shape.dim[3];
}

/* ---- parameters: frozen, PyTorch's default initialisation ---- */

typedef struct Weights {
    TensorId weight, bias;
} Weights;

static TensorId frozen(Graph *graph, const char *prefix, const char *suffix, Shape shape, ParamInit init, double scale)
{
    Name name = join(prefix, suffix);
    return graph_param(graph, &(Param){.name = name.text,
                                       .shape = shape,
                                       .layout = shape.ndim == 4 ? PARAM_CONV : PARAM_PLAIN,
                                       .init = init,
                                       .init_scale = (float)scale,
                                       .trainable = false});
}

/* weight (out,kernel,kernel,in), bias (out). */
static Weights conv_params(Graph *graph, const char *name, int64_t kernel, int64_t in, int64_t out)
{
    double bound = 1 / sqrt((double)(kernel * kernel * in));
    Weights w;
    w.weight = frozen(graph, name, "weight", SHAPE4(out, kernel, kernel, in), PARAM_INIT_UNIFORM, bound);
    w.bias = frozen(graph, name, "bias", SHAPE1(out), PARAM_INIT_UNIFORM, bound);
    return w;
}

/* ---- layers ---- */

static TensorId to_dtype(Graph *graph, TensorId x, Dtype dtype)
{
    if (x == TENSOR_NONE || graph_tensor(graph, x)->dtype == dtype) return x;
    return op_cast(graph, x, dtype);
}

/* x (N,H,W,in) -> (N,H,W,out) + residual. */
static TensorId conv3x3(Graph *graph, const char *name, TensorId x, int64_t out, TensorId residual)
{
    Weights w = conv_params(graph, name, 3, channels_of(graph, x), out);
    TensorId y = op_conv2d(graph, x, w.weight, w.bias, residual, conv_same(3));
    graph_name(graph, y, "%s", name);
    return y;
}

/* A 1x1 convolution as a matmul over rows: x (...,in) -> (...,out) + residual. */
static TensorId conv1x1(Graph *graph, const char *name, TensorId x, int64_t in, int64_t out, TensorId residual)
{
    Weights w = conv_params(graph, name, 1, in, out);
    TensorId y = op_linear(graph, x, graph_view(graph, w.weight, SHAPE2(out, in)), w.bias, residual, ACT_NONE);
    graph_name(graph, y, "%s", name);
    return y;
}

/* x (N,H,W,C) or (N,T,C). */
static TensorId norm(Graph *graph, const char *name, TensorId x, int64_t channels, Activation act)
{
    TensorId gamma = frozen(graph, name, "weight", SHAPE1(channels), PARAM_INIT_ONE, 0);
    TensorId beta = frozen(graph, name, "bias", SHAPE1(channels), PARAM_INIT_ZERO, 0);
    TensorId y = op_group_norm(graph, x, gamma, beta, TENSOR_NONE, MODEL_NORM_GROUPS, NORM_EPS, act);
    graph_name(graph, y, "%s", name);
    return y;
}

/* Zeros below and to the right only, as the published network pads: (N,H,W,C) -> (N,H/2,W/2,C). */
static TensorId downsample(Graph *graph, const char *name, TensorId x)
{
    int64_t channels = channels_of(graph, x);
    Weights w = conv_params(graph, name, 3, channels, channels);
    ConvAttr attr = {.kh = 3, .kw = 3, .stride = 2, .pad_bottom = 1, .pad_right = 1};
    TensorId y = op_conv2d(graph, x, w.weight, w.bias, TENSOR_NONE, attr);
    graph_name(graph, y, "%s", name);
    return y;
}

static TensorId upsample(Graph *graph, const char *name, TensorId x)
{
    TensorId doubled = op_resample(graph, x, RESAMPLE_UP2_NEAREST);
    return conv3x3(graph, name, doubled, channels_of(graph, x), TENSOR_NONE);
}

/* ---- blocks ---- */

/* ResnetBlock: (N,H,W,in) -> (N,H,W,out). */
static TensorId res_block(Graph *graph, const char *name, TensorId x, int64_t out)
{
    int64_t in = channels_of(graph, x);
    TensorId h = norm(graph, join(name, "norm1").text, x, in, ACT_SILU);
    h = conv3x3(graph, join(name, "conv1").text, h, out, TENSOR_NONE);
    h = norm(graph, join(name, "norm2").text, h, out, ACT_SILU);
    if (in != out) x = conv1x1(graph, join(name, "nin_shortcut").text, x, in, out, TENSOR_NONE);
    return conv3x3(graph, join(name, "conv2").text, h, out, x);
}

/* AttnBlock: one head over all channels, every position attends to every other; x (N,H,W,C) -> the same. */
static TensorId attention(Graph *graph, const char *name, TensorId x)
{
    if (!graph_ok(graph)) return TENSOR_NONE;
    Shape shape = graph_tensor(graph, x)->shape;
    int64_t c = shape.dim[3];
    TensorId rows = graph_view(graph, x, SHAPE3(shape.dim[0], shape.dim[1] * shape.dim[2], c));
    TensorId h = norm(graph, join(name, "norm").text, rows, c, ACT_NONE);
    TensorId q = conv1x1(graph, join(name, "q").text, h, c, c, TENSOR_NONE);
    TensorId k = conv1x1(graph, join(name, "k").text, h, c, c, TENSOR_NONE);
    TensorId v = conv1x1(graph, join(name, "v").text, h, c, c, TENSOR_NONE);
    h = op_cross_attention(graph, q, k, v, TENSOR_NONE, TENSOR_NONE, 1, 0);
    graph_name(graph, h, "%s.attention", name);
    h = conv1x1(graph, join(name, "proj_out").text, h, c, c, rows);
    return graph_view(graph, h, shape);
}

/* `name`: autoencoder.encoder or autoencoder.decoder. */
static TensorId middle(Graph *graph, const char *name, TensorId h)
{
    int64_t width = channels_of(graph, h);
    h = res_block(graph, join(name, "mid.block_1").text, h, width);
    h = attention(graph, join(name, "mid.attn_1").text, h);
    return res_block(graph, join(name, "mid.block_2").text, h, width);
}

static TensorId last_layers(Graph *graph, const char *name, TensorId h, int64_t out)
{
    h = norm(graph, join(name, "norm_out").text, h, channels_of(graph, h), ACT_SILU);
    return conv3x3(graph, join(name, "conv_out").text, h, out, TENSOR_NONE);
}

/* ---- the two directions ---- */

TensorId kl_encode(Graph *graph, const ModelConfig *model, TensorId pixels)
{
    const AutoencoderConfig *kl = &model->autoencoder;
    const char *encoder = "autoencoder.encoder";
    size_t levels = kl->channel_mult.count;
    int64_t moments = 2 * model_latent_channels(model);
    Name name;
    TensorId h = to_dtype(graph, pixels, graph_compute(graph));
    h = conv3x3(graph, join(encoder, "conv_in").text, h, kl->channels, TENSOR_NONE);
    for (size_t level = 0; level < levels; level++) {
        int64_t width = kl->channels * kl->channel_mult.items[level];
        for (int64_t b = 0; b < kl->res_blocks; b++) {
            snprintf(name.text, sizeof name.text, "%s.down.%zu.block.%lld", encoder, level, (long long)b);
            h = res_block(graph, name.text, h, width);
        }
        if (level + 1 == levels) break;
        snprintf(name.text, sizeof name.text, "%s.down.%zu.downsample.conv", encoder, level);
        h = downsample(graph, name.text, h);
    }
    h = middle(graph, encoder, h);
    h = last_layers(graph, encoder, h, moments);
    return conv1x1(graph, "autoencoder.quant_conv", to_dtype(graph, h, DTYPE_F32), moments, moments, TENSOR_NONE);
}

TensorId kl_decode(Graph *graph, const ModelConfig *model, TensorId latent)
{
    const AutoencoderConfig *kl = &model->autoencoder;
    const char *decoder = "autoencoder.decoder";
    size_t levels = kl->channel_mult.count;
    int64_t latent_channels = model_latent_channels(model);
    Name name;
    TensorId h = conv1x1(graph, "autoencoder.post_quant_conv", latent, latent_channels, latent_channels, TENSOR_NONE);
    h = to_dtype(graph, h, graph_compute(graph));
    h = conv3x3(graph, join(decoder, "conv_in").text, h, kl->channels * kl->channel_mult.items[levels - 1],
                TENSOR_NONE);
    h = middle(graph, decoder, h);
    for (size_t level = levels; level-- > 0;) {
        int64_t width = kl->channels * kl->channel_mult.items[level];
        for (int64_t b = 0; b <= kl->res_blocks; b++) {
            snprintf(name.text, sizeof name.text, "%s.up.%zu.block.%lld", decoder, level, (long long)b);
            h = res_block(graph, name.text, h, width);
        }
        if (level == 0) break;
        snprintf(name.text, sizeof name.text, "%s.up.%zu.upsample.conv", decoder, level);
        h = upsample(graph, name.text, h);
    }
    return to_dtype(graph, last_layers(graph, decoder, h, COLOURS), DTYPE_F32);
}
