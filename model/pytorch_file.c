#include "model/pytorch_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/json.h"
#include "model/pickle.h"
#include "model/pytorch_zip.h"

enum {
    MAX_DEPTH = 32,
    MAX_STEPS = 8 << 20, /* values looked at: a pickle can hold one list many times over */
    MAX_TENSORS = 1 << 20,
    MAX_NAME = 1024,
    MAX_NAMES = 64 << 20,   /* bytes of all names */
    MAX_EXPANDED = 1 << 24, /* elements of a tensor beyond those of its storage (torch.expand) */
    MAX_SHOWN_TEXT = 200,
    MAX_METADATA = 256
};

typedef struct Storage {
    const char *key;
    size_t key_size;
    const uint8_t *data;
    size_t size; /* bytes */
} Storage;

typedef struct Entry {
    const char *key, *value;
} Entry;

struct PytorchFile {
    const char *path; /* while opening */
    const uint8_t *data;
    size_t size;
    bool legacy;
    Arena *arena;
    PytorchZip *zip;
    const char *prefix; /* of the zip's entries; prefix_size bytes */
    size_t prefix_size;
    Storage *storages; /* legacy: by key */
    size_t storage_count;
    Pickle *pickle;
    WeightTensor *tensors;
    size_t count, capacity;
    Entry metadata[MAX_METADATA];
    int32_t metadata_count;
    /* while walking */
    StrBuf name;
    size_t steps, name_bytes;
};

/* ---- storages ---- */

static int by_key(const void *left, const void *right)
{
    const Storage *a = left, *b = right;
    size_t common = a->key_size < b->key_size ? a->key_size : b->key_size;
    int order = common ? memcmp(a->key, b->key, common) : 0;
    if (order != 0) return order;
    return a->key_size != b->key_size ? (a->key_size < b->key_size ? -1 : 1) : 0;
}

static Storage *find_legacy(const PytorchFile *file, const char *key, size_t key_size)
{
    const Storage wanted = {.key = key, .key_size = key_size};
    if (file->storage_count == 0) return NULL;
    return bsearch(&wanted, file->storages, file->storage_count, sizeof *file->storages, by_key);
}

/* The bytes that a storage's key stands for. */
static Status find_storage(const PytorchFile *file, const PickleStorage *storage, const uint8_t **data, size_t *size)
{
    Status status = STATUS_OK;
    char name[MAX_NAME];
    if (storage->key_size == 0 || storage->key_size > 256)
        FAIL(ERR_FORMAT, "%s: a storage's key has %zu bytes", file->path, storage->key_size);
    const int shown = (int)storage->key_size;
    if (file->legacy) {
        const Storage *found = find_legacy(file, storage->key, storage->key_size);
        if (!found || !found->data)
            FAIL(ERR_FORMAT, "%s: the storage '%.*s' is missing", file->path, shown, storage->key);
        *data = found->data;
        *size = found->size;
        return STATUS_OK;
    }
    memcpy(name, "data/", 5);
    memcpy(name + 5, storage->key, storage->key_size);
    const ZipEntry *entry = pytorch_zip_find(file->zip, file->prefix, file->prefix_size, name, storage->key_size + 5);
    if (!entry) FAIL(ERR_FORMAT, "%s: the storage 'data/%.*s' is missing", file->path, shown, storage->key);
    *data = entry->data;
    *size = entry->size;
fail:
    return status;
}

/* ---- tensors ---- */

static bool is_contiguous(const WeightTensor *t)
{
    int64_t expected = 1;
    if (t->count == 0) return true;
    for (int32_t d = t->ndim; d-- > 0;) {
        if (t->shape[d] != 1 && t->stride[d] != expected) return false;
        expected *= t->shape[d];
    }
    return true;
}

/* Elements of a shape; false on overflow. */
static bool count_elements(const int64_t *shape, int32_t ndim, size_t *out)
{
    *out = 1;
    for (int32_t d = 0; d < ndim; d++)
        if (shape[d] == 0) {
            *out = 0;
            return true;
        }
    for (int32_t d = 0; d < ndim; d++)
        if (!mem_mul_size(*out, (size_t)shape[d], out) || *out > INT64_MAX / 16) return false;
    return true;
}

