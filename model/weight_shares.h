/* One array of a checkpoint that several ranks have written, each its share: WHAT.shares.json beside
 * share-KKKK-of-WWWW.h5, which hold a flat dataset named WHAT each.
 *
 *   {"format": 1, "array": "ema", "shares": 2, "tensors":
 *      {NAME: {"shape": [O,C,KH,KW], "stride": [...], "pieces": [[share, first, count], ...]}, ...}}
 *
 * A tensor's elements lie in memory order, which `stride` maps from its shape, one piece after another; a piece is
 * elements [first, first + count) of that share's dataset. Nothing in the files is trusted. For weight_file.c. */
#ifndef MODEL_WEIGHT_SHARES_H
#define MODEL_WEIGHT_SHARES_H

#include "base/arena.h"
#include "model/weight_file.h"

#define WEIGHT_SHARES_SUFFIX ".shares.json"
#define WEIGHT_SHARES_MOST 65536

enum { WEIGHT_SHARE_NAME_MAX = 64 };
void weight_share_name(char out[WEIGHT_SHARE_NAME_MAX], int share, int shares); /* share-0003-of-0008.h5 */

typedef struct WeightShares WeightShares;

/* Maps the files that the index names; names of tensors and their pieces are in the arena. ERR_FORMAT names the tensor
 * that is not whole. */
Status weight_shares_open(const char *path, Arena *arena, WeightShares **out);
void weight_shares_close(WeightShares *shares); /* NULL is fine */
int32_t weight_shares_count(const WeightShares *shares);
const WeightTensor *weight_shares_get(const WeightShares *shares, int32_t index); /* in order of the index */

#endif
