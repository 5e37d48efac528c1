/* Inside config only: the tree of a YAML document, in which every node knows where it was written. */
#ifndef BASE_CONFIG_TREE_H
#define BASE_CONFIG_TREE_H

#include "base/arena.h"
#include "base/config.h"

#define CONFIG_MAX_DEPTH 16
#define CONFIG_MAX_NODES 100000
#define CONFIG_MAX_BYTES ((size_t)4 << 20)

typedef enum NodeKind { NODE_SCALAR, NODE_LIST, NODE_MAP } NodeKind;

typedef struct Node {
    NodeKind kind;
    int line;             /* of the file, from 1; 0: from the command line or a default */
    const char *override; /* "train.steps=abc" where the command line wrote it, else NULL */
    const char *key;      /* in a map */
    const char *text;     /* scalars; and what an override wrote, whatever its kind */
    const char *problem;  /* why what an override wrote is not YAML, and so a text; else NULL */
    bool quoted;          /* scalars: in quotes or a block, so certainly a text */
    struct Node *child, *last_child, *next;
    size_t child_count;
} Node;

/* Parses YAML into nodes of `arena`. `name` stands in errors. An empty document is an empty map. */
Status config_tree_parse(Arena *arena, const char *name, const char *text, size_t size, Node **out);

/* Sets "a.b[2].c=value" in the tree at `root`, making maps on the way and list items at a list's end. */
Status config_tree_override(Arena *arena, Node *root, const char *assignment);

/* A copy in `arena`, strings included, of `base` with what `patch` writes laid over it: sections key by key, all else
 * as a whole. Either may be NULL. In config_merge.c. */
Status config_tree_merge(Arena *arena, const Node *base, const Node *patch, Node **out);
void config_tree_append(Node *parent, Node *child);

/* The child of a map by key, of a list by position; NULL when absent. */
Node *config_tree_get(const Node *map, const char *key);
Node *config_tree_item(const Node *list, size_t i);
/* The node at a path such as "data.sources[1].weight"; NULL when absent. */
const Node *config_tree_find(const Node *root, const char *path);

/* Where a node was written, for errors: "file:12" or "command line"; "file" and `key`'s default without a node. */
const char *config_tree_place(Arena *arena, const char *name, const Node *node);

/* Null: nothing written, ~ or null. */
bool config_node_is_null(const Node *node);

/* A whole number as config writes it; false when the text is none. */
bool config_parse_int(const char *text, int64_t *out);

#endif
