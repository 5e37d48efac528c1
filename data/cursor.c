#include "data/cursor.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

#define MAX_LANES 65536
#define MAX_SOURCES 4096
#define MAX_POSITIONS ((size_t)16 << 20)
#define MAX_TEXT ((size_t)1 << 30)
#define FORMAT_VERSION 2 /* 1: positions counted samples, and blocks were not mixed */

static size_t position_count(const Cursor *cursor)
{
    return (size_t)cursor->lanes * (size_t)cursor->source_count;
}

Status cursor_create(uint64_t seed, int32_t lanes, int32_t source_count, Cursor **out)
{
    Status status = STATUS_OK;
    Cursor *cursor = NULL;
    *out = NULL;
    if (lanes < 1 || lanes > MAX_LANES || source_count < 1 || source_count > MAX_SOURCES ||
        (size_t)lanes * (size_t)source_count > MAX_POSITIONS)
        FAIL(ERR_LIMIT, "a cursor of %d sources and %d lanes", source_count, lanes);
    cursor = mem_alloc_array(1, sizeof *cursor);
    if (!cursor) FAIL(ERR_MEMORY, "out of memory for a data cursor");
    cursor->seed = seed;
    cursor->lanes = lanes;
    cursor->source_count = source_count;
    cursor->sources = mem_alloc_array((size_t)source_count, sizeof cursor->sources[0]);
    cursor->positions = mem_alloc_array(position_count(cursor), sizeof cursor->positions[0]);
    if (!cursor->sources || !cursor->positions) FAIL(ERR_MEMORY, "out of memory for a data cursor");
    *out = cursor;
    return STATUS_OK;
fail:
    cursor_free(cursor);
    return status;
}

void cursor_free(Cursor *cursor)
{
    if (!cursor) return;
    for (int32_t i = 0; cursor->sources && i < cursor->source_count; i++) free(cursor->sources[i].name);
    free(cursor->sources);
    free(cursor->positions);
    free(cursor);
}

Status cursor_set_source(Cursor *cursor, int32_t i, const char *name, const CursorSource *facts)
{
    CursorSource *own = &cursor->sources[i];
    size_t size = strlen(name) + 1;
    char *copy = mem_alloc_array(size, 1);
    if (!copy) return status_trace(ERR_MEMORY, __FILE__, __LINE__);
    memcpy(copy, name, size);
    free(own->name);
    *own = *facts;
    own->name = copy;
    return STATUS_OK;
}

Status cursor_clone(const Cursor *cursor, Cursor **out)
{
    Status status = STATUS_OK;
    Cursor *copy = NULL;
    *out = NULL;
    TRY(cursor_create(cursor->seed, cursor->lanes, cursor->source_count, &copy));
    for (int32_t i = 0; i < cursor->source_count; i++)
        TRY(cursor_set_source(copy, i, cursor->sources[i].name, &cursor->sources[i]));
    cursor_copy_positions(copy, cursor);
    *out = copy;
    return STATUS_OK;
fail:
    cursor_free(copy);
    return status;
}

void cursor_copy_positions(Cursor *to, const Cursor *from)
{
    to->next_index = from->next_index;
    memcpy(to->positions, from->positions, position_count(from) * sizeof from->positions[0]);
}

static bool has_source(const Cursor *cursor, const char *name)
{
    for (int32_t s = 0; s < cursor->source_count; s++)
        if (strcmp(cursor->sources[s].name, name) == 0) return true;
    return false;
}

Status cursor_join(const Cursor *served, const Cursor *others, Cursor **out)
{
    Status status = STATUS_OK;
    Cursor *joined = NULL;
    const size_t lanes = (size_t)served->lanes;
    int32_t at = served->source_count, count = at;
    *out = NULL;
    for (int32_t s = 0; s < others->source_count; s++) count += !has_source(served, others->sources[s].name);
    TRY(cursor_create(served->seed, served->lanes, count, &joined));
    for (int32_t s = 0; s < served->source_count; s++)
        TRY(cursor_set_source(joined, s, served->sources[s].name, &served->sources[s]));
    cursor_copy_positions(joined, served);
    for (int32_t s = 0; s < others->source_count; s++) {
        if (has_source(served, others->sources[s].name)) continue;
        TRY(cursor_set_source(joined, at, others->sources[s].name, &others->sources[s]));
        memcpy(joined->positions + (size_t)at++ * lanes, others->positions + (size_t)s * lanes,
               lanes * sizeof joined->positions[0]);
    }
    *out = joined;
    return STATUS_OK;
fail:
    cursor_free(joined);
    return status;
}

Status cursor_save(const Cursor *cursor, StrBuf *out)
{
    JsonWriter w;
    char text[32];
    size_t before = out->size;
    json_begin(&w, out);
    json_object(&w, NULL);
    json_int(&w, "version", FORMAT_VERSION);
    snprintf(text, sizeof text, "%016" PRIx64, cursor->seed);
    json_string(&w, "seed", text);
    json_int(&w, "next_index", cursor->next_index);
    json_int(&w, "lanes", cursor->lanes);
    json_array(&w, "sources");
    for (int32_t s = 0; s < cursor->source_count; s++) {
        const CursorSource *source = &cursor->sources[s];
        json_object(&w, NULL);
        json_string(&w, "name", source->name);
        json_int(&w, "samples", source->samples);
        json_int(&w, "block_size", source->block_size);
        json_int(&w, "mix", source->mix);
        snprintf(text, sizeof text, "%016" PRIx64, source->identity);
        json_string(&w, "identity", text);
        json_array(&w, "positions"); /* epoch, position of lane 0, of lane 1, ... */
        for (int32_t l = 0; l < cursor->lanes; l++) {
            const LanePosition *p = &cursor->positions[(size_t)s * (size_t)cursor->lanes + (size_t)l];
            json_int(&w, NULL, p->epoch);
            json_int(&w, NULL, p->position);
        }
        json_end_array(&w);
        json_end_object(&w);
    }
    json_end_array(&w);
    json_end_object(&w);
    if (out->size <= before) return status_fail(ERR_MEMORY, __FILE__, __LINE__, "out of memory for a data cursor");
    return STATUS_OK;
}

