/* A parsed filter expression: between its parser and its evaluation only. */
#ifndef DATA_FILTER_INSIDE_H
#define DATA_FILTER_INSIDE_H

#include <stdint.h>

#include "base/arena.h"
#include "data/filter.h"

#define FILTER_MAX_BYTES 4096
#define FILTER_MAX_DEPTH 64
#define FILTER_MAX_COMPARISONS 256

typedef enum FilterField {
    FILTER_WATERMARK,
    FILTER_SIMILARITY,
    FILTER_UNSAFE,
    FILTER_AESTHETIC,
    FILTER_WIDTH,
    FILTER_HEIGHT,
    FILTER_SIDE,
    FILTER_ASPECT,
    FILTER_PIXELS,
    FILTER_CAPTION_LENGTH,
    FILTER_LANGUAGE, /* from here on texts */
    FILTER_STATUS,
    FILTER_JSON /* json.NAME: either */
} FilterField;

typedef enum FilterOperator {
    FILTER_AND,
    FILTER_OR,
    FILTER_NOT,
    FILTER_HAS,
    FILTER_IN, /* from here on comparisons */
    FILTER_LESS,
    FILTER_LESS_EQUAL,
    FILTER_GREATER,
    FILTER_GREATER_EQUAL,
    FILTER_EQUAL,
    FILTER_NOT_EQUAL
} FilterOperator;

typedef struct FilterValue {
    double number;
    const char *text; /* NULL: a number */
    size_t size;
} FilterValue;

typedef struct FilterNode {
    FilterOperator op;
    FilterField field; /* FILTER_HAS and comparisons */
    const char *name;  /* of the field, as it was written: "json.NAME" */
    uint32_t child;    /* the first operand of AND, OR, NOT */
    uint32_t next;     /* the next operand of the same AND or OR; 0: none, as node 0 is nobody's sibling */
    uint32_t value, value_count;
} FilterNode;

struct FilterExpression {
    Arena *arena; /* of the texts */
    FilterNode *nodes;
    FilterValue *values;
    size_t node_count, node_capacity, value_count, value_capacity;
    uint32_t root;
};

#endif
