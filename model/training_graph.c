#include "model/training_graph.h"

#include <stdlib.h>

#include "engine/ops.h"
#include "model/autoencoder.h"
#include "model/text_encoder.h"
#include "model/unet.h"

/* x F32 or BF16 -> F32, rounded to what files keep. */
static TensorId rounded(Graph *graph, TensorId x, FrozenDtype to)
{
    if (to == FROZEN_F32 || !graph_ok(graph)) return x;
    if (graph_tensor(graph, x)->dtype != DTYPE_F32) x = op_cast(graph, x, DTYPE_F32);
    return op_round(graph, x, to == FROZEN_F16 ? ROUND_F16 : ROUND_BF16);
}

/* The clean latent, drawn from moments that are given or computed from the pixels. */
static void add_latent(TrainingGraph *t, const TrainingGraphOptions *o)
{
    Graph *g = t->graph;
    const ModelConfig *m = o->model;
    int64_t n = o->batch, side = model_latent_size(m, o->resolution);
    TensorId noise = TENSOR_NONE;
    t->pixels = TENSOR_NONE;
    if (o->moments_given) {
        t->moments = graph_input(g, "moments", DTYPE_F32, SHAPE4(n, side, side, model_moment_channels(m)), false);
    } else {
        t->pixels = graph_input(g, "pixels", DTYPE_F32, SHAPE4(n, o->resolution, o->resolution, 3), false);
        t->moments = rounded(g, autoencoder_moments(g, m, t->pixels), o->round_to);
    }
    if (m->autoencoder.kind == AUTOENCODER_KL)
        noise =
            op_noise(g, t->sample_index, SHAPE4(n, side, side, model_latent_channels(m)), o->seed, RANDOM_POSTERIOR);
    t->x0 = autoencoder_latent(g, m, t->moments, noise);
}

/* The network's input: x_t, and for inpainting what is known of x0 and where. */
static void add_hint(TrainingGraph *t, const TrainingGraphOptions *o)
{
    const ModelConfig *m = o->model;
    int64_t side = model_latent_size(m, o->resolution);
    t->keep = TENSOR_NONE;
    t->x = t->x_t;
    if (!model_paints(m)) return;
    t->keep = graph_input(t->graph, "keep", DTYPE_F32, SHAPE3(o->batch, side, side), false);
    t->x = op_inpaint_input(t->graph, t->x_t, t->x0, t->keep);
    graph_name(t->graph, t->x, "x");
}

/* Text states: given, or the encoded tokens. */
static void add_text(TrainingGraph *t, const TrainingGraphOptions *o)
{
    Graph *g = t->graph;
    const ModelConfig *m = o->model;
    int64_t n = o->batch, rows = m->max_tokens;
    bool valid = m->text_rows == TEXT_ROWS_VALID;
    t->tokens1 = t->mask1 = t->tokens2 = t->mask2 = t->text_mask = TENSOR_NONE;
    if (valid) t->text_mask = graph_input(g, "text_mask", DTYPE_I32, SHAPE2(n, 2 * rows), false);
    if (o->text_given) {
        t->full_emb1 = graph_input(g, "full_emb1", DTYPE_F32, SHAPE3(n, rows, m->text1_dim), false);
        t->pooled_emb1 = graph_input(g, "pooled_emb1", DTYPE_F32, SHAPE2(n, m->pooled_dim), false);
        t->full_emb2 = graph_input(g, "full_emb2", DTYPE_F32, SHAPE3(n, rows, m->text2_dim), false);
        if (valid) t->mask2 = graph_input(g, "mask2", DTYPE_I32, SHAPE2(n, rows), false);
        return;
    }
    t->tokens1 = graph_input(g, "tokens1", DTYPE_I32, SHAPE2(n, rows), false);
    t->mask1 = graph_input(g, "mask1", DTYPE_I32, SHAPE2(n, rows), false);
    t->tokens2 = graph_input(g, "tokens2", DTYPE_I32, SHAPE2(n, rows), false);
    t->mask2 = graph_input(g, "mask2", DTYPE_I32, SHAPE2(n, rows), false);
    TextStates states = text_encoders_forward(g, m, t->tokens1, t->mask1, t->tokens2, t->mask2);
    t->full_emb1 = rounded(g, states.full_emb1, o->round_to);
    t->pooled_emb1 = rounded(g, states.pooled_emb1, o->round_to);
    t->full_emb2 = rounded(g, states.full_emb2, o->round_to);
}

static Status schedule_constant(Graph *graph, const Diffusion *diffusion, TensorId *out)
{
    float *table = mem_alloc_array((size_t)diffusion->steps * DIFFUSION_TABLE_COLUMNS, sizeof *table);
    if (table == NULL) return ERR_MEMORY;
    diffusion_table(diffusion, table);
    *out = graph_constant(graph, "schedule", DTYPE_F32, SHAPE2(diffusion->steps, DIFFUSION_TABLE_COLUMNS), table);
    free(table);
    return STATUS_OK;
}

