/* Filter expressions from text: a recursive descent over words. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/json.h"
#include "data/filter_inside.h"

static const char *const field_names[] = {
    [FILTER_WATERMARK] = "watermark", [FILTER_SIMILARITY] = "similarity",
    [FILTER_UNSAFE] = "unsafe",       [FILTER_AESTHETIC] = "aesthetic",
    [FILTER_WIDTH] = "width",         [FILTER_HEIGHT] = "height",
    [FILTER_SIDE] = "side",           [FILTER_ASPECT] = "aspect",
    [FILTER_PIXELS] = "pixels",       [FILTER_CAPTION_LENGTH] = "caption_length",
    [FILTER_LANGUAGE] = "language",   [FILTER_STATUS] = "status",
};
#define FIELD_COUNT (sizeof field_names / sizeof field_names[0])
#define FIELD_LIST                                                                                                     \
    "watermark, similarity, unsafe, aesthetic, width, height, side, aspect, pixels, caption_length, language, status " \
    "or "                                                                                                              \
    "json.NAME"
#define JSON_PREFIX "json."

typedef enum TokenKind {
    TOKEN_END,
    TOKEN_WORD,
    TOKEN_NUMBER,
    TOKEN_QUOTED,
    TOKEN_OPEN,
    TOKEN_CLOSE,
    TOKEN_LIST,
    TOKEN_LIST_END,
    TOKEN_COMMA,
    TOKEN_COMPARE
} TokenKind;

typedef struct Token {
    TokenKind kind;
    const char *start, *end; /* in the expression */
    const char *text;        /* of words and quoted texts, NUL-terminated */
    size_t size;
    double number;
    FilterOperator compare;
} Token;

typedef struct Parser {
    const char *text, *at;
    Token token; /* the next one */
    FilterExpression *expression;
    int depth, comparisons;
} Parser;

static int column_of(const Parser *p, const char *place)
{
    int column = 1;
    for (const char *s = p->text; s < place; s++) column += ((unsigned char)*s & 0xc0) != 0x80;
    return column;
}

#define PARSE_FAIL(place, format, ...) FAIL(ERR_CONFIG, "column %d: " format, column_of(p, place), __VA_ARGS__)

/* The next token as a message shows it. */
static const char *shown(const Parser *p, char out[80])
{
    int size = (int)(p->token.end - p->token.start);
    if (p->token.kind == TOKEN_END) return "the end";
    while (size > 60 || (size > 0 && size < p->token.end - p->token.start && (p->token.start[size] & 0xc0) == 0x80))
        size--;
    snprintf(out, 80, "\"%.*s\"", size, p->token.start);
    return out;
}

/* ---- tokens ---- */

static bool begins_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool in_word(char c)
{
    return begins_word(c) || is_digit(c) || c == '.' || c == '-';
}

/* A text from the opening quote on, with \" and \\ inside. `prefix` is put before it. */
static Status read_quoted(Parser *p, const char *quote, const char *prefix)
{
    Status status = STATUS_OK;
    Token *token = &p->token;
    size_t size = strlen(prefix);
    char *out = arena_alloc(p->expression->arena, size + strlen(quote) + 1);
    if (!out) FAIL_WITH(ERR_MEMORY);
    memcpy(out, prefix, size);
    const char *s = quote + 1;
    for (; *s && *s != '"'; s++) {
        if (*s == '\\') {
            if (s[1] != '"' && s[1] != '\\') PARSE_FAIL(s, "%s", "only \\\" and \\\\ are understood after a backslash");
            s++;
        }
        out[size++] = *s;
    }
    if (*s != '"') PARSE_FAIL(quote, "%s", "this quote is not closed");
    token->text = out;
    token->size = size;
    token->end = p->at = s + 1;
fail:
    return status;
}

static Status read_word(Parser *p)
{
    Status status = STATUS_OK;
    Token *token = &p->token;
    token->kind = TOKEN_WORD;
    while (in_word(*p->at)) p->at++;
    token->end = p->at;
    token->size = (size_t)(token->end - token->start);
    if (*p->at == '"' && token->size == strlen(JSON_PREFIX) && memcmp(token->start, JSON_PREFIX, token->size) == 0)
        return read_quoted(p, p->at, JSON_PREFIX);
    char *text = arena_alloc(p->expression->arena, token->size + 1);
    if (!text) FAIL_WITH(ERR_MEMORY);
    memcpy(text, token->start, token->size);
    token->text = text;
fail:
    return status;
}

