#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/bf16.h"
#include "base/file.h"
#include "base/json.h"
#include "base/half.h"
#include "model/safetensors.h"

#define CHUNK 65536 /* elements converted at a time */

typedef struct Declared {
    SafeDtype dtype;
    size_t count;
} Declared;

struct SafetensorsWriter {
    char *path, *temporary;
    int fd;
    Arena *arena;
    Declared *tensors;
    int32_t count, next;
    size_t done; /* elements of the next tensor that are written */
    uint8_t *chunk;
};

static Status write_all(SafetensorsWriter *writer, const void *data, size_t size)
{
    const uint8_t *at = data;
    while (size > 0) {
        ssize_t n = write(writer->fd, at, size < (1u << 30) ? size : (1u << 30));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return file_system_error(errno, "write", writer->path);
        at += n;
        size -= (size_t)n;
    }
    return STATUS_OK;
}

/* Length and JSON, padded with spaces so that the data begin on a multiple of 8. */
static Status write_header(SafetensorsWriter *writer, const SafeTensor *tensors)
{
    Status status = STATUS_OK;
    StrBuf header = {0};
    JsonWriter json;
    size_t offset = 0;
    uint8_t length[8];
    json_begin(&json, &header);
    json_object(&json, NULL);
    json_object(&json, "__metadata__"); /* transformers asks for it before it loads a file */
    json_string(&json, "format", "pt");
    json_end_object(&json);
    for (int32_t i = 0; i < writer->count; i++) {
        const SafeTensor *t = &tensors[i];
        size_t bytes = writer->tensors[i].count * safe_dtype_size(t->dtype);
        json_object(&json, t->name);
        json_string(&json, "dtype", safe_dtype_name(t->dtype));
        json_array(&json, "shape");
        for (int32_t d = 0; d < t->ndim; d++) json_int(&json, NULL, t->shape[d]);
        json_end_array(&json);
        json_array(&json, "data_offsets");
        json_int(&json, NULL, (int64_t)offset);
        json_int(&json, NULL, (int64_t)(offset + bytes));
        json_end_array(&json);
        json_end_object(&json);
        offset += bytes;
    }
    json_end_object(&json);
    if (header.data == NULL) FAIL(ERR_MEMORY, "%s: out of memory for the header", writer->path);
    while (header.size % 8 != 0) TRY(strbuf_append(&header, " ", 1));
    if (header.size > SAFETENSORS_HEADER_LIMIT)
        FAIL(ERR_LIMIT, "%s: a header of %zu bytes, at most %zu are allowed", writer->path, header.size,
             SAFETENSORS_HEADER_LIMIT);
    for (size_t i = 0; i < 8; i++) length[i] = (uint8_t)((uint64_t)header.size >> (8 * i));
    TRY(write_all(writer, length, sizeof length));
    TRY(write_all(writer, header.data, header.size));
fail:
    strbuf_free(&header);
    return status;
}

/* Shapes and element counts of the declarations. */
static Status declare(SafetensorsWriter *writer, const SafeTensor *tensors)
{
    Status status = STATUS_OK;
    size_t total = 0, bytes = 0;
    for (int32_t i = 0; i < writer->count; i++) {
        const SafeTensor *t = &tensors[i];
        size_t count = 1;
        bool fits = t->ndim >= 0 && t->ndim <= SAFETENSORS_MAX_DIMS;
        for (int32_t d = 0; fits && d < t->ndim; d++)
            fits = t->shape[d] >= 0 && mem_mul_size(count, (size_t)t->shape[d], &count);
        if (!fits || !mem_mul_size(count, safe_dtype_size(t->dtype), &bytes) || !mem_add_size(total, bytes, &total))
            FAIL(ERR_INTERNAL, "%s: tensor '%s' has an impossible shape", writer->path, t->name);
        writer->tensors[i] = (Declared){t->dtype, count};
    }
fail:
    return status;
}

Status safetensors_writer_create(const char *path, const SafeTensor *tensors, int32_t count, SafetensorsWriter **out)
{
    Status status = STATUS_OK;
    SafetensorsWriter *writer = mem_alloc_array(1, sizeof *writer);
    if (writer == NULL) return ERR_MEMORY;
    writer->fd = -1;
    writer->count = count;
    TRY(arena_create(&writer->arena));
    writer->path = arena_strdup(writer->arena, path);
    char *temporary = arena_printf(writer->arena, "%s.tmp-%ld", path, (long)getpid());
    writer->tensors = arena_alloc_array(writer->arena, (size_t)count + 1, sizeof *writer->tensors);
    writer->chunk = arena_alloc_array(writer->arena, CHUNK, sizeof(float));
    if (writer->path == NULL || temporary == NULL || writer->tensors == NULL || writer->chunk == NULL)
        FAIL(ERR_MEMORY, "%s: out of memory", path);
    TRY(declare(writer, tensors));
    writer->fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (writer->fd < 0) TRY(file_system_error(errno, "create", path));
    writer->temporary = temporary;
    TRY(write_header(writer, tensors));
    *out = writer;
    return STATUS_OK;
fail:
    safetensors_writer_abort(writer);
    return status;
}

