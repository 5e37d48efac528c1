/* JPEG through libjpeg(-turbo). Everything that must survive a longjmp lives in JpegRead, never in a local of the
 * function that calls setjmp.
 *
 * Rows are decoded a strip at a time, small enough for the caches, and handed on. Of libjpeg-turbo only the columns and
 * rows around the wanted square go through the inverse DCT; all of the file is parsed, so that the same damage is found
 * as without that. A decompressor is made for each picture: one that is kept remembers the tables of the picture
 * before, which a broken file without tables would then be decoded with. That costs some microseconds. */
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
    const PictureCut *cut; /* NULL: the whole picture into `picture` */
    const PictureSink *sink;
    Picture *picture;
    Status status;
    int x, y; /* first column and row wanted */
    PictureSquare square;
    int channels; /* that libjpeg gives: 3, or 4 of CMYK */
    bool damaged;
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

/* rgb holds `count` pixels of 4 ink amounts; Adobe's files store them inverted, which is what RGB needs. */
static void cmyk_to_rgb(uint8_t *rgb, size_t count, bool inverted)
{
    const uint8_t *in = rgb;
    uint8_t *out = rgb;
    for (size_t i = 0; i < count; i++, in += 4, out += 3) {
        unsigned black = inverted ? in[3] : 255u - in[3];
        for (int c = 0; c < 3; c++) {
            unsigned light = inverted ? in[c] : 255u - in[c];
            out[c] = (uint8_t)((light * black + 127u) / 255u);
        }
    }
}

/* The greatest reduction that leaves enough of the square. */
static int choose_scale(const JpegRead *read)
{
    int scale = 1, width = read->picture->width, height = read->picture->height;
    int side = width < height ? width : height;
    if (!read->cut || read->cut->enough_pixels <= 0) return 1;
    while (scale < 8 && side / (2 * scale) >= read->cut->enough_pixels) scale *= 2;
    return scale;
}

/* Sampling as cameras and encoders use it. What is stranger is decoded in full: leaving parts of it out has been a
 * source of bugs in libjpeg-turbo. */
static bool is_usual(const struct jpeg_decompress_struct *jpeg)
{
    if (jpeg->num_components != 1 && jpeg->num_components != 3) return false;
    for (int c = 0; c < jpeg->num_components; c++) {
        int most = c == 0 && jpeg->num_components == 3 ? 2 : 1;
        if (jpeg->comp_info[c].h_samp_factor > most || jpeg->comp_info[c].v_samp_factor > most) return false;
    }
    return true;
}

/* Reads `count` rows into the strip. */
static void read_strip(JpegRead *read, uint8_t *strip, int count)
{
    struct jpeg_decompress_struct *jpeg = &read->jpeg;
    size_t pitch = (size_t)jpeg->output_width * (size_t)read->channels;
    JSAMPROW rows[PICTURE_STRIP];
    for (int done = 0; done < count;) {
        for (int y = done; y < count; y++) rows[y - done] = strip + (size_t)y * pitch;
        JDIMENSION got = jpeg_read_scanlines(jpeg, rows, (JDIMENSION)(count - done));
        if (got == 0) {
            snprintf(read->message, sizeof read->message, "fewer rows than its header says");
            longjmp(read->jump, 1);
        }
        done += (int)got;
    }
    if (read->channels == 4) cmyk_to_rgb(strip, (size_t)count * (size_t)jpeg->output_width, jpeg->saw_Adobe_marker);
}

/* Passes over `count` rows, parsing them. */
static void pass_rows(JpegRead *read, int count, bool skip)
{
#ifdef LIBJPEG_TURBO_VERSION_NUMBER
    if (skip && count > 0) {
        (void)jpeg_skip_scanlines(&read->jpeg, (JDIMENSION)count);
        return;
    }
#endif
    for (; count > 0; count -= PICTURE_STRIP)
        read_strip(read, read->picture->rgb, count < PICTURE_STRIP ? count : PICTURE_STRIP);
}

/* Leaves out columns that are not wanted, with a margin: those at its edge would lack neighbours to be interpolated
 * from. */
static void crop_columns(JpegRead *read)
{
#ifdef LIBJPEG_TURBO_VERSION_NUMBER
    enum { MARGIN = 32 };
    JDIMENSION width = read->jpeg.output_width;
    JDIMENSION first = read->x > MARGIN ? (JDIMENSION)(read->x - MARGIN) : 0;
    JDIMENSION last = (JDIMENSION)(read->x + read->square.width) + MARGIN; /* one behind */
    if (last > width) last = width;
    if (last - first >= width) return;
    JDIMENSION count = last - first;
    jpeg_crop_scanline(&read->jpeg, &first, &count);
    read->x -= (int)first;
#endif
}