static Status read_number(Parser *p)
{
    Status status = STATUS_OK;
    char digits[72] = "";
    Token *token = &p->token;
    token->kind = TOKEN_NUMBER;
    while (in_word(*p->at) || *p->at == '+') p->at++;
    token->end = p->at;
    size_t size = (size_t)(token->end - token->start);
    if (size < sizeof digits) memcpy(digits, token->start, size);
    if (!config_parse_float(digits, &token->number))
        PARSE_FAIL(token->start, "\"%.*s\" is not a number; quote it if it is a text", (int)(size < 60 ? size : 60),
                   token->start);
fail:
    return status;
}

static Status read_symbol(Parser *p)
{
    static const struct {
        const char *text;
        TokenKind kind;
        FilterOperator compare;
    } symbols[] = {{"<=", TOKEN_COMPARE, FILTER_LESS_EQUAL},
                   {">=", TOKEN_COMPARE, FILTER_GREATER_EQUAL},
                   {"==", TOKEN_COMPARE, FILTER_EQUAL},
                   {"!=", TOKEN_COMPARE, FILTER_NOT_EQUAL},
                   {"<", TOKEN_COMPARE, FILTER_LESS},
                   {">", TOKEN_COMPARE, FILTER_GREATER},
                   {"(", TOKEN_OPEN, FILTER_AND},
                   {")", TOKEN_CLOSE, FILTER_AND},
                   {"[", TOKEN_LIST, FILTER_AND},
                   {"]", TOKEN_LIST_END, FILTER_AND},
                   {",", TOKEN_COMMA, FILTER_AND}};
    static const struct {
        char symbol;
        const char *remedy;
    } mistaken[] = {{'=', "write == for \"is equal\""},
                    {'&', "write and"},
                    {'|', "write or"},
                    {'!', "write not"},
                    {'\'', "texts stand in double quotes"}};
    Status status = STATUS_OK;
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
        size_t size = strlen(symbols[i].text);
        if (strncmp(p->at, symbols[i].text, size) != 0) continue;
        p->token.kind = symbols[i].kind;
        p->token.compare = symbols[i].compare;
        p->token.end = p->at += size;
        return STATUS_OK;
    }
    for (size_t i = 0; i < sizeof mistaken / sizeof mistaken[0]; i++)
        if (*p->at == mistaken[i].symbol) PARSE_FAIL(p->at, "%s", mistaken[i].remedy);
    PARSE_FAIL(p->at, "\"%c\" is none of < <= > >= == != ( ) [ ] ,", *p->at);
fail:
    return status;
}

static Status advance(Parser *p)
{
    while (*p->at == ' ' || *p->at == '\t' || *p->at == '\n' || *p->at == '\r') p->at++;
    p->token = (Token){.kind = TOKEN_END, .start = p->at, .end = p->at};
    if (!*p->at) return STATUS_OK;
    if (begins_word(*p->at)) return read_word(p);
    if (is_digit(*p->at) || *p->at == '-' || *p->at == '+' || *p->at == '.') return read_number(p);
    if (*p->at != '"') return read_symbol(p);
    p->token.kind = TOKEN_QUOTED;
    return read_quoted(p, p->at, "");
}

static bool is_word(const Parser *p, const char *word)
{
    return p->token.kind == TOKEN_WORD && strcmp(p->token.text, word) == 0;
}

static bool is_keyword(const Parser *p)
{
    return is_word(p, "and") || is_word(p, "or") || is_word(p, "not") || is_word(p, "in") || is_word(p, "has");
}

/* ---- grammar ---- */

static Status add_node(Parser *p, FilterNode node, uint32_t *out)
{
    Status status = STATUS_OK;
    FilterExpression *e = p->expression;
    TRY(mem_grow(&e->nodes, &e->node_capacity, e->node_count + 1, sizeof e->nodes[0]));
    e->nodes[e->node_count] = node;
    *out = (uint32_t)e->node_count++;
fail:
    return status;
}

