/* Reading the texts of a PNG (tEXt, zTXt, iTXt), such as png_write puts there. */
#ifndef DATA_PNG_TEXT_H
#define DATA_PNG_TEXT_H

#include <stddef.h>

#include "base/arena.h"

typedef struct PngTexts {
    const char **keys, **values; /* NUL-terminated; values are UTF-8 as they stand in the file */
    size_t count;
} PngTexts;

/* Everything lives in the arena. The pictures themselves are not decoded. ERR_FORMAT: no PNG, or a broken one. */
Status png_read_texts(const void *data, size_t size, Arena *arena, PngTexts *out);
const char *png_texts_find(const PngTexts *texts, const char *key); /* NULL when there is none */

#endif
