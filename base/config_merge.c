/* Laying one tree of a config over another. */
#include "base/config_tree.h"

static Status copy_text(Arena *arena, const char *text, const char **out)
{
    Status status = STATUS_OK;
    *out = NULL;
    if (!text) return STATUS_OK;
    *out = arena_strdup(arena, text);
    if (!*out) FAIL_WITH(ERR_MEMORY);
fail:
    return status;
}

/* A node without its children. */
static Status copy_node(Arena *arena, const Node *node, Node **out)
{
    Status status = STATUS_OK;
    Node *copy = arena_alloc(arena, sizeof *copy);
    if (!copy) FAIL_WITH(ERR_MEMORY);
    copy->kind = node->kind;
    copy->line = node->line;
    copy->quoted = node->quoted;
    TRY(copy_text(arena, node->override, &copy->override));
    TRY(copy_text(arena, node->key, &copy->key));
    TRY(copy_text(arena, node->text, &copy->text));
    TRY(copy_text(arena, node->problem, &copy->problem));
    *out = copy;
fail:
    return status;
}

/* As deep as the parser and the overrides allow: CONFIG_MAX_DEPTH. */
static Status copy_tree(Arena *arena, const Node *node, Node **out)
{
    Status status = STATUS_OK;
    TRY(copy_node(arena, node, out));
    for (const Node *child = node->child; child; child = child->next) {
        Node *copy;
        TRY(copy_tree(arena, child, &copy));
        config_tree_append(*out, copy);
    }
fail:
    return status;
}

Status config_tree_merge(Arena *arena, const Node *base, const Node *patch, Node **out)
{
    Status status = STATUS_OK;
    *out = NULL;
    if (!patch || config_node_is_null(patch)) return base ? copy_tree(arena, base, out) : STATUS_OK;
    if (!base || base->kind != NODE_MAP || patch->kind != NODE_MAP) return copy_tree(arena, patch, out);
    TRY(copy_node(arena, base, out));
    if (patch->text) TRY(copy_text(arena, patch->text, &(*out)->text)); /* where {0..7} is a text after all */
    for (const Node *child = base->child; child; child = child->next) {
        Node *merged;
        TRY(config_tree_merge(arena, child, config_tree_get(patch, child->key), &merged));
        config_tree_append(*out, merged);
    }
    for (const Node *child = patch->child; child; child = child->next) {
        Node *copy;
        if (config_tree_get(base, child->key)) continue;
        TRY(copy_tree(arena, child, &copy));
        config_tree_append(*out, copy);
    }
fail:
    return status;
}
