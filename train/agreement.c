#include "train/agreement.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"

enum {
    KEY_MAX = 255,
    VALUE_MAX = 1000,
    VALUE_KEPT = 900,
    HOST_MAX = 64,
    CLASSES_MAX = 16,     /* ranks with the same facts are a class; of so many the facts are looked at */
    RUNS_SHOWN = 4,       /* of neighbouring ranks of one host */
    SHOWN_MAX = 120,      /* bytes of a value */
    SHOWN_BEFORE = 40,    /* of them, before what differs */
    MESSAGE_ENOUGH = 2600 /* bytes of differences in a message, whose whole is STATUS_MESSAGE_MAX */
};
#define TEXT_LIMIT ((size_t)16 << 20)

/* ---- facts ---- */

/* A text that is too long for a message would be as long on its way to the other ranks. */
static Status add_long(Agreement *agreement, const char *value, size_t size)
{
    Status status = STATUS_OK;
    char digits[33];
    hash_format(hash_memory(value, size), digits);
    TRY(strbuf_append(&agreement->text, value, VALUE_KEPT));
    TRY(strbuf_printf(&agreement->text, "... (%zu bytes, hash %s)", size, digits));
fail:
    return status;
}

Status agreement_add(Agreement *agreement, const char *key, const char *format, ...)
{
    Status status = STATUS_OK;
    char *value = NULL;
    va_list args;
    va_start(args, format);
    int length = vasprintf(&value, format, args);
    va_end(args);
    if (length < 0) {
        value = NULL;
        FAIL(ERR_MEMORY, "out of memory");
    }
    if (strlen(key) > KEY_MAX) FAIL(ERR_INTERNAL, "%.40s...: the key of a fact is longer than %d bytes", key, KEY_MAX);
    TRY(strbuf_append(&agreement->text, key, strlen(key) + 1));
    if (length > VALUE_MAX)
        TRY(add_long(agreement, value, (size_t)length));
    else
        TRY(strbuf_append(&agreement->text, value, (size_t)length));
    TRY(strbuf_append(&agreement->text, "", 1));
    if (agreement->text.size > TEXT_LIMIT)
        FAIL(ERR_LIMIT, "what the ranks compare takes more than %zu bytes; does data.sources list too much?",
             TEXT_LIMIT);
fail:
    free(value);
    return status;
}

void agreement_free(Agreement *agreement)
{
    strbuf_free(&agreement->text);
}

/* ---- who has the same facts as whom ---- */

typedef struct RankEntry {
    Hash128 digest;
    char host[HOST_MAX];
} RankEntry;

typedef struct Fact {
    const char *key, *value;
} Fact;

/* Ranks with the same facts. */
typedef struct Class {
    int first, count;
    char *text;
    Fact *facts;
    size_t fact_count, fact_capacity;
} Class;

typedef struct Difference {
    int world;
    RankEntry *ranks; /* (world) */
    int *order;       /* (world) ranks by digest, then by number */
    int *class_of;    /* (world) */
    Class *classes;   /* those of most ranks first */
    int class_count, looked_at;
    StrBuf lines;
    int unsaid;
} Difference;

static int compare_digests(Hash128 a, Hash128 b)
{
    if (a.high != b.high) return a.high < b.high ? -1 : 1;
    return a.low == b.low ? 0 : a.low < b.low ? -1 : 1;
}

static int by_digest(const void *a, const void *b, void *context)
{
    const RankEntry *ranks = context;
    const int left = *(const int *)a, right = *(const int *)b;
    int order = compare_digests(ranks[left].digest, ranks[right].digest);
    return order ? order : left - right;
}

static int by_size(const void *a, const void *b)
{
    const Class *left = a, *right = b;
    return left->count == right->count ? left->first - right->first : right->count - left->count;
}

