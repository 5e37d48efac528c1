/* YAML text to a tree of nodes, through libyaml's events. Anchors, aliases and tags are refused: nothing in a config
 * needs them, and without them a document's size bounds its meaning. */
#include "base/config_tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/json.h"

#define MAX_KEY_BYTES 256

typedef struct Parser {
    yaml_parser_t yaml;
    Arena *arena;
    const char *name;
    size_t node_count;
} Parser;

static int line_of(const yaml_event_t *event)
{
    return (int)event->start_mark.line + 1;
}

static Status next_event(Parser *parser, yaml_event_t *event)
{
    Status status = STATUS_OK;
    if (yaml_parser_parse(&parser->yaml, event)) return STATUS_OK;
    memset(event, 0, sizeof *event);
    const yaml_parser_t *yaml = &parser->yaml;
    const char *problem = yaml->problem ? yaml->problem : "unknown";
    size_t line = yaml->problem_mark.line + 1;
    if (yaml->error == YAML_MEMORY_ERROR) FAIL(ERR_MEMORY, "%s: out of memory while reading it", parser->name);
    if (yaml->error == YAML_READER_ERROR)
        FAIL(ERR_CONFIG, "%s: not a text in UTF-8: %s at byte %zu; save it in UTF-8, if it is a text", parser->name,
             problem, yaml->problem_offset);
    const char *remedy = "";
    if (strstr(problem, "cannot start any token"))
        remedy = "; tabs cannot indent, and a text that begins with a special character needs quotes";
    else if (strstr(problem, "mapping values are not allowed"))
        remedy = "; a text with \": \" inside needs quotes, and keys of one section the same indent";
    else if (yaml->context &&
             (strstr(yaml->context, "scanning an alias") || strstr(yaml->context, "scanning an anchor")))
        remedy = "; a text that begins with * or & needs quotes";
    if (yaml->context && yaml->context_mark.line + 1 != line)
        FAIL(ERR_CONFIG, "%s:%zu: not valid YAML: %s %s from line %zu%s", parser->name, line, problem, yaml->context,
             yaml->context_mark.line + 1, remedy);
    FAIL(ERR_CONFIG, "%s:%zu: not valid YAML: %s%s", parser->name, line, problem, remedy);
fail:
    return status;
}

static Status refuse_anchor(const Parser *parser, const yaml_event_t *event, const yaml_char_t *anchor,
                            const yaml_char_t *tag)
{
    Status status = STATUS_OK;
    if (anchor)
        FAIL(ERR_CONFIG, "%s:%d: YAML anchors (&%s) are not used here; a text that begins with & needs quotes",
             parser->name, line_of(event), (const char *)anchor);
    if (tag)
        FAIL(ERR_CONFIG, "%s:%d: YAML tags (%s) are not used here; a text that begins with ! needs quotes",
             parser->name, line_of(event), (const char *)tag);
fail:
    return status;
}

static Status new_node(Parser *parser, NodeKind kind, int line, Node **out)
{
    Status status = STATUS_OK;
    if (++parser->node_count > CONFIG_MAX_NODES)
        FAIL(ERR_LIMIT, "%s:%d: more than %d values; is this a config?", parser->name, line, CONFIG_MAX_NODES);
    Node *node = arena_alloc(parser->arena, sizeof *node);
    if (!node) FAIL_WITH(ERR_MEMORY);
    node->kind = kind;
    node->line = line;
    *out = node;
fail:
    return status;
}

static Status copy_scalar(const Parser *parser, const yaml_event_t *event, const char **out)
{
    Status status = STATUS_OK;
    const char *value = (const char *)event->data.scalar.value;
    size_t length = event->data.scalar.length;
    if (memchr(value, '\0', length))
        FAIL(ERR_CONFIG, "%s:%d: a text may not contain a NUL character", parser->name, line_of(event));
    char *copy = arena_alloc(parser->arena, length + 1);
    if (!copy) FAIL_WITH(ERR_MEMORY);
    memcpy(copy, value, length);
    *out = copy;
fail:
    return status;
}

void config_tree_append(Node *parent, Node *child)
{
    if (parent->last_child)
        parent->last_child->next = child;
    else
        parent->child = child;
    parent->last_child = child;
    parent->child_count++;
}

static int compare_keys(const void *a, const void *b)
{
    const Node *x = *(Node *const *)a, *y = *(Node *const *)b;
    int order = strcmp(x->key, y->key);
    return order ? order : (x->line > y->line) - (x->line < y->line);
}

