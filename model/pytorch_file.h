/* The tensors of a file that torch.save wrote: a zip of data.pkl and data/KEY, or the older sequence of pickles and
 * raw storages. Tensors stay where they are in the bytes. */
#ifndef MODEL_PYTORCH_FILE_H
#define MODEL_PYTORCH_FILE_H

#include "model/weight_file.h"

typedef struct PytorchFile PytorchFile;

/* By the first bytes. */
bool pytorch_file_is(const uint8_t *data, size_t size);
/* Reads from bytes in memory, which must stay; `path` is for messages. ERR_FORMAT and ERR_UNSUPPORTED say what is
 * wrong with it. */
Status pytorch_file_open_memory(const char *path, const uint8_t *data, size_t size, PytorchFile **out);
void pytorch_file_close(PytorchFile *file); /* NULL is fine; the tensors' names go with it */
/* Of a mapped file: whether the entries of a zip have the checksums that its directory tells; `path` is for messages.
 */
Status pytorch_file_verify(const char *path, const PytorchFile *file);
bool pytorch_file_is_legacy(const PytorchFile *file);
int32_t pytorch_file_count(const PytorchFile *file);
const WeightTensor *pytorch_file_get(const PytorchFile *file, int32_t index); /* in order of the dictionaries */
/* Plain entries of the outermost dictionary, then "passed over": foreign classes. */
bool pytorch_file_metadata(const PytorchFile *file, int32_t index, const char **key, const char **value);

#endif
