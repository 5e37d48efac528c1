#include "model/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/bf16.h"
#include "base/file.h"
#include "base/json.h"
#include "base/half.h"

#define NAME_MAX_BYTES 1024

struct Safetensors {
    FileMap map;
    Arena *arena; /* names */
    SafeTensor *tensors;
    int32_t count;
    const char **metadata; /* key, text, key, text ... */
    size_t metadata_count; /* pairs */
};

typedef struct Extent {
    size_t begin, end;
} Extent;

static const struct {
    const char *name;
    size_t size;
} DTYPES[SAFE_DTYPE_COUNT] = {
    [SAFE_BOOL] = {"BOOL", 1}, [SAFE_U8] = {"U8", 1},   [SAFE_I8] = {"I8", 1},     [SAFE_I16] = {"I16", 2},
    [SAFE_U16] = {"U16", 2},   [SAFE_I32] = {"I32", 4}, [SAFE_U32] = {"U32", 4},   [SAFE_I64] = {"I64", 8},
    [SAFE_U64] = {"U64", 8},   [SAFE_F16] = {"F16", 2}, [SAFE_BF16] = {"BF16", 2}, [SAFE_F32] = {"F32", 4},
    [SAFE_F64] = {"F64", 8},
};

size_t safe_dtype_size(SafeDtype dtype)
{
    return DTYPES[dtype].size;
}

const char *safe_dtype_name(SafeDtype dtype)
{
    return DTYPES[dtype].name;
}

static bool find_dtype(const char *name, SafeDtype *out)
{
    for (int d = 0; name != NULL && d < SAFE_DTYPE_COUNT; d++)
        if (strcmp(name, DTYPES[d].name) == 0) {
            *out = (SafeDtype)d;
            return true;
        }
    return false;
}

/* A JSON number that is a size; false when it is negative, fractional or absent. */
static bool read_size(const JsonValue *value, size_t *out)
{
    int64_t number = 0;
    if (!json_is_number(value) || !json_integer(value, &number) || number < 0) return false;
    *out = (size_t)number;
    return true;
}

/* One header entry; `extent` within the data block of `data_size` bytes. */
static Status read_entry(const char *path, const JsonValue *entry, size_t data_size, SafeTensor *t, Extent *extent)
{
    Status status = STATUS_OK;
    size_t text_size = 0, bytes = 0;
    if (!json_is_object(entry)) FAIL(ERR_FORMAT, "%s: the header's entry '%s' is not an object", path, t->name);
    const char *dtype = json_text(json_get(entry, "dtype"), &text_size);
    if (!find_dtype(dtype, &t->dtype))
        FAIL(ERR_FORMAT, "%s: tensor '%s' has the type %.16s; BOOL, U8 to I64, F16, BF16, F32 and F64 are read", path,
             t->name, dtype == NULL ? "(none)" : dtype);
    const JsonValue *shape = json_get(entry, "shape"), *offsets = json_get(entry, "data_offsets");
    size_t dims = json_count(shape);
    if (shape == NULL || json_is_object(shape) || dims > SAFETENSORS_MAX_DIMS)
        FAIL(ERR_FORMAT, "%s: tensor '%s' has no shape of at most %d dimensions", path, t->name, SAFETENSORS_MAX_DIMS);
    t->ndim = (int32_t)dims;
    size_t count = 1;
    for (size_t i = 0; i < dims; i++) {
        size_t d = 0;
        if (!read_size(json_item(shape, i), &d) || !mem_mul_size(count, d, &count) || count > INT64_MAX)
            FAIL(ERR_FORMAT, "%s: tensor '%s' has an impossible shape", path, t->name);
        t->shape[i] = (int64_t)d;
    }
    t->count = (int64_t)count;
    if (json_is_object(offsets) || json_count(offsets) != 2 || !read_size(json_item(offsets, 0), &extent->begin) ||
        !read_size(json_item(offsets, 1), &extent->end) || extent->begin > extent->end || extent->end > data_size)
        FAIL(ERR_FORMAT, "%s: tensor '%s' has offsets outside the file's %zu bytes of data; is the file complete?",
             path, t->name, data_size);
    if (!mem_mul_size(count, safe_dtype_size(t->dtype), &bytes) || bytes != extent->end - extent->begin)
        FAIL(ERR_FORMAT, "%s: tensor '%s' has %zu bytes, its shape and type say otherwise", path, t->name,
             extent->end - extent->begin);
fail:
    return status;
}

