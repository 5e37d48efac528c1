/* Writing WHAT.shares.json, the index of one array of a checkpoint in shares (model/weight_shares.h). */
#ifndef TRAIN_SHARE_INDEX_H
#define TRAIN_SHARE_INDEX_H

#include "model/weight_file.h"
#include "train/checkpoint_manifest.h"

/* Elements [flat, flat + count) of an array are at `local` of a share's dataset. */
typedef struct ShareSegment {
    int64_t flat, count, local;
    int share;
} ShareSegment;

/* A tensor has elements [flat, flat + count), in the order that `stride` gives. */
typedef struct ShareTensor {
    const char *name; /* borrowed */
    int32_t ndim;
    int64_t shape[WEIGHT_MAX_DIMS], stride[WEIGHT_MAX_DIMS];
    int64_t flat, count;
} ShareTensor;

typedef struct ShareMap {
    ShareTensor *tensors; /* by `flat` */
    int32_t tensor_count;
    ShareSegment *segments; /* by `flat`, without gaps */
    size_t segment_count, segment_capacity;
    int shares;
} ShareMap;
void share_map_free(ShareMap *map); /* zeroed is fine */
/* Strides of C order. */
void share_tensor_set_strides(ShareTensor *tensor);

/* FOLDER/ARRAY.shares.json, synced; what it is into *facts. */
Status share_index_write(const char *folder, const char *array, const ShareMap *map, FileFacts *facts);

#endif
