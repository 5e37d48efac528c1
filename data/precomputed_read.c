/* Reading precomputed files. HDF5 tells where the arrays lie; rows are read with pread. A file is hostile: whatever was
 * read out of it is checked before it is used as a place or a size. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bf16.h"
#include "base/file.h"
#include "base/half.h"
#include "data/precomputed_inside.h"

#define MAX_SAMPLES ((int64_t)64 << 20)
#define MAX_KEY 8192
#define MAX_CAPTION ((int64_t)64 << 10)
#define MAX_CAPTIONS 4096
#define REMEDY "set the config back to that, or make the file anew with `%s`"

struct PrecomputedFile {
    const PrecomputedSpec *spec;
    PrecomputedKind kind;
    char *path, *shard;
    Hash128 shard_index;
    int fd;
    bool valid_rows; /* text: rows of padding are not there */
    int64_t samples, rows;
    uint8_t *reasons; /* (samples) */
    /* where the arrays lie, bytes from the beginning of the file */
    int64_t keys, key_at, key_bytes;
    int64_t row, moments;
    int64_t caption, at, text, text_bytes;
    struct Encoder {
        int64_t tokens, length, row, states, state_rows;
    } encoders[2];
    int64_t pooled;
};

static Status read_at(const PrecomputedFile *file, void *out, int64_t size, int64_t offset)
{
    uint8_t *to = out;
    while (size > 0) {
        ssize_t got = pread(file->fd, to, (size_t)size, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return status_fail(ERR_IO, __FILE__, __LINE__, "%s: %s", file->path, strerror(errno));
        if (got == 0)
            return status_fail(ERR_FORMAT, __FILE__, __LINE__, "%s: is shorter than when it was opened", file->path);
        to += got;
        size -= got;
        offset += got;
    }
    return STATUS_OK;
}

/* Values i and i + 1 of an array of ascending numbers up to `limit`. */
static Status read_range(const PrecomputedFile *file, int64_t array, int64_t i, int64_t limit, int64_t *first,
                         int64_t *end)
{
    Status status = STATUS_OK;
    int64_t pair[2];
    TRY(read_at(file, pair, sizeof pair, array + i * 8));
    if (pair[0] < 0 || pair[0] > pair[1] || pair[1] > limit)
        FAIL(ERR_FORMAT, "%s: is damaged (a range from %lld to %lld of %lld)", file->path, (long long)pair[0],
             (long long)pair[1], (long long)limit);
    *first = pair[0];
    *end = pair[1];
fail:
    return status;
}

/* ---- opening ---- */

static Status check_fact(H5File *h5, const char *path, const PrecomputedSpec *spec, const char *key, const char *wanted)
{
    Status status = STATUS_OK;
    char *text = NULL;
    size_t size;
    PrecomputeCommand command;
    precomputed_command(spec, command);
    if (h5_read_text(h5, key, &text, &size) != STATUS_OK)
        FAIL(ERR_MISMATCH, "%s: does not say %s, which is %s in this run; " REMEDY, path, key, wanted, command);
    if (strlen(wanted) != size || memcmp(text, wanted, size) != 0)
        FAIL(ERR_MISMATCH, "%s: was made with %s = %.700s; this run has %.700s; " REMEDY, path, key, text, wanted,
             command);
fail:
    free(text);
    return status;
}

static Status check_facts(H5File *h5, const char *path, PrecomputedKind kind, const PrecomputedSpec *spec,
                          const PrecomputedFacts *data)
{
    Status status = STATUS_OK;
    char *format = NULL, wanted[64];
    size_t size;
    snprintf(wanted, sizeof wanted, PRECOMPUTED_FORMAT, PRECOMPUTED_KIND_WORDS[kind]);
    if (h5_read_text(h5, "format", &format, &size) != STATUS_OK || strcmp(format, wanted) != 0)
        FAIL(ERR_FORMAT, "%s: is not a file of precomputed %s of this version", path, PRECOMPUTED_KIND_WORDS[kind]);
    TRY(check_fact(h5, path, spec, "frozen.dtype", PRECOMPUTED_TYPE_WORDS[spec->type]));
    for (size_t i = 0; i < spec->facts[kind].count; i++)
        TRY(check_fact(h5, path, spec, spec->facts[kind].items[i].key, spec->facts[kind].items[i].value));
    for (size_t i = 0; i < data->count; i++) TRY(check_fact(h5, path, spec, data->items[i].key, data->items[i].value));
fail:
    free(format);
    return status;
}

static bool read_hash(const char *text, size_t size, Hash128 *out)
{
    uint64_t part[2] = {0, 0};
    if (size != 32) return false;
    for (size_t i = 0; i < 32; i++) {
        char c = text[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit < 0) return false;
        part[i / 16] = part[i / 16] << 4 | (uint64_t)digit;
    }
    *out = (Hash128){.high = part[0], .low = part[1]};
    return true;
}

/* The attributes that are of this file alone. */
static Status read_attributes(H5File *h5, PrecomputedFile *file)
{
    Status status = STATUS_OK;
    char *text = NULL;
    size_t size;
    PrecomputeCommand command;
    TRY(h5_read_text(h5, "shard", &file->shard, &size));
    if (size == 0 || strlen(file->shard) != size || strchr(file->shard, '/'))
        FAIL(ERR_FORMAT, "%s: names no shard", file->path);
    TRY(h5_read_text(h5, "shard_index", &text, &size));
    if (!read_hash(text, size, &file->shard_index)) FAIL(ERR_FORMAT, "%s: its shard_index is broken", file->path);
    if (file->kind == PRECOMPUTED_TEXT) {
        free(text);
        text = NULL;
        TRY(h5_read_text(h5, "rows", &text, &size));
        file->valid_rows = strcmp(text, "valid") == 0;
        if (file->valid_rows && !file->spec->valid_rows)
            FAIL(ERR_MISMATCH,
                 "%s: was made with model.text_rows = valid, without the padding rows that padded, as this run has it, "
                 "attends to; " REMEDY,
                 file->path, precomputed_command(file->spec, command));
    }
fail:
    free(text);
    return status;
}

static Status locate_text(H5File *h5, PrecomputedFile *file)
{
    Status status = STATUS_OK;
    const PrecomputedSpec *spec = file->spec;
    const H5Type type = precomputed_h5_type(spec->type);
    const int64_t widths[2] = {spec->width1, spec->width2};
    char name[64];
    int64_t n = file->samples;
    TRY(h5_locate(h5, "samples/caption", H5_I64, 1, (int64_t[]){n + 1}, &file->caption));
    int64_t at[2] = {-1, 4}, bytes[1] = {-1};
    TRY(h5_locate(h5, "captions/at", H5_I64, 2, at, &file->at));
    TRY(h5_locate(h5, "captions/text", H5_U8, 1, bytes, &file->text));
    file->rows = at[0];
    file->text_bytes = bytes[0];
    if (file->rows > MAX_SAMPLES * 64) FAIL(ERR_LIMIT, "%s: too many captions", file->path);
    int64_t k = file->rows + 1;
    for (int e = 0; e < 2; e++) {
        struct Encoder *encoder = &file->encoders[e];
        int64_t states[2] = {-1, widths[e]};
        snprintf(name, sizeof name, "captions/tokens%d", e + 1);
        TRY(h5_locate(h5, name, H5_I32, 2, (int64_t[]){k, spec->tokens}, &encoder->tokens));
        snprintf(name, sizeof name, "captions/length%d", e + 1);
        TRY(h5_locate(h5, name, H5_I32, 1, (int64_t[]){k}, &encoder->length));
        snprintf(name, sizeof name, "captions/row%d", e + 1);
        TRY(h5_locate(h5, name, H5_I64, 1, (int64_t[]){k + 1}, &encoder->row));
        snprintf(name, sizeof name, "captions/states%d", e + 1);
        TRY(h5_locate(h5, name, type, 2, states, &encoder->states));
        encoder->state_rows = states[0];
    }
    TRY(h5_locate(h5, "captions/pooled1", type, 2, (int64_t[]){k, spec->pooled}, &file->pooled));
fail:
    return status;
}

static Status locate(H5File *h5, PrecomputedFile *file)
{
    Status status = STATUS_OK;
    const PrecomputedSpec *spec = file->spec;
    int64_t n[1] = {-1}, bytes[1] = {-1}, reasons;
    TRY(h5_locate(h5, "samples/reason", H5_U8, 1, n, &reasons));
    if (n[0] > MAX_SAMPLES) FAIL(ERR_LIMIT, "%s: %lld samples, too many for a shard", file->path, (long long)n[0]);
    file->samples = n[0];
    TRY(h5_locate(h5, "samples/key_at", H5_I64, 1, (int64_t[]){n[0] + 1}, &file->key_at));
    TRY(h5_locate(h5, "samples/keys", H5_U8, 1, bytes, &file->keys));
    file->key_bytes = bytes[0];
    if (file->kind == PRECOMPUTED_TEXT) {
        TRY(locate_text(h5, file));
    } else {
        int64_t dims[4] = {-1, spec->side, spec->side, spec->moments};
        TRY(h5_locate(h5, "samples/row", H5_I64, 1, (int64_t[]){n[0]}, &file->row));
        TRY(h5_locate(h5, "latents/moments", precomputed_h5_type(spec->type), 4, dims, &file->moments));
        file->rows = dims[0];
    }
    file->reasons = mem_alloc_array((size_t)n[0] + 1, 1);
    if (!file->reasons) FAIL(ERR_MEMORY, "out of memory for precomputed data");
    TRY(read_at(file, file->reasons, n[0], reasons));
    for (int64_t i = 0; i < n[0]; i++)
        if (file->reasons[i] >= SHARD_EMPTY)
            FAIL(ERR_FORMAT, "%s: sample %lld has no verdict", file->path, (long long)i);
fail:
    return status;
}

Status precomputed_open(const char *path, PrecomputedKind kind, const PrecomputedSpec *spec,
                        const PrecomputedFacts *data, PrecomputedFile **out)
{
    Status status = STATUS_OK;
    H5File *h5 = NULL;
    struct stat opened, named;
    *out = NULL;
    PrecomputedFile *file = mem_alloc_array(1, sizeof *file);
    if (!file) FAIL(ERR_MEMORY, "out of memory for precomputed data");
    *file = (PrecomputedFile){.spec = spec, .kind = kind, .fd = -1, .path = strdup(path)};
    if (!file->path) FAIL(ERR_MEMORY, "out of memory for precomputed data");
    file->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (file->fd < 0) FAIL(ERR_IO, "%s: %s", path, strerror(errno));
    TRY(h5_open(path, &h5));
    if (fstat(file->fd, &opened) != 0 || stat(path, &named) != 0 || opened.st_ino != named.st_ino ||
        opened.st_dev != named.st_dev)
        FAIL(ERR_IO, "%s: was replaced while it was opened; try again", path);
    TRY(check_facts(h5, path, kind, spec, data));
    TRY(read_attributes(h5, file));
    TRY(locate(h5, file));
    (void)h5_close(h5);
    *out = file;
    return STATUS_OK;
fail:
    if (h5) (void)h5_close(h5);
    precomputed_close(file);
    return status;
}

void precomputed_close(PrecomputedFile *file)
{
    if (!file) return;
    if (file->fd >= 0) close(file->fd);
    free(file->path);
    free(file->shard);
    free(file->reasons);
    free(file);
}

const char *precomputed_file_path(const PrecomputedFile *file)
{
    return file->path;
}

const char *precomputed_shard(const PrecomputedFile *file)
{
    return file->shard;
}

Hash128 precomputed_shard_index(const PrecomputedFile *file)
{
    return file->shard_index;
}

int64_t precomputed_samples(const PrecomputedFile *file)
{
    return file->samples;
}

int64_t precomputed_rows(const PrecomputedFile *file)
{
    return file->rows;
}

/* ---- samples and captions ---- */

Status precomputed_read_sample(const PrecomputedFile *file, int64_t sample, SampleReason *reason, StrBuf *key)
{
    Status status = STATUS_OK;
    char text[MAX_KEY];
    int64_t first, end;
    if (sample < 0 || sample >= file->samples)
        FAIL(ERR_FORMAT, "%s: has no sample %lld", file->path, (long long)sample);
    TRY(read_range(file, file->key_at, sample, file->key_bytes, &first, &end));
    if (end - first > (int64_t)sizeof text)
        FAIL(ERR_FORMAT, "%s: a key of %lld bytes", file->path, (long long)(end - first));
    TRY(read_at(file, text, end - first, file->keys + first));
    if (memchr(text, 0, (size_t)(end - first))) FAIL(ERR_FORMAT, "%s: a key with a zero byte", file->path);
    TRY(strbuf_append(key, text, (size_t)(end - first)));
    *reason = (SampleReason)file->reasons[sample];
fail:
    return status;
}

/* Where a sample's captions and their text lie: at (count,4), and the bytes [low, high) that hold all of them. */
static Status check_captions(const PrecomputedFile *file, const int64_t *at, int64_t count, int64_t *low, int64_t *high)
{
    Status status = STATUS_OK;
    *low = file->text_bytes;
    *high = 0;
    for (int64_t i = 0; i < 2 * count; i++) {
        int64_t from = at[2 * i], size = at[2 * i + 1];
        if (from < 0 || size < 0 || size > MAX_CAPTION || from > file->text_bytes - size)
            FAIL(ERR_FORMAT, "%s: is damaged (a caption lies outside)", file->path);
        if (from < *low) *low = from;
        if (from + size > *high) *high = from + size;
    }
    if (count > 0 && *high - *low > 2 * count * MAX_CAPTION)
        FAIL(ERR_FORMAT, "%s: is damaged (captions lie far apart)", file->path);
fail:
    return status;
}

Status precomputed_read_captions(const PrecomputedFile *file, PrecomputedScratch *scratch, int64_t sample,
                                 PrecomputedAddCaption add, void *context, int64_t *first)
{
    Status status = STATUS_OK;
    int64_t end, low, high;
    if (sample < 0 || sample >= file->samples)
        FAIL(ERR_FORMAT, "%s: has no sample %lld", file->path, (long long)sample);
    TRY(read_range(file, file->caption, sample, file->rows, first, &end));
    int64_t count = end - *first, table = count * 4 * (int64_t)sizeof(int64_t);
    if (count > MAX_CAPTIONS) FAIL(ERR_FORMAT, "%s: a sample with %lld captions", file->path, (long long)count);
    TRY(mem_grow(&scratch->bytes, &scratch->capacity, (size_t)table + 1, 1));
    TRY(read_at(file, scratch->bytes, table, file->at + *first * 4 * (int64_t)sizeof(int64_t)));
    TRY(check_captions(file, (const int64_t *)(const void *)scratch->bytes, count, &low, &high));
    if (count == 0) return STATUS_OK;
    TRY(mem_grow(&scratch->bytes, &scratch->capacity, (size_t)(table + high - low), 1));
    TRY(read_at(file, scratch->bytes + table, high - low, file->text + low));
    const char *text = (const char *)scratch->bytes + table;
    for (int64_t i = 0; i < count; i++) {
        const int64_t *at = (const int64_t *)(const void *)scratch->bytes + 4 * i;
        TRY(add(context, text + (at[0] - low), (size_t)at[1], text + (at[2] - low), (size_t)at[3]));
    }
fail:
    return status;
}

void precomputed_scratch_free(PrecomputedScratch *scratch)
{
    free(scratch->bytes);
    *scratch = (PrecomputedScratch){0};
}

/* ---- rows ---- */

/* `count` values of the file's type at `offset`, as floats. */
static Status read_values(const PrecomputedFile *file, PrecomputedScratch *scratch, int64_t offset, int64_t count,
                          float *out)
{
    Status status = STATUS_OK;
    const PrecomputedType type = file->spec->type;
    if (type == PRECOMPUTED_F32) return read_at(file, out, count * 4, offset);
    TRY(mem_grow(&scratch->bytes, &scratch->capacity, (size_t)count * 2, 1));
    TRY(read_at(file, scratch->bytes, count * 2, offset));
    const uint16_t *bits = (const uint16_t *)(const void *)scratch->bytes;
    if (type == PRECOMPUTED_F16)
        for (int64_t i = 0; i < count; i++) out[i] = half_to_f32(bits[i]);
    else
        for (int64_t i = 0; i < count; i++) out[i] = bf16_to_f32(bits[i]);
fail:
    return status;
}

Status precomputed_read_moments(const PrecomputedFile *file, PrecomputedScratch *scratch, int64_t sample, float *out)
{
    Status status = STATUS_OK;
    int64_t row, values = precomputed_moment_values(file->spec);
    if (sample < 0 || sample >= file->samples)
        FAIL(ERR_FORMAT, "%s: has no sample %lld", file->path, (long long)sample);
    TRY(read_at(file, &row, sizeof row, file->row + sample * (int64_t)sizeof row));
    if (row < 0 || row >= file->rows)
        FAIL(ERR_FORMAT, "%s: has no latents of sample %lld", file->path, (long long)sample);
    TRY(read_values(file, scratch, file->moments + row * values * precomputed_type_size(file->spec->type), values,
                    out));
fail:
    return status;
}

/* What comes after a caption's stored rows: zeros, or the last of them again. */
static void fill_rows(const PrecomputedFile *file, float *states, int64_t stored, int64_t width)
{
    size_t row = (size_t)width * sizeof(float);
    for (int64_t t = stored; t < file->spec->tokens; t++)
        if (file->valid_rows)
            memset(states + t * width, 0, row);
        else
            memcpy(states + t * width, states + (stored - 1) * width, row);
}

static Status read_encoder(const PrecomputedFile *file, PrecomputedScratch *scratch, int e, int64_t caption,
                           int32_t *tokens, int32_t *mask, float *states)
{
    Status status = STATUS_OK;
    const struct Encoder *encoder = &file->encoders[e];
    const int64_t rows = file->spec->tokens, width = e ? file->spec->width2 : file->spec->width1;
    int64_t first, end;
    int32_t length;
    TRY(read_at(file, tokens, rows * 4, encoder->tokens + caption * rows * 4));
    TRY(read_at(file, &length, 4, encoder->length + caption * 4));
    for (int64_t t = 0; t < rows; t++) mask[t] = t < length;
    TRY(read_range(file, encoder->row, caption, encoder->state_rows, &first, &end));
    if (end - first > rows || (end == first && !file->valid_rows))
        FAIL(ERR_FORMAT, "%s: caption %lld has %lld rows", file->path, (long long)caption, (long long)(end - first));
    TRY(read_values(file, scratch, encoder->states + first * width * precomputed_type_size(file->spec->type),
                    (end - first) * width, states));
    fill_rows(file, states, end - first, width);
fail:
    return status;
}

Status precomputed_read_text(const PrecomputedFile *file, PrecomputedScratch *scratch, int64_t caption,
                             const PrecomputedText *out)
{
    Status status = STATUS_OK;
    const int64_t pooled = file->spec->pooled;
    if (caption < 0) caption = file->rows;
    if (caption > file->rows) FAIL(ERR_FORMAT, "%s: has no caption %lld", file->path, (long long)caption);
    TRY(read_encoder(file, scratch, 0, caption, out->tokens1, out->mask1, out->states1));
    TRY(read_encoder(file, scratch, 1, caption, out->tokens2, out->mask2, out->states2));
    TRY(read_values(file, scratch, file->pooled + caption * pooled * precomputed_type_size(file->spec->type), pooled,
                    out->pooled1));
fail:
    return status;
}
