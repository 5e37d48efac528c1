/* Previews: the same captions from the same noise, drawn as training goes on, so that progress can be seen. */
#ifndef TRAIN_PREVIEW_H
#define TRAIN_PREVIEW_H

#include "train/network.h"
#include "train/run_config.h"

typedef struct Preview Preview;

/* Everything is allocated here. The arguments must outlive it. *out is NULL where the config asks for no previews. */
Status preview_create(const RunConfig *run, const Network *network, const char *folder, Preview **out);
void preview_free(Preview *preview); /* NULL is fine */
/* What the first would allocate with packed weights kept, and made in scratch; 0 without previews. */
Status preview_plan_bytes(const RunConfig *run, const Network *network, int64_t *kept, int64_t *scratch);
/* Draws with `weights` (the EMA; NULL: the network's own) into folder/step-NNNNNNN.png; with `mark` not "" into
 * folder/step-NNNNNNN-MARK.png. */
Status preview_draw(Preview *preview, int64_t step, const char *mark, const float *weights);

#endif
