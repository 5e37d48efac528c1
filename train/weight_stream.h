/* Tensors of weight files, piece by piece into a safetensors file: memory does not grow with the model. */
#ifndef TRAIN_WEIGHT_STREAM_H
#define TRAIN_WEIGHT_STREAM_H

#include "model/weight_file.h"

typedef struct StreamTensor {
    const WeightTensor *tensor;
    const char *name; /* in the new file */
} StreamTensor;

typedef enum StreamDtype { STREAM_F32, STREAM_BF16, STREAM_F16, STREAM_KEEP } StreamDtype;
extern const char *const STREAM_DTYPE_WORDS[]; /* "f32", "bf16", "f16", "keep" */

typedef struct StreamTotals {
    int64_t values, bytes;
    int64_t overflowed; /* finite values that became infinite, in f16 */
} StreamTotals;

/* Writes `path` whole, or leaves what was there. With STREAM_KEEP every byte of every value is the file's. `what` is
 * the live line's first word. */
Status weight_stream_write(const char *path, const StreamTensor *items, int32_t count, StreamDtype dtype,
                           const char *what, StreamTotals *totals);

#endif
