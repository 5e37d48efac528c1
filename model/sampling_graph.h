/* The graphs of sampling: text encoding, one UNet evaluation, picture decoding (and encoding). Each owns its Graph. */
#ifndef MODEL_SAMPLING_GRAPH_H
#define MODEL_SAMPLING_GRAPH_H

#include "engine/graph.h"
#include "model/model_config.h"

typedef struct TextGraph {
    Graph *graph;
    TensorId tokens1, mask1, tokens2, mask2;    /* inputs, I32 (N,max_tokens) */
    TensorId full_emb1, pooled_emb1, full_emb2; /* outputs, F32 */
} TextGraph;
Status text_graph_create(ParamTable *params, const ModelConfig *model, int64_t batch, Dtype compute, TextGraph *out);
void text_graph_free(TextGraph *graph);

typedef struct UnetGraph {
    Graph *graph;
    TensorId x;                                 /* input, F32 (N,h,w,in_channels) */
    TensorId timesteps;                         /* input, F32 (N) */
    TensorId full_emb1, pooled_emb1, full_emb2; /* inputs, F32 (N,T1,text1_dim), (N,pooled_dim), (N,T2,text2_dim) */
    TensorId text_mask, mask2;                  /* masked: inputs, I32 (N,T1+T2), (N,T2), 0 hides; else TENSOR_NONE */
    TensorId grad_out;                          /* with backward: input, F32 like out; else TENSOR_NONE */
    TensorId out;                               /* output, F32 (N,h,w,out_channels) */
} UnetGraph;
typedef struct UnetGraphOptions {
    const ModelConfig *model;
    int64_t batch, height, width; /* latent; for classifier-free guidance the batch holds both halves */
    int64_t tokens1, tokens2;     /* rows of text */
    bool masked;                  /* with inputs that hide rows of text (model.text_rows: valid) */
    Dtype compute;
    bool backward; /* gradients of weights and of every input but timesteps, seeded by grad_out */
    bool recompute;
} UnetGraphOptions;
Status unet_graph_create(ParamTable *params, const UnetGraphOptions *options, UnetGraph *out);
void unet_graph_free(UnetGraph *graph);

typedef struct PictureGraph {
    Graph *graph;
    TensorId pixels;  /* F32 (N,H,W,3) */
    TensorId moments; /* encoding: an output, F32 (N,h,w,M); decoding: TENSOR_NONE */
    TensorId noise;   /* encoding with noise, kl only: an input, F32 (N,h,w,C), standard normals; else TENSOR_NONE */
    TensorId latent;  /* F32 (N,h,w,C), scaled */
} PictureGraph;
/* Sizes are of the picture in pixels, multiples of model_latent_factor(model). The table gets the parameters of this
 * direction only.
 * Decoding: latent is the input, pixels the output. */
Status decode_graph_create(ParamTable *params, const ModelConfig *model, int64_t batch, int64_t height, int64_t width,
                           Dtype compute, PictureGraph *out);
/* Encoding: pixels is the input, moments and latent are outputs (one tensor where the autoencoder draws nothing).
 * Without noise the latent is the posterior's mean. */
Status encode_graph_create(ParamTable *params, const ModelConfig *model, int64_t batch, int64_t height, int64_t width,
                           bool with_noise, Dtype compute, PictureGraph *out);
void picture_graph_free(PictureGraph *graph);

#endif
