#include "model/weight_file.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/hdf5_file.h"
#include "base/json.h"
#include "model/pickle.h"
#include "model/pytorch_file.h"
#include "model/weight_shares.h"

enum { MAX_PARTS = 1000, INDEX_LIMIT = 64 << 20 };

/* One mapped file. */
typedef struct Part {
    char *path;
    FileMap map;
    WeightFormat format;
    Safetensors *safetensors;
    PytorchFile *pytorch;
    WeightTensor *hdf5; /* hdf5_count */
    size_t hdf5_count;
    WeightShares *shares;
} Part;

struct WeightFile {
    Arena *arena;
    char *path;
    Part *parts;
    size_t part_count, part_capacity;
    WeightTensor *tensors; /* of all parts */
    size_t count, capacity;
    int32_t *slots; /* open addressing by hash of name; index + 1, 0 is empty */
    size_t slot_count;
};

static const char *const FORMAT_NAMES[] = {"safetensors", "PyTorch (zip)", "PyTorch (legacy)", "HDF5"};

/* ---- one file ---- */

static const uint8_t HDF5_SIGNATURE[] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};

static bool begins_with(const FileMap *map, size_t at, const void *bytes, size_t size)
{
    return map->size >= at + size && memcmp(map->data + at, bytes, size) == 0;
}

/* A header of JSON behind its length of 8 bytes: it begins with a brace, or is longer than the file. */
static bool may_be_safetensors(const FileMap *map)
{
    uint64_t header = 0;
    if (map->size < 8) return false;
    for (int i = 7; i >= 0; i--) header = header << 8 | map->data[i];
    return map->size == 8 || map->data[8] == '{' || header < map->size;
}

/* What is often mistaken for a weight file. */
static Status refuse_others(const char *path, const FileMap *map)
{
    Status status = STATUS_OK;
    static const char lfs[] = "version https://git-lfs";
    if (map->size == 0) FAIL(ERR_FORMAT, "%s: is empty; was its download broken off?", path);
    if (begins_with(map, 0, lfs, sizeof lfs - 1))
        FAIL(ERR_FORMAT, "%s: only the pointer of a Git LFS file; fetch the file itself with `git lfs pull`", path);
    if (begins_with(map, 0, "<", 1) && !may_be_safetensors(map))
        FAIL(ERR_FORMAT, "%s: a web page, not a weight file", path);
    if (begins_with(map, 0, "{", 1) && !may_be_safetensors(map))
        FAIL(ERR_FORMAT, "%s: a JSON file, not weights; name the weight file or the folder of both", path);
    if (begins_with(map, 0, "\x1f\x8b", 2) && !may_be_safetensors(map))
        FAIL(ERR_FORMAT, "%s: compressed by gzip; unpack it with gunzip", path);
    if (begins_with(map, 257, "ustar", 5))
        FAIL(ERR_UNSUPPORTED, "%s: a tar file as torch wrote before version 0.2; load and save it with a newer one",
             path);
fail:
    return status;
}

/* A bare pickle is read, so that one which was made to do harm is told as such. */
static Status refuse_unknown(const char *path, const FileMap *map)
{
    Status status = STATUS_OK;
    Pickle *pickle = NULL;
    size_t used;
    if (map->size > 2 && map->data[0] == 0x80 && map->data[1] <= 5) {
        TRY(pickle_read(path, map->data, map->size, &used, &pickle));
        FAIL(ERR_UNSUPPORTED, "%s: a pickle that torch.save did not write; write torch.save(model.state_dict(), ...)",
             path);
    }
    FAIL(ERR_FORMAT, "%s: neither safetensors nor a file of torch.save nor HDF5; is it the right file, and complete?",
         path);
fail:
    pickle_free(pickle);
    return status;
}

static SafeDtype dtype_of(H5Type type)
{
    static const SafeDtype dtypes[] = {
        [H5_F32] = SAFE_F32, [H5_F64] = SAFE_F64,        [H5_I32] = SAFE_I32,      [H5_I64] = SAFE_I64,
        [H5_U8] = SAFE_U8,   [H5_BF16_BITS] = SAFE_BF16, [H5_F16_BITS] = SAFE_F16,
    };
    return dtypes[type];
}

/* C order. */
static void set_strides(WeightTensor *t)
{
    int64_t stride = 1;
    t->contiguous = true;
    for (int32_t d = t->ndim; d-- > 0;) {
        t->stride[d] = stride;
        stride *= t->shape[d];
    }
}

