/* Fields and signatures: PKWARE's APPNOTE.TXT 6.3. */
#include "model/pytorch_zip.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "model/crc32.h"

enum {
    LOCAL_SIGNATURE = 0x04034b50,
    CENTRAL_SIGNATURE = 0x02014b50,
    END_SIGNATURE = 0x06054b50,
    END64_SIGNATURE = 0x06064b50,
    LOCATOR_SIGNATURE = 0x07064b50,
    LOCAL_BYTES = 30,
    CENTRAL_BYTES = 46,
    END_BYTES = 22,
    END64_BYTES = 56,
    LOCATOR_BYTES = 20,
    MAX_COMMENT = 65535,
    MAX_ENTRIES = 1000000,
    ENCRYPTED = 1 << 0,
    SIZES_FOLLOW = 1 << 3, /* behind the data: the local header has none */
    KNOWN_FLAGS = 1 << 1 | 1 << 2 | SIZES_FOLLOW | 1 << 11
};
#define FULL16 0xffffu
#define FULL32 0xffffffffu

struct PytorchZip {
    const char *path; /* while opening */
    const uint8_t *data;
    size_t size;
    ZipEntry *entries; /* by name */
    size_t count;
};

typedef struct Directory {
    uint64_t entries, size, offset;
    size_t end; /* where the records after the directory begin */
} Directory;

static uint64_t number(const uint8_t *at, int bytes)
{
    uint64_t value = 0;
    for (int i = bytes; i-- > 0;) value = value << 8 | at[i];
    return value;
}

static uint32_t u16(const uint8_t *at)
{
    return (uint32_t)number(at, 2);
}

static uint32_t u32(const uint8_t *at)
{
    return (uint32_t)number(at, 4);
}

bool pytorch_zip_is(const uint8_t *data, size_t size)
{
    return size >= 4 && (u32(data) == LOCAL_SIGNATURE || u32(data) == END_SIGNATURE);
}

/* The end record is the last thing in the file but for a comment whose length it tells. */
static Status find_end(const PytorchZip *zip, size_t *at)
{
    Status status = STATUS_OK;
    for (size_t comment = 0; comment <= MAX_COMMENT && zip->size >= END_BYTES + comment; comment++) {
        *at = zip->size - END_BYTES - comment;
        if (u32(zip->data + *at) == END_SIGNATURE && u16(zip->data + *at + 20) == comment) return STATUS_OK;
    }
    FAIL(ERR_FORMAT, "%s: the zip file has no directory at its end; is it complete?", zip->path);
fail:
    return status;
}

/* A field of the old record must be the new one's, or full. */
static bool agrees(uint64_t old, uint64_t full, uint64_t value)
{
    return old == value || old == full;
}

/* The zip64 record, when there is one in front of the old one at `end`. */
static Status read_end64(const PytorchZip *zip, size_t end, Directory *directory)
{
    Status status = STATUS_OK;
    const uint8_t *locator = end < LOCATOR_BYTES + END64_BYTES ? NULL : zip->data + end - LOCATOR_BYTES;
    bool full = directory->entries == FULL16 || directory->size == FULL32 || directory->offset == FULL32;
    if (!locator || u32(locator) != LOCATOR_SIGNATURE) {
        if (full) FAIL(ERR_FORMAT, "%s: the zip file's zip64 record is missing", zip->path);
        return STATUS_OK;
    }
    uint64_t at = number(locator + 8, 8);
    size_t limit = end - LOCATOR_BYTES - END64_BYTES;
    if (u32(locator + 4) != 0 || u32(locator + 16) > 1 || at > limit)
        FAIL(ERR_FORMAT, "%s: the zip file's zip64 record is outside the file, or in another one", zip->path);
    const uint8_t *record = zip->data + at;
    uint64_t entries = number(record + 32, 8), size = number(record + 40, 8), offset = number(record + 48, 8);
    if (u32(record) != END64_SIGNATURE || number(record + 4, 8) != limit - at + END64_BYTES - 12 ||
        u32(record + 16) != 0 || u32(record + 20) != 0 || number(record + 24, 8) != entries)
        FAIL(ERR_FORMAT, "%s: the zip file's zip64 record is broken", zip->path);
    if (!agrees(directory->entries, FULL16, entries) || !agrees(directory->size, FULL32, size) ||
        !agrees(directory->offset, FULL32, offset))
        FAIL(ERR_FORMAT, "%s: the zip file's two directory records contradict each other", zip->path);
    *directory = (Directory){entries, size, offset, (size_t)at};
fail:
    return status;
}

