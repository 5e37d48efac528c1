/* Any bytes as a file of torch.save, zip or legacy: refused, or every element of every tensor can be read. */
#include <stdlib.h>

#include "model/pytorch_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    PytorchFile *file = NULL;
    const char *key, *value;
    float values[256];
    uint8_t bytes[256 * 8];
    int64_t read = 0;
    if (pytorch_file_open_memory("fuzz", data, size, &file) != STATUS_OK) return 0;
    for (int32_t i = 0; i < pytorch_file_count(file); i++) {
        const WeightTensor *t = pytorch_file_get(file, i);
        /* All of it, in pieces; an expanded tensor is larger than the file, so there is a limit to the work. */
        for (int64_t at = 0; at < t->count && read < 1 << 20; at += 256) {
            int64_t n = t->count - at < 256 ? t->count - at : 256;
            weight_tensor_to_f32(t, at, n, values);
            weight_tensor_copy(t, at, n, bytes);
            read += n;
        }
        if (t->count > 0) weight_tensor_to_f32(t, t->count - 1, 1, values);
        (void)weight_tensor_floats(t);
    }
    for (int32_t i = 0; pytorch_file_metadata(file, i, &key, &value); i++)
        if (key == NULL || value == NULL) abort();
    pytorch_file_close(file);
    return 0;
}
