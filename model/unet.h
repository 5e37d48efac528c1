/* The text-conditioned UNet of Kandinsky 2.0 (text2im_model.py and unet.py of ai-forever/Kandinsky-2), forward pass.
 *
 * Parameters carry the reference's state-dict names and PyTorch's default initialisation; the last convolution of each
 * res block, `proj_out` and the last convolution of `out` start at zero. Activations are NHWC in the graph's compute
 * dtype. Two differences from the reference's half-precision mode, none in fp32: the time and pooled-text embeddings
 * are summed in fp32, and `out` is computed in the compute dtype and then cast to fp32. */
#ifndef MODEL_UNET_H
#define MODEL_UNET_H

#include "engine/graph.h"
#include "model/model_config.h"

typedef struct UnetInputs {
    TensorId x;           /* (N,H,W,in_channels), F32 or the compute dtype; H and W multiples of 2^(levels-1) */
    TensorId timesteps;   /* F32 (N), in units of a 1000-step process */
    TensorId full_emb1;   /* (N,T1,text1_dim), F32 or the compute dtype */
    TensorId pooled_emb1; /* (N,pooled_dim), F32 or the compute dtype */
    TensorId full_emb2;   /* (N,T2,text2_dim), F32 or the compute dtype */
    bool masked;          /* hide text rows by the following masks: nothing in them reaches the output, and they get no
                           * gradient; the first row of full_emb2 must not be hidden */
    TensorId text_mask;   /* masked: I32 (N,T1+T2), 0 hides that row of [full_emb1 ; full_emb2] from attention */
    TensorId mask2;       /* masked: I32 (N,T2), 0 hides that row of full_emb2 from the pooling */
} UnetInputs;

/* -> F32 (N,H,W,out_channels). Failures are kept in the graph (graph_status). */
TensorId unet_forward(Graph *graph, const ModelConfig *model, const UnetInputs *inputs);

#endif
