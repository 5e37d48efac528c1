/* How webdataset groups the members of a tar into samples.
 *
 * A sample's key is the member's path up to the first dot of its base name, its suffix what follows that dot, in lower
 * case. Neighbouring members with one key are one sample. Dot-files, names without a dot, and top-level members called
 * __x__ (or inside a folder of that name) are passed over. */
#ifndef DATA_SAMPLE_H
#define DATA_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"

typedef struct SampleMember {
    int64_t offset, size; /* of the bytes; see tar_index.h */
    uint32_t suffix;      /* into `text` */
} SampleMember;

typedef struct Sample {
    uint32_t key; /* into `text` */
    uint32_t first_member, member_count;
    bool duplicate; /* two members have the same suffix, or there are more than any sample has */
} Sample;

/* Samples of one shard, grown one member at a time. */
typedef struct SampleTable {
    Sample *samples;
    SampleMember *members;
    StrBuf text; /* keys and suffixes, NUL-terminated */
    size_t sample_count, sample_capacity, member_count, member_capacity;
} SampleTable;

/* False when a member of this name is passed over. *key_size: bytes of the key; *suffix: into `name`. */
bool sample_split_name(const char *name, size_t *key_size, const char **suffix);

/* Appends a member; names that are passed over change nothing. ERR_LIMIT above 8 Mi members or 256 MiB of names. */
Status sample_table_add(SampleTable *table, const char *name, int64_t offset, int64_t size);
/* Takes the last sample away: a broken archive may have cut it. */
void sample_table_drop_last(SampleTable *table);
/* Gives back the room for more; failing that changes nothing. */
void sample_table_shrink(SampleTable *table);
void sample_table_free(SampleTable *table);

static inline const char *sample_key(const SampleTable *table, const Sample *sample)
{
    return table->text.data + sample->key;
}

static inline const char *sample_suffix(const SampleTable *table, const SampleMember *member)
{
    return table->text.data + member->suffix;
}

/* The member with this suffix, or NULL. */
const SampleMember *sample_member(const SampleTable *table, const Sample *sample, const char *suffix);

#endif
