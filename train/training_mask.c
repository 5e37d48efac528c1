#include "train/training_mask.h"

#include "model/sampler.h"

void training_mask(const MaskConfig *masks, uint64_t seed, uint64_t index, int64_t side, int64_t factor, float *scratch,
                   float *keep)
{
    Mask mask;
    float *nearest = scratch + side * side;
    mask_draw(masks, seed, index, &mask);
    mask_rasterise(&mask, side, factor, nearest);
    sampler_latent_mask(nearest, side, side, side, side, scratch, keep);
}
