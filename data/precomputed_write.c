/* Writing precomputed files. How many rows a shard has is known when its last sample was looked at, and HDF5's
 * contiguous arrays want to know before: so large arrays gather in nameless files beside the target first. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bf16.h"
#include "base/file.h"
#include "base/half.h"
#include "base/log.h"
#include "data/precomputed_inside.h"

#define BLOCK ((size_t)4 << 20)

typedef struct Spool {
    int fd; /* 0: not open */
    int64_t bytes;
    StrBuf buffer;
} Spool;

struct PrecomputedWriter {
    const PrecomputedSpec *spec;
    PrecomputedKind kind;
    char *path, temporary[PATH_MAX];
    H5File *h5;
    bool created;
    int64_t samples, accepted, captions, rows; /* rows: moments, or captions with states */
    StrBuf reasons, keys, key_at;              /* U8, U8, I64 */
    StrBuf row, caption;                       /* I64 */
    StrBuf at, text;                           /* I64, U8 */
    StrBuf lengths[2], row_at[2];              /* I32, I64 */
    int64_t state_rows[2];
    Spool moments, tokens[2], states[2], pooled;
    uint8_t *converted;
    size_t converted_capacity;
};

/* ---- spools ---- */

static Status spool_open(Spool *spool, const char *path)
{
    Status status = STATUS_OK;
    char name[PATH_MAX];
    int size = snprintf(name, sizeof name, "%s.tmp-XXXXXX", path);
    if (size < 0 || (size_t)size >= sizeof name) FAIL(ERR_LIMIT, "the path %.100s... is too long", path);
    int fd = mkostemp(name, O_CLOEXEC);
    if (fd < 0) FAIL_WITH(file_system_error(errno, "make a temporary file beside", path));
    unlink(name);
    spool->fd = fd;
fail:
    return status;
}

static void spool_close(Spool *spool)
{
    if (spool->fd > 0) close(spool->fd);
    strbuf_free(&spool->buffer);
    *spool = (Spool){0};
}

static Status spool_flush(Spool *spool, const char *path)
{
    Status status = STATUS_OK;
    size_t done = 0;
    while (done < spool->buffer.size) {
        ssize_t wrote = write(spool->fd, spool->buffer.data + done, spool->buffer.size - done);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) FAIL_WITH(file_system_error(wrote < 0 ? errno : ENOSPC, "write a temporary file beside", path));
        done += (size_t)wrote;
    }
    spool->buffer.size = 0;
fail:
    return status;
}

static Status spool_add(Spool *spool, const char *path, const void *data, size_t size)
{
    Status status = STATUS_OK;
    if (spool->fd <= 0) TRY(spool_open(spool, path));
    TRY(strbuf_append(&spool->buffer, data, size));
    spool->bytes += (int64_t)size;
    if (spool->buffer.size >= BLOCK) TRY(spool_flush(spool, path));
fail:
    return status;
}

/* The whole spool as a dataset of the file. */
static Status spool_store(PrecomputedWriter *w, Spool *spool, const char *name, H5Type type, int ndim,
                          const int64_t *dims)
{
    Status status = STATUS_OK;
    char *block = NULL;
    int64_t row = type == H5_I32 || type == H5_F32 ? 4 : 2;
    for (int d = 1; d < ndim; d++) row *= dims[d];
    if (spool->bytes != row * dims[0]) FAIL(ERR_INTERNAL, "%s: %s is incomplete", w->path, name);
    TRY(h5_declare(w->h5, name, type, ndim, dims));
    if (spool->bytes == 0) return STATUS_OK;
    TRY(spool_flush(spool, w->path));
    int64_t at_once = (int64_t)BLOCK / row > 0 ? (int64_t)BLOCK / row : 1;
    block = mem_alloc_array((size_t)at_once, (size_t)row);
    if (!block) FAIL(ERR_MEMORY, "out of memory to write %s", w->path);
    for (int64_t first = 0; first < dims[0]; first += at_once) {
        int64_t rows = dims[0] - first < at_once ? dims[0] - first : at_once;
        for (int64_t done = 0; done < rows * row;) {
            ssize_t got = pread(spool->fd, block + done, (size_t)(rows * row - done), (off_t)(first * row + done));
            if (got < 0 && errno == EINTR) continue;
            if (got <= 0) FAIL_WITH(file_system_error(got < 0 ? errno : EIO, "read a temporary file beside", w->path));
            done += got;
        }
        TRY(h5_write_rows(w->h5, name, first, rows, block));
    }
fail:
    free(block);
    return status;
}

/* ---- beginning and end ---- */

