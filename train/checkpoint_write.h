/* A snapshot into files: by one rank alone as one file an array, parameters by name in the layout of the published
 * weight files; by several as one file each, its share (model/weight_shares.h). Files are synced and hashed. */
#ifndef TRAIN_CHECKPOINT_WRITE_H
#define TRAIN_CHECKPOINT_WRITE_H

#include "train/checkpoint_manifest.h"
#include "train/checkpoint_snapshot.h"

typedef struct CheckpointWriter CheckpointWriter;

/* Rank `rank` of `world`. The snapshot is borrowed. All memory is taken here. */
Status checkpoint_writer_create(const Snapshot *snapshot, int rank, int world, CheckpointWriter **out);
void checkpoint_writer_free(CheckpointWriter *writer); /* NULL is fine */
/* This rank's files into `folder`, and what they are: CHECKPOINT_ARRAYS at most. Several ranks: one each. From one
 * thread at a time. */
Status checkpoint_writer_write(CheckpointWriter *writer, const char *folder, FileFacts facts[CHECKPOINT_ARRAYS],
                               size_t *count);
/* Several ranks: the indices of their shares, WHAT.shares.json; rank 0. `exchange` tells the deals. */
Status checkpoint_write_indices(const Snapshot *snapshot, const Exchange *exchange, int world, int group,
                                const char *folder, FileFacts facts[CHECKPOINT_ARRAYS], size_t *count);
/* Bytes that the writer of one of `ranks` takes beside the snapshot. */
int64_t checkpoint_writer_bytes(const ParamTable *table, int64_t ranks);

#endif
