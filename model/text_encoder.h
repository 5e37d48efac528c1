/* The two frozen text encoders on the graph: XLM-R-CLIP (model/xlmr_clip.h) and mT5's encoder (model/mt5.h). */
#ifndef MODEL_TEXT_ENCODER_H
#define MODEL_TEXT_ENCODER_H

#include "engine/graph.h"
#include "model/model_config.h"

typedef struct TextStates {
    TensorId full_emb1;   /* F32 (N,T,text1_dim) */
    TensorId pooled_emb1; /* F32 (N,pooled_dim) */
    TensorId full_emb2;   /* F32 (N,T,text2_dim) */
} TextStates;

/* tokens and masks I32 (N,T); mask 1 = real token (special tokens included), 0 = padding. States are F32 whatever the
 * precision of compute, so that states from a file and states computed here are the same. */
TextStates text_encoders_forward(Graph *graph, const ModelConfig *model, TensorId tokens1, TensorId mask1,
                                 TensorId tokens2, TensorId mask2);

#endif