/* The tensor being written, after a check that `count` more of its elements fit. */
static Status current_tensor(const SafetensorsWriter *writer, int64_t count, const Declared **out)
{
    Status status = STATUS_OK;
    if (writer->next >= writer->count) FAIL(ERR_INTERNAL, "%s: more tensors than declared", writer->path);
    const Declared *t = &writer->tensors[writer->next];
    if (count < 0 || (uint64_t)count > t->count - writer->done)
        FAIL(ERR_INTERNAL, "%s: more elements than declared", writer->path);
    *out = t;
fail:
    return status;
}

static void advance(SafetensorsWriter *writer, int64_t count)
{
    writer->done += (size_t)count;
    if (writer->done < writer->tensors[writer->next].count) return;
    writer->next++;
    writer->done = 0;
}

Status safetensors_writer_piece_bytes(SafetensorsWriter *writer, const void *data, int64_t count)
{
    Status status = STATUS_OK;
    const Declared *t = NULL;
    TRY(current_tensor(writer, count, &t));
    TRY(write_all(writer, data, (size_t)count * safe_dtype_size(t->dtype)));
    advance(writer, count);
fail:
    return status;
}

Status safetensors_writer_piece_f32(SafetensorsWriter *writer, const float *values, int64_t count)
{
    Status status = STATUS_OK;
    const Declared *t = NULL;
    TRY(current_tensor(writer, count, &t));
    if (t->dtype == SAFE_F32) return safetensors_writer_piece_bytes(writer, values, count);
    if (t->dtype != SAFE_BF16 && t->dtype != SAFE_F16)
        FAIL(ERR_INTERNAL, "%s: floats are written as F32, BF16 or F16, not %s", writer->path,
             safe_dtype_name(t->dtype));
    uint16_t *half = (uint16_t *)(void *)writer->chunk;
    for (int64_t done = 0; done < count;) {
        int64_t n = count - done < CHUNK ? count - done : CHUNK;
        for (int64_t i = 0; i < n; i++)
            half[i] = t->dtype == SAFE_BF16 ? bf16_from_f32(values[done + i]) : half_from_f32(values[done + i]);
        TRY(write_all(writer, half, (size_t)n * sizeof *half));
        done += n;
    }
    advance(writer, count);
fail:
    return status;
}

/* Elements of the next tensor; 0 past the last, where adding fails. */
static int64_t next_count(const SafetensorsWriter *writer)
{
    return writer->next < writer->count ? (int64_t)writer->tensors[writer->next].count : 0;
}

Status safetensors_writer_add_bytes(SafetensorsWriter *writer, const void *data)
{
    return safetensors_writer_piece_bytes(writer, data, next_count(writer));
}

Status safetensors_writer_add_f32(SafetensorsWriter *writer, const float *values)
{
    return safetensors_writer_piece_f32(writer, values, next_count(writer));
}

Status safetensors_writer_finish(SafetensorsWriter *writer)
{
    Status status = STATUS_OK;
    if (writer->next != writer->count)
        FAIL(ERR_INTERNAL, "%s: %d tensors declared, %d written", writer->path, writer->count, writer->next);
    if (fsync(writer->fd) < 0) TRY(file_system_error(errno, "write", writer->path));
    int closed = close(writer->fd);
    writer->fd = -1;
    if (closed < 0) TRY(file_system_error(errno, "write", writer->path));
    TRY(file_rename(writer->temporary, writer->path));
    writer->temporary = NULL; /* it is the file now */
fail:
    safetensors_writer_abort(writer);
    return status;
}

void safetensors_writer_abort(SafetensorsWriter *writer)
{
    if (writer == NULL) return;
    if (writer->fd >= 0) close(writer->fd);
    if (writer->temporary != NULL) unlink(writer->temporary);
    arena_free(writer->arena);
    free(writer);
}

Status safetensors_write(const char *path, const SafeTensor *tensors, int32_t count)
{
    Status status = STATUS_OK;
    SafetensorsWriter *writer = NULL;
    TRY(safetensors_writer_create(path, tensors, count, &writer));
    for (int32_t i = 0; i < count && writer != NULL; i++) TRY(safetensors_writer_add_bytes(writer, tensors[i].data));
    if (writer != NULL) return safetensors_writer_finish(writer);
fail:
    safetensors_writer_abort(writer);
    return status;
}
