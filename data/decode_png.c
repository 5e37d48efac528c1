/* PNG through libpng. Everything that must survive a longjmp lives in PngRead, never in a local of the function that
 * calls setjmp. */
#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include "data/picture.h"

#define MAX_SIDE 1000000
#define MAX_CHUNK ((png_alloc_size_t)8 << 20) /* of ancillary chunks: profiles, texts */

typedef struct PngRead {
    png_structp png;
    png_infop info;
    const uint8_t *data;
    size_t size, position;
    const PictureLimits *limits;
    Picture *picture;
    int channels, passes;
    Status status;
    char message[160];
} PngRead;

static void on_error(png_structp png, png_const_charp text)
{
    PngRead *read = png_get_error_ptr(png);
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
    PngRead *read = png_get_io_ptr(png);
    if (size > read->size - read->position) png_error(png, "truncated");
    memcpy(out, read->data + read->position, size);
    read->position += size;
}

/* False when libpng gave up; read->status is set when we did. */
static bool read_rows(PngRead *read)
{
    if (setjmp(png_jmpbuf(read->png))) return false;
    png_set_read_fn(read->png, read, on_read);
    png_set_user_limits(read->png, MAX_SIDE, MAX_SIDE);
    png_set_chunk_malloc_max(read->png, MAX_CHUNK);
    png_set_chunk_cache_max(read->png, 256);
    png_read_info(read->png, read->info);

    png_set_expand(read->png); /* palette to RGB, grey to 8 bits, tRNS to alpha */
    png_set_scale_16(read->png);
    png_set_gray_to_rgb(read->png);
    read->passes = png_set_interlace_handling(read->png);
    /* The limits before png_read_update_info, which allocates rows. */
    read->status = picture_check(read->picture, png_get_image_width(read->png, read->info),
                                 png_get_image_height(read->png, read->info), read->limits);
    if (read->status != STATUS_OK) return true;
    png_read_update_info(read->png, read->info);
    read->channels = png_get_channels(read->png, read->info);
    read->status =
        picture_make_room(read->picture, read->picture->width, read->picture->height, read->channels == 3 ? 3 : 4);
    if (read->status != STATUS_OK) return true;
    size_t row_bytes = png_get_rowbytes(read->png, read->info);
    if ((read->channels != 3 && read->channels != 4) ||
        row_bytes != (size_t)read->picture->width * (size_t)read->channels)
        png_error(read->png, "unexpected channels");
    for (int pass = 0; pass < read->passes; pass++)
        for (size_t y = 0; y < (size_t)read->picture->height; y++)
            png_read_row(read->png, read->picture->rgb + y * row_bytes, NULL);
    png_read_end(read->png, NULL);
    return true;
}

Status picture_decode_png(const uint8_t *data, size_t size, const PictureLimits *limits, Picture *picture)
{
    Status status = STATUS_OK;
    PngRead read = {.data = data, .size = size, .limits = limits, .picture = picture};
    read.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &read, on_error, on_warning);
    if (read.png) read.info = png_create_info_struct(read.png);
    if (!read.info) FAIL(ERR_MEMORY, "out of memory for a PNG reader");
    if (!read_rows(&read)) FAIL(ERR_FORMAT, "PNG: %s", read.message);
    TRY(read.status);
    if (read.channels == 4) picture_drop_alpha(picture->rgb, (size_t)picture->width * (size_t)picture->height);
fail:
    png_destroy_read_struct(&read.png, &read.info, NULL);
    return status;
}
