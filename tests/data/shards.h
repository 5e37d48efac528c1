/* Shards, pictures and configs made by the tests themselves. */
#ifndef TESTS_DATA_SHARDS_H
#define TESTS_DATA_SHARDS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/config.h"
#include "base/status.h"
#include "data/data_config.h"
#include "data/tar_index.h"

#define assert_ok(call) check_ok((call), #call, __FILE__, __LINE__)
void check_ok(Status status, const char *what, const char *file, int line);
/* The last failure's message holds `part`. */
void check_message(const char *part);

/* A folder under /tmp; path buffers of 512 bytes. */
void make_folder(char path[512]);
void remove_folder(const char *path);
const char *in_folder(const char *folder, const char *name); /* valid until the 8th call after */

/* A ustar archive in memory. */
void tar_member(StrBuf *tar, const char *name, const void *data, size_t size);
void tar_text(StrBuf *tar, const char *name, const char *text);
void tar_pax_name(StrBuf *tar, const char *name, const void *data, size_t size); /* long name in a pax header */
void tar_end(StrBuf *tar);
void write_file(const char *path, const void *data, size_t size);
void read_file(const char *path, StrBuf *out);

/* Pictures, appended. `seed` colours them. */
void make_png(StrBuf *out, int width, int height, unsigned seed);
void make_jpeg(StrBuf *out, int width, int height, unsigned seed);
void make_webp(StrBuf *out, int width, int height, unsigned seed);

/* PREFIX-NNN.tar: `shards` of `samples` each, keys "sSSS-NNNN", a PNG of 20x16, a caption and a .json with captions in
 * three languages. */
void make_shards(const char *folder, const char *prefix, int shards, int samples);

/* The index of a shard here, which must open; no index file is read or left. */
void index_shard(const char *path, TarIndex *out);

/* A parsed `data:` section; free with config_free. */
Config *parse_data_config(DataConfig *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
