/* The weights of the frozen networks (autoencoder, text encoders) out of the files that the config names.
 *
 * Where a tensor's layout and type are the engine's, the file's pages are used as they are, so that the ranks of one
 * machine share them through the page cache; other tensors are converted into memory of this process. Networks without
 * a file are drawn from the seed by param_store_init, which leaves bound parameters alone. */
#ifndef MODEL_FROZEN_WEIGHTS_H
#define MODEL_FROZEN_WEIGHTS_H

#include "base/hash.h"
#include "engine/params.h"
#include "model/model_config.h"

typedef enum FrozenNetwork { FROZEN_AUTOENCODER, FROZEN_TEXT1, FROZEN_TEXT2, FROZEN_NETWORK_COUNT } FrozenNetwork;

extern const char *const FROZEN_NETWORK_WORDS[]; /* "autoencoder", "text_encoder1", "text_encoder2" */

typedef struct FrozenWeights FrozenWeights;

/* Opens every file that `model` names, checks each tensor (missing, extra and mis-shaped ones listed by name) and binds
 * it to `store`. Networks that the table does not have are passed over. Before param_store_init. Free it after the
 * store. */
Status frozen_weights_load(const ModelConfig *model, ParamStore *store, FrozenWeights **out);
void frozen_weights_free(FrozenWeights *frozen); /* NULL is fine */

/* Whether the store's table had any parameter of the network: not where its outputs are precomputed. */
bool frozen_weights_used(const FrozenWeights *frozen, FrozenNetwork network);

/* What a network's outputs depend on: XXH3-128 over names, shapes and fp32 values where they come from a file, whatever
 * the file's format, or else over names, shapes and the seed. Computed when first asked for, over the whole file. The
 * same for any device and number of ranks. 32 hex digits; "" for a network without parameters (autoencoder kinds patch
 * and none). One that the store does not use is opened for it. */
Status frozen_weights_fingerprint(FrozenWeights *frozen, FrozenNetwork network, uint64_t seed, char out[33]);

#endif
