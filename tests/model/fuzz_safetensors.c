/* Any bytes as a safetensors file: refused, or every tensor can be read. */
#include <stdlib.h>

#include "base/arena.h"
#include "model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Safetensors *file = NULL;
    if (safetensors_open_memory("fuzz", data, size, &file) != STATUS_OK) return 0;
    size_t bytes = 0;
    for (int32_t i = 0; i < safetensors_count(file); i++) {
        const SafeTensor *t = safetensors_get(file, i);
        bytes += (size_t)t->count * safe_dtype_size(t->dtype);
        float *values = mem_alloc_array((size_t)t->count + 1, sizeof *values);
        if (values != NULL) safetensors_to_f32(t, values);
        free(values);
        if (safetensors_find(file, t->name) != t) abort();
    }
    if (bytes > size) abort();
    safetensors_close(file);
    return 0;
}
