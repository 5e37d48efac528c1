/* The UNet goldens of tests/goldens/make_unet_goldens.py: configs, weights by the same rule, fingerprints. */
#ifndef TESTS_MODEL_GOLDEN_UNET_H
#define TESTS_MODEL_GOLDEN_UNET_H

#include "engine/params.h"
#include "model/model_config.h"

#define GOLDEN_UNET_CASES 3
#define GOLDEN_BUCKETS 512

extern const char *const GOLDEN_UNET_NAMES[GOLDEN_UNET_CASES];
extern const ModelConfig GOLDEN_UNET_MODELS[GOLDEN_UNET_CASES];

uint64_t golden_fnv1a(const char *name);
/* Element values in file layout. */
void golden_draw_weight(const char *name, const Shape *file_shape, float *values);
/* The count sketch of a gradient in file layout; `out` has min(count, GOLDEN_BUCKETS) places. */
void golden_sketch(const char *name, const float *gradient, int64_t count, double *out);
/* Every parameter of a store. */
Status golden_fill_store(ParamStore *store);

#endif
