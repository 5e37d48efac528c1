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
void hash_format(Hash128 hash, char out[33]); /* 32 hex digits, high first */
uint64_t hash_string64(const char *text);     /* XXH3-64 */

#endif
