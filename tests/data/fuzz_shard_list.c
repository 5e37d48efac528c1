/* Brace expansion, and the text of list files. */
#include <stdlib.h>
#include <string.h>

#include "data/shard_list.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

/* What stands for more than some ten thousand paths is legal, and slow. */
static int is_small(const unsigned char *data, size_t size)
{
    int digits = 0, braces = 0, commas = 0, ranges = 0;
    for (size_t i = 0; i < size; i++) {
        digits = data[i] >= '0' && data[i] <= '9' ? digits + 1 : 0;
        braces += data[i] == '{';
        commas += data[i] == ',';
        ranges += data[i] == '.' && i + 1 < size && data[i + 1] == '.';
        if (digits > 2 && braces > 0) return 0;
    }
    return ranges <= 2 && braces <= 4 && commas <= 30;
}

/* What the tree of files holds is not the matter here. */
static int has_wildcards(const unsigned char *data, size_t size)
{
    return memchr(data, '*', size) || memchr(data, '?', size) || memchr(data, '[', size);
}

static void check_list(const ShardList *list)
{
    for (size_t i = 0; i < list->count; i++) {
        ShardNote note = shard_list_note(list, i);
        if (strlen(list->paths[i]) > SHARD_LIST_MAX_LENGTH || note.samples < -1 || note.bytes < -1) abort();
    }
}

/* What a list tells, written as lines, reads back the same. */
static void round_trip(const ShardList *list)
{
    StrBuf text = {0};
    ShardList again = {0};
    size_t written = 0;
    for (size_t i = 0; i < list->count && i < 1000; i++)
        written += shard_list_format(list->paths[i], shard_list_note(list, i), &text) == STATUS_OK;
    if (written == list->count && written > 0 && text.data[0] != '{') {
        if (shard_list_parse(text.data, text.size, "", &again) != STATUS_OK || again.count != list->count) abort();
        for (size_t i = 0; i < again.count; i++) {
            ShardNote a = shard_list_note(list, i), b = shard_list_note(&again, i);
            if (strcmp(list->paths[i], again.paths[i]) != 0 || a.samples != b.samples || a.bytes != b.bytes) abort();
        }
    }
    shard_list_free(&again);
    strbuf_free(&text);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    char pattern[SHARD_LIST_MAX_LENGTH + 100];
    ShardList list = {0};
    int json = size > 0 && data[0] == '{', small = is_small(data, size);
    if (json || (small && !has_wildcards(data, size))) {
        if (shard_list_parse((const char *)data, size, "folder/", &list) == STATUS_OK) round_trip(&list);
        check_list(&list);
        shard_list_free(&list);
    }
    if (!small || size >= sizeof pattern) return 0;
    memcpy(pattern, data, size);
    pattern[size] = 0;
    if (shard_list_expand(pattern, &list) == STATUS_OK && list.count == 0) abort();
    check_list(&list);
    shard_list_free(&list);
    return 0;
}
