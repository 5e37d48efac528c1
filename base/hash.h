/* XXH3-128 of memory and of files (xxHash). */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct Hash128 {
    uint64_t low, high;
} Hash128;

Hash128 hash_memory(const void *data, size_t size);
Status hash_file(const char *path, Hash128 *out, int64_t *size);
/* The same of bytes that come in pieces. */
typedef struct HashStream HashStream;
Status hash_stream_create(HashStream **out);
void hash_stream_add(HashStream *stream, const void *data, size_t size);
Hash128 hash_stream_value(const HashStream *stream); /* of all added so far */
void hash_stream_free(HashStream *stream);           /* NULL is fine */

void hash_format(Hash128 hash, char out[33]); /* 32 hex digits, high first */
uint64_t hash_string64(const char *text);     /* XXH3-64 */

#endif