/* The same on every rank, from the same entries. */
static Status classify(Difference *d)
{
    Status status = STATUS_OK;
    d->order = mem_alloc_array((size_t)d->world, sizeof *d->order);
    d->class_of = mem_alloc_array((size_t)d->world, sizeof *d->class_of);
    d->classes = mem_alloc_array((size_t)d->world, sizeof *d->classes);
    if (!d->order || !d->class_of || !d->classes) FAIL(ERR_MEMORY, "out of memory");
    for (int r = 0; r < d->world; r++) d->order[r] = r;
    qsort_r(d->order, (size_t)d->world, sizeof *d->order, by_digest, d->ranks);
    for (int i = 0; i < d->world; i++) {
        const int rank = d->order[i];
        bool fresh = i == 0 || compare_digests(d->ranks[rank].digest, d->ranks[d->order[i - 1]].digest) != 0;
        if (fresh) d->classes[d->class_count++].first = rank;
        d->classes[d->class_count - 1].count++;
    }
    qsort(d->classes, (size_t)d->class_count, sizeof *d->classes, by_size);
    for (int r = 0; r < d->world; r++) d->class_of[r] = -1;
    d->looked_at = d->class_count < CLASSES_MAX ? d->class_count : CLASSES_MAX;
    for (int c = 0; c < d->looked_at; c++)
        for (int r = 0; r < d->world; r++)
            if (compare_digests(d->ranks[r].digest, d->ranks[d->classes[c].first].digest) == 0) d->class_of[r] = c;
fail:
    return status;
}

/* The facts in `text`, which comes from another rank. */
static Status parse(Class *class, size_t size)
{
    Status status = STATUS_OK;
    for (size_t at = 0; at < size;) {
        const char *key = class->text + at;
        at += strlen(key) + 1;
        if (at >= size || strlen(key) > KEY_MAX) FAIL(ERR_COMM, "facts of rank %d arrived damaged", class->first);
        const char *value = class->text + at;
        at += strlen(value) + 1;
        TRY(mem_grow(&class->facts, &class->fact_capacity, class->fact_count + 1, sizeof *class->facts));
        class->facts[class->fact_count++] = (Fact){key, value};
    }
fail:
    return status;
}

/* The first rank of the class tells the others what its facts are. */
static Status tell(Class *class, const Agreement *own, Comm *comm)
{
    Status status = STATUS_OK;
    bool teller = comm_rank(comm) == class->first;
    int64_t size = teller ? (int64_t)own->text.size : 0;
    TRY(comm_broadcast(comm, &size, sizeof size, class->first));
    if (size < 0 || (size_t)size > TEXT_LIMIT)
        FAIL(ERR_COMM, "rank %d announces %lld bytes of facts", class->first, (long long)size);
    class->text = mem_alloc_array((size_t)size + 1, 1);
    if (!class->text) FAIL(ERR_MEMORY, "out of memory");
    if (teller && size > 0) memcpy(class->text, own->text.data, (size_t)size);
    TRY(comm_broadcast(comm, class->text, (size_t)size, class->first));
    TRY(parse(class, (size_t)size));
fail:
    return status;
}

/* ---- words ---- */

/* One key's values: classes that have the same one are a group. */
typedef struct Groups {
    const char *value[CLASSES_MAX]; /* of each group; NULL: these ranks have no such key */
    int ranks[CLASSES_MAX];
    int of_class[CLASSES_MAX];
    int count, all; /* groups; ranks of all of them */
} Groups;

/* Facts come in the same order, so the same place is looked at first. */
static const char *value_of(const Class *class, const char *key, size_t guess)
{
    if (guess < class->fact_count && strcmp(class->facts[guess].key, key) == 0) return class->facts[guess].value;
    for (size_t i = 0; i < class->fact_count; i++)
        if (strcmp(class->facts[i].key, key) == 0) return class->facts[i].value;
    return NULL;
}