/* As writers name theirs: a process number, or a spool's six characters. */
static bool is_own_suffix(const char *suffix)
{
    static const char digits[] = "0123456789";
    static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    const size_t length = strlen(suffix);
    return (length > 0 && strspn(suffix, digits) == length) || (length == 6 && strspn(suffix, letters) == length);
}

/* What writers of this file that did not come to their end have left. One that is still at work notices when it renames
 * its file, which is no longer there. */
static void remove_leftovers(const char *path)
{
    char folder[PATH_MAX], prefix[PATH_MAX], found[PATH_MAX];
    char **names;
    size_t count;
    const char *slash = strrchr(path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    snprintf(prefix, sizeof prefix, "%s.tmp-", slash ? slash + 1 : path);
    if (file_list(folder[0] ? folder : "/", &names, &count) != STATUS_OK) return;
    for (size_t i = 0; i < count; i++)
        if (strncmp(names[i], prefix, strlen(prefix)) == 0 && is_own_suffix(names[i] + strlen(prefix)) &&
            path_join(found, sizeof found, folder, names[i]) == STATUS_OK)
            (void)unlink(found);
    file_free_list(names, count);
}

static Status write_facts(PrecomputedWriter *w, const PrecomputedFacts *facts)
{
    Status status = STATUS_OK;
    for (size_t i = 0; i < facts->count; i++)
        TRY(h5_write_text(w->h5, facts->items[i].key, facts->items[i].value, strlen(facts->items[i].value)));
fail:
    return status;
}

static Status write_attributes(PrecomputedWriter *w, const PrecomputedFacts *data, const char *shard,
                               const TarIndex *index)
{
    Status status = STATUS_OK;
    char text[64];
    Hash128 hash;
    char plain[SHARD_NAME_MAX];
    const char *base = precomputed_base_name(shard, plain);
    const char *rows = w->spec->valid_rows ? "valid" : "padded";
    snprintf(text, sizeof text, PRECOMPUTED_FORMAT, PRECOMPUTED_KIND_WORDS[w->kind]);
    TRY(h5_write_text(w->h5, "format", text, strlen(text)));
    TRY(h5_write_text(w->h5, "shard", base, strlen(base)));
    TRY(precomputed_hash_index(index, &hash));
    hash_format(hash, text);
    TRY(h5_write_text(w->h5, "shard_index", text, 32));
    if (w->kind == PRECOMPUTED_TEXT) TRY(h5_write_text(w->h5, "rows", rows, strlen(rows)));
    const char *type = PRECOMPUTED_TYPE_WORDS[w->spec->type];
    TRY(h5_write_text(w->h5, "frozen.dtype", type, strlen(type)));
    TRY(write_facts(w, &w->spec->facts[w->kind]));
    TRY(write_facts(w, data));
fail:
    return status;
}

Status precomputed_writer_create(const char *path, PrecomputedKind kind, const PrecomputedSpec *spec,
                                 const PrecomputedFacts *data, const char *shard, const TarIndex *index,
                                 PrecomputedWriter **out)
{
    Status status = STATUS_OK;
    *out = NULL;
    PrecomputedWriter *w = mem_alloc_array(1, sizeof *w);
    if (!w) FAIL(ERR_MEMORY, "out of memory to write %s", path);
    w->spec = spec;
    w->kind = kind;
    w->path = strdup(path);
    if (!w->path) FAIL(ERR_MEMORY, "out of memory to write %s", path);
    int size = snprintf(w->temporary, sizeof w->temporary, "%s.tmp-%ld", path, (long)getpid());
    if (size < 0 || (size_t)size >= sizeof w->temporary) FAIL(ERR_LIMIT, "the path %.100s... is too long", path);
    remove_leftovers(path);
    TRY(h5_create(w->temporary, &w->h5));
    w->created = true;
    TRY(write_attributes(w, data, shard, index));
    *out = w;
    return STATUS_OK;
fail:
    precomputed_writer_abort(w);
    return status;
}

void precomputed_writer_abort(PrecomputedWriter *w)
{
    if (!w) return;
    if (w->h5) (void)h5_close(w->h5);
    if (w->created) (void)unlink(w->temporary);
    StrBuf *buffers[] = {&w->reasons, &w->keys,       &w->key_at,     &w->row,       &w->caption,  &w->at,
                         &w->text,    &w->lengths[0], &w->lengths[1], &w->row_at[0], &w->row_at[1]};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) strbuf_free(buffers[i]);
    Spool *spools[] = {&w->moments, &w->tokens[0], &w->tokens[1], &w->states[0], &w->states[1], &w->pooled};
    for (size_t i = 0; i < sizeof spools / sizeof spools[0]; i++) spool_close(spools[i]);
    free(w->converted);
    free(w->path);
    free(w);
}

