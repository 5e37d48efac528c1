/* The texts of a PNG. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "data/png_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Arena *arena = NULL;
    PngTexts texts;
    if (arena_create(&arena) != STATUS_OK) return 0;
    if (png_read_texts(data, size, arena, &texts) == STATUS_OK)
        for (size_t i = 0; i < texts.count; i++)
            if (!texts.keys[i] || !texts.values[i] || !png_texts_find(&texts, texts.keys[i])) abort();
    arena_free(arena);
    return 0;
}