static Status keep_name(PytorchFile *file, const char **out)
{
    Status status = STATUS_OK;
    const char *name = file->name.size > 0 ? file->name.data : "tensor";
    file->name_bytes += file->name.size + 1;
    if (file->name_bytes > MAX_NAMES) FAIL(ERR_LIMIT, "%s: the tensors' names have too many bytes", file->path);
    *out = arena_strdup(file->arena, name);
    if (!*out) FAIL(ERR_MEMORY, "%s: out of memory", file->path);
fail:
    return status;
}

static Status add_tensor(PytorchFile *file, const PickleTensor *from)
{
    Status status = STATUS_OK;
    const uint8_t *data;
    size_t size, count, unit = from->storage.typed ? safe_dtype_size(from->storage.dtype) : 1;
    WeightTensor t = {.dtype = from->dtype, .ndim = from->ndim};
    if (file->count >= MAX_TENSORS) FAIL(ERR_LIMIT, "%s: more than %d tensors", file->path, MAX_TENSORS);
    TRY(keep_name(file, &t.name));
    TRY(find_storage(file, &from->storage, &data, &size));
    /* The pickle has been checked to stay within the elements that it declares (pickle_torch.c). */
    uint64_t declared = (uint64_t)from->storage.first + (uint64_t)from->storage.elements;
    if (declared > size / unit)
        FAIL(ERR_FORMAT, "%s: tensor '%s' needs a storage of %llu x %zu bytes, the file's has %zu; is it complete?",
             file->path, t.name, (unsigned long long)declared, unit, size);
    if (!count_elements(from->shape, from->ndim, &count) || count > size / safe_dtype_size(from->dtype) + MAX_EXPANDED)
        FAIL(ERR_FORMAT, "%s: tensor '%s' has an impossible shape", file->path, t.name);
    t.count = (int64_t)count;
    memcpy(t.shape, from->shape, sizeof t.shape);
    memcpy(t.stride, from->stride, sizeof t.stride);
    t.data = data + (size_t)from->storage.first * unit;
    if (count > 0) t.data = (const uint8_t *)t.data + (size_t)from->offset * safe_dtype_size(from->dtype);
    t.contiguous = is_contiguous(&t);
    TRY(mem_grow(&file->tensors, &file->capacity, file->count + 1, sizeof *file->tensors));
    file->tensors[file->count++] = t;
fail:
    return status;
}

/* ---- walking the dictionaries ---- */

static Status walk(PytorchFile *file, const PickleValue *value, int depth);

/* A part of a name: a text, or a whole number. */
static Status append_key(PytorchFile *file, const PickleValue *key, uint32_t position)
{
    Status status = STATUS_OK;
    if (file->name.size > 0) TRY(strbuf_append(&file->name, ".", 1));
    if (key->type == PICKLE_TEXT) {
        if (file->name.size + key->count > MAX_NAME)
            FAIL(ERR_FORMAT, "%s: a tensor's name has more than %d bytes", file->path, MAX_NAME);
        if (!utf8_valid(key->as.text, key->count))
            FAIL(ERR_FORMAT, "%s: a tensor's name below '%s' is not UTF-8", file->path,
                 file->name.size > 0 ? file->name.data : "");
        if (utf8_has_controls(key->as.text, key->count))
            FAIL(ERR_FORMAT, "%s: control characters in the name of a tensor below '%s'", file->path,
                 file->name.size > 0 ? file->name.data : "");
        TRY(strbuf_append(&file->name, key->as.text, key->count));
    } else if (key->type == PICKLE_INT) {
        TRY(strbuf_printf(&file->name, "%lld", (long long)key->as.integer));
    } else {
        TRY(strbuf_printf(&file->name, "key%u", position));
    }
fail:
    return status;
}

