/* The frozen networks by themselves, on batches of pictures and of captions. */
#ifndef TRAIN_PRECOMPUTE_NETWORKS_H
#define TRAIN_PRECOMPUTE_NETWORKS_H

#include "data/precomputed.h"
#include "engine/backend.h"
#include "train/run_config.h"

typedef struct PrecomputeNetworks PrecomputeNetworks;

typedef struct PrecomputeNetworksOptions {
    const RunConfig *run;
    bool wanted[PRECOMPUTED_KINDS];
    int64_t pictures, captions; /* of a batch */
} PrecomputeNetworksOptions;

/* Weights from the config's files, or drawn from the seed. `run` and the backend must outlive it. */
Status precompute_networks_create(const PrecomputeNetworksOptions *options, Backend *backend, PrecomputeNetworks **out);
void precompute_networks_free(PrecomputeNetworks *networks); /* NULL is fine */

/* pixels (pictures, R, R, 3) -> moments (pictures, side, side, M). */
Status precompute_networks_pictures(PrecomputeNetworks *networks, const float *pixels, float *moments);
/* Arrays of `captions` rows each: tokens and masks in, states and pooled out. */
Status precompute_networks_captions(PrecomputeNetworks *networks, const PrecomputedText *batch);

#endif
