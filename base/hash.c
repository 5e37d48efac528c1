#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/arena.h"
#include "base/file.h"

#define READ_BLOCK ((size_t)1 << 20)

static Hash128 from_xxh(XXH128_hash_t h)
{
    return (Hash128){.low = h.low64, .high = h.high64};
}

Hash128 hash_memory(const void *data, size_t size)
{
    return from_xxh(XXH3_128bits(data, size));
}

Status hash_file(const char *path, Hash128 *out, int64_t *size)
{
    Status status = STATUS_OK;
    XXH3_state_t *state = NULL;
    char *block = NULL;
    int64_t total = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) FAIL_WITH(file_system_error(errno, "read", path));
    block = mem_alloc_array(READ_BLOCK, 1);
    state = XXH3_createState();
    if (!block || !state) FAIL(ERR_MEMORY, "out of memory while hashing %s", path);
    XXH3_128bits_reset(state);
    for (;;) {
        ssize_t n = read(fd, block, READ_BLOCK);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) FAIL_WITH(file_system_error(errno, "read", path));
        if (n == 0) break;
        XXH3_128bits_update(state, block, (size_t)n);
        total += n;
    }
    *out = from_xxh(XXH3_128bits_digest(state));
    if (size) *size = total;
fail:
    XXH3_freeState(state);
    free(block);
    if (fd >= 0) close(fd);
    return status;
}

struct HashStream {
    XXH3_state_t *state;
};

Status hash_stream_create(HashStream **out)
{
    Status status = STATUS_OK;
    HashStream *stream = mem_alloc_array(1, sizeof *stream);
    if (stream) stream->state = XXH3_createState();
    if (!stream || !stream->state) FAIL(ERR_MEMORY, "out of memory for a hash");
    XXH3_128bits_reset(stream->state);
    *out = stream;
    return STATUS_OK;
fail:
    free(stream);
    return status;
}

void hash_stream_add(HashStream *stream, const void *data, size_t size)
{
    XXH3_128bits_update(stream->state, data, size);
}

Hash128 hash_stream_value(const HashStream *stream)
{
    return from_xxh(XXH3_128bits_digest(stream->state));
}

void hash_stream_free(HashStream *stream)
{
    if (!stream) return;
    XXH3_freeState(stream->state);
    free(stream);
}

void hash_format(Hash128 hash, char out[33])
{
    snprintf(out, 33, "%016llx%016llx", (unsigned long long)hash.high, (unsigned long long)hash.low);
}

uint64_t hash_string64(const char *text)
{
    return XXH3_64bits(text, strlen(text));
}