static Status add_number(StrBuf *buf, int64_t value)
{
    return strbuf_append(buf, &value, sizeof value);
}

static Status store(PrecomputedWriter *w, const StrBuf *buf, const char *name, H5Type type, int64_t rows,
                    int64_t columns)
{
    int64_t dims[2] = {rows, columns};
    return h5_write(w->h5, name, type, columns ? 2 : 1, dims, buf->data ? buf->data : "");
}

static Status store_text(PrecomputedWriter *w)
{
    Status status = STATUS_OK;
    const PrecomputedSpec *spec = w->spec;
    const H5Type type = precomputed_h5_type(spec->type);
    int64_t k = w->captions + 1;
    char name[64];
    if (w->rows != k)
        FAIL(ERR_INTERNAL, "%s: %lld captions have states, of %lld", w->path, (long long)w->rows, (long long)k);
    TRY(add_number(&w->caption, w->captions));
    TRY(store(w, &w->caption, "samples/caption", H5_I64, w->samples + 1, 0));
    TRY(store(w, &w->at, "captions/at", H5_I64, w->captions, 4));
    TRY(store(w, &w->text, "captions/text", H5_U8, (int64_t)w->text.size, 0));
    for (int e = 0; e < 2; e++) {
        int64_t width = e ? spec->width2 : spec->width1;
        TRY(add_number(&w->row_at[e], w->state_rows[e]));
        snprintf(name, sizeof name, "captions/length%d", e + 1);
        TRY(store(w, &w->lengths[e], name, H5_I32, k, 0));
        snprintf(name, sizeof name, "captions/row%d", e + 1);
        TRY(store(w, &w->row_at[e], name, H5_I64, k + 1, 0));
        snprintf(name, sizeof name, "captions/tokens%d", e + 1);
        TRY(spool_store(w, &w->tokens[e], name, H5_I32, 2, (int64_t[]){k, spec->tokens}));
        snprintf(name, sizeof name, "captions/states%d", e + 1);
        TRY(spool_store(w, &w->states[e], name, type, 2, (int64_t[]){w->state_rows[e], width}));
    }
    TRY(spool_store(w, &w->pooled, "captions/pooled1", type, 2, (int64_t[]){k, spec->pooled}));
fail:
    return status;
}

static Status store_all(PrecomputedWriter *w)
{
    Status status = STATUS_OK;
    const PrecomputedSpec *spec = w->spec;
    TRY(add_number(&w->key_at, (int64_t)w->keys.size));
    TRY(store(w, &w->reasons, "samples/reason", H5_U8, w->samples, 0));
    TRY(store(w, &w->key_at, "samples/key_at", H5_I64, w->samples + 1, 0));
    TRY(store(w, &w->keys, "samples/keys", H5_U8, (int64_t)w->keys.size, 0));
    if (w->kind == PRECOMPUTED_TEXT) {
        TRY(store_text(w));
    } else {
        if (w->rows != w->accepted)
            FAIL(ERR_INTERNAL, "%s: %lld samples have latents, of %lld", w->path, (long long)w->rows,
                 (long long)w->accepted);
        TRY(store(w, &w->row, "samples/row", H5_I64, w->samples, 0));
        TRY(spool_store(w, &w->moments, "latents/moments", precomputed_h5_type(spec->type), 4,
                        (int64_t[]){w->rows, spec->side, spec->side, spec->moments}));
    }
fail:
    return status;
}

Status precomputed_writer_finish(PrecomputedWriter *w)
{
    Status status = STATUS_OK;
    TRY(store_all(w));
    H5File *h5 = w->h5;
    w->h5 = NULL;
    TRY(h5_close(h5));
    TRY(file_sync(w->temporary));
    if (!file_exists(w->temporary))
        FAIL(ERR_IO, "%s: another `vasily precompute` writes it too; run one at a time", w->path);
    TRY(file_rename(w->temporary, w->path));
    w->created = false;
fail:
    precomputed_writer_abort(w);
    return status;
}

/* ---- contents ---- */

Status precomputed_writer_add_sample(PrecomputedWriter *w, SampleReason reason, const char *key)
{
    Status status = STATUS_OK;
    uint8_t byte = (uint8_t)reason;
    bool accepted = reason == SAMPLE_ACCEPTED;
    TRY(strbuf_append(&w->reasons, &byte, 1));
    TRY(add_number(&w->key_at, (int64_t)w->keys.size));
    TRY(strbuf_append(&w->keys, key, strlen(key)));
    if (w->kind == PRECOMPUTED_TEXT)
        TRY(add_number(&w->caption, w->captions));
    else
        TRY(add_number(&w->row, accepted ? w->accepted : -1));
    w->accepted += accepted;
    w->samples++;
fail:
    return status;
}

