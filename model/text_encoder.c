#include "model/text_encoder.h"

#include "model/mt5.h"
#include "model/xlmr_clip.h"

TextStates text_encoders_forward(Graph *graph, const ModelConfig *model, TensorId tokens1, TensorId mask1,
                                 TensorId tokens2, TensorId mask2)
{
    TextStates states;
    XlmrStates first = xlmr_clip_forward(graph, model, tokens1, mask1);
    states.full_emb1 = first.states;
    states.pooled_emb1 = first.pooled;
    states.full_emb2 = mt5_forward(graph, model, tokens2, mask2);
    return states;
}
