/* Where a run stands in its data: for every (source, lane) the epoch and the position in it (data/order.h), behind the
 * last sample that was looked at. Independent of the number of ranks; a few kilobytes of JSON in a checkpoint. */
#ifndef DATA_CURSOR_H
#define DATA_CURSOR_H

#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"

typedef struct LanePosition {
    int64_t epoch, position;
} LanePosition;

typedef struct CursorSource {
    char *name;
    int64_t samples;    /* in its shards, before any filter */
    int64_t block_size; /* samples */
    int32_t mix;        /* blocks shuffled together */
    uint64_t identity;  /* hash of the shards' base names and sample counts */
} CursorSource;

typedef struct Cursor {
    uint64_t seed;
    int64_t next_index; /* the first global sample index not yet served */
    int32_t lanes, source_count;
    CursorSource *sources;
    LanePosition *positions; /* [source_count][lanes] */
} Cursor;

/* An all-zero cursor with room for the names; the caller fills `sources` through cursor_set_source. */
Status cursor_create(uint64_t seed, int32_t lanes, int32_t source_count, Cursor **out);
void cursor_free(Cursor *cursor);
Status cursor_set_source(Cursor *cursor, int32_t i, const char *name,
                         const CursorSource *facts); /* whose name is not looked at */
Status cursor_clone(const Cursor *cursor, Cursor **out);
/* next_index and positions of `from`, which has the same sources and lanes; allocates nothing. */
void cursor_copy_positions(Cursor *to, const Cursor *from);

/* All of `served`, and behind them those sources of `others`, of the same seed and lanes, that it does not have: what
 * is left out for a while goes on where it stood. */
Status cursor_join(const Cursor *served, const Cursor *others, Cursor **out);

/* JSON text, and back. The text is checked: sizes, signs, counts. */
Status cursor_save(const Cursor *cursor, StrBuf *out);
Status cursor_load(const char *text, size_t size, Cursor **out);

/* With W > 1 a rank advances the lanes l with l mod W = rank only. To save, gather the parts and merge each one into
 * any one of them; all must have the same next_index, else ERR_MISMATCH. */
Status cursor_merge(Cursor *full, const Cursor *part, int rank, int world);
/* The same through a sum over ranks: the positions of the own lanes, zero elsewhere, as cursor_value_count numbers;
 * sum them over all ranks and put the sums back. */
int64_t cursor_value_count(const Cursor *cursor);
void cursor_export(const Cursor *cursor, int rank, int world, int64_t *values);
void cursor_import(Cursor *cursor, const int64_t *values);

#endif