static Status find_directory(const PytorchZip *zip, Directory *directory)
{
    Status status = STATUS_OK;
    size_t end;
    TRY(find_end(zip, &end));
    const uint8_t *record = zip->data + end;
    if (u16(record + 4) != 0 || u16(record + 6) != 0 || u16(record + 8) != u16(record + 10))
        FAIL(ERR_FORMAT, "%s: the zip file is one of several parts", zip->path);
    *directory = (Directory){u16(record + 10), u32(record + 12), u32(record + 16), end};
    TRY(read_end64(zip, end, directory));
    if (directory->offset > directory->end || directory->size != directory->end - directory->offset)
        FAIL(ERR_FORMAT, "%s: the zip file's directory is not where its end record says; is the file complete?",
             zip->path);
    if (directory->entries > directory->size / CENTRAL_BYTES || directory->entries > MAX_ENTRIES)
        FAIL(ERR_FORMAT, "%s: the zip file claims %llu entries in a directory of %llu bytes", zip->path,
             (unsigned long long)directory->entries, (unsigned long long)directory->size);
fail:
    return status;
}

static int shown(const ZipEntry *entry)
{
    return (int)(entry->name_size < 200 ? entry->name_size : 200);
}

/* Sizes and place of an entry that are too large for their 32-bit fields stand in its zip64 extra field, in order. */
static Status read_extra(const PytorchZip *zip, const ZipEntry *entry, const uint8_t *extra, size_t extra_size,
                         uint64_t *const fields[3])
{
    Status status = STATUS_OK;
    bool found = false;
    int full = 0;
    for (int i = 0; i < 3; i++) full += *fields[i] == FULL32;
    for (size_t at = 0; at + 4 <= extra_size && full > 0;) {
        size_t size = u16(extra + at + 2);
        if (size > extra_size - at - 4) break;
        if (u16(extra + at) == 1) {
            const uint8_t *value = extra + at + 4;
            if (found || size < (size_t)full * 8) break;
            for (int i = 0; i < 3; i++) {
                if (*fields[i] != FULL32) continue;
                *fields[i] = number(value, 8);
                value += 8;
            }
            found = true;
            full = 0;
        }
        at += 4 + size;
    }
    if (full > 0 && !found)
        FAIL(ERR_FORMAT, "%s: the zip entry %.*s has no zip64 sizes", zip->path, shown(entry), entry->name);
fail:
    return status;
}

/* Places the entry's data, whose local header must agree with the directory. */
static Status read_local(const PytorchZip *zip, ZipEntry *entry, uint64_t place, size_t limit)
{
    Status status = STATUS_OK;
    size_t size = entry->size;
    if (limit < LOCAL_BYTES || place > limit - LOCAL_BYTES)
        FAIL(ERR_FORMAT, "%s: the zip entry %.*s lies outside the file", zip->path, shown(entry), entry->name);
    const uint8_t *local = zip->data + place;
    size_t name_size = u16(local + 26), head = LOCAL_BYTES + name_size + u16(local + 28);
    if (u32(local) != LOCAL_SIGNATURE || name_size != entry->name_size || head > limit - place ||
        memcmp(local + LOCAL_BYTES, entry->name, name_size) != 0 || u16(local + 8) != 0 ||
        (u16(local + 6) & ~(uint32_t)KNOWN_FLAGS))
        FAIL(ERR_FORMAT, "%s: the zip entry %.*s and its local header contradict each other", zip->path, shown(entry),
             entry->name);
    for (int field = 18; field <= 22; field += 4) {
        uint32_t told = u32(local + field);
        if (!(u16(local + 6) & SIZES_FOLLOW) && told != FULL32 && told != size)
            FAIL(ERR_FORMAT, "%s: the zip entry %.*s has two sizes, %u and %zu", zip->path, shown(entry), entry->name,
                 told, size);
    }
    entry->begin = (size_t)place;
    if (size > limit - entry->begin - head)
        FAIL(ERR_FORMAT, "%s: the zip entry %.*s of %zu bytes reaches beyond the file", zip->path, shown(entry),
             entry->name, size);
    entry->data = local + head;
    entry->end = entry->begin + head + size;
fail:
    return status;
}

