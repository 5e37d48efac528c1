#include "data/png_write.h"

#include <limits.h>
#include <png.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"

#define MAX_SIDE 32768

typedef struct PngWrite {
    png_structp png;
    png_infop info;
    png_text *texts;
    const uint8_t *rgb;
    int width, height, count;
    StrBuf *out;
    char message[160];
} PngWrite;

static void on_error(png_structp png, png_const_charp text)
{
    PngWrite *write = png_get_error_ptr(png);
    snprintf(write->message, sizeof write->message, "%s", text);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void on_write(png_structp png, png_bytep data, size_t size)
{
    PngWrite *write = png_get_io_ptr(png);
    if (strbuf_append(write->out, data, size) != STATUS_OK) png_error(png, "out of memory");
}

static void on_flush(png_structp png)
{
    (void)png;
}

/* Nothing that changes after setjmp is a local of this function. */
static bool write_rows(PngWrite *write)
{
    if (setjmp(png_jmpbuf(write->png))) return false;
    png_set_write_fn(write->png, write, on_write, on_flush);
    png_set_IHDR(write->png, write->info, (png_uint_32)write->width, (png_uint_32)write->height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (write->count) png_set_text(write->png, write->info, write->texts, write->count);
    png_write_info(write->png, write->info);
    for (int y = 0; y < write->height; y++)
        png_write_row(write->png, (png_const_bytep)(write->rgb + (size_t)y * (size_t)write->width * 3));
    png_write_end(write->png, NULL);
    return true;
}

static bool key_is_valid(const char *key)
{
    size_t n = strlen(key);
    if (n < 1 || n > 79 || key[0] == ' ' || key[n - 1] == ' ') return false;
    for (size_t i = 0; i < n; i++)
        if (key[i] < ' ' || key[i] > '~') return false;
    return true;
}

Status png_encode_rgb(int width, int height, const uint8_t *rgb, const char *const *keys, const char *const *values,
                      int count, StrBuf *out)
{
    Status status = STATUS_OK;
    PngWrite write = {.rgb = rgb, .width = width, .height = height, .count = count, .out = out};
    if (width < 1 || height < 1 || width > MAX_SIDE || height > MAX_SIDE)
        FAIL(ERR_LIMIT, "a PNG of %dx%d; sides of 1 to %d can be written", width, height, MAX_SIDE);
    if (count < 0 || count > 1000) FAIL(ERR_LIMIT, "%d texts in a PNG, at most 1000 are written", count);
    write.texts = mem_alloc_array((size_t)count + 1, sizeof write.texts[0]);
    if (!write.texts) FAIL(ERR_MEMORY, "out of memory for the texts of a PNG");
    for (int i = 0; i < count; i++) {
        if (!key_is_valid(keys[i]))
            FAIL(ERR_FORMAT, "'%s' cannot be the key of a PNG text: 1 to 79 ASCII letters", keys[i]);
        write.texts[i].compression = PNG_ITXT_COMPRESSION_NONE;
        write.texts[i].key = (png_charp)keys[i]; /* libpng copies both; its fields lack const */
        write.texts[i].text = (png_charp)values[i];
        write.texts[i].itxt_length = strlen(values[i]);
    }
    write.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &write, on_error, on_warning);
    if (write.png) write.info = png_create_info_struct(write.png);
    if (!write.info) FAIL(ERR_MEMORY, "out of memory for a PNG writer");
    if (!write_rows(&write)) FAIL(ERR_IO, "cannot write a PNG: %s", write.message);
fail:
    png_destroy_write_struct(&write.png, &write.info);
    free(write.texts);
    return status;
}

Status png_write_rgb(const char *path, int width, int height, const uint8_t *rgb, const char *const *keys,
                     const char *const *values, int count)
{
    Status status = STATUS_OK;
    StrBuf png = {0};
    TRY(png_encode_rgb(width, height, rgb, keys, values, count, &png));
    TRY(file_write_atomic(path, png.data, png.size));
fail:
    strbuf_free(&png);
    return status;
}

bool png_is_name(const char *path)
{
    const size_t length = strlen(path);
    return length > 4 && strcasecmp(path + length - 4, ".png") == 0;
}