static Status count_comparison(Parser *p)
{
    Status status = STATUS_OK;
    if (++p->comparisons > FILTER_MAX_COMPARISONS)
        PARSE_FAIL(p->token.start, "more than %d comparisons", FILTER_MAX_COMPARISONS);
fail:
    return status;
}

static Status parse_field(Parser *p, FilterNode *node)
{
    Status status = STATUS_OK;
    char word[80];
    if (p->token.kind != TOKEN_WORD || is_keyword(p))
        PARSE_FAIL(p->token.start, "expected a field (" FIELD_LIST "), not %s", shown(p, word));
    node->name = p->token.text;
    if (strncmp(node->name, JSON_PREFIX, strlen(JSON_PREFIX)) == 0) {
        if (!node->name[strlen(JSON_PREFIX)])
            PARSE_FAIL(p->token.start, "%s", "json. needs the name of a field of the .json: json.NAME");
        node->field = FILTER_JSON;
        return advance(p);
    }
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        if (strcmp(node->name, field_names[i]) != 0) continue;
        node->field = (FilterField)i;
        return advance(p);
    }
    const char *near = config_nearest(node->name, field_names, FIELD_COUNT);
    if (near) PARSE_FAIL(p->token.start, "%s is not a field; did you mean %s?", shown(p, word), near);
    PARSE_FAIL(p->token.start, "%s is not a field; they are " FIELD_LIST, shown(p, word));
fail:
    return status;
}

/* A value of the type that the field has, and the values before it. */
static Status parse_value(Parser *p, FilterNode *node)
{
    Status status = STATUS_OK;
    char word[80];
    FilterExpression *e = p->expression;
    const Token *token = &p->token;
    bool number = token->kind == TOKEN_NUMBER;
    bool text = token->kind == TOKEN_QUOTED || (token->kind == TOKEN_WORD && !is_keyword(p));
    if (!number && !text)
        PARSE_FAIL(token->start, "expected a value, not %s%s", shown(p, word),
                   is_keyword(p) ? "; quote it if it is a text" : "");
    if (text && node->field < FILTER_LANGUAGE)
        PARSE_FAIL(token->start, "%s is a number, and %s is none", node->name, shown(p, word));
    if (number && (node->field == FILTER_LANGUAGE || node->field == FILTER_STATUS))
        PARSE_FAIL(token->start, "%s is a text, and %s is a number; quote it", node->name, shown(p, word));
    if (node->value_count > 0 && (e->values[node->value].text != NULL) != text)
        PARSE_FAIL(token->start, "%s is %s, unlike the values before it", shown(p, word), text ? "a text" : "a number");
    TRY(mem_grow(&e->values, &e->value_capacity, e->value_count + 1, sizeof e->values[0]));
    e->values[e->value_count++] = (FilterValue){token->number, text ? token->text : NULL, token->size};
    node->value_count++;
    TRY(advance(p));
fail:
    return status;
}

/* "[" value {"," value} "]" */
static Status parse_list(Parser *p, FilterNode *node)
{
    Status status = STATUS_OK;
    char word[80];
    if (p->token.kind != TOKEN_LIST)
        PARSE_FAIL(p->token.start, "expected a list such as [ru, uk] after in, not %s", shown(p, word));
    do {
        TRY(advance(p));
        TRY(parse_value(p, node));
    } while (p->token.kind == TOKEN_COMMA);
    if (p->token.kind != TOKEN_LIST_END) PARSE_FAIL(p->token.start, "expected , or ], not %s", shown(p, word));
    TRY(advance(p));
fail:
    return status;
}

static Status parse_comparison(Parser *p, uint32_t *out)
{
    Status status = STATUS_OK;
    char word[80];
    FilterNode node = {0};
    bool negated = false;
    TRY(count_comparison(p));
    TRY(parse_field(p, &node));
    node.value = (uint32_t)p->expression->value_count;
    if (is_word(p, "not")) {
        negated = true;
        TRY(advance(p));
        if (!is_word(p, "in")) PARSE_FAIL(p->token.start, "expected in after not, not %s", shown(p, word));
    }
    if (is_word(p, "in")) {
        node.op = FILTER_IN;
        TRY(advance(p));
        TRY(parse_list(p, &node));
    } else if (p->token.kind == TOKEN_COMPARE) {
        node.op = p->token.compare;
        TRY(advance(p));
        TRY(parse_value(p, &node));
    } else {
        PARSE_FAIL(p->token.start, "expected < <= > >= == != or in after %s, not %s", node.name, shown(p, word));
    }
    TRY(add_node(p, node, out));
    if (negated) TRY(add_node(p, (FilterNode){.op = FILTER_NOT, .child = *out}, out));
fail:
    return status;
}