/* Items of a list, or values of a dict. */
static Status walk_items(PytorchFile *file, const PickleValue *value, int depth)
{
    Status status = STATUS_OK;
    const bool dict = value->type == PICKLE_DICT;
    const size_t length = file->name.size;
    for (uint32_t i = 0; i < value->count; i += dict ? 2 : 1) {
        const PickleValue *item = pickle_get(file->pickle, value->as.items[dict ? i + 1 : i]);
        const PickleValue number = {.type = PICKLE_INT, .as.integer = i};
        if (++file->steps > MAX_STEPS)
            FAIL(ERR_LIMIT, "%s: the pickle's dictionaries unfold to more than %d values", file->path, MAX_STEPS);
        bool holds = item->type == PICKLE_TENSOR || item->type == PICKLE_DICT || item->type == PICKLE_LIST ||
                     item->type == PICKLE_TUPLE;
        if (!holds) continue;
        TRY(append_key(file, dict ? pickle_get(file->pickle, value->as.items[i]) : &number, i / 2));
        TRY(walk(file, item, depth + 1));
        file->name.size = length;
        if (file->name.data) file->name.data[length] = '\0';
    }
fail:
    return status;
}

static Status walk(PytorchFile *file, const PickleValue *value, int depth)
{
    Status status = STATUS_OK;
    if (depth > MAX_DEPTH)
        FAIL(ERR_LIMIT, "%s: the pickle's dictionaries are more than %d deep, or contain themselves", file->path,
             MAX_DEPTH);
    if (value->type == PICKLE_TENSOR)
        TRY(add_tensor(file, value->as.tensor));
    else if (value->type == PICKLE_DICT || value->type == PICKLE_LIST || value->type == PICKLE_TUPLE)
        TRY(walk_items(file, value, depth));
fail:
    return status;
}

static int by_tensor_name(const void *left, const void *right)
{
    return strcmp((*(const WeightTensor *const *)left)->name, (*(const WeightTensor *const *)right)->name);
}

/* {"a": {"b": x}, "a.b": y} would be two tensors of one name. */
static Status check_names(const PytorchFile *file)
{
    Status status = STATUS_OK;
    const WeightTensor **sorted = mem_alloc_array(file->count + 1, sizeof *sorted);
    if (!sorted) FAIL(ERR_MEMORY, "%s: out of memory", file->path);
    for (size_t i = 0; i < file->count; i++) sorted[i] = &file->tensors[i];
    qsort(sorted, file->count, sizeof *sorted, by_tensor_name);
    for (size_t i = 1; i < file->count; i++)
        if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0)
            FAIL(ERR_FORMAT, "%s: tensor '%s' is there twice", file->path, sorted[i]->name);
fail:
    free(sorted);
    return status;
}

/* ---- what else the pickle says ---- */

static Status add_metadata(PytorchFile *file, const char *key, const char *value)
{
    Status status = STATUS_OK;
    if (file->metadata_count == MAX_METADATA) return STATUS_OK;
    Entry *entry = &file->metadata[file->metadata_count];
    *entry = (Entry){arena_strdup(file->arena, key), arena_strdup(file->arena, value)};
    if (!entry->key || !entry->value) FAIL(ERR_MEMORY, "%s: out of memory", file->path);
    file->metadata_count++;
fail:
    return status;
}

/* A plain value in words; false for others. */
static bool describe(const PickleValue *value, char out[MAX_SHOWN_TEXT + 1])
{
    switch (value->type) {
    case PICKLE_BOOL:
        snprintf(out, MAX_SHOWN_TEXT, "%s", value->as.integer ? "true" : "false");
        return true;
    case PICKLE_INT:
        snprintf(out, MAX_SHOWN_TEXT, "%lld", (long long)value->as.integer);
        return true;
    case PICKLE_FLOAT:
        snprintf(out, MAX_SHOWN_TEXT, "%.9g", value->as.real);
        return true;
    case PICKLE_TEXT:
        if (value->count > MAX_SHOWN_TEXT || !utf8_valid(value->as.text, value->count)) return false;
        if (value->count > 0) memcpy(out, value->as.text, value->count);
        out[value->count] = '\0';
        return true;
    default:
        return false;
    }
}

