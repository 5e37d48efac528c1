/* The C face of SentencePiece's C++ library; no exception leaves it. Used by tokenizer.c only. */
#ifndef DATA_TOKENIZER_SENTENCEPIECE_H
#define DATA_TOKENIZER_SENTENCEPIECE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct SpmModel SpmModel;

/* NULL on failure, with the reason in `message`. */
SpmModel *spm_open(const char *path, char *message, size_t message_size);
void spm_free(SpmModel *model);
int spm_size(const SpmModel *model);
void spm_special_ids(const SpmModel *model, int *bos, int *pad, int *eos, int *unk); /* -1: the model has none */
/* Up to `max` piece ids; returns how many, or -1. `bytes`: unknown characters come as the bytes of a model with byte
 * fallback; else they are one unknown piece a run, as without byte fallback. */
int spm_encode(const SpmModel *model, const char *text, size_t size, bool bytes, int32_t *ids, int max);

#ifdef __cplusplus
}
#endif

#endif
