/* Brace expansion. Long ranges are legal and slow, so numbers of more than three digits are left out. */
#include <stdlib.h>
#include <string.h>

#include "data/shard_list.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    char pattern[SHARD_LIST_MAX_LENGTH + 100];
    ShardList list = {0};
    int digits = 0, ranges = 0;
    if (size >= sizeof pattern) return 0;
    for (size_t i = 0; i < size; i++) {
        digits = data[i] >= '0' && data[i] <= '9' ? digits + 1 : 0;
        ranges += data[i] == '{';
        if (digits > 3 || ranges > 5) return 0;
    }
    memcpy(pattern, data, size);
    pattern[size] = 0;
    if (shard_list_expand(pattern, &list) == STATUS_OK && list.count == 0) abort();
    for (size_t i = 0; i < list.count; i++)
        if (strlen(list.paths[i]) > SHARD_LIST_MAX_LENGTH) abort();
    shard_list_free(&list);
    return 0;
}
