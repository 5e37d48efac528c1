/* The samples of one shard after another, each in the shard's order, passed over or accepted, read ahead and decoded by
 * threads. What training does in its own order (data/loader.h), for work that goes through all data once. */
#ifndef DATA_SHARD_READER_H
#define DATA_SHARD_READER_H

#include "data/candidate.h"

typedef struct ShardReader ShardReader;

/* `pixels`: decode and resize pictures to resolution x resolution; else they are only looked at. The store and the
 * config must outlive it. */
Status shard_reader_open(const DataConfig *config, ShardStore *store, int resolution, bool pixels, ShardReader **out);
void shard_reader_close(ShardReader *reader); /* joins the threads; NULL is fine */

/* Goes to the beginning of a shard of `samples` samples, from wherever it was. */
void shard_reader_begin(ShardReader *reader, int32_t source, int32_t shard, int64_t samples);
/* The next sample, valid until the next call; STATUS_END after the last one. A sample for whose sake the whole run must
 * stop is a failure. */
Status shard_reader_next(ShardReader *reader, const Candidate **out);

#endif