static Status parse_any(Parser *p, uint32_t *out);

static Status parse_factor(Parser *p, uint32_t *out)
{
    Status status = STATUS_OK;
    char word[80];
    if (p->depth >= FILTER_MAX_DEPTH) PARSE_FAIL(p->token.start, "more than %d levels", FILTER_MAX_DEPTH);
    p->depth++;
    if (is_word(p, "not")) {
        TRY(advance(p));
        TRY(parse_factor(p, out));
        TRY(add_node(p, (FilterNode){.op = FILTER_NOT, .child = *out}, out));
    } else if (is_word(p, "has")) {
        FilterNode node = {.op = FILTER_HAS};
        TRY(count_comparison(p));
        TRY(advance(p));
        TRY(parse_field(p, &node));
        TRY(add_node(p, node, out));
    } else if (p->token.kind == TOKEN_OPEN) {
        TRY(advance(p));
        TRY(parse_any(p, out));
        if (p->token.kind != TOKEN_CLOSE) PARSE_FAIL(p->token.start, "expected and, or or ), not %s", shown(p, word));
        TRY(advance(p));
    } else {
        TRY(parse_comparison(p, out));
    }
    p->depth--;
fail:
    return status;
}

/* Operands joined by `word`, as one node when there are several. */
static Status parse_joined(Parser *p, FilterOperator op, const char *word, Status (*operand)(Parser *, uint32_t *),
                           uint32_t *out)
{
    Status status = STATUS_OK;
    uint32_t first, last, next;
    TRY(operand(p, &first));
    last = first;
    while (is_word(p, word)) {
        TRY(advance(p));
        TRY(operand(p, &next));
        p->expression->nodes[last].next = next;
        last = next;
    }
    *out = first;
    if (last != first) TRY(add_node(p, (FilterNode){.op = op, .child = first}, out));
fail:
    return status;
}

static Status parse_all(Parser *p, uint32_t *out)
{
    return parse_joined(p, FILTER_AND, "and", parse_factor, out);
}

static Status parse_any(Parser *p, uint32_t *out)
{
    return parse_joined(p, FILTER_OR, "or", parse_all, out);
}

Status filter_parse(const char *text, FilterExpression **out)
{
    Status status = STATUS_OK;
    char word[80];
    size_t size = strlen(text);
    Parser parser = {.text = text, .at = text}, *p = &parser;
    *out = NULL;
    FilterExpression *expression = mem_alloc_array(1, sizeof *expression);
    if (!expression) FAIL_WITH(ERR_MEMORY);
    p->expression = expression;
    TRY(arena_create(&expression->arena));
    if (size > FILTER_MAX_BYTES)
        FAIL(ERR_CONFIG, "a filter expression of %zu bytes, at most %d are read", size, FILTER_MAX_BYTES);
    if (!utf8_valid(text, size)) FAIL(ERR_CONFIG, "a filter expression that is not valid UTF-8");
    TRY(advance(p));
    if (p->token.kind == TOKEN_END)
        FAIL(ERR_CONFIG, "an empty filter expression; write one such as \"watermark < 0.5\", or leave it out");
    TRY(parse_any(p, &expression->root));
    if (p->token.kind != TOKEN_END) PARSE_FAIL(p->token.start, "expected and, or or the end, not %s", shown(p, word));
    *out = expression;
    return STATUS_OK;
fail:
    filter_free(expression);
    return status;
}

void filter_free(FilterExpression *expression)
{
    if (!expression) return;
    arena_free(expression->arena);
    free(expression->nodes);
    free(expression->values);
    free(expression);
}

bool filter_asks_caption_length(const FilterExpression *expression)
{
    for (size_t i = 0; i < expression->node_count; i++) {
        const FilterNode *node = &expression->nodes[i];
        if (node->op >= FILTER_HAS && node->field == FILTER_CAPTION_LENGTH) return true;
    }
    return false;
}