static Status collect_metadata(PytorchFile *file)
{
    Status status = STATUS_OK;
    StrBuf foreign = {0};
    char key[MAX_SHOWN_TEXT + 1], text[MAX_SHOWN_TEXT + 1];
    const PickleValue *root = pickle_get(file->pickle, pickle_root(file->pickle));
    for (uint32_t i = 0; root->type == PICKLE_DICT && i < root->count; i += 2) {
        const PickleValue *name = pickle_get(file->pickle, root->as.items[i]);
        if (name->type == PICKLE_TEXT && describe(name, key) &&
            describe(pickle_get(file->pickle, root->as.items[i + 1]), text))
            TRY(add_metadata(file, key, text));
    }
    for (size_t i = 0; pickle_foreign(file->pickle, i); i++)
        TRY(strbuf_printf(&foreign, "%s%s", i > 0 ? ", " : "", pickle_foreign(file->pickle, i)));
    if (foreign.size > 0) TRY(add_metadata(file, "passed over", foreign.data));
fail:
    strbuf_free(&foreign);
    return status;
}

static Status collect(PytorchFile *file)
{
    Status status = STATUS_OK;
    const PickleValue *root = pickle_get(file->pickle, pickle_root(file->pickle));
    TRY(walk(file, root, 0));
    const char *foreign = pickle_foreign(file->pickle, 0);
    if (file->count == 0)
        FAIL(ERR_FORMAT, "%s: holds no tensors in dictionaries%s%s%s; save the model's state_dict()", file->path,
             foreign ? " but an object of class " : "", foreign ? foreign : "",
             foreign ? ", and nothing of a file is executed here" : "");
    TRY(check_names(file));
    TRY(collect_metadata(file));
fail:
    return status;
}

/* ---- the zip format ---- */

static bool ends_with(const ZipEntry *entry, const char *end)
{
    size_t size = strlen(end);
    return entry->name_size > size && memcmp(entry->name + entry->name_size - size, end, size) == 0;
}

/* The one entry PREFIX/data.pkl. */
static Status find_pickle(PytorchFile *file, const ZipEntry **out)
{
    Status status = STATUS_OK;
    *out = NULL;
    for (size_t i = 0; i < pytorch_zip_count(file->zip); i++) {
        const ZipEntry *entry = pytorch_zip_get(file->zip, i);
        if (!ends_with(entry, "/data.pkl")) continue;
        size_t prefix = entry->name_size - strlen("/data.pkl");
        if (memchr(entry->name, '/', prefix)) continue;
        if (*out) FAIL(ERR_FORMAT, "%s: the zip file has two data.pkl", file->path);
        *out = entry;
        file->prefix = entry->name;
        file->prefix_size = prefix;
    }
    if (!*out) FAIL(ERR_FORMAT, "%s: a zip file without data.pkl; torch.save did not write it", file->path);
fail:
    return status;
}

static Status open_zip(PytorchFile *file)
{
    Status status = STATUS_OK;
    const ZipEntry *entry;
    size_t used;
    TRY(pytorch_zip_open(file->path, file->data, file->size, &file->zip));
    TRY(find_pickle(file, &entry));
    if (pytorch_zip_find(file->zip, file->prefix, file->prefix_size, "constants.pkl", strlen("constants.pkl")))
        FAIL(ERR_UNSUPPORTED, "%s: a TorchScript program, not weights; save the model's state_dict()", file->path);
    const ZipEntry *order =
        pytorch_zip_find(file->zip, file->prefix, file->prefix_size, "byteorder", strlen("byteorder"));
    if (order && (order->size != 6 || memcmp(order->data, "little", 6) != 0))
        FAIL(ERR_UNSUPPORTED, "%s: its byte order is %.*s; only little-endian files are read", file->path,
             order->size < 16 ? (int)order->size : 16, (const char *)order->data);
    if (entry->size > PICKLE_MAX_BYTES)
        FAIL(ERR_LIMIT, "%s: data.pkl has %zu bytes; at most %zu are read", file->path, entry->size, PICKLE_MAX_BYTES);
    TRY(pickle_read(file->path, entry->data, entry->size, &used, &file->pickle));
fail:
    return status;
}

/* ---- the legacy format ---- */

