/* Pictures for the tests of `vasily sample`:
 *     picture_tool make OUT.png WIDTH HEIGHT gradient|left|white|dot     left: white in the left half, black in the
 *                                     right one; dot: white but for pixel (9,9)
 *     picture_tool compare A B X Y WIDTH HEIGHT LEVELS         exit code 1: a level in the box differs by more */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "data/picture.h"
#include "data/png_write.h"

static int number(const char *text)
{
    return (int)strtol(text, NULL, 10);
}

/* What a pixel of a mask is, 0 or 255. */
static int grey(const char *kind, int x, int y, int width)
{
    if (strcmp(kind, "left") == 0) return 2 * x < width ? 255 : 0;
    return strcmp(kind, "dot") == 0 && x == 9 && y == 9 ? 0 : 255;
}

static int make(char **argv)
{
    int width = number(argv[1]), height = number(argv[2]);
    uint8_t *rgb = mem_alloc_array((size_t)width * (size_t)height, 3);
    if (!rgb) return 2;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            uint8_t *pixel = rgb + 3 * (y * width + x);
            int gradient[3] = {60 + 9 * x, 200 - 8 * y, 90 + 4 * (x + y)};
            for (int c = 0; c < 3; c++)
                pixel[c] = (uint8_t)(strcmp(argv[3], "gradient") ? grey(argv[3], x, y, width) : gradient[c]);
        }
    Status status = png_write_rgb(argv[0], width, height, rgb, NULL, NULL, 0);
    free(rgb);
    return status == STATUS_OK ? 0 : 2;
}

static int load(const char *path, Picture *picture)
{
    char *data = NULL;
    size_t size;
    PictureLimits limits = {.max_pixels = 1 << 20};
    Status status = file_read(path, 1 << 20, &data, &size);
    if (status == STATUS_OK) status = picture_decode((const uint8_t *)data, size, &limits, picture);
    free(data);
    if (status != STATUS_OK) fprintf(stderr, "%s: %s\n", path, status_message());
    return status == STATUS_OK;
}

static int compare(char **argv)
{
    Picture a = {0}, b = {0};
    int x0 = number(argv[2]), y0 = number(argv[3]), width = number(argv[4]), height = number(argv[5]), worst = 0;
    if (!load(argv[0], &a) || !load(argv[1], &b)) return 2;
    if (a.width != b.width || a.height != b.height || x0 + width > a.width || y0 + height > a.height) return 2;
    for (int y = y0; y < y0 + height; y++)
        for (int k = 3 * (y * a.width + x0); k < 3 * (y * a.width + x0 + width); k++)
            if (abs(a.rgb[k] - b.rgb[k]) > worst) worst = abs(a.rgb[k] - b.rgb[k]);
    printf("levels differ by at most %d\n", worst);
    picture_free(&a);
    picture_free(&b);
    return worst > number(argv[6]);
}

int main(int argc, char **argv)
{
    if (argc == 6 && strcmp(argv[1], "make") == 0) return make(argv + 2);
    if (argc == 9 && strcmp(argv[1], "compare") == 0) return compare(argv + 2);
    fprintf(stderr, "usage: see the first lines of picture_tool.c\n");
    return 2;
}
