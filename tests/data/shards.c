#include "shards.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <webp/encode.h>

#include "base/file.h"
#include "data/png_write.h"

void check_ok(Status status, const char *what, const char *file, int line)
{
    if (status == STATUS_OK) return;
    print_error("%s:%d: %s: %s: %s\n%s", file, line, what, status_name(status), status_message(), status_trail());
    _fail(file, line);
}

void check_message(const char *part)
{
    if (strstr(status_message(), part)) return;
    print_error("'%s' is not in '%s'\n", part, status_message());
    fail();
}

void make_folder(char path[512])
{
    snprintf(path, 512, "/tmp/vasily-data-XXXXXX");
    if (!mkdtemp(path)) fail_msg("mkdtemp: %s", strerror(errno));
}

void remove_folder(const char *path)
{
    assert_ok(file_remove_tree(path));
}

const char *in_folder(const char *folder, const char *name)
{
    static char paths[8][1100];
    static int next;
    next = (next + 1) % 8;
    snprintf(paths[next], sizeof paths[next], "%s/%s", folder, name);
    return paths[next];
}

static void put_header(StrBuf *tar, const char *name, size_t size, char type)
{
    unsigned char h[512] = {0};
    unsigned sum = 0;
    snprintf((char *)h, 100, "%s", name);
    snprintf((char *)h + 100, 8, "0000644");
    snprintf((char *)h + 108, 8, "0000000");
    snprintf((char *)h + 116, 8, "0000000");
    snprintf((char *)h + 124, 12, "%011zo", size);
    snprintf((char *)h + 136, 12, "00000000000");
    memset(h + 148, ' ', 8);
    h[156] = (unsigned char)type;
    memcpy(h + 257,
           "ustar\0"
           "00",
           8);
    for (int i = 0; i < 512; i++) sum += h[i];
    snprintf((char *)h + 148, 8, "%06o", sum);
    h[155] = ' ';
    assert_ok(strbuf_append(tar, h, 512));
}

static void tar_pad(StrBuf *tar)
{
    static const char zeros[512];
    if (tar->size % 512) assert_ok(strbuf_append(tar, zeros, 512 - tar->size % 512));
}

void tar_member(StrBuf *tar, const char *name, const void *data, size_t size)
{
    put_header(tar, name, size, '0');
    assert_ok(strbuf_append(tar, data, size));
    tar_pad(tar);
}

void tar_text(StrBuf *tar, const char *name, const char *text)
{
    tar_member(tar, name, text, strlen(text));
}

void tar_pax_name(StrBuf *tar, const char *name, const void *data, size_t size)
{
    char record[5000];
    size_t n = strlen(name) + strlen(" path=\n") + 3; /* names of 90 to 900 bytes have 3-digit records */
    snprintf(record, sizeof record, "%zu path=%s\n", n, name);
    put_header(tar, "PaxHeaders/x", n, 'x');
    assert_ok(strbuf_append(tar, record, n));
    tar_pad(tar);
    put_header(tar, "short", size, '0');
    assert_ok(strbuf_append(tar, data, size));
    tar_pad(tar);
}

void tar_end(StrBuf *tar)
{
    static const char zeros[1024];
    assert_ok(strbuf_append(tar, zeros, sizeof zeros));
}

void write_file(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, size, file) != size || fclose(file) != 0) fail_msg("%s: %s", path, strerror(errno));
}

void read_file(const char *path, StrBuf *out)
{
    char *data;
    size_t size;
    assert_ok(file_read(path, (size_t)1 << 30, &data, &size));
    assert_ok(strbuf_append(out, data, size));
    free(data);
}

static uint8_t *paint(int width, int height, unsigned seed)
{
    uint8_t *rgb = mem_alloc_array((size_t)width * (size_t)height, 3);
    assert_non_null(rgb);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < 3; c++)
                rgb[((size_t)y * (size_t)width + (size_t)x) * 3 + (size_t)c] =
                    (uint8_t)((unsigned)(x * (3 + c) + y * 5) + seed * (31u + (unsigned)c * 17u));
    return rgb;
}

void make_png(StrBuf *out, int width, int height, unsigned seed)
{
    uint8_t *rgb = paint(width, height, seed);
    assert_ok(png_encode_rgb(width, height, rgb, NULL, NULL, 0, out));
    free(rgb);
}

void make_jpeg(StrBuf *out, int width, int height, unsigned seed)
{
    uint8_t *rgb = paint(width, height, seed);
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    unsigned char *data = NULL;
    unsigned long size = 0;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &data, &size);
    jpeg.image_width = (JDIMENSION)width;
    jpeg.image_height = (JDIMENSION)height;
    jpeg.input_components = 3;
    jpeg.in_color_space = JCS_RGB;
    jpeg_set_defaults(&jpeg);
    jpeg_start_compress(&jpeg, TRUE);
    while (jpeg.next_scanline < jpeg.image_height) {
        JSAMPROW row = rgb + (size_t)jpeg.next_scanline * (size_t)width * 3;
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    assert_ok(strbuf_append(out, data, size));
    free(data);
    free(rgb);
}

void make_webp(StrBuf *out, int width, int height, unsigned seed)
{
    uint8_t *rgb = paint(width, height, seed), *data = NULL;
    size_t size = WebPEncodeLosslessRGB(rgb, width, height, width * 3, &data);
    assert_true(size > 0);
    assert_ok(strbuf_append(out, data, size));
    WebPFree(data);
    free(rgb);
}

void make_shards(const char *folder, const char *prefix, int shards, int samples)
{
    for (int s = 0; s < shards; s++) {
        StrBuf tar = {0};
        char name[200], text[1000];
        for (int i = 0; i < samples; i++) {
            StrBuf png = {0};
            make_png(&png, 20, 16, (unsigned)(s * samples + i));
            snprintf(name, sizeof name, "s%03d-%04d.png", s, i);
            tar_member(&tar, name, png.data, png.size);
            snprintf(name, sizeof name, "s%03d-%04d.txt", s, i);
            snprintf(text, sizeof text, "plain caption %d of shard %d\n", i, s);
            tar_text(&tar, name, text);
            snprintf(name, sizeof name, "s%03d-%04d.json", s, i);
            snprintf(text, sizeof text,
                     "{\"key\": \"x\", \"captions\": {\"en\": \"picture %d.%d\", \"ru\": "
                     "\"\u043a\u0430\u0440\u0442\u0438\u043d\u043a\u0430 %d.%d\", \"el\": "
                     "\"\u03b5\u03b9\u03ba\u03cc\u03bd\u03b1 %d.%d\"}, \"width\": 20, \"height\": 16}",
                     s, i, s, i, s, i);
            tar_text(&tar, name, text);
            strbuf_free(&png);
        }
        tar_end(&tar);
        snprintf(name, sizeof name, "%s-%03d.tar", prefix, s);
        write_file(in_folder(folder, name), tar.data, tar.size);
        strbuf_free(&tar);
    }
}

void index_shard(const char *path, TarIndex *out)
{
    ReadConfig config = {.cache_folder = "", .index_folder = "", .chunk_bytes = 65536, .cache_bytes = 1 << 20};
    ShardAccess *access;
    ShardFile *file;
    assert_ok(shard_access_create(&config, &access));
    assert_ok(shard_file_open(access, path, -1, &file));
    assert_ok(tar_index_scan(file, out));
    shard_file_close(file);
    shard_access_free(access);
}

Config *parse_data_config(DataConfig *out, const char *format, ...)
{
    char text[8192];
    Config *config = NULL;
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    assert_ok(config_load("test.yaml", text, &data_config_schema, NULL, 0, out, &config));
    return config;
}
