#include "model/sampling_graph.h"

#include "engine/ops.h"
#include "model/autoencoder.h"
#include "model/text_encoder.h"
#include "model/unet.h"

static TensorId output_f32(Graph *graph, TensorId x, const char *name)
{
    if (!graph_ok(graph)) return TENSOR_NONE;
    if (graph_tensor(graph, x)->dtype != DTYPE_F32) x = op_cast(graph, x, DTYPE_F32);
    graph_name(graph, x, "%s", name);
    graph_mark_output(graph, x);
    return x;
}

Status text_graph_create(ParamTable *params, const ModelConfig *model, int64_t batch, Dtype compute, TextGraph *out)
{
    Status status = STATUS_OK;
    TextGraph t = {0};
    Shape rows = SHAPE2(batch, model->max_tokens);
    TRY(graph_create(params, compute, &t.graph));
    t.tokens1 = graph_input(t.graph, "tokens1", DTYPE_I32, rows, false);
    t.mask1 = graph_input(t.graph, "mask1", DTYPE_I32, rows, false);
    t.tokens2 = graph_input(t.graph, "tokens2", DTYPE_I32, rows, false);
    t.mask2 = graph_input(t.graph, "mask2", DTYPE_I32, rows, false);
    TextStates states = text_encoders_forward(t.graph, model, t.tokens1, t.mask1, t.tokens2, t.mask2);
    t.full_emb1 = output_f32(t.graph, states.full_emb1, "full_emb1");
    t.pooled_emb1 = output_f32(t.graph, states.pooled_emb1, "pooled_emb1");
    t.full_emb2 = output_f32(t.graph, states.full_emb2, "full_emb2");
    TRY(graph_status(t.graph));
    *out = t;
    return STATUS_OK;
fail:
    text_graph_free(&t);
    return status;
}

void text_graph_free(TextGraph *graph)
{
    graph_free(graph->graph);
    graph->graph = NULL;
}

Status unet_graph_create(ParamTable *params, const UnetGraphOptions *options, UnetGraph *out)
{
    Status status = STATUS_OK;
    UnetGraph u = {.text_mask = TENSOR_NONE, .mask2 = TENSOR_NONE, .grad_out = TENSOR_NONE};
    const ModelConfig *m = options->model;
    int64_t n = options->batch;
    bool grad = options->backward;
    TRY(model_config_check_unet(m, NULL));
    TRY(graph_create(params, options->compute, &u.graph));
    Graph *g = u.graph;
    u.x = graph_input(g, "x", DTYPE_F32, SHAPE4(n, options->height, options->width, m->in_channels), grad);
    u.timesteps = graph_input(g, "timesteps", DTYPE_F32, SHAPE1(n), false);
    u.full_emb1 = graph_input(g, "full_emb1", DTYPE_F32, SHAPE3(n, options->tokens1, m->text1_dim), grad);
    u.pooled_emb1 = graph_input(g, "pooled_emb1", DTYPE_F32, SHAPE2(n, m->pooled_dim), grad);
    u.full_emb2 = graph_input(g, "full_emb2", DTYPE_F32, SHAPE3(n, options->tokens2, m->text2_dim), grad);
    if (options->masked) {
        u.text_mask = graph_input(g, "text_mask", DTYPE_I32, SHAPE2(n, options->tokens1 + options->tokens2), false);
        u.mask2 = graph_input(g, "mask2", DTYPE_I32, SHAPE2(n, options->tokens2), false);
    }
    UnetInputs inputs = {u.x,         u.timesteps,     u.full_emb1, u.pooled_emb1,
                         u.full_emb2, options->masked, u.text_mask, u.mask2};
    u.out = unet_forward(g, m, &inputs);
    graph_mark_output(g, u.out);
    TRY(graph_status(g));
    if (grad) {
        u.grad_out = graph_input(g, "grad_out", DTYPE_F32, graph_tensor(g, u.out)->shape, false);
        TRY(graph_status(g));
        TRY(graph_backward(g, u.out, u.grad_out, options->recompute));
    }
    *out = u;
    return STATUS_OK;
fail:
    unet_graph_free(&u);
    return status;
}

void unet_graph_free(UnetGraph *graph)
{
    graph_free(graph->graph);
    graph->graph = NULL;
}

/* Sizes that the autoencoder can take. */
static Status check_size(const ModelConfig *model, int64_t batch, int64_t height, int64_t width)
{
    Status status = STATUS_OK;
    int64_t factor = model_latent_factor(model);
    if (batch < 1 || height < 1 || width < 1 || height % factor != 0 || width % factor != 0)
        FAIL(ERR_USAGE, "%lld pictures of %lld x %lld pixels: the autoencoder takes multiples of %lld pixels",
             (long long)batch, (long long)width, (long long)height, (long long)factor);
fail:
    return status;
}

Status decode_graph_create(ParamTable *params, const ModelConfig *model, int64_t batch, int64_t height, int64_t width,
                           Dtype compute, PictureGraph *out)
{
    Status status = STATUS_OK;
    PictureGraph p = {.moments = TENSOR_NONE, .noise = TENSOR_NONE};
    TRY(check_size(model, batch, height, width));
    TRY(graph_create(params, compute, &p.graph));
    Shape shape =
        SHAPE4(batch, model_latent_size(model, height), model_latent_size(model, width), model_latent_channels(model));
    p.latent = graph_input(p.graph, "latent", DTYPE_F32, shape, false);
    p.pixels = output_f32(p.graph, autoencoder_decode(p.graph, model, p.latent), "pixels");
    TRY(graph_status(p.graph));
    *out = p;
    return STATUS_OK;
fail:
    picture_graph_free(&p);
    return status;
}

Status encode_graph_create(ParamTable *params, const ModelConfig *model, int64_t batch, int64_t height, int64_t width,
                           bool with_noise, Dtype compute, PictureGraph *out)
{
    Status status = STATUS_OK;
    PictureGraph p = {.noise = TENSOR_NONE};
    TRY(check_size(model, batch, height, width));
    TRY(graph_create(params, compute, &p.graph));
    Shape shape =
        SHAPE4(batch, model_latent_size(model, height), model_latent_size(model, width), model_latent_channels(model));
    p.pixels = graph_input(p.graph, "pixels", DTYPE_F32, SHAPE4(batch, height, width, 3), false);
    if (with_noise && model->autoencoder.kind == AUTOENCODER_KL)
        p.noise = graph_input(p.graph, "noise", DTYPE_F32, shape, false);
    p.moments = output_f32(p.graph, autoencoder_moments(p.graph, model, p.pixels), "moments");
    p.latent = output_f32(p.graph, autoencoder_latent(p.graph, model, p.moments, p.noise), "latent");
    TRY(graph_status(p.graph));
    *out = p;
    return STATUS_OK;
fail:
    picture_graph_free(&p);
    return status;
}

void picture_graph_free(PictureGraph *graph)
{
    graph_free(graph->graph);
    graph->graph = NULL;
}