static Status place_hdf5(const Part *part, H5File *file, const char *name, WeightTensor *t)
{
    Status status = STATUS_OK;
    H5Type type;
    int ndim;
    int64_t offset;
    size_t count = 1, bytes;
    TRY(h5_shape(file, name, &type, &ndim, t->shape));
    t->ndim = ndim;
    t->dtype = dtype_of(type);
    bool fits = true;
    for (int d = 0; d < ndim; d++) fits = fits && mem_mul_size(count, (size_t)t->shape[d], &count);
    TRY(h5_place(file, name, &offset));
    if (!fits || !mem_mul_size(count, safe_dtype_size(t->dtype), &bytes) || count > INT64_MAX / 16)
        FAIL(ERR_FORMAT, "%s: %s has an impossible shape", part->path, name);
    if (count == 0) offset = 0;
    if (offset < 0) FAIL(ERR_UNSUPPORTED, "%s: the data of %s are not in one piece", part->path, name);
    if ((size_t)offset > part->map.size || bytes > part->map.size - (size_t)offset)
        FAIL(ERR_FORMAT, "%s: the data of %s reach beyond the file; is it complete?", part->path, name);
    t->count = (int64_t)count;
    t->data = part->map.data + offset;
    set_strides(t);
fail:
    return status;
}

static Status open_hdf5(WeightFile *file, Part *part)
{
    Status status = STATUS_OK;
    H5File *h5 = NULL;
    char **names = NULL;
    size_t count = 0;
    TRY(h5_open(part->path, &h5));
    TRY(h5_list(h5, &names, &count));
    part->hdf5 = mem_alloc_array(count + 1, sizeof *part->hdf5);
    if (!part->hdf5) FAIL(ERR_MEMORY, "%s: out of memory", part->path);
    for (size_t i = 0; i < count; i++) {
        part->hdf5[i].name = arena_strdup(file->arena, names[i]);
        if (!part->hdf5[i].name) FAIL(ERR_MEMORY, "%s: out of memory", part->path);
        TRY(place_hdf5(part, h5, names[i], &part->hdf5[i]));
    }
    part->hdf5_count = count;
fail:
    file_free_list(names, count);
    if (h5) {
        StatusRecord record;
        status_save(status, &record);
        (void)h5_close(h5);
        status = status ? status_restore(&record) : STATUS_OK;
    }
    return status;
}

static Status add_tensor(WeightFile *file, const WeightTensor *tensor)
{
    Status status = STATUS_OK;
    if (file->count >= INT32_MAX / 4) FAIL(ERR_LIMIT, "%s: too many tensors", file->path);
    TRY(mem_grow(&file->tensors, &file->capacity, file->count + 1, sizeof *file->tensors));
    file->tensors[file->count++] = *tensor;
fail:
    return status;
}

static Status add_safetensors(WeightFile *file, const Safetensors *from)
{
    Status status = STATUS_OK;
    for (int32_t i = 0; i < safetensors_count(from); i++) {
        const SafeTensor *s = safetensors_get(from, i);
        WeightTensor t = {.name = s->name, .dtype = s->dtype, .ndim = s->ndim, .count = s->count, .data = s->data};
        memcpy(t.shape, s->shape, sizeof t.shape);
        set_strides(&t);
        TRY(add_tensor(file, &t));
    }
fail:
    return status;
}

static Status open_part(WeightFile *file, const char *path)
{
    Status status = STATUS_OK;
    if (file->part_count >= MAX_PARTS) FAIL(ERR_LIMIT, "%s: more than %d parts", file->path, MAX_PARTS);
    TRY(mem_grow(&file->parts, &file->part_capacity, file->part_count + 1, sizeof *file->parts));
    Part *part = &file->parts[file->part_count++];
    *part = (Part){.path = arena_strdup(file->arena, path)};
    if (!part->path) FAIL(ERR_MEMORY, "%s: out of memory", path);
    TRY(file_map(path, &part->map));
    TRY(refuse_others(path, &part->map));
    if (begins_with(&part->map, 0, HDF5_SIGNATURE, sizeof HDF5_SIGNATURE)) {
        part->format = WEIGHT_HDF5;
        TRY(open_hdf5(file, part));
        for (size_t i = 0; i < part->hdf5_count; i++) TRY(add_tensor(file, &part->hdf5[i]));
    } else if (pytorch_file_is(part->map.data, part->map.size)) {
        TRY(pytorch_file_open_memory(part->path, part->map.data, part->map.size, &part->pytorch));
        part->format = pytorch_file_is_legacy(part->pytorch) ? WEIGHT_PYTORCH_LEGACY : WEIGHT_PYTORCH_ZIP;
        for (int32_t i = 0; i < pytorch_file_count(part->pytorch); i++)
            TRY(add_tensor(file, pytorch_file_get(part->pytorch, i)));
    } else if (!may_be_safetensors(&part->map)) {
        TRY(refuse_unknown(part->path, &part->map));
    } else {
        part->format = WEIGHT_SAFETENSORS;
        TRY(safetensors_open_memory(part->path, part->map.data, part->map.size, &part->safetensors));
        TRY(add_safetensors(file, part->safetensors));
    }
fail:
    return status;
}

