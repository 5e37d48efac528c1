/* Inside the files of precomputed data only. */
#ifndef DATA_PRECOMPUTED_INSIDE_H
#define DATA_PRECOMPUTED_INSIDE_H

#include "base/hdf5_file.h"
#include "data/precomputed.h"

#define PRECOMPUTED_FORMAT "vasily precomputed %s, version 1"

/* Bytes of a base name before ".tar", ".tar.gz", ".tgz", ".tar.zst" (of a pattern: ".tar*"). */
size_t precomputed_stem_size(const char *name);
/* What follows the last slash of a path; of a URL without user and query; of a command "pipe." and its hash. In out. */
const char *precomputed_base_name(const char *shard, char out[SHARD_NAME_MAX]);
/* ".latents-256.h5", ".text.h5". */
void precomputed_suffix(const PrecomputedSpec *spec, PrecomputedKind kind, char out[64]);

static inline H5Type precomputed_h5_type(PrecomputedType type)
{
    return type == PRECOMPUTED_F16 ? H5_F16_BITS : type == PRECOMPUTED_BF16 ? H5_BF16_BITS : H5_F32;
}

static inline int64_t precomputed_type_size(PrecomputedType type)
{
    return type == PRECOMPUTED_F32 ? 4 : 2;
}

#endif
