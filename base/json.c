/* Reading JSON through json-c, after a check of the grammar. JsonValue is json-c's node under another name; what json-c
 * loses is handled here: members by position, keys that occur twice. */
#include "base/json.h"

/* json-c names two types as our writer names two functions. */
#define json_object json_c_object
#define json_bool json_c_bool
#include <json-c/json.h>
#undef json_object
#undef json_bool

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_grammar.h"

#define MAX_DEPTH 32

struct JsonDoc {
    struct json_c_object *root; /* NULL for the document `null` */
    bool duplicate_keys;
};

/* Members of an object in file order: json-c offers a linked list only. Hangs on the object as its user data. */
typedef struct Members {
    size_t count;
    struct lh_entry *items[];
} Members;

static struct json_c_object *node_of(const JsonValue *value)
{
    struct json_c_object *node; /* json-c's questions take pointers without const */
    memcpy(&node, &value, sizeof node);
    return node;
}

static const JsonValue *value_of(struct json_c_object *node)
{
    return (const JsonValue *)node;
}

bool utf8_has_controls(const char *text, size_t size)
{
    const unsigned char *s = (const unsigned char *)text;
    for (size_t i = 0; i < size; i++)
        if (s[i] < 0x20 || s[i] == 0x7f || (s[i] == 0xc2 && i + 1 < size && s[i + 1] < 0xa0)) return true;
    return false;
}

void utf8_skip_mark(const char **text, size_t *size)
{
    static const char MARK[] = "\xef\xbb\xbf";
    if (*size < 3 || memcmp(*text, MARK, 3) != 0) return;
    *text += 3;
    *size -= 3;
}

bool utf8_valid(const char *text, size_t size)
{
    const unsigned char *s = (const unsigned char *)text, *end = s + size;
    while (s < end) {
        unsigned char c = *s++;
        int more;
        unsigned char low = 0x80, high = 0xbf; /* bounds of the second byte: no overlongs, surrogates, or > 10FFFF */
        if (c == 0) return false;
        if (c < 0x80) continue;
        if (c >= 0xc2 && c <= 0xdf)
            more = 1;
        else if (c >= 0xe0 && c <= 0xef) {
            more = 2;
            if (c == 0xe0) low = 0xa0;
            if (c == 0xed) high = 0x9f;
        } else if (c >= 0xf0 && c <= 0xf4) {
            more = 3;
            if (c == 0xf0) low = 0x90;
            if (c == 0xf4) high = 0x8f;
        } else
            return false;
        if (end - s < more || *s < low || *s > high) return false;
        for (int i = 1; i < more; i++) {
            if ((s[i] & 0xc0) != 0x80) return false;
        }
        s += more;
    }
    return true;
}

static void free_members(struct json_c_object *node, void *userdata)
{
    free(userdata);
}

/* Indexes every object below `node` and counts the members, and reports nodes that nest deeper than we allow. */
static Status index_tree(struct json_c_object *node, int depth, size_t *member_count)
{
    Status status = STATUS_OK;
    bool is_list = json_object_is_type(node, json_type_array), is_object = json_object_is_type(node, json_type_object);
    if ((is_list || is_object) && depth >= MAX_DEPTH) FAIL(ERR_LIMIT, "JSON nested more than %d deep", MAX_DEPTH);
    if (is_list) {
        size_t count = json_object_array_length(node);
        for (size_t i = 0; i < count; i++) TRY(index_tree(json_object_array_get_idx(node, i), depth + 1, member_count));
    } else if (is_object) {
        struct lh_table *table = json_object_get_object(node);
        size_t count = (size_t)lh_table_length(table);
        Members *members = mem_alloc_array(1, sizeof *members + count * sizeof members->items[0]);
        if (!members) FAIL_WITH(ERR_MEMORY);
        json_object_set_userdata(node, members, free_members);
        for (struct lh_entry *entry = lh_table_head(table); entry; entry = lh_entry_next(entry)) {
            members->items[members->count++] = entry;
            TRY(index_tree((struct json_c_object *)lh_entry_v(entry), depth + 1, member_count));
        }
        *member_count += count;
    }
fail:
    return status;
}

Status json_parse(const char *text, size_t size, size_t limit, JsonDoc **out)
{
    Status status = STATUS_OK;
    struct json_tokener *tokener = NULL;
    JsonDoc *doc = NULL;
    char *spaced = NULL;
    *out = NULL;
    if (size > limit) FAIL(ERR_LIMIT, "JSON of %zu bytes, at most %zu are read", size, limit);
    if (size > INT32_MAX - 1) FAIL(ERR_LIMIT, "JSON of %zu bytes, at most %d are read", size, INT32_MAX - 1);
    utf8_skip_mark(&text, &size);
    if (!utf8_valid(text, size)) FAIL(ERR_FORMAT, "JSON is not valid UTF-8");
    size_t members = 0, written = 0;
    TRY(json_check_grammar(text, size, MAX_DEPTH, &written));

    doc = mem_alloc_array(1, sizeof *doc);
    if (!doc) FAIL_WITH(ERR_MEMORY);
    tokener = json_tokener_new_ex(MAX_DEPTH + 1);
    if (!tokener) FAIL(ERR_MEMORY, "out of memory while reading JSON");
    doc->root = json_tokener_parse_ex(tokener, text, (int)size);
    if (json_tokener_get_error(tokener) == json_tokener_continue) {
        /* A bare number or word at the top ends only where the text ends: a space after it tells the tokener so (in one
         * piece with it, or json-c 0.18 loses the number). */
        spaced = mem_alloc_array(size + 1, 1);
        if (!spaced) FAIL_WITH(ERR_MEMORY);
        memcpy(spaced, text, size);
        spaced[size] = ' ';
        json_tokener_reset(tokener);
        doc->root = json_tokener_parse_ex(tokener, spaced, (int)size + 1);
    }
    enum json_tokener_error error = json_tokener_get_error(tokener);
    if (error != json_tokener_success)
        FAIL(ERR_FORMAT, "JSON is wrong at byte %zu: %s", json_tokener_get_parse_end(tokener),
             json_tokener_error_desc(error));
    TRY(index_tree(doc->root, 0, &members));
    doc->duplicate_keys = members < written;
    json_tokener_free(tokener);
    free(spaced);
    *out = doc;
    return STATUS_OK;
fail:
    if (tokener) json_tokener_free(tokener);
    free(spaced);
    json_free(doc);
    return status;
}

