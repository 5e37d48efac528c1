/* widen_weights IN.safetensors OUT.safetensors: a UNet for inpainting out of one for text, for tests: the first
 * convolution, of C channels, gets C + 1 more, filled with small numbers that are the same every time. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "model/safetensors.h"

static const char *const first = "input_blocks.0.0.weight"; /* (O,C,3,3) */

static Status widen(const SafeTensor *from, SafeTensor *to, float **out)
{
    Status status = STATUS_OK;
    int64_t rows = from->shape[0], channels = from->shape[1], wide = 2 * channels + 1, taps = 9;
    float *values = mem_alloc_array((size_t)from->count, sizeof *values);
    float *widened = mem_alloc_array((size_t)(rows * wide * taps), sizeof *widened);
    if (!values || !widened) FAIL(ERR_MEMORY, "out of memory");
    safetensors_to_f32(from, values);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < wide * taps; k++)
            widened[r * wide * taps + k] =
                k < channels * taps ? values[r * channels * taps + k] : (float)(0.05 * sin((double)(r * 977 + k)));
    to->shape[1] = wide;
    to->count = rows * wide * taps;
    to->data = widened;
    *out = widened;
    widened = NULL;
fail:
    free(values);
    free(widened);
    return status;
}

int main(int argc, char **argv)
{
    Status status = STATUS_OK;
    Safetensors *in = NULL;
    SafeTensor *tensors = NULL;
    float *widened = NULL;
    if (argc != 3) return 2;
    TRY(safetensors_open(argv[1], &in));
    int32_t count = safetensors_count(in);
    tensors = mem_alloc_array((size_t)count, sizeof *tensors);
    if (!tensors) FAIL(ERR_MEMORY, "out of memory");
    for (int32_t i = 0; i < count; i++) {
        tensors[i] = *safetensors_get(in, i);
        if (strcmp(tensors[i].name, first) == 0) TRY(widen(safetensors_get(in, i), &tensors[i], &widened));
    }
    if (!widened) FAIL(ERR_FORMAT, "%s has no %s", argv[1], first);
    TRY(safetensors_write(argv[2], tensors, count));
fail:
    if (status != STATUS_OK) fprintf(stderr, "%s\n", status_message());
    free(widened);
    free(tensors);
    safetensors_close(in);
    return status_exit_code(status);
}