/* The directory's entry at `*at`, which moves on. */
static Status read_entry(const PytorchZip *zip, const Directory *directory, size_t *at, ZipEntry *entry)
{
    Status status = STATUS_OK;
    const uint8_t *central = zip->data + *at;
    size_t left = directory->end - *at;
    if (left < CENTRAL_BYTES || u32(central) != CENTRAL_SIGNATURE)
        FAIL(ERR_FORMAT, "%s: the zip file's directory is broken", zip->path);
    size_t name_size = u16(central + 28), extra_size = u16(central + 30);
    size_t total = CENTRAL_BYTES + name_size + extra_size + u16(central + 32);
    if (left < total) FAIL(ERR_FORMAT, "%s: the zip file's directory is broken", zip->path);
    uint64_t stored = u32(central + 20), size = u32(central + 24), place = u32(central + 42);
    uint64_t *const fields[3] = {&size, &stored, &place};
    *entry =
        (ZipEntry){.name = (const char *)central + CENTRAL_BYTES, .name_size = name_size, .crc = u32(central + 16)};
    if (u16(central + 8) & ENCRYPTED)
        FAIL(ERR_UNSUPPORTED, "%s: the zip entry %.*s is encrypted", zip->path, shown(entry), entry->name);
    if (u16(central + 10) != 0)
        FAIL(ERR_UNSUPPORTED,
             "%s: the zip entry %.*s is compressed; torch.save writes stored entries only: save it anew", zip->path,
             shown(entry), entry->name);
    if (u16(central + 8) & ~(uint32_t)KNOWN_FLAGS)
        FAIL(ERR_FORMAT, "%s: the zip entry %.*s has flags 0x%04x", zip->path, shown(entry), entry->name,
             u16(central + 8));
    TRY(read_extra(zip, entry, central + CENTRAL_BYTES + name_size, extra_size, fields));
    if (size != stored || size > zip->size)
        FAIL(ERR_FORMAT, "%s: the zip entry %.*s claims %llu bytes, stored as %llu", zip->path, shown(entry),
             entry->name, (unsigned long long)size, (unsigned long long)stored);
    entry->size = (size_t)size;
    TRY(read_local(zip, entry, place, (size_t)directory->offset));
    *at += total;
fail:
    return status;
}

static int by_place(const void *left, const void *right)
{
    const ZipEntry *a = left, *b = right;
    return a->begin != b->begin ? (a->begin < b->begin ? -1 : 1) : 0;
}

static int compare_names(const char *a, size_t a_size, const char *b, size_t b_size)
{
    size_t common = a_size < b_size ? a_size : b_size;
    int order = common ? memcmp(a, b, common) : 0;
    if (order != 0) return order;
    return a_size != b_size ? (a_size < b_size ? -1 : 1) : 0;
}

static int by_name(const void *left, const void *right)
{
    const ZipEntry *a = left, *b = right;
    return compare_names(a->name, a->name_size, b->name, b->name_size);
}

