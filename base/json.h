/* JSON: a small writer, and reading through json-c with limits. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"

/* Writer: commas and nesting are its own business. `key` is NULL inside arrays and at the top. Non-finite numbers are
 * written as null. Strings that are not UTF-8 have their bad bytes replaced by U+FFFD. */
typedef struct JsonWriter {
    StrBuf *out;
    int depth;
    bool need_comma;
} JsonWriter;
void json_begin(JsonWriter *w, StrBuf *out);
void json_object(JsonWriter *w, const char *key);
void json_end_object(JsonWriter *w);
void json_array(JsonWriter *w, const char *key);
void json_end_array(JsonWriter *w);
void json_string(JsonWriter *w, const char *key, const char *value);
void json_int(JsonWriter *w, const char *key, int64_t value);
void json_float(JsonWriter *w, const char *key, double value); /* shortest text that reads back exactly */
void json_bool(JsonWriter *w, const char *key, bool value);

/* Reading. A document of at most `limit` bytes and depth 32; NaN and Infinity, as Python writes them, are read as
 * doubles; a byte order mark before it is passed over; invalid UTF-8 and trailing text are ERR_FORMAT. */
typedef struct JsonDoc JsonDoc;     /* owns everything below */
typedef struct JsonValue JsonValue; /* a node; NULL means absent and is accepted by every function here */
Status json_parse(const char *text, size_t size, size_t limit, JsonDoc **out);
void json_free(JsonDoc *doc);
const JsonValue *json_root(const JsonDoc *doc);
/* True when some object has a key twice (of which the last is kept). */
bool json_has_duplicate_keys(const JsonDoc *doc);
const JsonValue *json_get(const JsonValue *object, const char *key); /* NULL when absent or not an object */
size_t json_count(const JsonValue *array_or_object);
const JsonValue *json_item(const JsonValue *array, size_t i);
const JsonValue *json_member(const JsonValue *object, size_t i, const char **key); /* in file order */
bool json_is_null(const JsonValue *v);                                             /* absent or null */
bool json_is_string(const JsonValue *v);
bool json_is_number(const JsonValue *v);
bool json_is_object(const JsonValue *v);
bool json_is_array(const JsonValue *v);
bool json_boolean(const JsonValue *v, bool *out);        /* false when not true or false */
const char *json_text(const JsonValue *v, size_t *size); /* NULL when not a string; \u0000 may be inside */
bool json_number(const JsonValue *v, double *out);       /* false when not a number or a numeric string */
bool json_integer(const JsonValue *v, int64_t *out);     /* false when not a whole number in range; 3.0 is one */

/* The shortest decimal text that reads back as exactly `value`, always with a point or an exponent. */
void float_format(double value, char out[40]);

/* True when the bytes are valid UTF-8 (no surrogates, no overlongs, no NUL). */
bool utf8_valid(const char *text, size_t size);
/* Moves past the byte order mark that some editors put before UTF-8. */
void utf8_skip_mark(const char **text, size_t *size);
/* True when valid UTF-8 has characters that a terminal obeys: U+0000 to U+001F and U+007F to U+009F. */
bool utf8_has_controls(const char *text, size_t size);

#endif
