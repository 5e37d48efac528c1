/* Which parameters of the network a run trains, and which it holds: those of optim.groups with lr 0, for which backward
 * computes no gradient. */
#ifndef TRAIN_HELD_PARAMS_H
#define TRAIN_HELD_PARAMS_H

#include "engine/params.h"
#include "train/run_config.h"

/* That the patterns of optim.groups fit the network's parameters (optim/param_groups.h); ERR_CONFIG. */
Status held_params_check(const RunConfig *run, const Config *config);
/* Adds the held parameters to a table that has none of the network's yet, before its graph is built over it. */
Status held_params_declare(const RunConfig *run, ParamTable *params);
/* That an inpainting network can come to see picture and mask: ERR_CONFIG where its first convolution is held while all
 * of its weights for them are zero, as widening a network for text alone leaves them. Once the weights are loaded. */
Status held_params_check_widened(const RunConfig *run, const Config *config, const ParamStore *store);
/* Says what is trained and how, where there are groups. */
void held_params_log(const RunConfig *run, const ParamTable *params);
/* Elements of the held parameters of a table. */
int64_t held_params_count(const ParamTable *params);

#endif
