/* make_test_shards FOLDER SHARDS SAMPLES SIDE [mixed]: tar shards of small drawn pictures with captions, for the
 * trainer's tests. `mixed`: captions in three languages, and now and then a watermark or a broken picture. Plain ustar,
 * written here, so that nothing but the PNG writer is shared with the program under test. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/png_write.h"

enum { BLOCK = 512 };

static const char *const colors[] = {"red", "green", "blue", "yellow"};
static const uint8_t rgb_of[][3] = {{220, 40, 40}, {40, 180, 60}, {50, 70, 220}, {230, 210, 60}};
static const char *const shapes[] = {"circle", "square", "stripe", "cross"};

static int covers(int shape, int x, int y, int side)
{
    int dx = 2 * x - side, dy = 2 * y - side;
    switch (shape) {
    case 0:
        return dx * dx + dy * dy < side * side / 3;
    case 1:
        return abs(dx) < side / 2 && abs(dy) < side / 2;
    case 2:
        return abs(dy) < side / 4;
    default:
        return abs(dx) < side / 5 || abs(dy) < side / 5;
    }
}

static int write_member(FILE *tar, const char *name, const void *data, size_t size)
{
    static const char zeros[BLOCK];
    char header[BLOCK] = {0};
    unsigned sum = 0;
    snprintf(header, 100, "%s", name);
    memcpy(header + 100, "0000644", 8);
    memcpy(header + 108, "0000000", 8);
    memcpy(header + 116, "0000000", 8);
    snprintf(header + 124, 12, "%011zo", size);
    memcpy(header + 136, "00000000000", 12);
    header[156] = '0';
    memcpy(header + 257, "ustar\00000", 8);
    memset(header + 148, ' ', 8);
    for (int i = 0; i < BLOCK; i++) sum += (unsigned char)header[i];
    snprintf(header + 148, 8, "%06o", sum);
    size_t padding = (BLOCK - size % BLOCK) % BLOCK;
    return fwrite(header, BLOCK, 1, tar) == 1 && fwrite(data, 1, size, tar) == size &&
           fwrite(zeros, 1, padding, tar) == padding;
}

static int write_sample(FILE *tar, int number, int side, int mixed, uint8_t *rgb)
{
    char name[64], caption[64], json[400];
    StrBuf png = {0};
    int color = number % 4, shape = number / 4 % 4;
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++)
            for (int c = 0; c < 3; c++)
                rgb[3 * (y * side + x) + c] = covers(shape, x + number / 16 % 3, y, side) ? rgb_of[color][c] : 245;
    if (png_encode_rgb(side, side, rgb, NULL, NULL, 0, &png)) return 0;
    snprintf(caption, sizeof caption, "%s %s", colors[color], shapes[shape]);
    snprintf(json, sizeof json, "{\"caption\": \"%s\", \"width\": %d, \"height\": %d}", caption, side, side);
    if (mixed) /* as many letters as colours and shapes have: captions of one sample differ in length */
        snprintf(json, sizeof json,
                 "{\"captions\": {\"en\": \"%s\", \"xx\": \"%s\", \"yy\": \"%s %s %s\"}, \"pwatermark\": %s}", caption,
                 shapes[shape], shapes[shape], colors[color], colors[(color + 1) % 4], number % 7 == 3 ? "0.9" : "0.1");
    if (mixed && number % 11 == 5) png.size /= 2;
    snprintf(name, sizeof name, "%06d.png", number);
    int good = write_member(tar, name, png.data, png.size);
    snprintf(name, sizeof name, "%06d.txt", number);
    good = good && write_member(tar, name, caption, strlen(caption));
    snprintf(name, sizeof name, "%06d.json", number);
    good = good && write_member(tar, name, json, strlen(json));
    strbuf_free(&png);
    return good;
}

int main(int argc, char **argv)
{
    static const char end[2 * BLOCK];
    int mixed = argc == 6 && strcmp(argv[5], "mixed") == 0;
    if (argc != 5 && !mixed) {
        fprintf(stderr, "usage: make_test_shards FOLDER SHARDS SAMPLES SIDE [mixed]\n");
        return 2;
    }
    int shards = (int)strtol(argv[2], NULL, 10), samples = (int)strtol(argv[3], NULL, 10);
    int side = (int)strtol(argv[4], NULL, 10);
    uint8_t *rgb = malloc((size_t)side * (size_t)side * 3);
    int good = rgb != NULL;
    for (int s = 0; s < shards && good; s++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%06d.tar", argv[1], s);
        FILE *tar = fopen(path, "wb");
        good = tar != NULL;
        for (int i = 0; i < samples && good; i++) good = write_sample(tar, s * samples + i, side, mixed, rgb);
        good = good && fwrite(end, sizeof end, 1, tar) == 1;
        if (tar && fclose(tar)) good = 0;
    }
    free(rgb);
    if (!good) fprintf(stderr, "make_test_shards: cannot write into %s\n", argv[1]);
    return good ? 0 : 1;
}
