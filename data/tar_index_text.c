/* The text of an index: DALI's format. One line is one sample, so that a window can be found by counting lines. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"
#include "data/tar_index.h"
#include "data/tar_walk.h"

#define MAX_LINE ((size_t)1 << 20)
#define CHUNK ((size_t)128 << 10)
#define MAX_WORD 4200 /* a member's name and a few bytes */

/* ---- writing ---- */

static bool has_blank(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text <= ' ' || *text == 127) return true;
    return false;
}

Status tar_index_format(const TarIndex *index, StrBuf *out)
{
    Status status = STATUS_OK;
    const SampleTable *table = &index->table;
    TRY(strbuf_printf(out, "v1.2 %zu\n", table->sample_count));
    for (size_t s = 0; s < table->sample_count; s++) {
        const Sample *sample = &table->samples[s];
        const char *key = sample_key(table, sample);
        size_t line = out->size;
        for (uint32_t m = 0; m < sample->member_count; m++) {
            const SampleMember *member = &table->members[sample->first_member + m];
            const char *suffix = sample_suffix(table, member);
            if (has_blank(key) || has_blank(suffix))
                FAIL(ERR_UNSUPPORTED, "member %s.%s has a blank in its name", key, suffix);
            TRY(strbuf_printf(out, "%s%s %" PRId64 " %" PRId64 " %s.%s", m ? " " : "", suffix, member->offset,
                              member->size, key, suffix));
        }
        if (out->size - line > MAX_LINE) FAIL(ERR_UNSUPPORTED, "sample %s has too many members", key);
        TRY(strbuf_append(out, "\n", 1));
    }
    return STATUS_OK;
fail:
    return status;
}

/* ---- a line ---- */

typedef struct Line {
    const char *at, *end; /* without its LF or CR LF */
    int64_t number;       /* in the file, from 1 */
} Line;

static bool is_blank_line(const Line *line)
{
    const char *p = line->at;
    while (p < line->end && *p == ' ') p++;
    return p == line->end;
}

/* The next word, NUL-terminated; false at the end of the line, and for one that is too long or has control characters,
 * of which line->at then stands before. */
static bool next_word(Line *line, char *word, size_t capacity)
{
    const char *p = line->at;
    size_t n = 0;
    while (p < line->end && *p == ' ') p++;
    for (; p < line->end && *p != ' '; p++) {
        if (n + 1 >= capacity || (unsigned char)*p < ' ') return false;
        word[n++] = *p;
    }
    word[n] = 0;
    if (n > 0) line->at = p;
    return n > 0;
}

static bool parse_number(const char *word, int64_t *out)
{
    int64_t value = 0;
    if (!*word || strlen(word) > 18) return false;
    for (; *word; word++) {
        if (*word < '0' || *word > '9') return false;
        value = value * 10 + (*word - '0');
    }
    *out = value;
    return true;
}

/* Where the line at `text` ends. */
static Line line_at(const char *text, const char *end, int64_t number)
{
    const char *newline = memchr(text, '\n', (size_t)(end - text));
    Line line = {text, newline ? newline : end, number};
    if (line.end > line.at && line.end[-1] == '\r') line.end--;
    return line;
}

static bool parse_first(Line line, int64_t *samples)
{
    char word[64];
    return next_word(&line, word, sizeof word) && strcmp(word, "v1.2") == 0 && next_word(&line, word, sizeof word) &&
           parse_number(word, samples) && is_blank_line(&line);
}

bool tar_index_first_line(const char *text, size_t size, int64_t *samples)
{
    return parse_first(line_at(text, text + size, 1), samples);
}

/* The members of one sample, added to the table. */
static Status parse_sample(Line line, int64_t shard_size, SampleTable *table)
{
    Status status = STATUS_OK;
    char word[64], suffix[MAX_WORD], name[MAX_WORD];
    size_t before = table->sample_count;
    while (!is_blank_line(&line)) {
        int64_t offset, bytes;
        if (!next_word(&line, suffix, sizeof suffix) || !next_word(&line, word, sizeof word) ||
            !parse_number(word, &offset) || !next_word(&line, word, sizeof word) || !parse_number(word, &bytes) ||
            !next_word(&line, name, sizeof name))
            FAIL(ERR_FORMAT, "line %" PRId64 ": not '<suffix> <offset> <size> <name>' repeated", line.number);
        if (offset < TAR_BLOCK || (shard_size >= 0 && (offset > shard_size || bytes > shard_size - offset)))
            FAIL(ERR_FORMAT, "line %" PRId64 ": %s lies outside of the shard", line.number, name);
        TRY(sample_table_add(table, name, offset, bytes));
    }
    if (table->sample_count != before + 1)
        FAIL(ERR_FORMAT, "line %" PRId64 ": its members are not those of one sample", line.number);
fail:
    return status;
}