/* The first pickle: torch's magic number 0x1950a86a20f9469cfc6c as a LONG1 of 10 bytes. */
static const uint8_t MAGIC[] = {0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};

/* Where it ends, or 0 for another kind of file: the protocol, from 4 on a frame's head, the number. */
static size_t magic_end(const uint8_t *data, size_t size)
{
    size_t at = size > 2 && data[0] == 0x80 ? 2 : size;
    if (size - at > 9 && data[1] >= 4 && data[at] == 0x95) at += 9;
    return size - at > sizeof MAGIC && memcmp(data + at, MAGIC, sizeof MAGIC) == 0 ? at + sizeof MAGIC : 0;
}

static bool is_legacy(const uint8_t *data, size_t size)
{
    return magic_end(data, size) > 0;
}

bool pytorch_file_is(const uint8_t *data, size_t size)
{
    return pytorch_zip_is(data, size) || is_legacy(data, size);
}

static Status next_pickle(const PytorchFile *file, size_t *at, Pickle **out)
{
    Status status = STATUS_OK;
    size_t used;
    TRY(pickle_read(file->path, file->data + *at, file->size - *at, &used, out));
    *at += used;
fail:
    return status;
}

/* The pickles of protocol version and of the machine that wrote it. */
static Status check_legacy_header(const PytorchFile *file, size_t *at)
{
    Status status = STATUS_OK;
    Pickle *protocol = NULL, *machine = NULL;
    TRY(next_pickle(file, at, &protocol));
    const PickleValue *version = pickle_get(protocol, pickle_root(protocol));
    if (version->type != PICKLE_INT || version->as.integer != 1001)
        FAIL(ERR_UNSUPPORTED, "%s: a legacy PyTorch file of an unknown protocol; 1001 is read", file->path);
    TRY(next_pickle(file, at, &machine));
    const PickleValue *little = pickle_lookup(machine, pickle_get(machine, pickle_root(machine)), "little_endian");
    if (!little || little->type != PICKLE_BOOL) FAIL(ERR_FORMAT, "%s: does not tell its byte order", file->path);
    if (!little->as.integer)
        FAIL(ERR_UNSUPPORTED, "%s: its byte order is big-endian; only little-endian files are read", file->path);
fail:
    pickle_free(protocol);
    pickle_free(machine);
    return status;
}

/* The listed storages, with the bytes of an element as the tensors' pickle has them (0: no tensor uses it). */
static Status note_storages(PytorchFile *file, const Pickle *keys)
{
    Status status = STATUS_OK;
    const PickleValue *list = pickle_get(keys, pickle_root(keys));
    if (list->type != PICKLE_LIST) FAIL(ERR_FORMAT, "%s: the list of storages is missing", file->path);
    file->storages = mem_alloc_array((size_t)list->count + 1, sizeof *file->storages);
    if (!file->storages) FAIL(ERR_MEMORY, "%s: out of memory for %u storages", file->path, list->count);
    for (uint32_t i = 0; i < list->count; i++) {
        const PickleValue *key = pickle_get(keys, list->as.items[i]);
        if (key->type != PICKLE_TEXT) FAIL(ERR_FORMAT, "%s: a storage's key is no text", file->path);
        file->storages[i] = (Storage){.key = key->as.text, .key_size = key->count};
    }
    file->storage_count = list->count;
    qsort(file->storages, file->storage_count, sizeof *file->storages, by_key);
    for (size_t i = 1; i < file->storage_count; i++)
        if (by_key(&file->storages[i - 1], &file->storages[i]) == 0)
            FAIL(ERR_FORMAT, "%s: a storage is listed twice", file->path);
    /* `size` is the size of an element until the storage itself is reached. */
    for (uint32_t v = 0; v < pickle_count(file->pickle); v++) {
        const PickleValue *value = pickle_get(file->pickle, v);
        if (value->type != PICKLE_STORAGE) continue;
        const PickleStorage *storage = value->as.storage;
        Storage *found = find_legacy(file, storage->key, storage->key_size);
        size_t unit = storage->typed ? safe_dtype_size(storage->dtype) : 1;
        if (!found) FAIL(ERR_FORMAT, "%s: a tensor's storage is not in the file's list", file->path);
        if (found->size != 0 && found->size != unit)
            FAIL(ERR_FORMAT, "%s: a storage is used with two types", file->path);
        found->size = unit;
    }
fail:
    return status;
}

