#include "model/autoencoder_patch.h"

#include <math.h>
#include <stdlib.h>

#include "engine/ops.h"
#include "model/autoencoder.h"

#define PI 3.14159265358979323846
#define COLOURS 3
#define CHROMA_SPACING 4 /* chroma coefficient z ranks with luma coefficient 4z */

/* Rows: Y, P, Q of the header; columns R, G, B. Orthonormal. */
static const double COLOUR_BASIS[COLOURS][3] = {
    {0.57735026918962576451, 0.57735026918962576451, 0.57735026918962576451},
    {0.70710678118654752440, 0.0, -0.70710678118654752440},
    {0.40824829046386301637, -0.81649658092772603273, 0.40824829046386301637},
};

typedef struct Coefficient {
    int32_t colour, u, v;
    int64_t rank;
} Coefficient;

/* The place of (u,v) along the zig-zag of an f x f block, as JPEG walks it. */
static int64_t zigzag(int64_t f, int64_t u, int64_t v)
{
    int64_t diagonal = u + v, before = 0;
    for (int64_t d = 0; d < diagonal; d++) before += d < f ? d + 1 : 2 * f - 1 - d;
    int64_t low = diagonal < f ? 0 : diagonal - f + 1; /* smallest u or v on this diagonal */
    return before + (diagonal % 2 == 0 ? v - low : u - low);
}

static int by_rank(const void *left, const void *right)
{
    const Coefficient *a = left, *b = right;
    if (a->rank != b->rank) return a->rank < b->rank ? -1 : 1;
    if (a->colour != b->colour) return a->colour < b->colour ? -1 : 1;
    return 0;
}

/* Element x of the DCT-II basis vector u of length f. */
static double dct(int64_t f, int64_t u, int64_t x)
{
    double norm = u == 0 ? sqrt(1.0 / (double)f) : sqrt(2.0 / (double)f);
    return norm * cos(PI * (2 * (double)x + 1) * (double)u / (2 * (double)f));
}

static double latent_factor(const AutoencoderConfig *config, const Coefficient *c)
{
    return config->scale * pow(1 + (double)c->u * c->u + (double)c->v * c->v, config->whiten / 2);
}

/* The latent_channels coefficients of lowest rank; NULL when out of memory. The caller frees. */
static Coefficient *choose_coefficients(const AutoencoderConfig *config)
{
    int64_t f = config->factor, count = 0;
    Coefficient *all = mem_alloc_array((size_t)(COLOURS * f * f), sizeof *all);
    if (all == NULL) return NULL;
    for (int32_t colour = 0; colour < COLOURS; colour++)
        for (int64_t u = 0; u < f; u++)
            for (int64_t v = 0; v < f; v++)
                all[count++] =
                    (Coefficient){colour, (int32_t)u, (int32_t)v, zigzag(f, u, v) * (colour == 0 ? 1 : CHROMA_SPACING)};
    qsort(all, (size_t)count, sizeof *all, by_rank);
    return all;
}

Status autoencoder_patch_weights(const AutoencoderConfig *config, int64_t latent_channels, bool encode, float *weights)
{
    int64_t f = config->factor;
    Coefficient *chosen = choose_coefficients(config);
    if (chosen == NULL) return ERR_MEMORY;
    for (int64_t k = 0; k < latent_channels; k++) {
        const Coefficient *c = &chosen[k];
        double factor = latent_factor(config, c);
        if (!encode) factor = 1 / factor;
        for (int64_t y = 0; y < f; y++)
            for (int64_t x = 0; x < f; x++)
                for (int64_t rgb = 0; rgb < 3; rgb++)
                    weights[((k * f + y) * f + x) * 3 + rgb] =
                        (float)(factor * COLOUR_BASIS[c->colour][rgb] * dct(f, c->u, y) * dct(f, c->v, x));
    }
    free(chosen);
    return STATUS_OK;
}

/* The transform as a constant of the graph, (C,f,f,3). */
static TensorId patch_constant(Graph *graph, const ModelConfig *model, bool encode)
{
    int64_t f = model->autoencoder.factor, channels = model_latent_channels(model);
    Status status = ERR_MEMORY;
    TensorId constant = TENSOR_NONE;
    float *weights = mem_alloc_array((size_t)(channels * f * f * 3), sizeof *weights);
    if (weights != NULL) status = autoencoder_patch_weights(&model->autoencoder, channels, encode, weights);
    if (status == STATUS_OK)
        constant = graph_constant(graph, encode ? "autoencoder.encode" : "autoencoder.decode", DTYPE_F32,
                                  SHAPE4(channels, f, f, 3), weights);
    else
        graph_fail(graph, status, "out of memory for the autoencoder's transform");
    free(weights);
    return constant;
}

static ConvAttr patch_conv(const ModelConfig *model)
{
    int32_t f = (int32_t)model->autoencoder.factor;
    return (ConvAttr){.kh = f, .kw = f, .stride = f};
}

TensorId patch_encode(Graph *graph, const ModelConfig *model, TensorId pixels)
{
    return op_conv2d(graph, pixels, patch_constant(graph, model, true), TENSOR_NONE, TENSOR_NONE, patch_conv(model));
}

TensorId patch_decode(Graph *graph, const ModelConfig *model, TensorId latent)
{
    if (!graph_ok(graph)) return TENSOR_NONE;
    const Shape *shape = &graph_tensor(graph, latent)->shape;
    int64_t f = model->autoencoder.factor, height = shape->dim[1] * f, width = shape->dim[2] * f;
    return op_conv2d_transposed(graph, latent, patch_constant(graph, model, false), height, width, patch_conv(model));
}
