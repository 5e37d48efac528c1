#include "data/tar_walk.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

#define MAX_WINDOW 65536
#define MAX_EXTENSION_BYTES (1 << 20) /* of one pax header; its names are the only thing of use */
#define MAX_EXTENSION_HEADERS 64      /* before one member */
#define MAX_SPARSE_BLOCKS (1 << 20)   /* of a map in headers, 21 pieces each */

/* Fields of a header (POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format"). */
#define AT_SIZE 124
#define AT_CHECKSUM 148
#define AT_TYPE 156
#define AT_MAGIC 257
#define AT_PREFIX 345
#define AT_SPARSE_MORE 482       /* in the header of a GNU sparse file: a block of its map follows */
#define AT_SPARSE_BLOCK_MORE 504 /* the same in such a block */

struct TarWalk {
    TarWalkSource source;
    int64_t position; /* of the next header */
    bool ended;
    uint8_t window[MAX_WINDOW]; /* bytes window_at .. window_at + window_size of the archive */
    int64_t window_at, window_size;
    /* what the extension headers before a member say about it */
    int64_t pax_size; /* -1: nothing */
    bool cut;         /* the archive ends inside a member's padding */
    bool long_name, sparse;
    char name[TAR_MAX_NAME + 2];
    char *extension; /* (MAX_EXTENSION_BYTES + 1), from the first pax header on */
};

Status tar_walk_create(const TarWalkSource *source, TarWalk **out)
{
    *out = NULL;
    TarWalk *walk = mem_alloc_array(1, sizeof *walk);
    if (!walk) return status_trace(ERR_MEMORY, __FILE__, __LINE__);
    walk->source = *source;
    if (walk->source.window < TAR_BLOCK) walk->source.window = TAR_BLOCK;
    if (walk->source.window > MAX_WINDOW) walk->source.window = MAX_WINDOW;
    *out = walk;
    return STATUS_OK;
}

void tar_walk_free(TarWalk *walk)
{
    if (!walk) return;
    free(walk->extension);
    free(walk);
}

int64_t tar_walk_position(const TarWalk *walk)
{
    return walk->position;
}

/* The block at `position`, of which the archive has all bytes. */
static Status block_at(TarWalk *walk, int64_t position, const uint8_t **out)
{
    Status status = STATUS_OK;
    if (position < walk->window_at || position + TAR_BLOCK > walk->window_at + walk->window_size) {
        int64_t rest = walk->source.bytes - position;
        int64_t size = rest < walk->source.window ? rest : walk->source.window;
        walk->window_size = 0;
        TRY(walk->source.read(walk->source.context, walk->window, size, position));
        walk->window_at = position;
        walk->window_size = size;
    }
    *out = walk->window + (position - walk->window_at);
fail:
    return status;
}

/* ---- fields ---- */

/* Octal digits between blanks and NULs; or, with the top bit of the first byte set, a number of base 256. -1: neither,
 * negative, or above 2^62. */
static int64_t number(const uint8_t *field, int size)
{
    int64_t value = 0;
    int i = 0;
    if (field[0] & 0x80) {
        if (field[0] != 0x80) return -1; /* negative, or more than 88 bits */
        for (i = 1; i < size; i++) {
            if (value >> 54) return -1;
            value = value << 8 | field[i];
        }
        return value;
    }
    while (i < size && field[i] == ' ') i++;
    for (; i < size && field[i] >= '0' && field[i] <= '7'; i++) value = value << 3 | (field[i] - '0');
    for (; i < size; i++)
        if (field[i] != ' ' && field[i] != 0) return -1;
    return value;
}

static bool is_zero(const uint8_t *block)
{
    for (int i = 0; i < TAR_BLOCK; i++)
        if (block[i]) return false;
    return true;
}

/* The sum of all bytes with blanks in place of the sum itself; some old programs took them as signed. */
static bool checksum_holds(const uint8_t *header)
{
    int64_t told = number(header + AT_CHECKSUM, 8), plain = 8 * ' ', with_sign = 8 * ' ';
    for (int i = 0; i < TAR_BLOCK; i++) {
        if (i == AT_CHECKSUM) i += 8;
        plain += header[i];
        with_sign += (int8_t)header[i];
    }
    return told == plain || told == with_sign;
}

static size_t text_size(const uint8_t *field, size_t capacity)
{
    const uint8_t *end = memchr(field, 0, capacity);
    return end ? (size_t)(end - field) : capacity;
}

