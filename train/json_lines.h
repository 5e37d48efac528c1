/* A file of JSON objects, one a line, that another process may be appending to: each reading goes on where the last one
 * stopped. The memory that this takes does not depend on the file. */
#ifndef TRAIN_JSON_LINES_H
#define TRAIN_JSON_LINES_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"

enum { JSON_LINE_MAX = 1 << 20 }; /* bytes; a longer line is a bad one */

typedef struct JsonLines {
    char path[PATH_MAX];
    int64_t offset;    /* of the first byte not taken yet */
    int64_t good, bad; /* lines taken so far; bad: no JSON object, or too long */
    bool overlong;     /* inside a line that is too long */
} JsonLines;

Status json_lines_name(JsonLines *lines, const char *path);

/* What is done with each object; false: it is not what it should be, and counts as bad. */
typedef bool JsonLineVisit(void *context, const JsonValue *object);

/* All whole lines from where the last reading stopped; a torn last one is left for the next reading. A file that is not
 * there has no lines. */
Status json_lines_read(JsonLines *lines, JsonLineVisit *visit, void *context);

/* Whether the file has become shorter than what was read of it: then it has other lines now. */
bool json_lines_was_cut(const JsonLines *lines);

#endif
