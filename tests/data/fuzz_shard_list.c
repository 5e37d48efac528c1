/* Brace expansion, and the text of list files. Long ranges are legal and slow, so numbers of more than three digits are
 * left out. */
#include <stdlib.h>
#include <string.h>

#include "data/shard_list.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

/* Neither long ranges nor many, and no wildcards: what the tree of files holds is not the matter here. */
static int is_small(const unsigned char *data, size_t size)
{
    int digits = 0, ranges = 0;
    for (size_t i = 0; i < size; i++) {
        digits = data[i] >= '0' && data[i] <= '9' ? digits + 1 : 0;
        ranges += data[i] == '{';
        if (ranges > 5) return 0;
        if (digits > 3 && ranges > 0 && data[0] != '{') return 0;
    }
    return 1;
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
    if (!is_small(data, size)) return 0;
    if (!memchr(data, '*', size) && !memchr(data, '?', size) && !memchr(data, '[', size)) {
        if (shard_list_parse((const char *)data, size, "folder/", &list) == STATUS_OK) round_trip(&list);
        check_list(&list);
        shard_list_free(&list);
    }
    if (size >= sizeof pattern) return 0;
    memcpy(pattern, data, size);
    pattern[size] = 0;
    for (size_t i = 0; i + 4 < size; i++) /* long ranges */
        if (strspn(pattern + i, "0123456789") > 3) return 0;
    if (shard_list_expand(pattern, &list) == STATUS_OK && list.count == 0) abort();
    check_list(&list);
    shard_list_free(&list);
    return 0;
}