static void name_from_header(TarWalk *walk, const uint8_t *header)
{
    size_t size = 0, n;
    if (memcmp(header + AT_MAGIC, "ustar", 6) == 0 && header[AT_PREFIX]) { /* GNU has other things there */
        size = text_size(header + AT_PREFIX, 155);
        memcpy(walk->name, header + AT_PREFIX, size);
        walk->name[size++] = '/';
    }
    n = text_size(header, 100);
    memcpy(walk->name + size, header, n);
    walk->name[size + n] = 0;
}

/* ---- extension headers ---- */

static Status keep_name(TarWalk *walk, const char *name, size_t size)
{
    Status status = STATUS_OK;
    const char *end = memchr(name, 0, size);
    if (end) size = (size_t)(end - name);
    if (size > TAR_MAX_NAME)
        FAIL(ERR_LIMIT, "%s: a member's name has %zu bytes, at most %d are read", walk->source.name, size,
             TAR_MAX_NAME);
    memcpy(walk->name, name, size);
    walk->name[size] = 0;
    walk->long_name = true;
fail:
    return status;
}

/* One record: key and value. Of many keys these matter: path, size, and that a file is sparse. */
static Status pax_record(TarWalk *walk, const char *key, size_t key_size, const char *value, size_t size)
{
    Status status = STATUS_OK;
    if (key_size == 4 && memcmp(key, "path", 4) == 0) TRY(keep_name(walk, value, size));
    if (key_size == 4 && memcmp(key, "size", 4) == 0) {
        int64_t n = 0;
        for (size_t i = 0; i < size; i++) {
            if (value[i] < '0' || value[i] > '9' || n > INT64_MAX / 20)
                FAIL(ERR_FORMAT, "%s: a pax header with a size that is no number", walk->source.name);
            n = n * 10 + (value[i] - '0');
        }
        walk->pax_size = size ? n : -1;
    }
    if (key_size > 11 && memcmp(key, "GNU.sparse.", 11) == 0) walk->sparse = true;
fail:
    return status;
}

/* Records "<length> <key>=<value>\n", the length counted in. */
static Status parse_pax(TarWalk *walk, const char *text, size_t size)
{
    Status status = STATUS_OK;
    while (size > 0 && text[0]) {
        size_t length = 0, digits = 0;
        while (digits < size && digits < 8 && text[digits] >= '0' && text[digits] <= '9')
            length = length * 10 + (size_t)(text[digits++] - '0');
        if (digits == 0 || digits + 3 > size || text[digits] != ' ' || length > size || length < digits + 3 ||
            text[length - 1] != '\n')
            FAIL(ERR_FORMAT, "%s: a damaged pax header", walk->source.name);
        const char *key = text + digits + 1, *end = text + length - 1;
        const char *equals = memchr(key, '=', (size_t)(end - key));
        if (!equals) FAIL(ERR_FORMAT, "%s: a damaged pax header", walk->source.name);
        TRY(pax_record(walk, key, (size_t)(equals - key), equals + 1, (size_t)(end - equals - 1)));
        text += length;
        size -= length;
    }
fail:
    return status;
}

/* The bytes of a pax header or of a long name, into `extension`. */
static Status read_extension(TarWalk *walk, int64_t offset, int64_t size)
{
    Status status = STATUS_OK;
    if (size > MAX_EXTENSION_BYTES)
        FAIL(ERR_FORMAT, "%s: a pax header or name of %" PRId64 " bytes", walk->source.name, size);
    if (!walk->extension) walk->extension = mem_alloc_array(MAX_EXTENSION_BYTES + 1, 1);
    if (!walk->extension) FAIL_WITH(ERR_MEMORY);
    if (size > 0) TRY(walk->source.read(walk->source.context, walk->extension, size, offset));
fail:
    return status;
}

static Status take_extension(TarWalk *walk, char type, int64_t offset, int64_t size)
{
    Status status = STATUS_OK;
    if (type == 'x' || type == 'X' || type == 'L') TRY(read_extension(walk, offset, size));
    if (type == 'x' || type == 'X') TRY(parse_pax(walk, walk->extension, (size_t)size));
    if (type == 'L') TRY(keep_name(walk, walk->extension, (size_t)size));
    /* K is a link's target. g holds for all members: of no use, for a name or size of all would make no sense. */
fail:
    return status;
}

static bool is_extension(char type)
{
    return type == 'x' || type == 'g' || type == 'X' || type == 'L' || type == 'K';
}

/* ---- members ---- */

/* Of links, devices, folders and pipes nothing follows, whatever their size says. */
static bool has_bytes(char type)
{
    return type < '1' || type > '6';
}