/* The index of an array in shares, all of which are one part here. */
static Status open_shares(WeightFile *file, const char *path)
{
    Status status = STATUS_OK;
    TRY(mem_grow(&file->parts, &file->part_capacity, 1, sizeof *file->parts));
    Part *part = &file->parts[file->part_count++];
    *part = (Part){.path = arena_strdup(file->arena, path), .format = WEIGHT_HDF5};
    if (!part->path) FAIL(ERR_MEMORY, "%s: out of memory", path);
    TRY(weight_shares_open(path, file->arena, &part->shares));
    for (int32_t i = 0; i < weight_shares_count(part->shares); i++)
        TRY(add_tensor(file, weight_shares_get(part->shares, i)));
fail:
    return status;
}

static void close_part(Part *part)
{
    weight_shares_close(part->shares);
    safetensors_close(part->safetensors);
    pytorch_file_close(part->pytorch);
    free(part->hdf5);
    file_unmap(&part->map);
}

/* ---- names ---- */

static size_t find_slot(const WeightFile *file, const char *name)
{
    size_t slot = (size_t)hash_string64(name) & (file->slot_count - 1);
    while (file->slots[slot] != 0 && strcmp(file->tensors[file->slots[slot] - 1].name, name) != 0)
        slot = (slot + 1) & (file->slot_count - 1);
    return slot;
}

static Status index_names(WeightFile *file)
{
    Status status = STATUS_OK;
    for (file->slot_count = 64; file->slot_count < 2 * file->count;) file->slot_count *= 2;
    file->slots = mem_alloc_array(file->slot_count, sizeof *file->slots);
    if (!file->slots) FAIL(ERR_MEMORY, "%s: out of memory", file->path);
    for (size_t i = 0; i < file->count; i++) {
        size_t slot = find_slot(file, file->tensors[i].name);
        if (file->slots[slot]) FAIL(ERR_FORMAT, "%s: tensor '%s' is there twice", file->path, file->tensors[i].name);
        file->slots[slot] = (int32_t)i + 1;
    }
fail:
    return status;
}

/* ---- a folder, or the index of a file in parts ---- */

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

/* {"weight_map": {"tensor": "file", ...}}: opens each file once, beside the index. */
static Status open_indexed(WeightFile *file, const char *path)
{
    Status status = STATUS_OK;
    char *text = NULL, folder[PATH_MAX], part[PATH_MAX];
    size_t size, name_size;
    JsonDoc *doc = NULL;
    TRY(file_read(path, INDEX_LIMIT, &text, &size));
    status = json_parse(text, size, INDEX_LIMIT, &doc);
    if (status) {
        status_prefix("%s: ", path);
        goto fail;
    }
    const JsonValue *map = json_get(json_root(doc), "weight_map");
    if (!json_is_object(map) || json_count(map) == 0)
        FAIL(ERR_FORMAT, "%s: has no weight_map, which names the file of every tensor", path);
    size_t length = strlen(path);
    if (length >= sizeof folder) FAIL(ERR_LIMIT, "%s: the path is too long", path);
    memcpy(folder, path, length + 1);
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder ? 1 : 0] = '\0';
    else
        memcpy(folder, ".", 2);
    for (size_t i = 0; i < json_count(map); i++) {
        const char *tensor = NULL, *name = json_text(json_member(map, i, &tensor), &name_size);
        if (!name || !name[0] || name[0] == '.' || strchr(name, '/') || strlen(name) != name_size)
            FAIL(ERR_FORMAT, "%s: the file of tensor '%s' is not the name of one in the same folder", path, tensor);
        TRY(path_join(part, sizeof part, folder, name));
        bool known = false;
        for (size_t p = 0; p < file->part_count && !known; p++) known = strcmp(file->parts[p].path, part) == 0;
        if (!known) TRY(open_part(file, part));
    }
    TRY(index_names(file));
    for (size_t i = 0; i < json_count(map); i++) {
        const char *tensor = NULL;
        (void)json_member(map, i, &tensor);
        if (!weight_file_find(file, tensor))
            FAIL(ERR_FORMAT, "%s: tensor '%s' is in none of the files that it names", path, tensor);
    }
