/* The JSON writer. The first failure to grow the text is recorded by strbuf; later calls go on harmlessly. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

static void put(JsonWriter *w, const char *text)
{
    (void)strbuf_append(w->out, text, strlen(text));
}

/* The bytes of the character at `s`, 0 when they are no valid UTF-8. */
static size_t utf8_length(const char *s, size_t size)
{
    for (size_t n = 1; n <= 4 && n <= size; n++) {
        if (utf8_valid(s, n)) return n;
    }
    return 0;
}

static void put_string(JsonWriter *w, const char *value)
{
    size_t size = strlen(value), plain = 0;
    put(w, "\"");
    for (size_t i = 0; i < size;) {
        unsigned char c = (unsigned char)value[i];
        size_t length = utf8_length(value + i, size - i);
        if (length > 0 && c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) {
            i += length;
            continue;
        }
        (void)strbuf_append(w->out, value + plain, i - plain);
        if (length == 0)
            put(w, "\xef\xbf\xbd");
        else if (c == '"' || c == '\\')
            (void)strbuf_printf(w->out, "\\%c", c);
        else if (c == '\n')
            put(w, "\\n");
        else if (c == '\t')
            put(w, "\\t");
        else
            (void)strbuf_printf(w->out, "\\u%04x", c);
        plain = ++i;
    }
    (void)strbuf_append(w->out, value + plain, size - plain);
    put(w, "\"");
}

static void begin_value(JsonWriter *w, const char *key)
{
    if (w->need_comma) put(w, ", ");
    w->need_comma = true;
    if (key) {
        put_string(w, key);
        put(w, ": ");
    }
}

void json_begin(JsonWriter *w, StrBuf *out)
{
    *w = (JsonWriter){.out = out};
}

static void open_level(JsonWriter *w, const char *key, const char *bracket)
{
    begin_value(w, key);
    put(w, bracket);
    w->depth++;
    w->need_comma = false;
}

static void close_level(JsonWriter *w, const char *bracket)
{
    put(w, bracket);
    w->depth--;
    w->need_comma = true;
}

void json_object(JsonWriter *w, const char *key)
{
    open_level(w, key, "{");
}

void json_end_object(JsonWriter *w)
{
    close_level(w, "}");
}

void json_array(JsonWriter *w, const char *key)
{
    open_level(w, key, "[");
}

void json_end_array(JsonWriter *w)
{
    close_level(w, "]");
}

void json_string(JsonWriter *w, const char *key, const char *value)
{
    begin_value(w, key);
    put_string(w, value);
}

void json_int(JsonWriter *w, const char *key, int64_t value)
{
    begin_value(w, key);
    (void)strbuf_printf(w->out, "%lld", (long long)value);
}

void json_float(JsonWriter *w, const char *key, double value)
{
    begin_value(w, key);
    if (!isfinite(value)) {
        put(w, "null");
        return;
    }
    char text[40];
    float_format(value, text);
    put(w, text);
}

void json_bool(JsonWriter *w, const char *key, bool value)
{
    begin_value(w, key);
    put(w, value ? "true" : "false");
}

void float_format(double value, char out[40])
{
    char text[40];
    /* A text of at most 15 digits that reads back is what %.15g writes; 17 digits always suffice. */
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    size_t length = strlen(text);
    if (!strpbrk(text, ".eni")) { /* a float should look like one, and JSON readers keep the sign of -0.0 only so */
        memcpy(text + length, ".0", 3);
        length += 2;
    }
    memcpy(out, text, length + 1);
}