static const uint8_t *begin_of(const SafeTensor *t)
{
    return t->data;
}

static int by_place(const void *left, const void *right)
{
    const SafeTensor *a = left, *b = right;
    if (begin_of(a) != begin_of(b)) return begin_of(a) < begin_of(b) ? -1 : 1;
    if (a->count != b->count) return a->count < b->count ? -1 : 1; /* empty tensors before what starts there */
    return strcmp(a->name, b->name);
}

/* `__metadata__` is an object of texts. */
static Status read_metadata(const char *path, Safetensors *file, const JsonValue *object)
{
    Status status = STATUS_OK;
    if (!json_is_object(object)) FAIL(ERR_FORMAT, "%s: the header's __metadata__ is not an object", path);
    size_t count = json_count(object), size;
    file->metadata = arena_alloc_array(file->arena, 2 * count + 1, sizeof *file->metadata);
    if (file->metadata == NULL) FAIL(ERR_MEMORY, "%s: out of memory for the header", path);
    for (size_t i = 0; i < count; i++) {
        const char *key = NULL, *text = json_text(json_member(object, i, &key), &size);
        if (text == NULL) FAIL(ERR_FORMAT, "%s: the header's __metadata__ '%.64s' is not a text", path, key);
        file->metadata[2 * i] = arena_strdup(file->arena, key);
        file->metadata[2 * i + 1] = arena_strdup(file->arena, text);
        if (file->metadata[2 * i] == NULL || file->metadata[2 * i + 1] == NULL)
            FAIL(ERR_MEMORY, "%s: out of memory for the header", path);
        file->metadata_count++;
    }
fail:
    return status;
}

/* All entries of the header into file->tensors, ordered by place, without hole or overlap. */
static Status read_header(const char *path, Safetensors *file, const JsonDoc *doc, const uint8_t *data,
                          size_t data_size)
{
    Status status = STATUS_OK;
    const JsonValue *root = json_root(doc);
    if (!json_is_object(root)) FAIL(ERR_FORMAT, "%s: the header is not a JSON object", path);
    if (json_has_duplicate_keys(doc)) FAIL(ERR_FORMAT, "%s: the header has a key twice", path);
    size_t members = json_count(root);
    file->tensors = mem_alloc_array(members + 1, sizeof *file->tensors);
    if (file->tensors == NULL) FAIL(ERR_MEMORY, "%s: out of memory for %zu tensors", path, members);
    for (size_t i = 0; i < members; i++) {
        const char *name = NULL;
        const JsonValue *entry = json_member(root, i, &name);
        Extent extent = {0};
        SafeTensor *t = &file->tensors[file->count];
        if (strcmp(name, "__metadata__") == 0) {
            TRY(read_metadata(path, file, entry));
            continue;
        }
        if (strlen(name) > NAME_MAX_BYTES)
            FAIL(ERR_FORMAT, "%s: a tensor's name is longer than %d bytes", path, NAME_MAX_BYTES);
        if (utf8_has_controls(name, strlen(name)))
            FAIL(ERR_FORMAT, "%s: control characters in the name of a tensor: '%s'", path, name);
        t->name = arena_strdup(file->arena, name);
        if (t->name == NULL) FAIL(ERR_MEMORY, "%s: out of memory for the header", path);
        TRY(read_entry(path, entry, data_size, t, &extent));
        t->data = data + extent.begin;
        file->count++;
    }
    qsort(file->tensors, (size_t)file->count, sizeof *file->tensors, by_place);
    const uint8_t *at = data;
    for (int32_t i = 0; i < file->count; i++) {
        const SafeTensor *t = &file->tensors[i];
        if (begin_of(t) != at)
            FAIL(ERR_FORMAT, "%s: the data of tensor '%s' overlap another's, or bytes before them belong to nobody",
                 path, t->name);
        at += (size_t)t->count * safe_dtype_size(t->dtype);
    }
    if (at != data + data_size) FAIL(ERR_FORMAT, "%s: bytes after the last tensor belong to nobody", path);
fail:
    return status;
}

