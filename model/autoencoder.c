#include "model/autoencoder.h"

#include <math.h>

#include "engine/ops.h"
#include "model/autoencoder_kl.h"
#include "model/autoencoder_patch.h"

TensorId autoencoder_moments(Graph *graph, const ModelConfig *model, TensorId pixels)
{
    TensorId moments;
    switch (model->autoencoder.kind) {
    case AUTOENCODER_NONE:
        moments = op_affine(graph, pixels, (float)model->autoencoder.scale, 0);
        break;
    case AUTOENCODER_KL:
        moments = kl_encode(graph, model, pixels);
        break;
    default:
        moments = patch_encode(graph, model, pixels);
    }
    graph_name(graph, moments, "moments");
    return moments;
}

TensorId autoencoder_latent(Graph *graph, const ModelConfig *model, TensorId moments, TensorId noise)
{
    if (model->autoencoder.kind != AUTOENCODER_KL) return moments;
    TensorId latent = op_posterior_sample(graph, moments, noise, (float)model->autoencoder.scale);
    graph_name(graph, latent, "latent");
    return latent;
}

TensorId autoencoder_decode(Graph *graph, const ModelConfig *model, TensorId latent)
{
    float inverse = (float)(1 / model->autoencoder.scale);
    TensorId pixels;
    switch (model->autoencoder.kind) {
    case AUTOENCODER_NONE:
        pixels = op_affine(graph, latent, inverse, 0);
        break;
    case AUTOENCODER_KL:
        pixels = kl_decode(graph, model, op_affine(graph, latent, inverse, 0));
        break;
    default:
        pixels = patch_decode(graph, model, latent);
    }
    graph_name(graph, pixels, "pixels");
    return pixels;
}

void autoencoder_declare_params(Graph *graph, const ModelConfig *model, bool encoder, bool decoder)
{
    if (model->autoencoder.kind != AUTOENCODER_KL) return;
    int64_t side = model_latent_factor(model);
    Shape latent = SHAPE4(1, 1, 1, model_latent_channels(model));
    if (encoder) kl_encode(graph, model, graph_input(graph, "pixels", DTYPE_F32, SHAPE4(1, side, side, 3), false));
    if (decoder) kl_decode(graph, model, graph_input(graph, "latent", DTYPE_F32, latent, false));
}

double autoencoder_latent_bound(const ModelConfig *model)
{
    const AutoencoderConfig *config = &model->autoencoder;
    if (config->kind == AUTOENCODER_NONE) return config->scale;
    if (config->kind == AUTOENCODER_KL) return 1;
    /* |sum of w x| over |x| <= 1 for the brightness coefficient, whose weights are all 1 / (sqrt(3) f). */
    return config->scale * sqrt(3.0) * (double)config->factor;
}
