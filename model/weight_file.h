/* One reader over the files that weights come in: safetensors, PyTorch's .pt/.ckpt/.bin (zip or legacy) and the HDF5
 * files of our checkpoints, in one or in shares (model/weight_shares.h); a folder stands for the weight file in it, or
 * for the parts that its index names. Files are memory-mapped and tensors stay where they are. Nothing in a file is
 * trusted, and nothing in it is ever executed. */
#ifndef MODEL_WEIGHT_FILE_H
#define MODEL_WEIGHT_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/status.h"
#include "model/safetensors.h"

#define WEIGHT_MAX_DIMS SAFETENSORS_MAX_DIMS

typedef enum WeightFormat { WEIGHT_SAFETENSORS, WEIGHT_PYTORCH_ZIP, WEIGHT_PYTORCH_LEGACY, WEIGHT_HDF5 } WeightFormat;

/* A tensor whose elements, in memory order, lie in several places: piece i has those from items[i].first up to
 * items[i + 1].first; items[count].first is their number. */
typedef struct WeightPiece {
    int64_t first;
    const float *data;
} WeightPiece;
typedef struct WeightPieces {
    const WeightPiece *items;
    int32_t count;
} WeightPieces;

typedef struct WeightTensor {
    const char *name; /* nested dictionaries are joined by dots: "state_dict.encoder.conv_in.weight" */
    SafeDtype dtype;
    int32_t ndim;
    int64_t shape[WEIGHT_MAX_DIMS];
    int64_t stride[WEIGHT_MAX_DIMS]; /* elements; of a transposed or expanded tensor not those of its shape */
    int64_t count;                   /* elements */
    const void *data;                /* the first element, in the mapping; little-endian, may be unaligned */
    bool contiguous;                 /* C order: count elements from data on */
    const WeightPieces *pieces;      /* where the elements are instead of at `data`; NULL: there. F32 only */
} WeightTensor;

typedef struct WeightFile WeightFile;

/* A file of any of the formats, told by its contents. A folder: one that holds model.safetensors, pytorch_model.bin,
 * or an index of such in parts (X.index.json), or weights.h5, or weights.shares.json. ERR_FORMAT says what is wrong and
 * with which tensor. */
Status weight_file_open(const char *path, WeightFile **out);
void weight_file_close(WeightFile *file);                /* NULL is fine; names and data go with it */
const char *weight_file_path(const WeightFile *file);    /* as opened */
WeightFormat weight_file_format(const WeightFile *file); /* of the first part */
const char *weight_format_name(WeightFormat format);     /* "safetensors", "PyTorch (zip)", ... */
int32_t weight_file_count(const WeightFile *file);
const WeightTensor *weight_file_get(const WeightFile *file, int32_t index);     /* in order of the file */
const WeightTensor *weight_file_find(const WeightFile *file, const char *name); /* NULL when absent; O(1) */
/* Texts that come with the tensors: safetensors' __metadata__, and of a pickle its plain entries and the names of the
 * foreign classes that were passed over. False past the last. */
bool weight_file_metadata(const WeightFile *file, int32_t index, const char **key, const char **value);

/* Compares the checksums that the file has, reading all of it (zip: CRC-32 of every entry; the other formats have
 * none). ERR_FORMAT names the entry that is damaged. */
Status weight_file_verify(const WeightFile *file);

/* Elements [first, first + count) in C order, converted to float (BOOL to 0 and 1), or as they are. */
void weight_tensor_to_f32(const WeightTensor *tensor, int64_t first, int64_t count, float *out);
void weight_tensor_copy(const WeightTensor *tensor, int64_t first, int64_t count, void *out);
/* Tells the system that a tensor's pages are not needed for now, so that streaming over a large file stays small. */
void weight_tensor_release(const WeightTensor *tensor);
/* The values in place: contiguous F32 at an address that floats may have; NULL otherwise. */
const float *weight_tensor_floats(const WeightTensor *tensor);

#endif