/* The storages, each with its number of elements in front, in the order of the list. */
static Status place_storages(PytorchFile *file, const Pickle *keys, size_t at)
{
    Status status = STATUS_OK;
    const PickleValue *list = pickle_get(keys, pickle_root(keys));
    for (uint32_t i = 0; i < list->count; i++) {
        const PickleValue *key = pickle_get(keys, list->as.items[i]);
        Storage *storage = find_legacy(file, key->as.text, key->count);
        uint64_t elements = 0;
        if (!storage || storage->size == 0)
            FAIL(ERR_UNSUPPORTED,
                 "%s: a storage's type (complex, quantized or so) is not read here; save the state_dict() alone",
                 file->path);
        if (file->size - at < 8) FAIL(ERR_FORMAT, "%s: ends within its storages; is it complete?", file->path);
        for (int b = 8; b-- > 0;) elements = elements << 8 | file->data[at + (size_t)b];
        at += 8;
        if (elements > (file->size - at) / storage->size)
            FAIL(ERR_FORMAT, "%s: a storage of %llu elements, the file has %zu bytes left; is it complete?", file->path,
                 (unsigned long long)elements, file->size - at);
        storage->data = file->data + at;
        storage->size *= (size_t)elements;
        at += storage->size;
    }
fail:
    return status;
}

static Status open_legacy(PytorchFile *file)
{
    Status status = STATUS_OK;
    Pickle *keys = NULL;
    size_t at = magic_end(file->data, file->size);
    TRY(check_legacy_header(file, &at));
    TRY(next_pickle(file, &at, &file->pickle));
    TRY(next_pickle(file, &at, &keys));
    TRY(note_storages(file, keys));
    TRY(place_storages(file, keys, at));
fail:
    pickle_free(keys); /* the keys' texts are the file's */
    return status;
}

/* ---- */

Status pytorch_file_open_memory(const char *path, const uint8_t *data, size_t size, PytorchFile **out)
{
    Status status = STATUS_OK;
    PytorchFile *file = mem_alloc_array(1, sizeof *file);
    if (!file) return ERR_MEMORY;
    *file = (PytorchFile){.path = path, .data = data, .size = size, .legacy = is_legacy(data, size)};
    TRY(arena_create(&file->arena));
    if (!pytorch_file_is(data, size)) FAIL(ERR_FORMAT, "%s: not a file of torch.save", path);
    TRY(file->legacy ? open_legacy(file) : open_zip(file));
    TRY(collect(file));
    strbuf_free(&file->name);
    pickle_free(file->pickle);
    file->pickle = NULL;
    file->path = NULL;
    *out = file;
    return STATUS_OK;
fail:
    pytorch_file_close(file);
    return status;
}

void pytorch_file_close(PytorchFile *file)
{
    if (!file) return;
    pytorch_zip_close(file->zip);
    pickle_free(file->pickle);
    strbuf_free(&file->name);
    arena_free(file->arena);
    free(file->storages);
    free(file->tensors);
    free(file);
}

Status pytorch_file_verify(const char *path, const PytorchFile *file)
{
    Status status = STATUS_OK;
    if (file->zip) TRY(pytorch_zip_verify(path, file->zip));
fail:
    return status;
}

bool pytorch_file_is_legacy(const PytorchFile *file)
{
    return file->legacy;
}

int32_t pytorch_file_count(const PytorchFile *file)
{
    return (int32_t)file->count;
}

const WeightTensor *pytorch_file_get(const PytorchFile *file, int32_t index)
{
    return &file->tensors[index];
}

bool pytorch_file_metadata(const PytorchFile *file, int32_t index, const char **key, const char **value)
{
    if (index < 0 || index >= file->metadata_count) return false;
    *key = file->metadata[index].key;
    *value = file->metadata[index].value;
    return true;
}