void json_free(JsonDoc *doc)
{
    if (!doc) return;
    json_object_put(doc->root);
    free(doc);
}

const JsonValue *json_root(const JsonDoc *doc)
{
    return value_of(doc->root);
}

bool json_has_duplicate_keys(const JsonDoc *doc)
{
    return doc->duplicate_keys;
}

bool json_is_null(const JsonValue *v)
{
    return v == NULL; /* json-c's null is NULL too */
}

bool json_is_string(const JsonValue *v)
{
    return json_object_is_type(node_of(v), json_type_string);
}

bool json_is_number(const JsonValue *v)
{
    return json_object_is_type(node_of(v), json_type_int) || json_object_is_type(node_of(v), json_type_double);
}

bool json_boolean(const JsonValue *v, bool *out)
{
    if (!v || !json_object_is_type(node_of(v), json_type_boolean)) return false;
    *out = json_object_get_boolean(node_of(v)) != 0;
    return true;
}

bool json_is_object(const JsonValue *v)
{
    return v && json_object_is_type(node_of(v), json_type_object);
}

bool json_is_array(const JsonValue *v)
{
    return v && json_object_is_type(node_of(v), json_type_array);
}

const JsonValue *json_get(const JsonValue *object, const char *key)
{
    struct json_c_object *found = NULL;
    if (!json_is_object(object) || !json_object_object_get_ex(node_of(object), key, &found)) return NULL;
    return value_of(found);
}

size_t json_count(const JsonValue *array_or_object)
{
    if (json_is_array(array_or_object)) return json_object_array_length(node_of(array_or_object));
    if (json_is_object(array_or_object)) return (size_t)json_object_object_length(node_of(array_or_object));
    return 0;
}

const JsonValue *json_item(const JsonValue *array, size_t i)
{
    if (!json_is_array(array) || i >= json_object_array_length(node_of(array))) return NULL;
    return value_of(json_object_array_get_idx(node_of(array), i));
}

const JsonValue *json_member(const JsonValue *object, size_t i, const char **key)
{
    if (key) *key = NULL;
    if (!json_is_object(object)) return NULL;
    const Members *members = json_object_get_userdata(node_of(object));
    if (!members || i >= members->count) return NULL;
    if (key) *key = (const char *)lh_entry_k(members->items[i]);
    return value_of((struct json_c_object *)lh_entry_v(members->items[i]));
}

const char *json_text(const JsonValue *v, size_t *size)
{
    if (size) *size = 0;
    if (!v || !json_is_string(v)) return NULL;
    if (size) *size = (size_t)json_object_get_string_len(node_of(v));
    return json_object_get_string(node_of(v));
}

/* A decimal number and nothing else; strtod alone would take "0x1p3", "nan", and leading blanks. */
static bool parse_decimal(const char *text, size_t size, double *out)
{
    if (size == 0 || size > 64 || strspn(text, "+-.0123456789eE") != size) return false;
    char *end;
    double value = strtod(text, &end);
    if (end != text + size) return false;
    *out = value;
    return true;
}

bool json_number(const JsonValue *v, double *out)
{
    if (!v) return false;
    struct json_c_object *node = node_of(v);
    switch (json_object_get_type(node)) {
    case json_type_double:
        *out = json_object_get_double(node);
        return true;
    case json_type_int: {
        int64_t whole = json_object_get_int64(node);
        /* Numbers above int64 are kept as uint64. */
        *out = whole == INT64_MAX ? (double)json_object_get_uint64(node) : (double)whole;
        return true;
    }
    case json_type_string:
        return parse_decimal(json_object_get_string(node), (size_t)json_object_get_string_len(node), out);
    default:
        return false;
    }
}

bool json_integer(const JsonValue *v, int64_t *out)
{
    if (!v) return false;
    struct json_c_object *node = node_of(v);
    if (json_object_is_type(node, json_type_int)) {
        int64_t whole = json_object_get_int64(node);
        /* json-c clamps what is out of range to the ends of int64 without saying so. */
        if (whole == INT64_MIN || (whole == INT64_MAX && json_object_get_uint64(node) != INT64_MAX)) return false;
        *out = whole;
        return true;
    }
    if (json_object_is_type(node, json_type_double)) {
        double value = json_object_get_double(node);
        if (!(fabs(value) <= 0x1p53) || value != floor(value)) return false;
        *out = (int64_t)value;
        return true;
    }
    return false;
}