Status precomputed_writer_add_caption(PrecomputedWriter *w, const char *language, const char *text, size_t size)
{
    Status status = STATUS_OK;
    size_t language_size = strlen(language);
    TRY(add_number(&w->at, (int64_t)w->text.size));
    TRY(add_number(&w->at, (int64_t)language_size));
    TRY(strbuf_append(&w->text, language, language_size));
    TRY(add_number(&w->at, (int64_t)w->text.size));
    TRY(add_number(&w->at, (int64_t)size));
    TRY(strbuf_append(&w->text, text, size));
    w->captions++;
fail:
    return status;
}

/* Values as the file holds them, in w->converted. */
static Status convert(PrecomputedWriter *w, const char *what, const char *key, const float *values, int64_t count)
{
    Status status = STATUS_OK;
    TRY(mem_grow(&w->converted, &w->converted_capacity, (size_t)(count * precomputed_type_size(w->spec->type)), 1));
    uint16_t *bits = (uint16_t *)(void *)w->converted;
    for (int64_t i = 0; i < count; i++) {
        bool finite = isfinite(values[i]), fits = finite;
        if (w->spec->type == PRECOMPUTED_F16) {
            bits[i] = half_from_f32(values[i]);
            fits = (bits[i] & 0x7c00) != 0x7c00;
        } else if (w->spec->type == PRECOMPUTED_BF16) {
            bits[i] = bf16_from_f32(values[i]);
            fits = (bits[i] & 0x7f80) != 0x7f80;
        }
        if (!finite)
            FAIL(ERR_NUMERIC,
                 "%s of %s for %s hold %g; are the weights of that network whole, and is it the right file?", what, key,
                 w->path, (double)values[i]);
        if (!fits)
            FAIL(ERR_NUMERIC, "%s of %s for %s hold %g, beyond %s; use frozen.dtype: %s", what, key, w->path,
                 (double)values[i], PRECOMPUTED_TYPE_WORDS[w->spec->type],
                 w->spec->type == PRECOMPUTED_F16 ? "bf16" : "f32");
    }
    if (w->spec->type == PRECOMPUTED_F32) memcpy(w->converted, values, (size_t)count * 4);
fail:
    return status;
}

Status precomputed_writer_add_moments(PrecomputedWriter *w, const char *key, const float *moments)
{
    Status status = STATUS_OK;
    int64_t count = precomputed_moment_values(w->spec);
    TRY(convert(w, "the latent moments", key, moments, count));
    TRY(spool_add(&w->moments, w->path, w->converted, (size_t)(count * precomputed_type_size(w->spec->type))));
    w->rows++;
fail:
    return status;
}

static int32_t mask_length(const int32_t *mask, int64_t tokens)
{
    int32_t length = 0;
    while (length < tokens && mask[length]) length++;
    return length;
}

static Status add_encoder(PrecomputedWriter *w, int e, const char *key, const int32_t *tokens, const int32_t *mask,
                          const float *states)
{
    Status status = STATUS_OK;
    const int64_t width = e ? w->spec->width2 : w->spec->width1;
    const size_t row = (size_t)(width * precomputed_type_size(w->spec->type));
    int32_t length = mask_length(mask, w->spec->tokens);
    int64_t rows = w->spec->valid_rows ? length : w->spec->tokens;
    TRY(convert(w, e ? "the second text encoder's states" : "the first text encoder's states", key, states,
                rows * width));
    if (!w->spec->valid_rows) /* equal rows at the end once */
        while (rows > 1 &&
               memcmp(w->converted + (size_t)(rows - 2) * row, w->converted + (size_t)(rows - 1) * row, row) == 0)
            rows--;
    TRY(spool_add(&w->tokens[e], w->path, tokens, (size_t)w->spec->tokens * 4));
    TRY(strbuf_append(&w->lengths[e], &length, sizeof length));
    TRY(add_number(&w->row_at[e], w->state_rows[e]));
    TRY(spool_add(&w->states[e], w->path, w->converted, (size_t)rows * row));
    w->state_rows[e] += rows;
fail:
    return status;
}

Status precomputed_writer_add_text(PrecomputedWriter *w, const char *key, const PrecomputedText *text)
{
    Status status = STATUS_OK;
    TRY(add_encoder(w, 0, key, text->tokens1, text->mask1, text->states1));
    TRY(add_encoder(w, 1, key, text->tokens2, text->mask2, text->states2));
    TRY(convert(w, "the pooled text state", key, text->pooled1, w->spec->pooled));
    TRY(spool_add(&w->pooled, w->path, w->converted, (size_t)(w->spec->pooled * precomputed_type_size(w->spec->type))));
    w->rows++;
fail:
    return status;
}