fail:
    json_free(doc);
    free(text);
    return status;
}

/* The weight file of a folder, into `out`. */
static Status find_in_folder(const char *folder, char out[PATH_MAX])
{
    Status status = STATUS_OK;
    static const char *const names[] = {"model.safetensors",
                                        "model.safetensors.index.json",
                                        "pytorch_model.bin",
                                        "pytorch_model.bin.index.json",
                                        "diffusion_pytorch_model.safetensors",
                                        "weights.h5",
                                        "weights.shares.json"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        TRY(path_join(out, PATH_MAX, folder, names[i]));
        if (file_exists(out)) return STATUS_OK;
    }
    FAIL(ERR_IO, "%s: a folder without model.safetensors, pytorch_model.bin, their .index.json or weights.h5", folder);
fail:
    return status;
}

/* ---- */

Status weight_file_open(const char *path, WeightFile **out)
{
    Status status = STATUS_OK;
    char found[PATH_MAX];
    WeightFile *file = mem_alloc_array(1, sizeof *file);
    if (!file) return ERR_MEMORY;
    TRY(arena_create(&file->arena));
    file->path = arena_strdup(file->arena, path);
    if (!file->path) FAIL(ERR_MEMORY, "%s: out of memory", path);
    if (file_is_dir(path)) {
        TRY(find_in_folder(path, found));
        path = found;
    }
    if (ends_with(path, ".index.json")) {
        TRY(open_indexed(file, path));
    } else if (ends_with(path, WEIGHT_SHARES_SUFFIX)) {
        TRY(open_shares(file, path));
        TRY(index_names(file));
    } else {
        TRY(open_part(file, path));
        TRY(index_names(file));
    }
    *out = file;
    return STATUS_OK;
fail:
    weight_file_close(file);
    return status;
}

void weight_file_close(WeightFile *file)
{
    if (!file) return;
    for (size_t i = 0; i < file->part_count; i++) close_part(&file->parts[i]);
    free(file->parts);
    free(file->tensors);
    free(file->slots);
    arena_free(file->arena);
    free(file);
}

const char *weight_file_path(const WeightFile *file)
{
    return file->path;
}

WeightFormat weight_file_format(const WeightFile *file)
{
    return file->parts[0].format;
}

const char *weight_format_name(WeightFormat format)
{
    return FORMAT_NAMES[format];
}

int32_t weight_file_count(const WeightFile *file)
{
    return (int32_t)file->count;
}

const WeightTensor *weight_file_get(const WeightFile *file, int32_t index)
{
    return &file->tensors[index];
}

const WeightTensor *weight_file_find(const WeightFile *file, const char *name)
{
    int32_t index = file->slots[find_slot(file, name)];
    return index > 0 ? &file->tensors[index - 1] : NULL;
}

Status weight_file_verify(const WeightFile *file)
{
    Status status = STATUS_OK;
    for (size_t i = 0; i < file->part_count; i++)
        if (file->parts[i].pytorch) TRY(pytorch_file_verify(file->parts[i].path, file->parts[i].pytorch));
fail:
    return status;
}

bool weight_file_metadata(const WeightFile *file, int32_t index, const char **key, const char **value)
{
    for (size_t i = 0; i < file->part_count && index >= 0; i++) {
        const Part *part = &file->parts[i];
        int32_t own = 0;
        for (;; own++) {
            bool there = part->pytorch       ? pytorch_file_metadata(part->pytorch, own, key, value)
                         : part->safetensors ? safetensors_metadata(part->safetensors, (size_t)own, key, value)
                                             : false;
            if (!there) break;
            if (own == index) return true;
        }
        index -= own;
    }
    return false;
}
