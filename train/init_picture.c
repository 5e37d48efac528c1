#include "train/init_picture.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "data/resize.h"

enum { FILE_LIMIT = 1 << 30, WHITE = 128 };

static Status read_picture(const char *path, int64_t max_pixels, Picture *picture, Hash128 *hash)
{
    Status status = STATUS_OK;
    char *data = NULL;
    size_t size;
    PictureLimits limits = {.max_pixels = max_pixels};
    TRY(file_read(path, FILE_LIMIT, &data, &size));
    *hash = hash_memory(data, size);
    status = picture_decode((const uint8_t *)data, size, &limits, picture);
    if (status != STATUS_OK) status_prefix("%s: ", path);
    TRY(status);
fail:
    free(data);
    return status;
}

/* The part of the picture that is seen: all of it, or its middle in the proportions of the canvas. */
typedef struct Box {
    int x, y, width, height;
} Box;

static Box seen_part(const InitPictureOptions *o, const Picture *picture)
{
    Box box = {.width = picture->width, .height = picture->height};
    if (o->stretched) return box;
    int64_t width = picture->width, height = picture->height;
    if (width * o->height > height * o->width) { /* too wide */
        int64_t cut = (height * o->width + o->height / 2) / o->height;
        box.width = (int)(cut < 1 ? 1 : cut);
    } else {
        int64_t cut = (width * o->height + o->width / 2) / o->width;
        box.height = (int)(cut < 1 ? 1 : cut > height ? height : cut);
    }
    box.x = (picture->width - box.width) / 2;
    box.y = (picture->height - box.height) / 2;
    return box;
}

static int64_t clamp(int64_t value, int64_t high)
{
    return value < 0 ? 0 : value > high ? high : value;
}

/* Grey of pixel (x,y). */
static bool is_white(const Picture *mask, int64_t x, int64_t y)
{
    const uint8_t *p = mask->rgb + ((size_t)y * (size_t)mask->width + (size_t)x) * 3;
    return p[0] + p[1] + p[2] >= 3 * WHITE;
}

/* The canvas and its mask where the picture fills it. */
static Status fit(const InitPictureOptions *o, const Picture *picture, const Picture *mask, InitPicture *out)
{
    Status status = STATUS_OK;
    Resizer resizer = {0};
    Box box = seen_part(o, picture);
    size_t pitch = (size_t)picture->width * 3;
    TRY(resize_box(&resizer, picture->rgb + (size_t)box.y * pitch + (size_t)box.x * 3, pitch, box.width, box.height,
                   (int)o->width, (int)o->height, out->rgb));
    for (int64_t y = 0; mask && y < o->height;
         y++) /* the nearest pixel, as the latent's mask takes the nearest of these */
        for (int64_t x = 0; x < o->width; x++)
            out->mask[y * o->drawn_width + x] =
                is_white(mask, box.x + x * box.width / o->width, box.y + y * box.height / o->height) ? 1 : 0;
fail:
    resizer_free(&resizer);
    return status;
}

/* The canvas and its mask where the picture stands somewhere on it; around it its edge is repeated, so that the encoder
 * sees no line there. */
static Status place(const InitPictureOptions *o, const Picture *picture, const Picture *mask, InitPicture *out)
{
    Status status = STATUS_OK;
    if (o->x >= o->width || o->y >= o->height || o->x + picture->width <= 0 || o->y + picture->height <= 0)
        FAIL(ERR_USAGE, "a picture of %dx%d placed at %lld,%lld lies outside of the canvas of %lldx%lld",
             picture->width, picture->height, (long long)o->x, (long long)o->y, (long long)o->width,
             (long long)o->height);
    for (int64_t y = 0; y < o->height; y++)
        for (int64_t x = 0; x < o->width; x++) {
            int64_t from_x = clamp(x - o->x, picture->width - 1), from_y = clamp(y - o->y, picture->height - 1);
            bool inside = from_x == x - o->x && from_y == y - o->y;
            memcpy(out->rgb + (size_t)(y * o->width + x) * 3,
                   picture->rgb + ((size_t)from_y * (size_t)picture->width + (size_t)from_x) * 3, 3);
            out->mask[y * o->drawn_width + x] = inside && (!mask || is_white(mask, from_x, from_y)) ? 1 : 0;
        }
fail:
    return status;
}

