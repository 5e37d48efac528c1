/* The one training graph: pictures and tokens in, per-sample loss terms out, gradients of everything trainable.
 *
 *   pixels -> [autoencoder] -> moments -> x0 -> q_sample(noise) -> x_t -> UNet <- [text encoders] <- tokens
 *                                 posterior noise                         out -> hybrid loss (mse + vb)
 *
 * An inpainting network is given [x_t | x0 keep | keep] (op_inpaint_input), as sampling gives it (model/generate.c).
 */
#ifndef MODEL_TRAINING_GRAPH_H
#define MODEL_TRAINING_GRAPH_H

#include "engine/graph.h"
#include "model/diffusion.h"
#include "model/model_config.h"

/* How the outputs of the frozen networks are kept: what precomputed files hold them in (config key `frozen.dtype`). */
typedef enum FrozenDtype { FROZEN_F32, FROZEN_F16, FROZEN_BF16 } FrozenDtype;

typedef struct TrainingGraphOptions {
    const ModelConfig *model;
    const Diffusion *diffusion; /* not respaced */
    int64_t resolution;         /* pixels a side */
    int64_t batch;              /* samples of one run: the micro-batch */
    uint64_t seed;              /* of the noise and the posterior */
    float loss_scale;           /* 1 / global batch */
    bool moments_given;         /* input `moments` instead of pixels: no autoencoder in the graph */
    bool text_given;            /* inputs full_emb1, pooled_emb1, full_emb2 instead of tokens */
    FrozenDtype round_to;       /* computed moments and text states are rounded as files hold them; not given ones */
    bool drawing;               /* the table gets the text encoders and the decoder too: previews share it */
    bool drawing_from_picture;  /* with drawing: and the encoder */
    bool backward;              /* append the gradients */
    bool recompute;             /* recompute segments in backward instead of keeping them */
    Dtype compute;
} TrainingGraphOptions;

typedef struct TrainingGraph {
    Graph *graph;
    /* inputs; TENSOR_NONE where the options leave them out */
    TensorId pixels;                            /* F32 (N,R,R,3) in [-1,1] */
    TensorId moments;                           /* F32 (N,h,w,M); an input only with moments_given, else computed */
    TensorId tokens1, mask1, tokens2, mask2;    /* I32 (N,max_tokens); mask 1 = real token; text_given: at most mask2 */
    TensorId full_emb1, pooled_emb1, full_emb2; /* F32; inputs only with text_given, else the encoders' outputs */
    TensorId text_mask;                         /* text_rows valid: I32 (N,2 max_tokens), mask1 then mask2 */
    TensorId timesteps;                         /* F32 (N), integers in [0, diffusion steps) */
    TensorId keep;                              /* inpainting: F32 (N,h,w), 1 = known; else TENSOR_NONE */
    TensorId sample_index;                      /* I32 (N,2): low and high word of the global sample index */
    /* computed */
    TensorId loss_terms;               /* F32 (N,2): mse, vb; an output */
    TensorId x0, noise, x_t, unet_out; /* for inspection; not outputs */
    TensorId x;                        /* likewise: what the network is given, x_t or with the hint */
} TrainingGraph;

/* Adds every parameter to `params` (and, with backward, lays the table out). */
Status training_graph_create(ParamTable *params, const TrainingGraphOptions *options, TrainingGraph *out);
void training_graph_free(TrainingGraph *graph); /* the graph inside; zeroed is fine */

/* Adds every parameter of the UNet, text encoders and autoencoder to a table, in forward order, without keeping a
 * graph: for tools that only need names, shapes and counts, or build several partial graphs over one table. */
Status model_declare_params(ParamTable *params, const ModelConfig *model);

#endif
