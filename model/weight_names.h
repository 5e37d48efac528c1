/* Which tensors of a published weight file are which parameters of ours.
 *
 * A kind is a network with published files. In our ParamTable its parameters stand under a prefix of their own, after
 * which names are the published ones. A file may hold them below a word ("state_dict.", "module."), and may hold
 * tensors that the network does not use (a decoder, a discriminator); both are known here by kind. */
#ifndef MODEL_WEIGHT_NAMES_H
#define MODEL_WEIGHT_NAMES_H

#include "base/arena.h"
#include "engine/params.h"
#include "model/weight_file.h"

typedef enum WeightKind { WEIGHTS_UNET, WEIGHTS_VAE, WEIGHTS_XLMR_CLIP, WEIGHTS_MT5, WEIGHT_KIND_COUNT } WeightKind;

extern const char *const WEIGHT_KIND_WORDS[]; /* "unet", "vae", "xlmr-clip", "mt5", NULL */

/* Prefix in the ParamTable: "", "autoencoder.", "text_encoder1.", "text_encoder2.". */
const char *weight_kind_prefix(WeightKind kind);
/* Whether a parameter is of this kind: trainable for the UNet, else by its prefix. */
bool weight_kind_has(WeightKind kind, const Param *param);
/* The published name of a parameter of this kind: what stands after the prefix. */
const char *weight_published_name(WeightKind kind, const Param *param);

/* A file laid against a table. */
typedef struct WeightMatch {
    const WeightTensor *
        *tensors; /* per parameter of the table; NULL where it is of another kind, missing, mis-shaped */
    int32_t found;
    StrBuf missing, shaped, extra; /* one a line: name, then shapes */
    int32_t missing_count, shaped_count, extra_count, ignored_count;
    char inside[64]; /* what the names in the file begin with: "state_dict." */
} WeightMatch;

/* Lists every misfit; fails only for lack of memory. */
Status weight_match(const WeightFile *file, const ParamTable *table, WeightKind kind, WeightMatch *out);
void weight_match_free(WeightMatch *match); /* zeroed is fine */
/* Where the table is that of an inpainting network and the file of one for C channels only: takes the file's first
 * convolution as found (its channels are the first C of the 2C + 1) instead of mis-shaped, and returns its place in the
 * table. Else -1, and nothing changes. For kind WEIGHTS_UNET. */
int32_t weight_match_widen(const WeightFile *file, const ParamTable *table, WeightMatch *match);
/* ERR_MISMATCH naming the first few of each, when anything is missing or mis-shaped or, without `allow_extra`, unknown.
 * `remedy` ends the message. */
Status weight_match_check(const WeightMatch *match, const char *path, WeightKind kind, bool allow_extra,
                          const char *remedy);

#endif
