/* What a run's config says about precomputed data, in the terms of data/precomputed.h. */
#ifndef TRAIN_FROZEN_DATA_H
#define TRAIN_FROZEN_DATA_H

#include "data/precomputed.h"
#include "engine/comm.h"
#include "train/run_config.h"

/* What run->frozen asks for, with the facts about networks and tokenizers: rank 0 reads their files (all of the
 * weights, once) and tells the others. Files that are not on this machine are not compared, unless `all` asks for every
 * one. `comm` NULL: alone. Collective. Free it with precomputed_spec_free; `run` must outlive it. */
Status frozen_spec_create(const RunConfig *run, Comm *comm, bool all, PrecomputedSpec *out);
/* Without facts: enough to read keys and sizes. */
void frozen_spec_sizes(const RunConfig *run, PrecomputedSpec *out);

/* Whether a run of this kind reads the shards themselves, and not only what is precomputed of them. */
bool frozen_reads_shards(const PrecomputedSpec *spec);
/* Appends the paths of a source's shards; those of a run that does not read them need not exist. */
Status frozen_list_shards(const SourceConfig *source, const PrecomputedSpec *spec, ShardList *list);

/* False when a file that drawing pictures needs (weights, tokenizers) is not there; `missing` is then its path. Weights
 * that come from the seed are always there. */
bool frozen_can_draw(const RunConfig *run, const char **missing);

#endif