static bool same_value(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static void group_values(const Difference *d, const char *key, size_t guess, Groups *out)
{
    memset(out, 0, sizeof *out);
    for (int c = 0; c < d->looked_at; c++) {
        const char *value = value_of(&d->classes[c], key, guess);
        int g = 0;
        while (g < out->count && !same_value(out->value[g], value)) g++;
        if (g == out->count) out->value[out->count++] = value;
        out->ranks[g] += d->classes[c].count;
        out->of_class[c] = g;
        out->all += d->classes[c].count;
    }
}

/* "rank 2 on n3", "ranks 4-7 on n2, 9 on n3 and 12 more"; then "has" or "have". */
static Status append_ranks(Difference *d, const Groups *groups, int group)
{
    Status status = STATUS_OK;
    int shown = 0, runs = 0;
    TRY(strbuf_printf(&d->lines, groups->ranks[group] > 1 ? "ranks " : "rank "));
    for (int r = 0; r < d->world && runs < RUNS_SHOWN; r++) {
        if (d->class_of[r] < 0 || groups->of_class[d->class_of[r]] != group) continue;
        int last = r;
        while (last + 1 < d->world && d->class_of[last + 1] >= 0 && groups->of_class[d->class_of[last + 1]] == group &&
               strcmp(d->ranks[last + 1].host, d->ranks[r].host) == 0)
            last++;
        TRY(strbuf_printf(&d->lines, runs++ ? ", %d" : "%d", r));
        if (last > r) TRY(strbuf_printf(&d->lines, "-%d", last));
        TRY(strbuf_printf(&d->lines, " on %s", d->ranks[r].host));
        shown += last - r + 1;
        r = last;
    }
    if (shown < groups->ranks[group]) TRY(strbuf_printf(&d->lines, " and %d more", groups->ranks[group] - shown));
    TRY(strbuf_printf(&d->lines, groups->ranks[group] > 1 ? " have" : " has"));
fail:
    return status;
}

/* A value, or of a long one the part around the first byte that differs from `other`. */
static Status append_value(StrBuf *out, const char *value, const char *other)
{
    Status status = STATUS_OK;
    if (!value) return strbuf_printf(out, "none");
    if (!value[0]) return strbuf_printf(out, "\"\"");
    size_t size = strlen(value), from = 0, to = size;
    if (size > SHOWN_MAX) {
        while (other && value[from] && value[from] == other[from]) from++;
        from = from > SHOWN_BEFORE ? from - SHOWN_BEFORE : 0;
        while (from > 0 && ((unsigned char)value[from] & 0xc0) == 0x80) from--; /* whole characters of UTF-8 */
        if (size - from > SHOWN_MAX) to = from + SHOWN_MAX;
        while (to < size && ((unsigned char)value[to] & 0xc0) == 0x80) to++;
    }
    TRY(strbuf_printf(out, from ? "..." : ""));
    TRY(strbuf_append(out, value + from, to - from));
    TRY(strbuf_printf(out, to < size ? "..." : ""));
fail:
    return status;
}

/* More than half of the ranks have one value: the others are named. */
static Status describe_odd_ones(Difference *d, const char *key, const Groups *groups, int most)
{
    Status status = STATUS_OK;
    const char *usual = groups->value[most];
    for (int g = 0; g < groups->count; g++) {
        if (g == most) continue;
        TRY(strbuf_printf(&d->lines, "  "));
        TRY(append_ranks(d, groups, g));
        TRY(strbuf_printf(&d->lines, groups->value[g] ? " %s " : " no %s", key));
        if (groups->value[g]) TRY(append_value(&d->lines, groups->value[g], usual));
        TRY(strbuf_printf(&d->lines, groups->count == 2 ? ", the other %d have " : ", %d have ", groups->ranks[most]));
        TRY(append_value(&d->lines, usual, groups->value[g]));
        TRY(strbuf_printf(&d->lines, "\n"));
    }
fail:
    return status;
}

static Status describe_all(Difference *d, const char *key, const Groups *groups)
{
    Status status = STATUS_OK;
    TRY(strbuf_printf(&d->lines, "  %s:", key));
    for (int g = 0; g < groups->count; g++) {
        TRY(strbuf_printf(&d->lines, g ? "; " : " "));
        TRY(append_ranks(d, groups, g));
        TRY(strbuf_printf(&d->lines, " "));
        TRY(append_value(&d->lines, groups->value[g], groups->value[g ? 0 : 1]));
    }
    TRY(strbuf_printf(&d->lines, "\n"));
fail:
    return status;
}

static Status describe_key(Difference *d, const char *key, size_t guess)
{
    Status status = STATUS_OK;
    Groups groups;
    group_values(d, key, guess, &groups);
    if (groups.count < 2) return STATUS_OK;
    if (d->lines.size > MESSAGE_ENOUGH) {
        d->unsaid++;
        return STATUS_OK;
    }
    for (int g = 0; g < groups.count; g++)
        if (2 * groups.ranks[g] > groups.all) return describe_odd_ones(d, key, &groups, g);
    TRY(describe_all(d, key, &groups));
fail:
    return status;
}

static Status describe(Difference *d)
{
    Status status = STATUS_OK;
    int not_looked_at = d->world;
    for (int c = 0; c < d->looked_at; c++) {
        not_looked_at -= d->classes[c].count;
        for (size_t i = 0; i < d->classes[c].fact_count; i++) {
            const char *key = d->classes[c].facts[i].key;
            bool known = false;
            for (int earlier = 0; earlier < c && !known; earlier++) known = value_of(&d->classes[earlier], key, i);
            if (!known) TRY(describe_key(d, key, i));
        }
    }
    if (d->unsaid) TRY(strbuf_printf(&d->lines, "  and %d more differences\n", d->unsaid));
    if (not_looked_at) TRY(strbuf_printf(&d->lines, "  %d more ranks differ from all of these\n", not_looked_at));
fail:
    return status;
}

/* ---- the comparison ---- */

/* The digest in words of 32 bits, which doubles hold exactly: their least and greatest over all ranks. */
static Status all_agree(Comm *comm, Hash128 digest, bool *out)
{
    Status status = STATUS_OK;
    const uint64_t halves[2] = {digest.low, digest.high};
    double values[8];
    for (int i = 0; i < 4; i++) {
        values[i] = (double)(uint32_t)(halves[i / 2] >> (i % 2 * 32));
        values[4 + i] = -values[i];
    }
    TRY(comm_all_reduce_f64(comm, values, 8, COMM_MIN));
    *out = true;
    for (int i = 0; i < 4; i++)
        if (values[i] != -values[4 + i]) *out = false;
fail:
    return status;
}

static Status gather_entries(Difference *d, Comm *comm, Hash128 digest)
{
    Status status = STATUS_OK;
    RankEntry own = {.digest = digest};
    if (gethostname(own.host, sizeof own.host - 1) || !own.host[0]) snprintf(own.host, sizeof own.host, "?");
    d->world = comm_world(comm);
    d->ranks = mem_alloc_array((size_t)d->world, sizeof *d->ranks);
    if (!d->ranks) FAIL(ERR_MEMORY, "out of memory");
    TRY(comm_all_gather(comm, &own, sizeof own, d->ranks));
    for (int r = 0; r < d->world; r++) d->ranks[r].host[HOST_MAX - 1] = 0;
fail:
    return status;
}

static void difference_free(Difference *d)
{
    for (int c = 0; c < d->class_count; c++) {
        free(d->classes[c].text);
        free(d->classes[c].facts);
    }
    free(d->classes);
    free(d->class_of);
    free(d->order);
    free(d->ranks);
    strbuf_free(&d->lines);
}

Status agreement_compare(const Agreement *agreement, Comm *comm, const char *what, const char *remedy)
{
    Status status = STATUS_OK;
    Difference d = {0};
    bool agreed;
    if (comm_world(comm) == 1) return STATUS_OK;
    const Hash128 digest = hash_memory(agreement->text.data, agreement->text.size);
    TRY(all_agree(comm, digest, &agreed));
    if (agreed) return STATUS_OK;
    TRY(gather_entries(&d, comm, digest));
    TRY(classify(&d));
    for (int c = 0; c < d.looked_at; c++) TRY(tell(&d.classes[c], agreement, comm));
    TRY(describe(&d));
    /* Nobody ends the job before all have the words. */
    TRY(comm_barrier(comm));
    FAIL(ERR_MISMATCH, "%s:\n%s%s", what, d.lines.data ? d.lines.data : "", remedy);
fail:
    difference_free(&d);
    return status;
}