Status tar_index_parse(const char *text, size_t size, int64_t shard_size, TarIndex *out)
{
    Status status = STATUS_OK;
    TarIndex index = {0};
    const char *p = text, *end = text + size;
    int64_t count = 0;
    *out = (TarIndex){0};
    for (int64_t number = 1; p < end; number++) {
        Line line = line_at(p, end, number);
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        size_t length = (size_t)((newline ? newline : end) - p);
        p += length + (newline != NULL);
        if (length > MAX_LINE) FAIL(ERR_FORMAT, "line %" PRId64 ": too long", number);
        if (number == 1 && !parse_first(line, &count)) FAIL(ERR_FORMAT, "line 1: not \"v1.2\" and a number of samples");
        if (number > 1 && !is_blank_line(&line)) TRY(parse_sample(line, shard_size, &index.table));
    }
    if (size == 0) FAIL(ERR_FORMAT, "empty");
    if ((int64_t)index.table.sample_count != count)
        FAIL(ERR_FORMAT, "says %" PRId64 " samples but has %zu", count, index.table.sample_count);
    *out = index;
    return STATUS_OK;
fail:
    tar_index_free(&index);
    return status;
}

/* ---- a window ---- */

typedef struct LineReader {
    const char *path;
    int fd;
    char *text;
    size_t capacity, begin, end; /* text[begin .. end) is not taken yet */
    int64_t number;
    bool ended;
} LineReader;

/* More bytes behind those that are there. */
static Status fill(LineReader *reader)
{
    Status status = STATUS_OK;
    memmove(reader->text, reader->text + reader->begin, reader->end - reader->begin);
    reader->end -= reader->begin;
    reader->begin = 0;
    if (reader->end > MAX_LINE) FAIL(ERR_FORMAT, "%s, line %" PRId64 ": too long", reader->path, reader->number + 1);
    TRY(mem_grow(&reader->text, &reader->capacity, reader->end + CHUNK, 1));
    ssize_t got = read(reader->fd, reader->text + reader->end, reader->capacity - reader->end);
    if (got < 0 && errno == EINTR) return STATUS_OK;
    if (got < 0) FAIL_WITH(file_system_error(errno, "read", reader->path));
    reader->ended = got == 0;
    reader->end += (size_t)got;
fail:
    return status;
}

/* STATUS_END after the last. */
static Status next_line(LineReader *reader, Line *line)
{
    Status status = STATUS_OK;
    size_t seen = 0; /* bytes without a line's end */
    for (;;) {
        const char *at = reader->text + reader->begin;
        const char *newline =
            seen < reader->end - reader->begin ? memchr(at + seen, '\n', reader->end - reader->begin - seen) : NULL;
        if (newline || (reader->ended && reader->begin < reader->end)) {
            const char *end = newline ? newline : reader->text + reader->end;
            *line = (Line){at, end, ++reader->number};
            reader->begin = (size_t)(end - reader->text) + (newline != NULL);
            if (line->end > line->at && line->end[-1] == '\r') line->end--;
            return STATUS_OK;
        }
        if (reader->ended) return STATUS_END;
        seen = reader->end - reader->begin;
        TRY(fill(reader));
    }
fail:
    return status;
}

static Status read_window(LineReader *reader, int64_t first, int64_t count, int64_t shard_size, SampleTable *table)
{
    Status status = STATUS_OK;
    Line line = {0};
    int64_t samples = 0;
    status = next_line(reader, &line);
    if (status == STATUS_END || (status == STATUS_OK && !parse_first(line, &samples)))
        FAIL(ERR_FORMAT, "%s: does not begin with \"v1.2\" and a number of samples", reader->path);
    if (status != STATUS_OK) FAIL_WITH(status);
    if (first < 0 || count < 0 || first > samples || count > samples - first)
        FAIL(ERR_FORMAT, "%s: has %" PRId64 " samples, not the %" PRId64 " from %" PRId64 " on that are asked for",
             reader->path, samples, count, first);
    for (int64_t at = 0; at < first + count;) {
        status = next_line(reader, &line);
        if (status == STATUS_END)
            FAIL(ERR_FORMAT, "%s: says %" PRId64 " samples but has %" PRId64, reader->path, samples, at);
        if (status != STATUS_OK) FAIL_WITH(status);
        if (is_blank_line(&line)) continue;
        if (at++ < first) continue;
        status = parse_sample(line, shard_size, table);
        if (status != STATUS_OK) {
            status_prefix("%s, ", reader->path);
            FAIL_WITH(status);
        }
    }
fail:
    return status;
}

Status tar_index_window(const char *index_path, int64_t first, int64_t count, int64_t shard_bytes, TarIndex *out)
{
    Status status = STATUS_OK;
    TarIndex index = {0};
    LineReader reader = {.path = index_path, .fd = -1};
    *out = (TarIndex){0};
    TRY(mem_grow(&reader.text, &reader.capacity, CHUNK, 1));
    reader.fd = open(index_path, O_RDONLY | O_CLOEXEC);
    if (reader.fd < 0) FAIL_WITH(file_system_error(errno, "open", index_path));
    TRY(read_window(&reader, first, count, shard_bytes, &index.table));
    *out = index;
    index = (TarIndex){0};
fail:
    if (reader.fd >= 0) close(reader.fd);
    free(reader.text);
    tar_index_free(&index);
    return status;
}
