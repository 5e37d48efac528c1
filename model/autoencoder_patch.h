/* The analytic autoencoder of patches (model/autoencoder.h). */
#ifndef MODEL_AUTOENCODER_PATCH_H
#define MODEL_AUTOENCODER_PATCH_H

#include "engine/graph.h"
#include "model/model_config.h"

TensorId patch_encode(Graph *graph, const ModelConfig *model, TensorId pixels); /* (N,H,W,3) -> (N,H/f,W/f,C) */
TensorId patch_decode(Graph *graph, const ModelConfig *model, TensorId latent); /* and back */

#endif
