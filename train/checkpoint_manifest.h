/* manifest.json of a checkpoint: size and XXH3-128 of each of its files. */
#ifndef TRAIN_CHECKPOINT_MANIFEST_H
#define TRAIN_CHECKPOINT_MANIFEST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"

#define FILE_NAME_MAX 64

/* Of plain data, so that ranks can send it. */
typedef struct FileFacts {
    char name[FILE_NAME_MAX];
    int64_t size;
    Hash128 hash;
} FileFacts;

/* Of a file that is written: synced, then read once. */
Status file_facts_take(const char *folder, const char *name, FileFacts *out);

/* `format`: of the checkpoint. */
Status manifest_write(const char *folder, int format, int64_t step, const FileFacts *files, size_t count);
/* Compares sizes and hashes. ERR_FORMAT names the file that is missing, short or changed. */
Status manifest_verify(const char *folder);
/* The same of one file, where the manifest lists it; *listed. */
Status manifest_verify_file(const char *folder, const char *name, bool *listed);
/* What it lists, without looking at the files; the caller frees. */
Status manifest_read(const char *folder, int64_t *format, FileFacts **files, size_t *count);

#endif
