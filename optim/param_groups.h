/* Groups of parameters by the patterns of optim.groups: which group a parameter is of, whether the patterns make sense
 * for a network, and where the groups lie in the flat buffers. Group 0 is of all that no pattern matches, group 1 + i
 * is that of optim.groups[i]. */
#ifndef OPTIM_PARAM_GROUPS_H
#define OPTIM_PARAM_GROUPS_H

#include "engine/params.h"
#include "engine/update.h"
#include "optim/adamw.h"
#include "optim/optim_config.h"

/* Of the first pattern that matches the whole name, as fnmatch(3) does without flags: dots and slashes are characters
 * like others. */
int32_t param_group_of(const OptimConfig *optim, const char *name);
/* The factors of all groups; `out` has UPDATE_GROUPS_MAX. Returns how many there are. */
int32_t param_group_factors(const OptimConfig *optim, AdamwGroup *out);

/* That every pattern is the first to match some trainable parameter of `table`, and that some parameter is not held.
 * ERR_CONFIG names the key, and the names that are nearest. `section`: the section's path in the file, "optim". */
Status param_groups_check(const OptimConfig *optim, const ParamTable *table, const Config *config, const char *section);

/* The groups along the flat buffer of `table`, which is laid out; (count) in *out, which the caller frees. Neighbours
 * of one group are one segment. Without groups: NULL and 0. */
Status param_groups_segments(const OptimConfig *optim, const ParamTable *table, UpdateSegment **out, int32_t *count);

#endif