/* The rows of the square, strip by strip. */
static void read_square(JpegRead *read)
{
    struct jpeg_decompress_struct *jpeg = &read->jpeg;
    const PictureSink *sink = read->sink;
    const PictureSquare *square = &read->square;
    bool usual = is_usual(jpeg);
    if (usual) crop_columns(read);
    size_t pitch = (size_t)jpeg->output_width * 3;
    int below = (int)jpeg->output_height - read->y - square->height;
    read->status = picture_make_room(read->picture, jpeg->output_width, PICTURE_STRIP, read->channels);
    if (read->status == STATUS_OK && sink) read->status = sink->begin(sink->context, square);
    if (read->status != STATUS_OK) return;
    pass_rows(read, read->y, usual);
    for (int y = 0; y < square->height; y += PICTURE_STRIP) {
        int count = square->height - y < PICTURE_STRIP ? square->height - y : PICTURE_STRIP;
        read_strip(read, read->picture->rgb, count);
        if (sink) sink->rows(sink->context, read->picture->rgb + (size_t)read->x * 3, pitch, count);
    }
    /* libjpeg-turbo does not parse the rows when all that remain are skipped: one is read. */
    pass_rows(read, below - 1, usual);
    pass_rows(read, below > 0 ? 1 : 0, false);
}

static void read_whole(JpegRead *read)
{
    struct jpeg_decompress_struct *jpeg = &read->jpeg;
    int height = (int)jpeg->output_height;
    size_t pitch = (size_t)jpeg->output_width * 3;
    read->status = picture_make_room(read->picture, jpeg->output_width, height, read->channels);
    if (read->status != STATUS_OK) return;
    /* With CMYK a strip takes more room than its RGB, but never more than is left at the end. */
    for (int y = 0; y < height; y += PICTURE_STRIP)
        read_strip(read, read->picture->rgb + (size_t)y * pitch,
                   height - y < PICTURE_STRIP ? height - y : PICTURE_STRIP);
}

/* False when libjpeg gave up; read->status is set when we did. */
static bool read_picture(JpegRead *read, const uint8_t *data, size_t size)
{
    struct jpeg_decompress_struct *jpeg = &read->jpeg;
    if (setjmp(read->jump)) return false;
    jpeg_create_decompress(jpeg);
    jpeg->mem->max_memory_to_use = MAX_MEMORY;
    jpeg->progress = &read->progress;
    jpeg_mem_src(jpeg, data, (unsigned long)size);
    jpeg_read_header(jpeg, TRUE);

    bool cmyk = jpeg->jpeg_color_space == JCS_CMYK || jpeg->jpeg_color_space == JCS_YCCK;
    read->channels = cmyk ? 4 : 3;
    read->status = picture_check(read->picture, jpeg->image_width, jpeg->image_height, read->limits);
    if (read->status != STATUS_OK) return true;
    int scale = choose_scale(read);
    jpeg->scale_num = 1;
    jpeg->scale_denom = (unsigned)scale;
    jpeg->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    jpeg->dct_method = JDCT_ISLOW;
    jpeg_start_decompress(jpeg);
    if (jpeg->output_components != read->channels ||
        (int)jpeg->output_width != (read->picture->width - 1) / scale + 1 ||
        (int)jpeg->output_height != (read->picture->height - 1) / scale + 1) {
        snprintf(read->message, sizeof read->message, "unexpected components");
        return false;
    }
    if (read->cut) {
        read->square =
            picture_square(read->cut, read->picture->width, read->picture->height, scale, &read->x, &read->y);
        read_square(read);
    } else {
        read_whole(read);
    }
    if (read->status == STATUS_OK) jpeg_finish_decompress(jpeg);
    return true;
}

Status picture_decode_jpeg(const uint8_t *data, size_t size, const PictureLimits *limits, const PictureCut *cut,
                           const PictureSink *sink, Picture *picture)
{
    Status status = STATUS_OK;
    JpegRead read = {.limits = limits, .cut = cut, .sink = sink, .picture = picture};
    read.jpeg.err = jpeg_std_error(&read.errors);
    read.jpeg.client_data = &read;
    read.errors.error_exit = on_error;
    read.errors.emit_message = on_message;
    read.errors.output_message = on_output;
    read.progress.progress_monitor = on_progress;
    picture->width = picture->height = 0;
    if (!read_picture(&read, data, size)) FAIL(ERR_FORMAT, "JPEG: %s", read.message);
    TRY(read.status);
    if (read.damaged) FAIL(ERR_FORMAT, "JPEG: %s", read.message);
fail:
    jpeg_destroy_decompress(&read.jpeg);
    return status;
}