/* Sorted rather than pairwise: a hostile file may have 100,000 keys in one map. */
static Status refuse_duplicates(const Parser *parser, const Node *map)
{
    Status status = STATUS_OK;
    Node **sorted = NULL;
    if (map->child_count < 2) return STATUS_OK;
    sorted = mem_alloc_array(map->child_count, sizeof *sorted);
    if (!sorted) FAIL_WITH(ERR_MEMORY);
    size_t count = 0;
    for (Node *node = map->child; node; node = node->next) sorted[count++] = node;
    qsort(sorted, count, sizeof *sorted, compare_keys);
    for (size_t i = 1; i < count; i++) {
        if (strcmp(sorted[i - 1]->key, sorted[i]->key) != 0) continue;
        if (sorted[i - 1]->line == sorted[i]->line)
            FAIL(ERR_CONFIG, "%s:%d: the key %s is written twice; keep one of them", parser->name, sorted[i]->line,
                 sorted[i]->key);
        FAIL(ERR_CONFIG, "%s:%d: the key %s is written twice, first in line %d; keep one of them", parser->name,
             sorted[i]->line, sorted[i]->key, sorted[i - 1]->line);
    }
fail:
    free(sorted);
    return status;
}

static Status parse_node(Parser *parser, const yaml_event_t *event, int depth, Node **out);

static Status parse_children(Parser *parser, Node *parent, int depth)
{
    Status status = STATUS_OK;
    yaml_event_t event = {0}, value = {0};
    for (;;) {
        TRY(next_event(parser, &event));
        if (event.type == YAML_SEQUENCE_END_EVENT || event.type == YAML_MAPPING_END_EVENT) break;
        Node *child = NULL;
        if (parent->kind == NODE_LIST) {
            TRY(parse_node(parser, &event, depth, &child));
        } else {
            const char *key = NULL;
            int line = line_of(&event);
            if (event.type == YAML_ALIAS_EVENT) {
                TRY(parse_node(parser, &event, depth, &child)); /* says what is wrong with it */
            }
            if (event.type != YAML_SCALAR_EVENT)
                FAIL(ERR_CONFIG, "%s:%d: a key must be a word, not a list or a section", parser->name, line);
            TRY(refuse_anchor(parser, &event, event.data.scalar.anchor, event.data.scalar.tag));
            if (event.data.scalar.length > MAX_KEY_BYTES)
                FAIL(ERR_CONFIG, "%s:%d: a key of %zu bytes, longer than any there is", parser->name, line,
                     event.data.scalar.length);
            TRY(copy_scalar(parser, &event, &key));
            TRY(next_event(parser, &value));
            TRY(parse_node(parser, &value, depth, &child));
            child->key = key;
            child->line = line; /* where the key stands is where a reader looks */
            yaml_event_delete(&value);
        }
        config_tree_append(parent, child);
        yaml_event_delete(&event);
    }
    if (parent->kind == NODE_MAP) TRY(refuse_duplicates(parser, parent));
fail:
    yaml_event_delete(&value);
    yaml_event_delete(&event);
    return status;
}

static Status parse_node(Parser *parser, const yaml_event_t *event, int depth, Node **out)
{
    Status status = STATUS_OK;
    int line = line_of(event);
    if (depth > CONFIG_MAX_DEPTH)
        FAIL(ERR_LIMIT, "%s:%d: nested more than %d deep", parser->name, line, CONFIG_MAX_DEPTH);
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        TRY(refuse_anchor(parser, event, event->data.scalar.anchor, event->data.scalar.tag));
        TRY(new_node(parser, NODE_SCALAR, line, out));
        TRY(copy_scalar(parser, event, &(*out)->text));
        (*out)->quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
        break;
    case YAML_SEQUENCE_START_EVENT:
        TRY(refuse_anchor(parser, event, event->data.sequence_start.anchor, event->data.sequence_start.tag));
        TRY(new_node(parser, NODE_LIST, line, out));
        TRY(parse_children(parser, *out, depth + 1));
        break;
    case YAML_MAPPING_START_EVENT:
        TRY(refuse_anchor(parser, event, event->data.mapping_start.anchor, event->data.mapping_start.tag));
        TRY(new_node(parser, NODE_MAP, line, out));
        TRY(parse_children(parser, *out, depth + 1));
        break;
    case YAML_ALIAS_EVENT:
        FAIL(ERR_CONFIG, "%s:%d: YAML aliases (*%s) are not used here; a text that begins with * needs quotes",
             parser->name, line, (const char *)event->data.alias.anchor);
    default:
        FAIL(ERR_CONFIG, "%s:%d: something other than a value stands here", parser->name, line);
    }
fail:
    return status;
}

