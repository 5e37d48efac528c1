/* Parameters of a ParamStore out of weight files and into them, by name and in the layout of the published files. */
#ifndef MODEL_WEIGHTS_H
#define MODEL_WEIGHTS_H

#include "engine/params.h"
#include "model/weight_names.h"

typedef struct WeightsFilter {
    bool trainable, frozen; /* which parameters of the table are meant */
} WeightsFilter;

/* Loads every parameter of a kind from any weight file (model/weight_file.h), under its published name. Missing,
 * unknown and mis-shaped tensors are all listed by name (the first few of each) in one error; with `allow_extra`,
 * unknown ones are passed over. */
Status weights_load(const char *path, ParamStore *store, WeightKind kind, bool allow_extra);
/* The same of the UNet, from a file of an inpainting network or, for one, of a network for text alone: that is then
 * widened. Its first convolution, of C channels, becomes the first C of the 2C + 1, and the others are zero: whatever
 * is known of a picture, the widened network gives bit for bit what the file's does. *from, *to: the channels of the
 * file and of the store where it was widened, else 0. */
Status weights_load_unet(const char *path, ParamStore *store, int64_t *from, int64_t *to);
/* Saves parameters under their names as F32, BF16 or F16. `weights`: another flat buffer of trainable weights (EMA), or
 * NULL for the store's own. */
Status weights_save(const char *path, const ParamStore *store, const float *weights, WeightsFilter filter,
                    SafeDtype dtype);

#endif