/* Bytes to [-1,1], and both widened to the drawn size by their edges. */
static void widen(InitPicture *p)
{
    for (int64_t y = 0; y < p->drawn_height; y++)
        for (int64_t x = 0; x < p->drawn_width; x++) {
            int64_t from_x = clamp(x, p->width - 1), from_y = clamp(y, p->height - 1);
            const uint8_t *from = p->rgb + (size_t)(from_y * p->width + from_x) * 3;
            float *to = p->pixels + (size_t)(y * p->drawn_width + x) * 3;
            for (int c = 0; c < 3; c++) to[c] = (float)from[c] / 127.5f - 1;
            if (p->mask) p->mask[y * p->drawn_width + x] = p->mask[from_y * p->drawn_width + from_x];
        }
}

Status init_picture_load(const InitPictureOptions *o, InitPicture *out)
{
    Status status = STATUS_OK;
    Picture picture = {0}, mask = {0};
    *out = (InitPicture){
        .width = o->width, .height = o->height, .drawn_width = o->drawn_width, .drawn_height = o->drawn_height};
    size_t places = (size_t)(o->drawn_width * o->drawn_height);
    TRY(read_picture(o->picture, o->max_pixels, &picture, &out->picture_hash));
    if (o->mask) {
        TRY(read_picture(o->mask, o->max_pixels, &mask, &out->mask_hash));
        if (mask.width != picture.width || mask.height != picture.height)
            FAIL(ERR_USAGE,
                 "%s: the mask is %dx%d and the picture %s %dx%d; a mask has the size of its picture, white where the "
                 "picture is kept",
                 o->mask, mask.width, mask.height, o->picture, picture.width, picture.height);
    }
    out->rgb = mem_alloc_array((size_t)(o->width * o->height), 3);
    out->pixels = mem_alloc_array(places, 3 * sizeof *out->pixels);
    if (o->mask || o->placed) out->mask = mem_alloc_array(places, sizeof *out->mask);
    if (!out->rgb || !out->pixels || ((o->mask || o->placed) && !out->mask))
        FAIL(ERR_MEMORY, "no memory for a picture of %lldx%lld", (long long)o->width, (long long)o->height);
    if (o->placed)
        TRY(place(o, &picture, o->mask ? &mask : NULL, out));
    else
        TRY(fit(o, &picture, o->mask ? &mask : NULL, out));
    widen(out);
fail:
    picture_free(&picture);
    picture_free(&mask);
    if (status != STATUS_OK) init_picture_free(out);
    return status;
}

void init_picture_missed(const InitPicture *p, const float *keep, int64_t h, int64_t w, int64_t *painted,
                         int64_t *missed)
{
    *painted = *missed = 0;
    for (int64_t y = 0; y < p->height; y++)
        for (int64_t x = 0; x < p->width; x++) {
            if (p->mask[y * p->drawn_width + x] == 1) continue;
            ++*painted;
            *missed += keep[y * h / p->drawn_height * w + x * w / p->drawn_width] == 1;
        }
}

void init_picture_free(InitPicture *picture)
{
    free(picture->pixels);
    free(picture->mask);
    free(picture->rgb);
    *picture = (InitPicture){0};
}

void init_picture_paste(const InitPicture *p, uint8_t *rgb)
{
    if (!p->mask) return;
    for (int64_t y = 0; y < p->height; y++)
        for (int64_t x = 0; x < p->width; x++) {
            size_t at = (size_t)(y * p->width + x) * 3;
            if (p->mask[y * p->drawn_width + x] == 1) memcpy(rgb + at, p->rgb + at, 3);
        }
}