static Status read_entries(PytorchZip *zip)
{
    Status status = STATUS_OK;
    Directory directory = {0};
    TRY(find_directory(zip, &directory));
    zip->count = (size_t)directory.entries;
    zip->entries = mem_alloc_array(zip->count + 1, sizeof *zip->entries);
    if (!zip->entries) FAIL(ERR_MEMORY, "%s: out of memory for %zu zip entries", zip->path, zip->count);
    size_t at = (size_t)directory.offset;
    for (size_t i = 0; i < zip->count; i++) TRY(read_entry(zip, &directory, &at, &zip->entries[i]));
    if (at != directory.end) FAIL(ERR_FORMAT, "%s: the zip file's directory is broken", zip->path);
    qsort(zip->entries, zip->count, sizeof *zip->entries, by_place);
    for (size_t i = 1; i < zip->count; i++) {
        const ZipEntry *a = &zip->entries[i - 1], *b = &zip->entries[i];
        if (b->begin < a->end)
            FAIL(ERR_FORMAT, "%s: the zip entries %.*s and %.*s overlap", zip->path, shown(a), a->name, shown(b),
                 b->name);
    }
    qsort(zip->entries, zip->count, sizeof *zip->entries, by_name);
    for (size_t i = 1; i < zip->count; i++)
        if (by_name(&zip->entries[i - 1], &zip->entries[i]) == 0)
            FAIL(ERR_FORMAT, "%s: the zip entry %.*s is there twice", zip->path, shown(&zip->entries[i]),
                 zip->entries[i].name);
fail:
    return status;
}

Status pytorch_zip_open(const char *path, const uint8_t *data, size_t size, PytorchZip **out)
{
    Status status = STATUS_OK;
    PytorchZip *zip = mem_alloc_array(1, sizeof *zip);
    if (!zip) return ERR_MEMORY;
    *zip = (PytorchZip){.path = path, .data = data, .size = size};
    TRY(read_entries(zip));
    zip->path = NULL;
    *out = zip;
    return STATUS_OK;
fail:
    pytorch_zip_close(zip);
    return status;
}

void pytorch_zip_close(PytorchZip *zip)
{
    if (!zip) return;
    free(zip->entries);
    free(zip);
}

/* Piece by piece; pages that have been read may go. */
static uint32_t checksum(const uint8_t *data, size_t size)
{
    const size_t piece = (size_t)64 << 20;
    uint32_t crc = 0;
    for (size_t at = 0; at < size; at += piece) {
        size_t n = size - at < piece ? size - at : piece;
        crc = crc32_add(crc, data + at, n);
        file_release(data + at, n);
    }
    return crc;
}

Status pytorch_zip_verify(const char *path, const PytorchZip *zip)
{
    Status status = STATUS_OK;
    for (size_t i = 0; i < zip->count; i++) {
        const ZipEntry *entry = &zip->entries[i];
        if (entry->crc != 0 && checksum(entry->data, entry->size) != entry->crc)
            FAIL(ERR_FORMAT, "%s: the zip entry %.*s is damaged: its checksum is another; fetch the file again", path,
                 shown(entry), entry->name);
    }
fail:
    return status;
}

size_t pytorch_zip_count(const PytorchZip *zip)
{
    return zip->count;
}

const ZipEntry *pytorch_zip_get(const PytorchZip *zip, size_t index)
{
    return &zip->entries[index];
}

/* Orders `entry` against prefix + "/" + name. */
static int compare_joined(const ZipEntry *entry, const char *prefix, size_t prefix_size, const char *name,
                          size_t name_size)
{
    const char *at = entry->name;
    size_t left = entry->name_size;
    const struct {
        const char *text;
        size_t size;
    } parts[] = {{prefix, prefix_size}, {"/", 1}, {name, name_size}};
    for (int i = 0; i < 3; i++) {
        size_t size = left < parts[i].size ? left : parts[i].size;
        int order = size ? memcmp(at, parts[i].text, size) : 0;
        if (order != 0) return order;
        if (size < parts[i].size) return -1;
        at += size;
        left -= size;
    }
    return left > 0 ? 1 : 0;
}

const ZipEntry *pytorch_zip_find(const PytorchZip *zip, const char *prefix, size_t prefix_size, const char *name,
                                 size_t name_size)
{
    size_t low = 0, high = zip->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare_joined(&zip->entries[middle], prefix, prefix_size, name, name_size);
        if (order == 0) return &zip->entries[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}
