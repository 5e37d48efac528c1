#include "train/report_pictures.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "data/picture.h"
#include "data/resize.h"
#include "data/webp_write.h"

enum { FILE_BYTES_MAX = 256 << 20, PIXELS_MAX = 1 << 26 };

bool preview_name_parse(const char *name, PreviewName *out)
{
    static const char start[] = "step-", end[] = ".png";
    const size_t size = strlen(name);
    char *rest;
    *out = (PreviewName){0};
    if (size < sizeof start + sizeof end || strncmp(name, start, sizeof start - 1) != 0) return false;
    if (strcmp(name + size - (sizeof end - 1), end) != 0) return false;
    const char *digits = name + sizeof start - 1;
    if (strspn(digits, "0123456789") == 0 || strspn(digits, "0123456789") > 15) return false;
    out->step = strtoll(digits, &rest, 10);
    if (*rest != '.' && *rest != '-') return false;
    const size_t mark = *rest == '-' ? size - (size_t)(rest + 1 - name) - (sizeof end - 1) : 0;
    if (mark >= sizeof out->mark || (*rest == '.' && strcmp(rest, end) != 0)) return false;
    memcpy(out->mark, rest + 1, mark);
    out->mark[mark] = '\0';
    return true;
}

typedef struct Found {
    PreviewName name;
    const char *file;
} Found;

static int in_order(const void *a, const void *b)
{
    const Found *x = a, *y = b;
    if (x->name.step != y->name.step) return x->name.step < y->name.step ? -1 : 1;
    return strcmp(x->name.mark, y->name.mark);
}

/* ---- one picture ---- */

/* Smaller, and worse until it is small enough; empty when it never is. */
static Status shrink(const Picture *picture, StrBuf *out)
{
    Status status = STATUS_OK;
    static const double qualities[] = {80, 60, 40, 20};
    Resizer resizer = {0};
    const int side = picture->width > picture->height ? picture->width : picture->height;
    const double scale = side > REPORT_PICTURE_SIDE ? (double)REPORT_PICTURE_SIDE / side : 1;
    const int width = (int)(picture->width * scale) > 0 ? (int)(picture->width * scale) : 1;
    const int height = (int)(picture->height * scale) > 0 ? (int)(picture->height * scale) : 1;
    uint8_t *rgb = mem_alloc_array((size_t)width * (size_t)height, 3);
    if (!rgb) FAIL(ERR_MEMORY, "no memory for a picture of %dx%d", width, height);
    TRY(resize_box(&resizer, picture->rgb, 3 * (size_t)picture->width, picture->width, picture->height, width, height,
                   rgb));
    for (size_t q = 0; q < sizeof qualities / sizeof qualities[0]; q++) {
        out->size = 0;
        TRY(webp_encode_rgb(width, height, rgb, qualities[q], out));
        if (out->size <= REPORT_PICTURE_BYTES) break;
    }
    if (out->size > REPORT_PICTURE_BYTES) out->size = 0;
fail:
    resizer_free(&resizer);
    free(rgb);
    return status;
}

static Status make(const char *path, ReportPicture *item)
{
    Status status = STATUS_OK;
    Picture picture = {0};
    char *data = NULL;
    size_t size;
    TRY(file_read(path, FILE_BYTES_MAX, &data, &size));
    if (picture_sniff((const uint8_t *)data, size) != PICTURE_PNG) FAIL(ERR_FORMAT, "%s is no PNG", path);
    item->type = "image/png";
    if (size <= REPORT_PICTURE_BYTES) {
        TRY(strbuf_append(&item->bytes, data, size));
    } else {
        TRY(picture_decode((const uint8_t *)data, size, &(PictureLimits){.max_pixels = PIXELS_MAX, .min_side = 1},
                           &picture));
        item->type = "image/webp";
        TRY(shrink(&picture, &item->bytes));
    }
fail:
    picture_free(&picture);
    free(data);
    return status;
}

/* ---- all of them ---- */

static bool take_over(ReportPictures *from, ReportPicture *item)
{
    for (int32_t i = 0; i < from->count; i++) {
        ReportPicture *old = &from->items[i];
        if (old->name.step != item->name.step || strcmp(old->name.mark, item->name.mark) != 0 ||
            old->file_size != item->file_size || old->file_time != item->file_time)
            continue;
        *item = *old;
        old->bytes = (StrBuf){0};
        return true;
    }
    return false;
}

static Status add(ReportPictures *pictures, ReportPictures *old, const char *folder, const Found *found)
{
    Status status = STATUS_OK;
    ReportPicture item = {.name = found->name};
    char path[PATH_MAX];
    struct stat about;
    TRY(path_join(path, sizeof path, folder, found->file));
    if (stat(path, &about) != 0) return STATUS_OK; /* gone since */
    item.file_size = about.st_size;
    item.file_time = (int64_t)about.st_mtim.tv_sec * 1000000000 + about.st_mtim.tv_nsec;
    if (!take_over(old, &item) && (make(path, &item) != STATUS_OK || item.bytes.size == 0)) {
        strbuf_free(&item.bytes);
        pictures->broken++;
        return STATUS_OK;
    }
    pictures->items[pictures->count++] = item;
fail:
    return status;
}

Status report_pictures_update(ReportPictures *pictures, const char *folder)
{
    Status status = STATUS_OK;
    ReportPictures old = *pictures;
    char **names = NULL;
    size_t name_count = 0, count = 0;
    Found *found = NULL;
    *pictures = (ReportPictures){0};
    if (file_is_dir(folder)) TRY(file_list(folder, &names, &name_count));
    found = mem_alloc_array(name_count + 1, sizeof *found);
    if (!found) FAIL(ERR_MEMORY, "no memory for the names of %zu previews", name_count);
    for (size_t i = 0; i < name_count; i++) {
        found[count].file = names[i];
        if (preview_name_parse(names[i], &found[count].name)) count++;
    }
    qsort(found, count, sizeof *found, in_order);
    pictures->found = (int64_t)count;
    const size_t chosen = count < REPORT_PICTURES_MAX ? count : REPORT_PICTURES_MAX;
    for (size_t i = 0; i < chosen; i++) {
        const size_t at = chosen > 1 ? (2 * i * (count - 1) + chosen - 1) / (2 * (chosen - 1)) : 0;
        TRY(add(pictures, &old, folder, &found[at]));
    }
fail:
    free(found);
    file_free_list(names, name_count);
    report_pictures_free(&old);
    return status;
}

void report_pictures_free(ReportPictures *pictures)
{
    for (int32_t i = 0; i < pictures->count; i++) strbuf_free(&pictures->items[i].bytes);
    *pictures = (ReportPictures){0};
}
