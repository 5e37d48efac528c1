/* The masks of training as the network is shown them. */
#ifndef TRAIN_TRAINING_MASK_H
#define TRAIN_TRAINING_MASK_H

#include "data/mask.h"

/* The mask over the latent, keep (side,side), 1 = keep, of sample `index`: that of its picture of side x factor pixels
 * a side, brought to the latent's size by the very rule of sampling (sampler_latent_mask: the nearest pixel, and what
 * is to be painted spreads to its neighbours), so that the network learns from masks like those that it will be given.
 * `factor`: pixels of a latent's side. `scratch` (2,side,side). */
void training_mask(const MaskConfig *masks, uint64_t seed, uint64_t index, int64_t side, int64_t factor, float *scratch,
                   float *keep);

#endif
