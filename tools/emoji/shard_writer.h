/* Writes webdataset shards: numbered tar files (ustar) in one folder, a fixed number of samples each. */
#ifndef EMOJI_SHARD_WRITER_H
#define EMOJI_SHARD_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct ShardWriter ShardWriter;

/* `folder` is made. Shards are folder/00000.tar, 00001.tar, ...; each appears under its name when it is complete. */
Status shard_writer_open(const char *folder, int64_t samples_per_shard, ShardWriter **out);
/* Begins the next sample and tells its key (valid until the next call): shard and place in it, "000030017". */
Status shard_writer_sample(ShardWriter *writer, const char **key);
/* A member of the current sample: key.suffix. */
Status shard_writer_member(ShardWriter *writer, const char *suffix, const void *data, size_t size);
int64_t shard_writer_shards(const ShardWriter *writer); /* begun so far */
/* Completes the last shard; a full disk is reported here too. Frees the writer in any case; NULL is fine. */
Status shard_writer_close(ShardWriter *writer);
/* Gives up: the unfinished shard is removed. */
void shard_writer_abandon(ShardWriter *writer);

#endif
