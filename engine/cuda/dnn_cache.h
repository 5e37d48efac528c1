/* Plans on disk: one file for each key, complete or absent, checked when read. */
#ifndef ENGINE_CUDA_DNN_CACHE_H
#define ENGINE_CUDA_DNN_CACHE_H

#include "engine/cuda/dnn_choose.h"

/* What a plan depends on: the graph, and everything else. */
Hash128 dnn_cache_key(const Dnn *dnn, const DnnGraph *graph, bool precise);

typedef struct DnnEntry {
    DnnChoice choice;
    char *plan; /* cuDNN's text, compiled code included; NULL: it had none */
    size_t plan_size;
} DnnEntry;
/* False where there is none; a damaged file is named in a warning and counts as none. `measured`: so does a choice that
 * was made without times, by `vasily plan --gpu` for instance. The caller frees entry->plan. */
bool dnn_cache_read(const char *folder, Hash128 key, bool measured, DnnEntry *out);
/* A failure is a warning: the next start takes longer. */
void dnn_cache_write(const char *folder, Hash128 key, const DnnEntry *entry);

#endif
