/* JPEG through libjpeg(-turbo). Everything that must survive a longjmp lives in JpegRead, never in a local of the
 * function that calls setjmp. */
#include <stdio.h>
#include <setjmp.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

#include "data/picture.h"

#define MAX_SCANS 200 /* of a progressive file: a small file may otherwise keep a core busy for minutes */
#define MAX_MEMORY ((long)1 << 30)

typedef struct JpegRead {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf jump;
    const PictureLimits *limits;
    Picture *picture;
    Status status;
    bool cmyk, damaged;
    char message[JMSG_LENGTH_MAX];
} JpegRead;

static void on_error(j_common_ptr common)
{
    JpegRead *read = common->client_data;
    common->err->format_message(common, read->message);
    longjmp(read->jump, 1);
}

/* Warnings about bytes that are lost, as opposed to unusual headers, make the picture a broken one. */
static void on_message(j_common_ptr common, int level)
{
    JpegRead *read = common->client_data;
    if (level >= 0 || read->damaged) return;
    switch (common->err->msg_code) {
    case JWRN_JPEG_EOF:
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_MUST_RESYNC:
    case JWRN_ARITH_BAD_CODE:
        read->damaged = true;
        common->err->format_message(common, read->message);
        break;
    default:
        break;
    }
}

static void on_output(j_common_ptr common)
{
    (void)common; /* nothing is printed */
}

static void on_progress(j_common_ptr common)
{
    JpegRead *read = common->client_data;
    if (read->jpeg.input_scan_number > MAX_SCANS) {
        snprintf(read->message, sizeof read->message, "more than %d scans", MAX_SCANS);
        longjmp(read->jump, 1);
    }
}

/* False when libjpeg gave up; read->status is set when we did. */
static bool read_rows(JpegRead *read, const uint8_t *data, size_t size)
{
    struct jpeg_decompress_struct *jpeg = &read->jpeg;
    if (setjmp(read->jump)) return false;
    jpeg_create_decompress(jpeg);
    jpeg->mem->max_memory_to_use = MAX_MEMORY;
    jpeg->progress = &read->progress;
    jpeg_mem_src(jpeg, data, (unsigned long)size);
    jpeg_read_header(jpeg, TRUE);

    read->cmyk = jpeg->jpeg_color_space == JCS_CMYK || jpeg->jpeg_color_space == JCS_YCCK;
    read->status =
        picture_begin(read->picture, jpeg->image_width, jpeg->image_height, read->cmyk ? 4 : 3, read->limits);
    if (read->status != STATUS_OK) return true;
    jpeg->out_color_space = read->cmyk ? JCS_CMYK : JCS_RGB;
    jpeg->dct_method = JDCT_ISLOW;
    jpeg_start_decompress(jpeg);
    size_t row_bytes = (size_t)jpeg->output_width * (size_t)(read->cmyk ? 4 : 3);
    if (jpeg->output_components != (read->cmyk ? 4 : 3) || (int)jpeg->output_width != read->picture->width ||
        (int)jpeg->output_height != read->picture->height) {
        snprintf(read->message, sizeof read->message, "unexpected components");
        return false;
    }
    while (jpeg->output_scanline < jpeg->output_height) {
        JSAMPROW row = read->picture->rgb + (size_t)jpeg->output_scanline * row_bytes;
        jpeg_read_scanlines(jpeg, &row, 1);
    }
    jpeg_finish_decompress(jpeg);
    return true;
}

/* rgb holds (height, width, 4) ink amounts; Adobe's files store them inverted, which is what RGB needs. */
static void cmyk_to_rgb(Picture *picture, bool inverted)
{
    size_t count = (size_t)picture->width * (size_t)picture->height;
    const uint8_t *in = picture->rgb;
    uint8_t *out = picture->rgb;
    for (size_t i = 0; i < count; i++, in += 4, out += 3) {
        unsigned black = inverted ? in[3] : 255u - in[3];
        for (int c = 0; c < 3; c++) {
            unsigned light = inverted ? in[c] : 255u - in[c];
            out[c] = (uint8_t)((light * black + 127u) / 255u);
        }
    }
}

Status picture_decode_jpeg(const uint8_t *data, size_t size, const PictureLimits *limits, Picture *picture)
{
    Status status = STATUS_OK;
    JpegRead read = {.limits = limits, .picture = picture};
    read.jpeg.err = jpeg_std_error(&read.errors);
    read.jpeg.client_data = &read;
    read.errors.error_exit = on_error;
    read.errors.emit_message = on_message;
    read.errors.output_message = on_output;
    read.progress.progress_monitor = on_progress;
    if (!read_rows(&read, data, size)) FAIL(ERR_FORMAT, "JPEG: %s", read.message);
    TRY(read.status);
    if (read.damaged) FAIL(ERR_FORMAT, "JPEG: %s", read.message);
    if (read.cmyk) cmyk_to_rgb(picture, read.jpeg.saw_Adobe_marker);
fail:
    jpeg_destroy_decompress(&read.jpeg);
    return status;
}