static bool read_hex(const JsonValue *value, uint64_t *out)
{
    size_t size;
    const char *text = json_text(value, &size);
    if (!text || size != 16) return false;
    *out = 0;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit < 0) return false;
        *out = *out << 4 | (uint64_t)digit;
    }
    return true;
}

Status cursor_load(const char *text, size_t size, Cursor **out)
{
    Status status = STATUS_OK;
    JsonDoc *doc = NULL;
    Cursor *cursor = NULL;
    int64_t version, lanes, next_index;
    uint64_t seed;
    *out = NULL;
    TRY(json_parse(text, size, MAX_TEXT, &doc));
    const JsonValue *root = json_root(doc);
    const JsonValue *sources = json_get(root, "sources");
    if (!json_integer(json_get(root, "version"), &version) || version != FORMAT_VERSION)
        FAIL(ERR_FORMAT,
             "a data cursor of another version, which had another order of samples; this program reads version %d",
             FORMAT_VERSION);
    if (!json_integer(json_get(root, "lanes"), &lanes) || lanes < 1 || lanes > MAX_LANES ||
        !json_integer(json_get(root, "next_index"), &next_index) || next_index < 0 ||
        !read_hex(json_get(root, "seed"), &seed) || json_count(sources) < 1 || json_count(sources) > MAX_SOURCES)
        FAIL(ERR_FORMAT, "a broken data cursor: seed, lanes, next_index or sources");
    TRY(cursor_create(seed, (int32_t)lanes, (int32_t)json_count(sources), &cursor));
    cursor->next_index = next_index;
    for (int32_t s = 0; s < cursor->source_count; s++) {
        const JsonValue *source = json_item(sources, (size_t)s);
        const JsonValue *positions = json_get(source, "positions");
        size_t name_size;
        int64_t mix;
        CursorSource read = {0};
        const char *name = json_text(json_get(source, "name"), &name_size);
        if (!name || !json_integer(json_get(source, "samples"), &read.samples) || read.samples < 0 ||
            !json_integer(json_get(source, "block_size"), &read.block_size) || read.block_size < 1 ||
            !json_integer(json_get(source, "mix"), &mix) || mix < 1 || mix > INT32_MAX ||
            !read_hex(json_get(source, "identity"), &read.identity) || json_count(positions) != 2 * (size_t)lanes)
            FAIL(ERR_FORMAT, "a broken data cursor: source %d", s);
        read.mix = (int32_t)mix;
        TRY(cursor_set_source(cursor, s, name, &read));
        for (size_t l = 0; l < (size_t)lanes; l++) {
            LanePosition *p = &cursor->positions[(size_t)s * (size_t)lanes + l];
            if (!json_integer(json_item(positions, 2 * l), &p->epoch) || p->epoch < 0 ||
                !json_integer(json_item(positions, 2 * l + 1), &p->position) || p->position < 0)
                FAIL(ERR_FORMAT, "a broken data cursor: source %s, lane %zu", name, l);
        }
    }
    json_free(doc);
    *out = cursor;
    return STATUS_OK;
fail:
    json_free(doc);
    cursor_free(cursor);
    return status;
}

Status cursor_merge(Cursor *full, const Cursor *part, int rank, int world)
{
    Status status = STATUS_OK;
    if (full->lanes != part->lanes || full->source_count != part->source_count || full->seed != part->seed ||
        full->next_index != part->next_index)
        FAIL(ERR_MISMATCH,
             "the data cursor of rank %d is of another step or run (index %" PRId64 ", wanted %" PRId64 ")", rank,
             part->next_index, full->next_index);
    for (int32_t s = 0; s < full->source_count; s++)
        for (int32_t l = rank; l < full->lanes; l += world) {
            size_t i = (size_t)s * (size_t)full->lanes + (size_t)l;
            full->positions[i] = part->positions[i];
        }
    return STATUS_OK;
fail:
    return status;
}

int64_t cursor_value_count(const Cursor *cursor)
{
    return (int64_t)position_count(cursor) * 2;
}

void cursor_export(const Cursor *cursor, int rank, int world, int64_t *values)
{
    for (size_t i = 0; i < position_count(cursor); i++) {
        int own = (int)(i % (size_t)cursor->lanes) % world == rank;
        values[2 * i] = own ? cursor->positions[i].epoch : 0;
        values[2 * i + 1] = own ? cursor->positions[i].position : 0;
    }
}

void cursor_import(Cursor *cursor, const int64_t *values)
{
    for (size_t i = 0; i < position_count(cursor); i++)
        cursor->positions[i] = (LanePosition){.epoch = values[2 * i], .position = values[2 * i + 1]};
}
