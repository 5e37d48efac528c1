#include "data/png_text.h"

#include <png.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define MAX_SIDE 1000000
#define MAX_CHUNK ((png_alloc_size_t)4 << 20)

/* Everything that must survive a longjmp lives here. */
typedef struct TextRead {
    png_structp png;
    png_infop info;
    const unsigned char *data;
    size_t size, position;
    char message[160];
} TextRead;

static void on_error(png_structp png, png_const_charp text)
{
    TextRead *read = png_get_error_ptr(png);
    snprintf(read->message, sizeof read->message, "%s", text);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void on_read(png_structp png, png_bytep out, size_t size)
{
    TextRead *read = png_get_io_ptr(png);
    if (size > read->size - read->position) png_error(png, "truncated");
    memcpy(out, read->data + read->position, size);
    read->position += size;
}

/* Texts stand before the pixels, where png_write and most others put them. */
static bool read_info(TextRead *read)
{
    if (setjmp(png_jmpbuf(read->png))) return false;
    png_set_read_fn(read->png, read, on_read);
    png_set_user_limits(read->png, MAX_SIDE, MAX_SIDE);
    png_set_chunk_malloc_max(read->png, MAX_CHUNK);
    png_set_chunk_cache_max(read->png, 64);
    png_set_benign_errors(read->png, 0); /* a chunk longer than allowed is one of them */
    png_read_info(read->png, read->info);
    return true;
}

Status png_read_texts(const void *data, size_t size, Arena *arena, PngTexts *out)
{
    Status status = STATUS_OK;
    TextRead read = {.data = data, .size = size};
    png_textp texts = NULL;
    *out = (PngTexts){0};
    if (size < 8 || png_sig_cmp(read.data, 0, 8) != 0) FAIL(ERR_FORMAT, "no PNG by its first bytes");
    read.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &read, on_error, on_warning);
    if (read.png) read.info = png_create_info_struct(read.png);
    if (!read.info) FAIL(ERR_MEMORY, "out of memory for a PNG reader");
    if (!read_info(&read)) FAIL(ERR_FORMAT, "PNG: %s", read.message);
    int count = png_get_text(read.png, read.info, &texts, NULL);
    if (count <= 0) goto fail;
    out->keys = arena_alloc_array(arena, (size_t)count, sizeof *out->keys);
    out->values = arena_alloc_array(arena, (size_t)count, sizeof *out->values);
    if (!out->keys || !out->values) FAIL(ERR_MEMORY, "out of memory for %d texts", count);
    for (int i = 0; i < count; i++) {
        out->keys[i] = arena_strdup(arena, texts[i].key);
        out->values[i] = arena_strdup(arena, texts[i].text ? texts[i].text : "");
        if (!out->keys[i] || !out->values[i]) FAIL(ERR_MEMORY, "out of memory for %d texts", count);
        out->count++;
    }
fail:
    png_destroy_read_struct(&read.png, &read.info, NULL);
    return status;
}

const char *png_texts_find(const PngTexts *texts, const char *key)
{
    for (size_t i = 0; i < texts->count; i++)
        if (strcmp(texts->keys[i], key) == 0) return texts->values[i];
    return NULL;
}
