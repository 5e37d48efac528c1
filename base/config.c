/* Loading a config: the tree of the file and the command line, bound to a C struct through its schema. */
#include "base/config.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config_tree.h"
#include "base/file.h"
#include "base/json.h"

#define PATH_CAPACITY 1024
#define FOUND_MAX 60

struct Config {
    Arena *arena;
    const char *name;
    const char *label;          /* begins every error after the place; "" but for a variant */
    const ConfigSchema *schema; /* of the whole config */
    Node *root;
    bool in_default; /* while a default is bound: its errors are ours */
    char path[PATH_CAPACITY];
    size_t path_length;
};

/* --- the words of errors --- */

static void push_path(Config *config, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void push_path(Config *config, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vsnprintf(config->path + config->path_length, PATH_CAPACITY - config->path_length, format, args);
    va_end(args);
    if (length > 0) config->path_length += (size_t)length;
    if (config->path_length >= PATH_CAPACITY) config->path_length = PATH_CAPACITY - 1;
}

static void pop_path(Config *config, size_t length)
{
    config->path_length = length;
    config->path[length] = '\0';
}

static Status refuse(Config *config, const Node *node, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* "PLACE: LABEL KEY " and what is wrong with it. */
static Status refuse(Config *config, const Node *node, const char *format, ...)
{
    char words[STATUS_MESSAGE_MAX / 2];
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof words, format, args);
    va_end(args);
    return status_fail(config->in_default ? ERR_INTERNAL : ERR_CONFIG, __FILE__, __LINE__, "%s: %s%s%s %s",
                       config_tree_place(config->arena, config->name, node), config->label,
                       config->in_default ? "the default of " : "", config->path, words);
}

static const char *describe_found(Config *config, const Node *node)
{
    if (config_node_is_null(node)) return "nothing";
    if (node->kind == NODE_MAP) return "a section";
    if (node->kind == NODE_LIST) return "a list";
    const char *text = node->text ? node->text : "";
    size_t length = strlen(text), shown = length;
    if (shown > FOUND_MAX) {
        shown = FOUND_MAX;
        while (shown > 0 && ((unsigned char)text[shown] & 0xc0) == 0x80) shown--;
    }
    const char *dots = shown < length ? "..." : "";
    const char *found =
        arena_printf(config->arena, node->quoted ? "the text \"%.*s%s\"" : "%.*s%s", (int)shown, text, dots);
    return found ? found : "something else";
}

static Status refuse_type(Config *config, const Node *node, const char *wanted)
{
    return refuse(config, node, "wants %s, found %s", wanted, describe_found(config, node));
}

/* Of a list or a section. An override that begins like one was meant for one. */
static Status refuse_shape(Config *config, const Node *node, const char *wanted)
{
    if (node->problem && (node->text[0] == '[' || node->text[0] == '{'))
        return refuse(config, node, "wants %s, but what is written cannot be read: %s", wanted, node->problem);
    return refuse_type(config, node, wanted);
}

static Status refuse_range(Config *config, const ConfigField *field, const Node *node)
{
    const char *found = describe_found(config, node);
    if (field->max < field->min) return refuse(config, node, "is %s, must be at least %.15g", found, field->min);
    return refuse(config, node, "is %s, must be between %.15g and %.15g", found, field->min, field->max);
}

static bool in_range(const ConfigField *field, double value)
{
    if (field->min == 0 && field->max == 0) return true;
    return value >= field->min && (field->max < field->min || value <= field->max);
}

/* "; did you mean X?" and the words there are. */
static const char *suggest(Config *config, const char *word, const char *const *words, size_t count)
{
    StrBuf text = {0};
    const char *nearest = config_nearest(word, words, count);
    if (nearest) (void)strbuf_printf(&text, "; did you mean %s?", nearest);
    for (size_t i = 0; i < count && text.size < 1000; i++)
        (void)strbuf_printf(&text, "%s%s", i ? ", " : nearest ? " There are: " : "; there are: ", words[i]);
    const char *kept = text.data ? arena_strdup(config->arena, text.data) : NULL;
    strbuf_free(&text);
    return kept ? kept : "";
}

/* --- values --- */

static Status bind_int(Config *config, const ConfigField *field, const Node *node, int64_t *out)
{
    Status status = STATUS_OK;
    char wanted[96] = "a whole number such as 8, 10k or 4Mi";
    for (size_t i = 0; field->words && field->words[i]; i++) {
        if (node->kind == NODE_SCALAR && strcmp(node->text, field->words[i]) == 0) {
            *out = -1 - (int64_t)i;
            return STATUS_OK;
        }
        size_t length = strlen(wanted);
        snprintf(wanted + length, sizeof wanted - length, ", or %s", field->words[i]);
    }
    if (node->kind != NODE_SCALAR || node->quoted || !config_parse_int(node->text, out))
        FAIL_WITH(refuse_type(config, node, wanted));
    if (!in_range(field, (double)*out)) FAIL_WITH(refuse_range(config, field, node));
fail:
    return status;
}

static Status bind_float(Config *config, const ConfigField *field, const Node *node, double *out)
{
    Status status = STATUS_OK;
    if (node->kind != NODE_SCALAR || node->quoted || !config_parse_float(node->text, out))
        FAIL_WITH(refuse_type(config, node, "a number such as 0.1 or 1e-4"));
    if (!in_range(field, *out)) FAIL_WITH(refuse_range(config, field, node));
fail:
    return status;
}

static Status bind_bool(Config *config, const Node *node, bool *out)
{
    static const char *const TRUE_WORDS[] = {"true", "True", "TRUE"}, *const FALSE_WORDS[] = {"false", "False",
                                                                                              "FALSE"};
    for (size_t i = 0; node->kind == NODE_SCALAR && !node->quoted && i < 3; i++) {
        bool yes = strcmp(node->text, TRUE_WORDS[i]) == 0;
        if (yes || strcmp(node->text, FALSE_WORDS[i]) == 0) {
            *out = yes;
            return STATUS_OK;
        }
    }
    return refuse_type(config, node, "true or false");
}

static Status bind_string(Config *config, const Node *node, char **out)
{
    Status status = STATUS_OK;
    /* An override such as a={0..7} is a map to YAML and a text to whoever typed it. */
    bool raw = node->kind != NODE_SCALAR && node->override && node->text;
    if (!raw && (node->kind != NODE_SCALAR || config_node_is_null(node)))
        FAIL_WITH(refuse_type(config, node, "a text such as \"abc\""));
    *out = arena_strdup(config->arena, node->text);
    if (!*out) FAIL_WITH(ERR_MEMORY);
fail:
    return status;
}

static Status bind_enum(Config *config, const ConfigField *field, const Node *node, int32_t *out)
{
    Status status = STATUS_OK;
    size_t count = 0;
    while (field->words[count]) count++;
    if (node->kind == NODE_SCALAR) {
        for (size_t i = 0; i < count; i++) {
            if (strcmp(node->text, field->words[i]) != 0) continue;
            *out = (int32_t)i;
            return STATUS_OK;
        }
    }
    const char *help = suggest(config, node->kind == NODE_SCALAR ? node->text : "", field->words, count);
    FAIL_WITH(refuse(config, node, "cannot be %s%s", describe_found(config, node), help));
fail:
    return status;
}

static Status bind_map(Config *config, const Node *node, ConfigPairs *out)
{
    Status status = STATUS_OK;
    const size_t path_length = config->path_length;
    if (node->kind != NODE_MAP)
        FAIL_WITH(refuse_shape(config, node, "texts under keys, lines of \"key: text\" indented below it"));
    *out = (ConfigPairs){.keys = arena_alloc_array(config->arena, node->child_count + 1, sizeof(char *)),
                         .values = arena_alloc_array(config->arena, node->child_count + 1, sizeof(char *))};
    if (!out->keys || !out->values) FAIL_WITH(ERR_MEMORY);
    for (const Node *child = node->child; child; child = child->next, out->count++) {
        push_path(config, ".%s", child->key);
        TRY(bind_string(config, child, &out->values[out->count]));
        out->keys[out->count] = arena_strdup(config->arena, child->key);
        if (!out->keys[out->count]) FAIL_WITH(ERR_MEMORY);
        pop_path(config, path_length);
    }
fail:
    return status;
}

static Status bind_list(Config *config, const ConfigField *field, const Node *node, void *target);
static Status bind_section(Config *config, const ConfigSchema *schema, const Node *node, void *base);
static Status bind_patch(Config *config, const ConfigField *field, const Node *node, ConfigPatch *out);

static Status bind_value(Config *config, const ConfigField *field, const Node *node, void *target)
{
    switch (field->type) {
    case CONFIG_BOOL:
        return bind_bool(config, node, target);
    case CONFIG_INT:
        return bind_int(config, field, node, target);
    case CONFIG_FLOAT:
        return bind_float(config, field, node, target);
    case CONFIG_STRING:
        return bind_string(config, node, target);
    case CONFIG_ENUM:
        return bind_enum(config, field, node, target);
    case CONFIG_STRING_MAP:
        return bind_map(config, node, target);
    case CONFIG_INT_LIST:
    case CONFIG_STRING_LIST:
    case CONFIG_LIST:
        return bind_list(config, field, node, target);
    case CONFIG_SECTION:
        return bind_section(config, field->schema, node, target);
    case CONFIG_PATCH:
        return bind_patch(config, field, node, target);
    }
    return status_fail(ERR_INTERNAL, __FILE__, __LINE__, "the schema's field %s has no type", config->path);
}

static Status bind_list(Config *config, const ConfigField *field, const Node *node, void *target)
{
    Status status = STATUS_OK;
    size_t path_length = config->path_length;
    if (node->kind != NODE_LIST)
        FAIL_WITH(refuse_shape(config, node,
                               field->type == CONFIG_INT_LIST      ? "a list of whole numbers such as [1, 2, 4]"
                               : field->type == CONFIG_STRING_LIST ? "a list of texts such as [\"a\", \"b\"]"
                                                                   : "a list of sections, each begun with \"- \""));
    size_t count = node->child_count;
    size_t item_size = field->type == CONFIG_INT_LIST      ? sizeof(int64_t)
                       : field->type == CONFIG_STRING_LIST ? sizeof(char *)
                                                           : field->schema->struct_size;
    char *items = arena_alloc_array(config->arena, count ? count : 1, item_size);
    if (!items) FAIL_WITH(ERR_MEMORY);
    size_t i = 0;
    for (const Node *child = node->child; child; child = child->next, i++) {
        push_path(config, "[%zu]", i);
        void *item = items + i * item_size;
        if (field->type == CONFIG_INT_LIST)
            TRY(bind_int(config, field, child, item));
        else if (field->type == CONFIG_STRING_LIST)
            TRY(bind_string(config, child, item));
        else
            TRY(bind_section(config, field->schema, child, item));
        pop_path(config, path_length);
    }
    if (field->type == CONFIG_INT_LIST)
        *(ConfigInts *)target = (ConfigInts){(int64_t *)(void *)items, count};
    else if (field->type == CONFIG_STRING_LIST)
        *(ConfigStrings *)target = (ConfigStrings){(char **)(void *)items, count};
    else
        *(ConfigList *)target = (ConfigList){items, count};
fail:
    return status;
}

static Status bind_default(Config *config, const ConfigField *field, void *target)
{
    Status status = STATUS_OK;
    Node *node = NULL;
    bool outer = config->in_default;
    config->in_default = true;
    if (field->type == CONFIG_STRING && field->default_text[0] == '\0') {
        *(char **)target = arena_strdup(config->arena, "");
        if (!*(char **)target) FAIL_WITH(ERR_MEMORY);
    } else {
        TRY(config_tree_parse(config->arena, "default", field->default_text, strlen(field->default_text), &node));
        TRY(bind_value(config, field, node, target));
    }
fail:
    config->in_default = outer;
    return status;
}

static Status refuse_missing(Config *config, const ConfigField *field, const Node *section)
{
    static const char *const EXAMPLES[] = {
        [CONFIG_BOOL] = "true",
        [CONFIG_INT] = "8",
        [CONFIG_FLOAT] = "0.1",
        [CONFIG_STRING] = "\"abc\"",
        [CONFIG_ENUM] = "",
        [CONFIG_INT_LIST] = "[1, 2]",
        [CONFIG_STRING_LIST] = "[\"abc\"]",
        [CONFIG_STRING_MAP] = "{key: \"abc\"}",
        [CONFIG_SECTION] = "",
        [CONFIG_LIST] = "[]",
        [CONFIG_PATCH] = "",
    };
    const char *example = field->type == CONFIG_ENUM ? field->words[0] : EXAMPLES[field->type];
    return refuse(config, section, "is missing and has no default; write it, such as %s: %s (%s)", field->key, example,
                  field->help ? field->help : "no help");
}

/* The path of the first key called `key` anywhere in the schema; false when there is none. */
static bool find_elsewhere(const ConfigSchema *schema, const char *key, char *path, size_t capacity, int depth)
{
    for (size_t i = 0; depth < CONFIG_MAX_DEPTH && i < schema->field_count; i++) {
        const ConfigField *field = &schema->fields[i];
        int length;
        if (strcmp(field->key, key) == 0) {
            length = snprintf(path, capacity, "%s", field->key);
            return length > 0 && (size_t)length < capacity;
        }
        if (!field->schema || field->type == CONFIG_PATCH) continue;
        length = snprintf(path, capacity, "%s%s.", field->key, field->type == CONFIG_LIST ? "[0]" : "");
        if (length > 0 && (size_t)length < capacity &&
            find_elsewhere(field->schema, key, path + length, capacity - (size_t)length, depth + 1))
            return true;
    }
    return false;
}

/* Where only some keys of a section may be written, whether this is one of them. NULL: all may. */
static bool is_allowed(const char *const *some, const char *key)
{
    for (size_t i = 0; some && some[i]; i++)
        if (strcmp(some[i], key) == 0) return true;
    return !some;
}

/* What is proposed can be written here. */
static Status refuse_unknown(Config *config, const ConfigSchema *schema, const char *const *some, const Node *node)
{
    Status status = STATUS_OK;
    const char **keys = arena_alloc_array(config->arena, schema->field_count + 1, sizeof *keys);
    size_t count = 0;
    if (!keys) FAIL_WITH(ERR_MEMORY);
    for (size_t i = 0; i < schema->field_count; i++)
        if (is_allowed(some, schema->fields[i].key)) keys[count++] = schema->fields[i].key;
    const char *help = suggest(config, node->key, keys, count);
    char elsewhere[PATH_CAPACITY];
    push_path(config, "%s%s", config->path_length ? "." : "", node->key);
    if (find_elsewhere(config->schema, node->key, elsewhere, sizeof elsewhere, 0))
        FAIL_WITH(refuse(config, node, "is not a key here, but %s is%s", elsewhere, help));
    FAIL_WITH(refuse(config, node, "is not a key%s", help));
fail:
    return status;
}

/* Whether `node` is a section, or nothing, with keys of the schema only. `some`: see refuse_unknown. */
static Status check_section(Config *config, const ConfigSchema *schema, const char *const *some, const Node *node)
{
    Status status = STATUS_OK;
    if (!node || config_node_is_null(node)) return STATUS_OK;
    if (node->kind != NODE_MAP) {
        if (config->path_length == 0) push_path(config, "the config");
        FAIL_WITH(refuse_shape(config, node, "a section, lines of \"key: value\" indented below it"));
    }
    for (const Node *child = node->child; child; child = child->next) {
        bool known = false;
        for (size_t i = 0; i < schema->field_count && !known; i++)
            known = strcmp(schema->fields[i].key, child->key) == 0;
        if (!known) FAIL_WITH(refuse_unknown(config, schema, some, child));
    }
fail:
    return status;
}

static Status bind_section(Config *config, const ConfigSchema *schema, const Node *node, void *base)
{
    Status status = STATUS_OK;
    size_t path_length = config->path_length;
    bool empty = !node || config_node_is_null(node);
    TRY(check_section(config, schema, NULL, node));
    for (size_t i = 0; i < schema->field_count; i++) {
        const ConfigField *field = &schema->fields[i];
        const Node *child = empty ? NULL : config_tree_get(node, field->key);
        void *target = (char *)base + field->offset;
        push_path(config, "%s%s", path_length ? "." : "", field->key);
        if (child)
            TRY(bind_value(config, field, child, target));
        else if (field->type == CONFIG_SECTION)
            TRY(bind_section(config, field->schema, NULL, target));
        else if (field->default_text)
            TRY(bind_default(config, field, target));
        else if (field->type != CONFIG_LIST && field->type != CONFIG_PATCH)
            FAIL_WITH(refuse_missing(config, field, node));
        pop_path(config, path_length);
    }
fail:
    return status;
}

/* Only what is written, without defaults. */
static Status bind_written(Config *config, const ConfigSchema *schema, const char *const *some, const Node *node,
                           void *base)
{
    Status status = STATUS_OK;
    size_t path_length = config->path_length;
    TRY(check_section(config, schema, some, node));
    for (size_t i = 0; i < schema->field_count; i++) {
        const ConfigField *field = &schema->fields[i];
        const Node *child = config_tree_get(node, field->key);
        void *target = (char *)base + field->offset;
        if (!child) continue;
        push_path(config, ".%s", field->key);
        if (field->type == CONFIG_SECTION)
            TRY(bind_written(config, field->schema, NULL, child, target));
        else
            TRY(bind_value(config, field, child, target));
        pop_path(config, path_length);
    }
fail:
    return status;
}

/* Keys of the section that may not be written here. */
static Status refuse_others(Config *config, const ConfigField *field, const Node *node)
{
    Status status = STATUS_OK;
    size_t count = 0;
    while (field->words[count]) count++;
    for (const Node *child = node->kind == NODE_MAP ? node->child : NULL; child; child = child->next) {
        bool known = false;
        for (size_t i = 0; i < field->schema->field_count && !known; i++)
            known = strcmp(field->schema->fields[i].key, child->key) == 0;
        if (!known || is_allowed(field->words, child->key)) continue; /* what is unknown, check_section says better */
        push_path(config, ".%s", child->key);
        FAIL_WITH(refuse(config, child, "cannot be written here, only in %s%s", field->schema->name,
                         suggest(config, "", field->words, count)));
    }
fail:
    return status;
}

static Status bind_patch(Config *config, const ConfigField *field, const Node *node, ConfigPatch *out)
{
    Status status = STATUS_OK;
    if (config_node_is_null(node)) return STATUS_OK;
    if (field->words) TRY(refuse_others(config, field, node));
    void *values = arena_alloc(config->arena, field->schema->struct_size);
    if (!values) FAIL_WITH(ERR_MEMORY);
    TRY(bind_written(config, field->schema, field->words, node, values));
    *out = (ConfigPatch){.written = node, .values = values};
fail:
    return status;
}

/* --- the public functions --- */

static Status create(const char *name, const char *label, const ConfigSchema *schema, Config **out)
{
    Status status = STATUS_OK;
    Config *config = mem_alloc_array(1, sizeof *config);
    *out = config;
    if (!config) FAIL_WITH(ERR_MEMORY);
    config->schema = schema;
    TRY(arena_create(&config->arena));
    config->name = arena_strdup(config->arena, name);
    config->label = arena_strdup(config->arena, label);
    if (!config->name || !config->label) FAIL_WITH(ERR_MEMORY);
fail:
    return status;
}

Status config_load(const char *path, const char *text, const ConfigSchema *schema, const char *const *overrides,
                   size_t override_count, void *out, Config **config)
{
    Status status = STATUS_OK;
    char *data = NULL;
    size_t size;
    *config = NULL;
    Config *loaded = NULL;
    TRY(create(path, "", schema, &loaded));
    if (!text) {
        TRY(file_read(path, CONFIG_MAX_BYTES, &data, &size));
        text = data;
    } else
        size = strlen(text);
    utf8_skip_mark(&text, &size);
    TRY(config_tree_parse(loaded->arena, loaded->name, text, size, &loaded->root));
    for (size_t i = 0; i < override_count; i++) TRY(config_tree_override(loaded->arena, loaded->root, overrides[i]));
    memset(out, 0, schema->struct_size);
    TRY(bind_section(loaded, schema, loaded->root, out));
    free(data);
    *config = loaded;
    return STATUS_OK;
fail:
    free(data);
    config_free(loaded);
    return status;
}

static const ConfigField *find_field(const ConfigSchema *schema, const char *key)
{
    for (size_t i = 0; i < schema->field_count; i++)
        if (strcmp(schema->fields[i].key, key) == 0) return &schema->fields[i];
    return NULL;
}

/* What `item` writes over the section `key`, where its schema says that it may. */
static const Node *patch_of(const ConfigSchema *schema, const Node *item, const char *key)
{
    const ConfigField *field = find_field(schema, key);
    return field && field->type == CONFIG_PATCH ? config_tree_get(item, key) : NULL;
}

Status config_variant(const Config *config, const char *list, size_t i, const char *label, void *out, Config **variant)
{
    Status status = STATUS_OK;
    const ConfigSchema *schema = config->schema;
    const ConfigField *field = find_field(schema, list);
    const Node *item = config_tree_item(config_tree_get(config->root, list), i);
    Config *made = NULL;
    *variant = NULL;
    if (!field || field->type != CONFIG_LIST || !item) FAIL(ERR_INTERNAL, "the config has no %s[%zu]", list, i);
    TRY(create(config->name, label, schema, &made));
    made->root = arena_alloc(made->arena, sizeof *made->root);
    if (!made->root) FAIL_WITH(ERR_MEMORY);
    made->root->kind = NODE_MAP;
    made->root->line = config->root->line;
    for (size_t k = 0; k < schema->field_count; k++) {
        const char *key = schema->fields[k].key;
        Node *section;
        if (strcmp(key, list) == 0) continue;
        TRY(config_tree_merge(made->arena, config_tree_get(config->root, key), patch_of(field->schema, item, key),
                              &section));
        if (section) config_tree_append(made->root, section);
    }
    memset(out, 0, schema->struct_size);
    TRY(bind_section(made, schema, made->root, out));
    *variant = made;
    return STATUS_OK;
fail:
    config_free(made);
    return status;
}

void config_free(Config *config)
{
    if (!config) return;
    arena_free(config->arena);
    free(config);
}

Status config_error(const Config *config, const char *key, const char *format, ...)
{
    char words[STATUS_MESSAGE_MAX / 2];
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof words, format, args);
    va_end(args);
    const Node *node = config_tree_find(config->root, key);
    const char *place = config_tree_place(config->arena, config->name, node);
    return status_fail(ERR_CONFIG, __FILE__, __LINE__, "%s: %s%s%s: %s", place, config->label, key,
                       node ? "" : " (default)", words);
}

bool config_is_written(const Config *config, const char *key)
{
    return config_tree_find(config->root, key) != NULL;
}
