/* What the fuzzers of the picture formats share: a picture of one format in full, and its squares as the loader takes
 * them: in the middle and elsewhere, mirrored, decoded smaller. */
#ifndef TESTS_DATA_FUZZ_PICTURE_H
#define TESTS_DATA_FUZZ_PICTURE_H

#include <stdlib.h>
#include <string.h>

#include "data/picture.h"
#include "data/resize.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_TO 16

typedef struct FuzzSink {
    Resizer resizer;
    PictureSquare square;
    int rows;
    uint8_t out[FUZZ_TO * FUZZ_TO * 3];
} FuzzSink;

static Status fuzz_begin(void *context, const PictureSquare *s)
{
    FuzzSink *sink = context;
    sink->square = *s;
    sink->rows = 0;
    if (s->side <= 0 || s->x < 0 || s->x >= 1 || s->x + s->side > s->width || s->y + s->side > s->height) abort();
    return resize_begin(&sink->resizer,
                        &(ResizeShape){.width = s->width,
                                       .height = s->height,
                                       .x = s->x,
                                       .y = s->y,
                                       .box_width = s->side,
                                       .box_height = s->side,
                                       .to_width = FUZZ_TO,
                                       .to_height = FUZZ_TO,
                                       .mirror = true},
                        sink->out);
}

static void fuzz_rows(void *context, const uint8_t *rgb, size_t pitch, int count)
{
    FuzzSink *sink = context;
    sink->rows += count;
    if (sink->rows > sink->square.height) abort();
    resize_add_rows(&sink->resizer, rgb, pitch, count);
}

static void check_status(Status status)
{
    if (status != STATUS_OK && status != ERR_FORMAT && status != ERR_LIMIT && status != ERR_UNSUPPORTED) abort();
}

/* All ways of decoding agree on whether it can be decoded. */
static void fuzz_picture(PictureType type, const uint8_t *data, size_t size)
{
    const PictureLimits limits = {.max_pixels = 1 << 18, .min_side = 2};
    Picture whole = {0}, part = {0};
    FuzzSink sink = {0};
    if (picture_sniff(data, size) != type) return;
    Status status = picture_decode(data, size, &limits, &whole);
    check_status(status);
    if (status == STATUS_OK && (whole.width < 2 || whole.height < 2 || whole.width > limits.max_pixels / whole.height))
        abort();
    for (int way = 0; way < 3; way++) {
        PictureCut cut = {
            .anywhere = way > 0, .place = (uint32_t)size * 0x9e3779b9u, .enough_pixels = way == 2 ? 8 : 0};
        PictureSink to = {.begin = fuzz_begin, .rows = fuzz_rows, .context = &sink};
        if (picture_decode_square(data, size, &limits, &cut, &to, &part) != status) abort();
        if (status == STATUS_OK && sink.rows != sink.square.height) abort();
    }
    picture_free(&whole);
    picture_free(&part);
    resizer_free(&sink.resizer);
}

#endif