/* The old way to write a folder. */
static bool is_folder_name(const char *name)
{
    size_t size = strlen(name);
    return size > 0 && name[size - 1] == '/';
}

/* The map of a GNU sparse file goes on behind its header. */
static Status skip_sparse_map(TarWalk *walk, const uint8_t *header)
{
    Status status = STATUS_OK;
    bool more = header[AT_SPARSE_MORE] != 0;
    for (int i = 0; more; i++) {
        const uint8_t *block;
        if (i == MAX_SPARSE_BLOCKS || walk->source.bytes - walk->position < TAR_BLOCK)
            FAIL(ERR_FORMAT, "%s: truncated or damaged in the map of a sparse file", walk->source.name);
        TRY(block_at(walk, walk->position, &block));
        more = block[AT_SPARSE_BLOCK_MORE] != 0;
        walk->position += TAR_BLOCK;
    }
fail:
    return status;
}

static Status next_header(TarWalk *walk, const uint8_t **header)
{
    Status status = STATUS_OK;
    if (walk->cut) FAIL(ERR_FORMAT, "%s: truncated behind %.200s", walk->source.name, walk->name);
    if (walk->position >= walk->source.bytes) return STATUS_END;
    if (walk->source.bytes - walk->position < TAR_BLOCK)
        FAIL(ERR_FORMAT, "%s: truncated inside a header, at byte %" PRId64, walk->source.name, walk->position);
    TRY(block_at(walk, walk->position, header));
    if ((*header)[0] == 0 && is_zero(*header)) return STATUS_END;
    if (!checksum_holds(*header))
        FAIL(ERR_FORMAT, "%s: not a tar header at byte %" PRId64, walk->source.name, walk->position);
    walk->position += TAR_BLOCK;
fail:
    return status;
}

/* One header and what it leads in; *found: it is a file to be handed out, whose name is in walk->name. */
static Status step(TarWalk *walk, int *extensions, bool *found, int64_t *offset, int64_t *size)
{
    Status status = STATUS_OK;
    const uint8_t *header = NULL;
    *found = false;
    status = next_header(walk, &header);
    if (status == STATUS_END && *extensions > 0)
        FAIL(ERR_FORMAT, "%s: truncated behind an extension header", walk->source.name);
    if (status != STATUS_OK) return status;
    char type = (char)header[AT_TYPE];
    bool extension = is_extension(type);
    *size = walk->pax_size >= 0 && !extension ? walk->pax_size : number(header + AT_SIZE, 12);
    if (*size < 0) FAIL(ERR_FORMAT, "%s: a member of impossible size", walk->source.name);
    if (!has_bytes(type)) *size = 0;
    if (!extension && !walk->long_name) name_from_header(walk, header);
    if (type == 'S') TRY(skip_sparse_map(walk, header));
    if (*size > walk->source.bytes - walk->position)
        FAIL(ERR_FORMAT, "%s: truncated inside %.200s", walk->source.name, extension ? "a pax header" : walk->name);
    *offset = walk->position;
    walk->position += *size;
    int64_t pad = (TAR_BLOCK - *size % TAR_BLOCK) % TAR_BLOCK, rest = walk->source.bytes - walk->position;
    walk->cut = pad > rest;
    walk->position += walk->cut ? rest : pad;
    if (!extension) {
        *found = (type == '0' || type == 0 || type == '7') && !walk->sparse && !is_folder_name(walk->name);
        *extensions = 0;
        return STATUS_OK;
    }
    if (++*extensions > MAX_EXTENSION_HEADERS)
        FAIL(ERR_FORMAT, "%s: more than %d extension headers before a member", walk->source.name,
             MAX_EXTENSION_HEADERS);
    TRY(take_extension(walk, type, *offset, *size));
fail:
    return status;
}

Status tar_walk_next(TarWalk *walk, const char **name, int64_t *offset, int64_t *size)
{
    Status status = STATUS_OK;
    int extensions = 0;
    bool found = false;
    while (!walk->ended && !found) {
        if (extensions == 0) {
            walk->pax_size = -1;
            walk->long_name = walk->sparse = false;
        }
        status = step(walk, &extensions, &found, offset, size);
        walk->ended = status != STATUS_OK && status != ERR_MEMORY;
        if (status != STATUS_OK && status != STATUS_END) status_trace(status, __FILE__, __LINE__);
        if (status != STATUS_OK) return status;
    }
    *name = walk->name;
    return walk->ended ? STATUS_END : STATUS_OK;
}