static Status parse(const char *path, Safetensors *file, const uint8_t *data, size_t size)
{
    Status status = STATUS_OK;
    JsonDoc *doc = NULL;
    uint64_t header = 0;
    if (size < 8)
        FAIL(ERR_FORMAT, "%s: %zu bytes, not a safetensors file (8 bytes of header length come first)", path, size);
    for (int i = 7; i >= 0; i--) header = header << 8 | data[i];
    if (header > SAFETENSORS_HEADER_LIMIT)
        FAIL(ERR_FORMAT, "%s: the header claims %llu bytes, at most %zu are read; is it a safetensors file?", path,
             (unsigned long long)header, SAFETENSORS_HEADER_LIMIT);
    if (header > size - 8)
        FAIL(ERR_FORMAT, "%s: the header claims %llu bytes, the file has %zu; is it complete?", path,
             (unsigned long long)header, size);
    status = json_parse((const char *)data + 8, (size_t)header, SAFETENSORS_HEADER_LIMIT, &doc);
    if (status != STATUS_OK) {
        status_prefix("%s: header: ", path);
        goto fail;
    }
    TRY(read_header(path, file, doc, data + 8 + header, size - 8 - (size_t)header));
fail:
    json_free(doc);
    return status;
}

Status safetensors_open(const char *path, Safetensors **out)
{
    Status status = STATUS_OK;
    Safetensors *file = mem_alloc_array(1, sizeof *file);
    if (file == NULL) return ERR_MEMORY;
    TRY(arena_create(&file->arena));
    TRY(file_map(path, &file->map));
    TRY(parse(path, file, file->map.data, file->map.size));
    *out = file;
    return STATUS_OK;
fail:
    safetensors_close(file);
    return status;
}

Status safetensors_open_memory(const char *name, const void *data, size_t size, Safetensors **out)
{
    Status status = STATUS_OK;
    Safetensors *file = mem_alloc_array(1, sizeof *file);
    if (file == NULL) return ERR_MEMORY;
    TRY(arena_create(&file->arena));
    TRY(parse(name, file, data, size));
    *out = file;
    return STATUS_OK;
fail:
    safetensors_close(file);
    return status;
}

void safetensors_close(Safetensors *file)
{
    if (file == NULL) return;
    file_unmap(&file->map);
    arena_free(file->arena);
    free(file->tensors);
    free(file);
}

int32_t safetensors_count(const Safetensors *file)
{
    return file->count;
}

const SafeTensor *safetensors_get(const Safetensors *file, int32_t index)
{
    return &file->tensors[index];
}

const SafeTensor *safetensors_find(const Safetensors *file, const char *name)
{
    for (int32_t i = 0; i < file->count; i++)
        if (strcmp(file->tensors[i].name, name) == 0) return &file->tensors[i];
    return NULL;
}

bool safetensors_metadata(const Safetensors *file, size_t index, const char **key, const char **value)
{
    if (index >= file->metadata_count) return false;
    *key = file->metadata[2 * index];
    *value = file->metadata[2 * index + 1];
    return true;
}

#define CONVERT(type, expression)                               \
    do {                                                        \
        for (int64_t i = 0; i < t->count; i++) {                \
            type v;                                             \
            memcpy(&v, bytes + (size_t)i * sizeof v, sizeof v); \
            out[i] = expression;                                \
        }                                                       \
    } while (0)

void safetensors_to_f32(const SafeTensor *t, float *out)
{
    const uint8_t *bytes = t->data;
    switch (t->dtype) {
    case SAFE_BOOL:
        CONVERT(uint8_t, v != 0 ? 1.0f : 0.0f);
        break;
    case SAFE_U8:
        CONVERT(uint8_t, (float)v);
        break;
    case SAFE_I8:
        CONVERT(int8_t, (float)v);
        break;
    case SAFE_I16:
        CONVERT(int16_t, (float)v);
        break;
    case SAFE_U16:
        CONVERT(uint16_t, (float)v);
        break;
    case SAFE_I32:
        CONVERT(int32_t, (float)v);
        break;
    case SAFE_U32:
        CONVERT(uint32_t, (float)v);
        break;
    case SAFE_I64:
        CONVERT(int64_t, (float)v);
        break;
    case SAFE_U64:
        CONVERT(uint64_t, (float)v);
        break;
    case SAFE_F16:
        CONVERT(uint16_t, half_to_f32(v));
        break;
    case SAFE_BF16:
        CONVERT(uint16_t, bf16_to_f32(v));
        break;
    case SAFE_F32:
        CONVERT(float, v);
        break;
    case SAFE_F64:
        CONVERT(double, (float)v);
        break;
    case SAFE_DTYPE_COUNT:
        break;
    }
}
