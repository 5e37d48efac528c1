#include "data/sample.h"

#include <stdlib.h>
#include <string.h>

#define MAX_MEMBERS ((size_t)8 << 20)
#define MAX_TEXT ((size_t)256 << 20)
#define MAX_SAMPLE_MEMBERS 1000 /* each is compared with those before; a sample of more counts as damaged */

bool sample_split_name(const char *name, size_t *key_size, const char **suffix)
{
    if (name[0] == '_' && name[1] == '_') { /* __x__ or __x__/... */
        size_t n = strcspn(name, "/");
        if (n >= 4 && name[n - 1] == '_' && name[n - 2] == '_') return false;
    }
    const char *slash = strrchr(name, '/');
    const char *base = slash ? slash + 1 : name;
    const char *dot = strchr(base, '.');
    if (!dot || dot == base || !dot[1]) return false;
    *key_size = (size_t)(dot - name);
    *suffix = dot + 1;
    return true;
}

/* ASCII only: the result must not depend on a locale. */
static void append_lower(StrBuf *text, const char *suffix)
{
    char *out = text->data + text->size;
    for (; *suffix; suffix++) *out++ = (char)(*suffix >= 'A' && *suffix <= 'Z' ? *suffix + 32 : *suffix);
    *out = 0;
}

Status sample_table_add(SampleTable *table, const char *name, int64_t offset, int64_t size)
{
    Status status = STATUS_OK;
    size_t key_size;
    const char *suffix;
    if (!sample_split_name(name, &key_size, &suffix)) return STATUS_OK;
    size_t suffix_size = strlen(suffix) + 1;
    if (table->member_count >= MAX_MEMBERS || table->text.size + key_size + suffix_size > MAX_TEXT)
        FAIL(ERR_LIMIT, "more than %zu members in a shard; use more and smaller shards", table->member_count);

    Sample *last = table->sample_count ? &table->samples[table->sample_count - 1] : NULL;
    if (last) {
        const char *key = sample_key(table, last);
        if (strlen(key) != key_size || memcmp(key, name, key_size) != 0) last = NULL;
    }
    TRY(mem_grow(&table->members, &table->member_capacity, table->member_count + 1, sizeof table->members[0]));
    if (!last) {
        TRY(mem_grow(&table->samples, &table->sample_capacity, table->sample_count + 1, sizeof table->samples[0]));
        uint32_t key = (uint32_t)table->text.size;
        TRY(strbuf_append(&table->text, name, key_size));
        TRY(strbuf_append(&table->text, "", 1));
        last = &table->samples[table->sample_count++];
        *last = (Sample){.key = key, .first_member = (uint32_t)table->member_count};
    }
    uint32_t where = (uint32_t)table->text.size;
    TRY(strbuf_append(&table->text, suffix, suffix_size));
    table->text.size = where;
    append_lower(&table->text, suffix);
    table->text.size = where + suffix_size;
    if (last->member_count >= MAX_SAMPLE_MEMBERS) last->duplicate = true;
    if (!last->duplicate && sample_member(table, last, table->text.data + where)) last->duplicate = true;
    table->members[table->member_count++] = (SampleMember){.offset = offset, .size = size, .suffix = where};
    last->member_count++;
    return STATUS_OK;
fail:
    return status;
}

void sample_table_drop_last(SampleTable *table)
{
    if (table->sample_count == 0) return;
    const Sample *last = &table->samples[--table->sample_count];
    table->member_count = last->first_member;
    table->text.size = last->key;
}

static void shrink(void *items_pointer, size_t *capacity, size_t used, size_t item_size)
{
    void **items = items_pointer;
    if (used == 0 || used == *capacity) return;
    void *smaller = realloc(*items, used * item_size);
    if (!smaller) return;
    *items = smaller;
    *capacity = used;
}

void sample_table_shrink(SampleTable *table)
{
    shrink(&table->samples, &table->sample_capacity, table->sample_count, sizeof table->samples[0]);
    shrink(&table->members, &table->member_capacity, table->member_count, sizeof table->members[0]);
    if (table->text.data) shrink(&table->text.data, &table->text.capacity, table->text.size + 1, 1);
}

void sample_table_free(SampleTable *table)
{
    free(table->samples);
    free(table->members);
    strbuf_free(&table->text);
    *table = (SampleTable){0};
}

const SampleMember *sample_member(const SampleTable *table, const Sample *sample, const char *suffix)
{
    for (uint32_t i = 0; i < sample->member_count; i++) {
        const SampleMember *member = &table->members[sample->first_member + i];
        if (strcmp(sample_suffix(table, member), suffix) == 0) return member;
    }
    return NULL;
}
