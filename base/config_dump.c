/* The effective config back to YAML, one value of it, and the schema as a table of keys. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/config.h"
#include "base/config_tree.h"
#include "base/json.h"

static const char *const TYPE_NAMES[] = {
    [CONFIG_BOOL] = "true or false",
    [CONFIG_INT] = "whole number",
    [CONFIG_FLOAT] = "number",
    [CONFIG_STRING] = "text",
    [CONFIG_ENUM] = "word",
    [CONFIG_INT_LIST] = "list of whole numbers",
    [CONFIG_STRING_LIST] = "list of texts",
    [CONFIG_STRING_MAP] = "texts under keys",
    [CONFIG_SECTION] = "section",
    [CONFIG_LIST] = "list of sections",
    [CONFIG_PATCH] = "of this section's keys those that differ:",
};

/* --- dump --- */

/* A text that every YAML reader takes for a text without quotes. */
static bool is_plain(const char *text)
{
    static const char *const TAKEN[] = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"};
    static const char LETTERS[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    size_t length = strlen(text);
    if (length == 0 || length > 200 || (!strchr(LETTERS, text[0]) && text[0] != '/')) return false;
    if (strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-") != length) return false;
    for (size_t i = 0; i < sizeof TAKEN / sizeof TAKEN[0]; i++) {
        if (strcasecmp(text, TAKEN[i]) == 0) return false;
    }
    return true;
}

/* The code point at `s` and its length; length 0 when the bytes are not UTF-8. */
static size_t decode_utf8(const char *s, size_t size, uint32_t *code)
{
    static const uint8_t FIRST_MASK[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    for (size_t n = 1; n <= 4 && n <= size; n++) {
        if (!utf8_valid(s, n)) continue;
        *code = (uint8_t)s[0] & FIRST_MASK[n];
        for (size_t i = 1; i < n; i++) *code = *code << 6 | ((uint8_t)s[i] & 0x3f);
        return n;
    }
    return 0;
}

static Status dump_string(const char *text, StrBuf *out)
{
    Status status = STATUS_OK;
    size_t size = strlen(text);
    if (is_plain(text)) return strbuf_append(out, text, size);
    TRY(strbuf_append(out, "\"", 1));
    for (size_t i = 0; i < size;) {
        uint32_t code;
        size_t length = decode_utf8(text + i, size - i, &code);
        if (length == 0) {
            TRY(strbuf_printf(out, "\xef\xbf\xbd"));
            length = 1;
        } else if (code == '"' || code == '\\')
            TRY(strbuf_printf(out, "\\%c", (char)code));
        else if (code == '\n')
            TRY(strbuf_printf(out, "\\n"));
        else if (code == '\t')
            TRY(strbuf_printf(out, "\\t"));
        /* Control characters, the line breaks of Unicode, the byte order mark, and the non-characters. */
        else if (code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x2028 || code == 0x2029 || code == 0xfeff ||
                 (code & 0xfffe) == 0xfffe)
            TRY(strbuf_printf(out, "\\U%08x", code));
        else
            TRY(strbuf_append(out, text + i, length));
        i += length;
    }
    TRY(strbuf_append(out, "\"", 1));
fail:
    return status;
}

static Status dump_float(double value, StrBuf *out)
{
    Status status = STATUS_OK;
    char text[40];
    if (!isfinite(value)) FAIL(ERR_INTERNAL, "a config cannot hold the number %f", value);
    float_format(value, text);
    TRY(strbuf_append(out, text, strlen(text)));
fail:
    return status;
}

static Status dump_fields(const ConfigSchema *schema, const void *values, int indent, bool in_item, StrBuf *out);
static Status dump_written(const ConfigSchema *schema, const Node *node, const void *values, int indent, StrBuf *out);

static Status dump_field(const ConfigField *field, const void *value, int indent, StrBuf *out)
{
    Status status = STATUS_OK;
    switch (field->type) {
    case CONFIG_BOOL:
        TRY(strbuf_printf(out, " %s\n", *(const bool *)value ? "true" : "false"));
        break;
    case CONFIG_INT: {
        const int64_t number = *(const int64_t *)value;
        int64_t words = 0;
        while (field->words && field->words[words]) words++;
        if (number < 0 && number >= -words)
            TRY(strbuf_printf(out, " %s\n", field->words[-1 - number]));
        else
            TRY(strbuf_printf(out, " %lld\n", (long long)number));
        break;
    }
    case CONFIG_FLOAT:
        TRY(strbuf_append(out, " ", 1));
        TRY(dump_float(*(const double *)value, out));
        TRY(strbuf_append(out, "\n", 1));
        break;
    case CONFIG_STRING:
        TRY(strbuf_append(out, " ", 1));
        TRY(dump_string(*(char *const *)value ? *(char *const *)value : "", out));
        TRY(strbuf_append(out, "\n", 1));
        break;
    case CONFIG_ENUM:
        TRY(strbuf_printf(out, " %s\n", field->words[*(const int32_t *)value]));
        break;
    case CONFIG_INT_LIST: {
        const ConfigInts *list = value;
        TRY(strbuf_append(out, " [", 2));
        for (size_t i = 0; i < list->count; i++)
            TRY(strbuf_printf(out, "%s%lld", i ? ", " : "", (long long)list->items[i]));
        TRY(strbuf_append(out, "]\n", 2));
        break;
    }
    case CONFIG_STRING_LIST: {
        const ConfigStrings *list = value;
        TRY(strbuf_append(out, " [", 2));
        for (size_t i = 0; i < list->count; i++) {
            if (i) TRY(strbuf_append(out, ", ", 2));
            TRY(dump_string(list->items[i], out));
        }
        TRY(strbuf_append(out, "]\n", 2));
        break;
    }
    case CONFIG_STRING_MAP: {
        const ConfigPairs *pairs = value;
        TRY(strbuf_printf(out, pairs->count ? "\n" : " {}\n"));
        for (size_t i = 0; i < pairs->count; i++) {
            TRY(strbuf_printf(out, "%*s", indent + 2, ""));
            TRY(dump_string(pairs->keys[i], out));
            TRY(strbuf_append(out, ": ", 2));
            TRY(dump_string(pairs->values[i], out));
            TRY(strbuf_append(out, "\n", 1));
        }
        break;
    }
    case CONFIG_SECTION:
        TRY(strbuf_printf(out, field->schema->field_count ? "\n" : " {}\n"));
        TRY(dump_fields(field->schema, value, indent + 2, false, out));
        break;
    case CONFIG_LIST: {
        const ConfigList *list = value;
        TRY(strbuf_printf(out, list->count ? "\n" : " []\n"));
        for (size_t i = 0; i < list->count; i++) {
            const char *item = (const char *)list->items + i * field->schema->struct_size;
            TRY(strbuf_printf(out, "%*s- %s", indent + 2, "", field->schema->field_count ? "" : "{}\n"));
            TRY(dump_fields(field->schema, item, indent + 4, true, out));
        }
        break;
    }
    case CONFIG_PATCH: {
        const ConfigPatch *patch = value;
        TRY(strbuf_printf(out, "\n"));
        TRY(dump_written(field->schema, patch->written, patch->values, indent + 2, out));
        break;
    }
    }
fail:
    return status;
}

/* Whether some key is written in the section, and not only sections with nothing below. */
static bool writes_anything(const ConfigSchema *schema, const Node *node)
{
    for (size_t i = 0; i < schema->field_count; i++) {
        const ConfigField *field = &schema->fields[i];
        const Node *child = config_tree_get(node, field->key);
        if (child && (field->type != CONFIG_SECTION || writes_anything(field->schema, child))) return true;
    }
    return false;
}

/* Of a patch, the keys that were written. */
static Status dump_written(const ConfigSchema *schema, const Node *node, const void *values, int indent, StrBuf *out)
{
    Status status = STATUS_OK;
    for (size_t i = 0; i < schema->field_count; i++) {
        const ConfigField *field = &schema->fields[i];
        const Node *child = config_tree_get(node, field->key);
        const void *value = (const char *)values + field->offset;
        const bool section = field->type == CONFIG_SECTION;
        if (!child || (section && !writes_anything(field->schema, child))) continue;
        TRY(strbuf_printf(out, "%*s%s:%s", indent, "", field->key, section ? "\n" : ""));
        if (section)
            TRY(dump_written(field->schema, child, value, indent + 2, out));
        else
            TRY(dump_field(field, value, indent, out));
    }
fail:
    return status;
}

/* Of a patch that writes nothing there is no line: it need not be written again. */
static bool is_left_out(const ConfigField *field, const void *value)
{
    return field->type == CONFIG_PATCH && !writes_anything(field->schema, ((const ConfigPatch *)value)->written);
}

/* `in_item`: the first line follows the "- " of a list; its first field is no patch. */
static Status dump_fields(const ConfigSchema *schema, const void *values, int indent, bool in_item, StrBuf *out)
{
    Status status = STATUS_OK;
    for (size_t i = 0; i < schema->field_count; i++) {
        const ConfigField *field = &schema->fields[i];
        const void *value = (const char *)values + field->offset;
        if (is_left_out(field, value)) continue;
        TRY(strbuf_printf(out, "%*s%s:", in_item && i == 0 ? 0 : indent, "", field->key));
        TRY(dump_field(field, value, indent, out));
    }
fail:
    return status;
}

Status config_dump(const ConfigSchema *schema, const void *values, StrBuf *out)
{
    return dump_fields(schema, values, 0, false, out);
}

/* --- one value --- */

/* `part` is where in `key` it is not a key of the schema. */
static Status refuse_key(const ConfigSchema *schema, const char *key, const char *part)
{
    Status status = STATUS_OK;
    char word[64];
    const char *keys[256];
    const size_t count = schema->field_count < 256 ? schema->field_count : 256;
    for (size_t i = 0; i < count; i++) keys[i] = schema->fields[i].key;
    snprintf(word, sizeof word, "%.*s", (int)strcspn(part, "."), part);
    const char *near = config_nearest(word, keys, count);
    if (near)
        FAIL(ERR_USAGE, "%s: the config has no such key; did you mean %.*s%s?", key, (int)(part - key), key, near);
    FAIL(ERR_USAGE, "%s: the config has no such key", key);
fail:
    return status;
}

static Status dump_plain(const ConfigField *field, const void *value, const char *key, StrBuf *out)
{
    Status status = STATUS_OK;
    StrBuf line = {0};
    switch (field->type) {
    case CONFIG_SECTION:
        FAIL(ERR_USAGE, "%s: is a section; name one of its keys, as in %s.%s", key, key, field->schema->fields[0].key);
    case CONFIG_STRING_MAP:
    case CONFIG_LIST:
    case CONFIG_PATCH:
        FAIL(ERR_USAGE, "%s: has lines of its own instead of a value; print the whole config", key);
    case CONFIG_STRING: {
        const char *text = *(char *const *)value;
        TRY(strbuf_append(out, text ? text : "", text ? strlen(text) : 0));
        break;
    }
    default:
        TRY(dump_field(field, value, 0, &line));
        TRY(strbuf_append(out, line.data + 1, line.size - 2)); /* without the blank and the end of the line */
    }
fail:
    strbuf_free(&line);
    return status;
}

Status config_dump_value(const ConfigSchema *schema, const void *values, const char *key, StrBuf *out)
{
    Status status = STATUS_OK;
    for (const char *part = key;;) {
        const size_t length = strcspn(part, ".");
        const ConfigField *field = NULL;
        for (size_t i = 0; i < schema->field_count && !field; i++) {
            const char *known = schema->fields[i].key;
            if (strlen(known) == length && strncmp(known, part, length) == 0) field = &schema->fields[i];
        }
        if (!field) FAIL_WITH(refuse_key(schema, key, part));
        values = (const char *)values + field->offset;
        if (!part[length]) return dump_plain(field, values, key, out);
        if (field->type != CONFIG_SECTION)
            FAIL(ERR_USAGE, "%s: %.*s has no keys below it that could be named", key, (int)(part - key) + (int)length,
                 key);
        schema = field->schema;
        part += length + 1;
    }
fail:
    return status;
}

/* --- describe --- */

static Status describe_range(const ConfigField *field, StrBuf *out)
{
    if (field->min == 0 && field->max == 0) return STATUS_OK;
    if (field->max < field->min || isinf(field->max)) return strbuf_printf(out, ", at least %.15g", field->min);
    if (isinf(field->min)) return strbuf_printf(out, ", at most %.15g", field->max);
    return strbuf_printf(out, ", %.15g to %.15g", field->min, field->max);
}

/* The keys that a patch may write. */
static Status describe_patch(const ConfigField *field, StrBuf *out)
{
    Status status = STATUS_OK;
    for (size_t i = 0; field->words && field->words[i]; i++)
        TRY(strbuf_printf(out, "%s %s", i ? "," : "", field->words[i]));
    for (size_t i = 0; !field->words && i < field->schema->field_count; i++)
        TRY(strbuf_printf(out, "%s %s", i ? "," : "", field->schema->fields[i].key));
fail:
    return status;
}

static Status describe_fields(const ConfigSchema *schema, const char *prefix, int depth, StrBuf *out)
{
    Status status = STATUS_OK;
    char path[512];
    if (depth > CONFIG_MAX_DEPTH) FAIL(ERR_INTERNAL, "the schema %s nests too deep", schema->name);
    for (size_t i = 0; i < schema->field_count; i++) {
        const ConfigField *field = &schema->fields[i];
        snprintf(path, sizeof path, "%s%s", prefix, field->key);
        TRY(strbuf_printf(out, "%s: %s", path, TYPE_NAMES[field->type]));
        for (size_t w = 0; field->type == CONFIG_ENUM && field->words[w]; w++)
            TRY(strbuf_printf(out, "%s%s", w ? " | " : " ", field->words[w]));
        for (size_t w = 0; field->type == CONFIG_INT && field->words && field->words[w]; w++)
            TRY(strbuf_printf(out, " or %s", field->words[w]));
        TRY(describe_range(field, out));
        if (field->default_text)
            TRY(strbuf_printf(out, ", default %s", field->default_text[0] ? field->default_text : "\"\""));
        else if (field->type == CONFIG_LIST)
            TRY(strbuf_printf(out, ", default []"));
        else if (field->type == CONFIG_PATCH)
            TRY(describe_patch(field, out));
        else if (field->type != CONFIG_SECTION)
            TRY(strbuf_printf(out, ", required"));
        TRY(strbuf_printf(out, "\n    %s\n", field->help ? field->help : ""));
        if (field->type == CONFIG_SECTION || field->type == CONFIG_LIST) {
            size_t length = strlen(path);
            snprintf(path + length, sizeof path - length, "%s.", field->type == CONFIG_LIST ? "[]" : "");
            TRY(describe_fields(field->schema, path, depth + 1, out));
        }
    }
fail:
    return status;
}

Status config_describe(const ConfigSchema *schema, StrBuf *out)
{
    return describe_fields(schema, "", 0, out);
}