Status config_tree_parse(Arena *arena, const char *name, const char *text, size_t size, Node **out)
{
    Status status = STATUS_OK;
    yaml_event_t event = {0};
    Parser parser = {.arena = arena, .name = name};
    *out = NULL;
    if (!yaml_parser_initialize(&parser.yaml)) {
        memset(&parser.yaml, 0, sizeof parser.yaml);
        FAIL(ERR_MEMORY, "%s: out of memory while reading it", name);
    }
    if (size > CONFIG_MAX_BYTES)
        FAIL(ERR_LIMIT, "%s: %zu bytes, a config has at most %zu", name, size, CONFIG_MAX_BYTES);
    yaml_parser_set_encoding(&parser.yaml, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser.yaml, (const unsigned char *)text, size);

    TRY(next_event(&parser, &event)); /* the stream's start */
    yaml_event_delete(&event);
    TRY(next_event(&parser, &event));
    if (event.type == YAML_DOCUMENT_START_EVENT) {
        yaml_event_delete(&event);
        TRY(next_event(&parser, &event));
        TRY(parse_node(&parser, &event, 0, out));
        yaml_event_delete(&event);
        TRY(next_event(&parser, &event)); /* the document's end */
        yaml_event_delete(&event);
        TRY(next_event(&parser, &event));
        if (event.type == YAML_DOCUMENT_START_EVENT)
            FAIL(ERR_CONFIG, "%s:%d: a second document begins here; a config is one document", name, line_of(&event));
    } else {
        TRY(new_node(&parser, NODE_MAP, 1, out));
    }
fail:
    yaml_event_delete(&event);
    yaml_parser_delete(&parser.yaml);
    return status;
}

/* --- walking --- */

Node *config_tree_get(const Node *map, const char *key)
{
    if (!map || map->kind != NODE_MAP) return NULL;
    for (Node *node = map->child; node; node = node->next) {
        if (strcmp(node->key, key) == 0) return node;
    }
    return NULL;
}

Node *config_tree_item(const Node *list, size_t i)
{
    if (!list || list->kind != NODE_LIST || i >= list->child_count) return NULL;
    Node *node = list->child;
    while (node && i-- > 0) node = node->next;
    return node;
}

/* One step of a path: a key, or an index in brackets. */
typedef struct Step {
    char key[MAX_KEY_BYTES + 1]; /* empty: an index */
    size_t index;
} Step;

/* Reads the step at *path and moves past it; false where the path is not well formed. */
static bool next_step(const char **path, Step *step)
{
    const char *p = *path;
    *step = (Step){0};
    if (*p == '[') {
        size_t digits = strspn(p + 1, "0123456789");
        if (digits == 0 || digits > 6 || p[1 + digits] != ']') return false;
        step->index = strtoul(p + 1, NULL, 10);
        p += digits + 2;
    } else {
        size_t length = strcspn(p, ".[]");
        if (length == 0 || length > MAX_KEY_BYTES) return false;
        memcpy(step->key, p, length);
        p += length;
    }
    if (*p == '.') {
        if (*++p == '\0' || *p == '[' || *p == '.') return false;
    } else if (*p != '\0' && *p != '[')
        return false;
    *path = p;
    return true;
}

const Node *config_tree_find(const Node *root, const char *path)
{
    const Node *node = root;
    Step step;
    while (node && *path) {
        if (!next_step(&path, &step)) return NULL;
        node = step.key[0] ? config_tree_get(node, step.key) : config_tree_item(node, step.index);
    }
    return node;
}

const char *config_tree_place(Arena *arena, const char *name, const Node *node)
{
    const char *place = name;
    if (node && node->override)
        place = arena_printf(arena, "command line: %s", node->override);
    else if (node && node->line > 0)
        place = arena_printf(arena, "%s:%d", name, node->line);
    return place ? place : name;
}

bool config_node_is_null(const Node *node)
{
    return node->kind == NODE_SCALAR && !node->quoted &&
           (node->text[0] == '\0' || strcmp(node->text, "~") == 0 || strcmp(node->text, "null") == 0 ||
            strcmp(node->text, "Null") == 0 || strcmp(node->text, "NULL") == 0);
}

/* --- overrides --- */

static void mark_override(Node *node, const char *assignment)
{
    node->override = assignment;
    node->line = 0;
    for (Node *child = node->child; child; child = child->next) mark_override(child, assignment);
}

/* The reason of the last failure, without the place, which has no lines. */
static Status keep_problem(Arena *arena, Node *node)
{
    Status status = STATUS_OK;
    const char *message = status_message(), *reason = strstr(message, ": ");
    node->problem = arena_strdup(arena, reason ? reason + 2 : message);
    if (!node->problem) FAIL_WITH(ERR_MEMORY);
fail:
    return status;
}

