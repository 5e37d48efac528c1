/* A folder for a test's files, removed afterwards. */
#ifndef TESTS_MODEL_TEMP_DIR_H
#define TESTS_MODEL_TEMP_DIR_H

#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"

typedef struct TempDir {
    char path[64];
    char file[256]; /* the last temp_file */
} TempDir;

static inline int temp_dir_create(TempDir *dir)
{
    snprintf(dir->path, sizeof dir->path, "/tmp/vasily-model-XXXXXX");
    return mkdtemp(dir->path) == NULL ? -1 : 0;
}

static inline const char *temp_file(TempDir *dir, const char *name)
{
    snprintf(dir->file, sizeof dir->file, "%s/%s", dir->path, name);
    return dir->file;
}

static inline void temp_dir_remove(TempDir *dir)
{
    (void)file_remove_tree(dir->path);
}

#endif