static TextStates declare_text_encoders(Graph *g, const ModelConfig *model)
{
    Shape rows = SHAPE2(1, model->max_tokens);
    TensorId tokens = graph_input(g, "tokens", DTYPE_I32, rows, false);
    TensorId mask = graph_input(g, "mask", DTYPE_I32, rows, false);
    return text_encoders_forward(g, model, tokens, mask, tokens, mask);
}

/* Frozen parameters that drawing pictures needs, whether or not training does. */
static Status declare_drawing_params(ParamTable *params, const ModelConfig *model, bool from_picture)
{
    Status status = STATUS_OK;
    Graph *g = NULL;
    TRY(graph_create(params, DTYPE_F32, &g));
    declare_text_encoders(g, model);
    autoencoder_declare_params(g, model, from_picture, true);
    TRY(graph_status(g));
fail:
    graph_free(g);
    return status;
}

Status training_graph_create(ParamTable *params, const TrainingGraphOptions *options, TrainingGraph *out)
{
    Status status = STATUS_OK;
    TrainingGraph t = {0};
    const ModelConfig *model = options->model;
    const Diffusion *diffusion = options->diffusion;
    TensorId table = TENSOR_NONE;
    TRY(model_config_check(model, NULL));
    TRY(model_config_check_resolution(model, NULL, "resolution", options->resolution));
    TRY(graph_create(params, options->compute, &t.graph));
    Graph *g = t.graph;

    t.timesteps = graph_input(g, "timesteps", DTYPE_F32, SHAPE1(options->batch), false);
    t.sample_index = graph_input(g, "sample_index", DTYPE_I32, SHAPE2(options->batch, 2), false);
    add_latent(&t, options);
    TRY(graph_status(g));
    TRY(schedule_constant(g, diffusion, &table));
    t.noise = op_noise(g, t.sample_index, graph_tensor(g, t.x0)->shape, options->seed, RANDOM_NOISE);
    graph_name(g, t.noise, "noise");
    t.x_t = op_q_sample(g, t.x0, t.noise, t.timesteps, table);
    graph_name(g, t.x_t, "x_t");
    add_hint(&t, options);
    add_text(&t, options);

    TensorId told = t.timesteps; /* the network's clock runs to 1000, however many steps the process has */
    if (diffusion->steps != 1000) told = op_affine(g, t.timesteps, 1000.0f / (float)diffusion->steps, 0);
    UnetInputs inputs = {.x = t.x,
                         .timesteps = told,
                         .full_emb1 = t.full_emb1,
                         .pooled_emb1 = t.pooled_emb1,
                         .full_emb2 = t.full_emb2,
                         .masked = t.text_mask != TENSOR_NONE,
                         .text_mask = t.text_mask,
                         .mask2 = t.mask2};
    t.unet_out = unet_forward(g, model, &inputs);
    t.loss_terms = op_diffusion_loss(g, t.unet_out, t.x0, t.x_t, t.noise, t.timesteps, table, options->loss_scale,
                                     diffusion_vb_weight(diffusion));
    graph_name(g, t.loss_terms, "loss_terms");
    graph_mark_output(g, t.loss_terms);
    TRY(graph_status(g));
    if (options->drawing) /* before the table is laid out */
        TRY(declare_drawing_params(params, model, options->drawing_from_picture));
    if (options->backward) TRY(graph_backward(g, t.loss_terms, TENSOR_NONE, options->recompute));
    *out = t;
    return STATUS_OK;
fail:
    training_graph_free(&t);
    return status;
}

void training_graph_free(TrainingGraph *graph)
{
    graph_free(graph->graph);
    graph->graph = NULL;
}

Status model_declare_params(ParamTable *params, const ModelConfig *model)
{
    Status status = STATUS_OK;
    Graph *g = NULL;
    int64_t side = (int64_t)1 << (model->channel_mult.count - 1);
    TRY(model_config_check_unet(model, NULL));
    TRY(graph_create(params, DTYPE_F32, &g));
    TextStates states = declare_text_encoders(g, model);
    UnetInputs inputs = {
        .x = graph_input(g, "x", DTYPE_F32, SHAPE4(1, side, side, model->in_channels), false),
        .timesteps = graph_input(g, "timesteps", DTYPE_F32, SHAPE1(1), false),
        .full_emb1 = states.full_emb1,
        .pooled_emb1 = states.pooled_emb1,
        .full_emb2 = states.full_emb2,
    };
    unet_forward(g, model, &inputs);
    autoencoder_declare_params(g, model, true, true);
    TRY(graph_status(g));
fail:
    graph_free(g);
    return status;
}