/* The value as YAML. What is not YAML, such as *.tar or {00..07}.tar, is a text: the shell has taken the quotes. */
static Status parse_value(Arena *arena, const char *assignment, const char *value, Node **out)
{
    Status status = STATUS_OK;
    Node *node = NULL;
    Status parsed = config_tree_parse(arena, "command line", value, strlen(value), &node);
    if (parsed == ERR_MEMORY || parsed == ERR_LIMIT) {
        status = parsed;
        status_prefix("command line: %s: ", assignment);
        TRY(status);
    }
    if (parsed != STATUS_OK || value[0] == '\0') {
        node = arena_alloc(arena, sizeof *node);
        if (!node) FAIL_WITH(ERR_MEMORY);
        node->kind = NODE_SCALAR;
    }
    if (parsed != STATUS_OK) TRY(keep_problem(arena, node));
    if (parsed != STATUS_OK || node->kind != NODE_SCALAR || value[0] == '\0') {
        node->text = arena_strdup(arena, value);
        if (!node->text) FAIL_WITH(ERR_MEMORY);
    }
    mark_override(node, assignment);
    *out = node;
fail:
    return status;
}

/* Puts `fresh` where `old` stands under `parent`, or at the end. */
static void replace_child(Node *parent, Node *old, Node *fresh)
{
    Node *before = NULL;
    for (Node *node = parent->child; node && node != old; node = node->next) before = node;
    if (!old) {
        config_tree_append(parent, fresh);
        return;
    }
    fresh->next = old->next;
    if (before)
        before->next = fresh;
    else
        parent->child = fresh;
    if (parent->last_child == old) parent->last_child = fresh;
}

Status config_tree_override(Arena *arena, Node *root, const char *assignment)
{
    Status status = STATUS_OK;
    Node *value = NULL;
    size_t length = strlen(assignment);
    if (length > CONFIG_MAX_BYTES) FAIL(ERR_LIMIT, "command line: an override of %zu bytes is too long", length);
    if (!utf8_valid(assignment, length)) FAIL(ERR_CONFIG, "command line: an override is not valid UTF-8");
    const char *kept = arena_strdup(arena, assignment);
    if (!kept) FAIL_WITH(ERR_MEMORY);
    const char *equals = strchr(kept, '=');
    if (!equals || equals == kept)
        FAIL(ERR_CONFIG, "command line: %s: an override is written key.path=value, such as train.steps=1000", kept);
    char *path_text = arena_strdup(arena, kept);
    if (!path_text) FAIL_WITH(ERR_MEMORY);
    path_text[equals - kept] = '\0';
    TRY(parse_value(arena, kept, equals + 1, &value));

    Node *node = root;
    const char *path = path_text;
    for (int depth = 0; *path; depth++) {
        Step step;
        const char *here = path;
        if (!next_step(&path, &step) || (depth == 0 && !step.key[0]))
            FAIL(ERR_CONFIG, "command line: %s: a key is written a.b or a.b[0].c, not %s", kept, path_text);
        if (depth >= CONFIG_MAX_DEPTH)
            FAIL(ERR_LIMIT, "command line: %s: nested more than %d deep", kept, CONFIG_MAX_DEPTH);
        int prefix = (int)(here - path_text);
        while (prefix > 0 && path_text[prefix - 1] == '.') prefix--;
        NodeKind wanted = step.key[0] ? NODE_MAP : NODE_LIST;
        if (config_node_is_null(node) || (node->override && node->kind == NODE_MAP && !node->child)) {
            node->kind = wanted; /* "section:" with nothing below, or made on the way here */
            node->text = NULL;
        }
        if (node->kind != wanted)
            FAIL(ERR_CONFIG, "command line: %s: %.*s is not a %s%s%s", kept, prefix, path_text,
                 wanted == NODE_MAP ? "section" : "list",
                 node->problem ? "; what was written there cannot be read: " : "", node->problem ? node->problem : "");
        Node *child = wanted == NODE_MAP ? config_tree_get(node, step.key) : config_tree_item(node, step.index);
        if (wanted == NODE_LIST && step.index > node->child_count)
            FAIL(ERR_CONFIG, "command line: %s: %.*s has %zu items, the next to add is [%zu]", kept, prefix, path_text,
                 node->child_count, node->child_count);
        bool last = *path == '\0';
        if (last || !child) {
            Node *fresh = value;
            if (!last) {
                fresh = arena_alloc(arena, sizeof *fresh);
                if (!fresh) FAIL_WITH(ERR_MEMORY);
                fresh->kind = NODE_MAP;
                fresh->override = kept;
            }
            if (wanted == NODE_MAP) {
                fresh->key = arena_strdup(arena, step.key);
                if (!fresh->key) FAIL_WITH(ERR_MEMORY);
            }
            replace_child(node, child, fresh);
            child = fresh;
        }
        node = child;
    }
fail:
    return status;
}
