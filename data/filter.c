/* Evaluates filter expressions in Kleene's three-valued logic. */
#include "data/filter.h"

#include <math.h>
#include <string.h>

#include "data/filter_inside.h"

static double whole(int64_t value, bool known)
{
    return known ? (double)value : NAN;
}

/* NaN: missing. */
static double number_of(const FilterNode *node, const Metadata *m)
{
    bool sized = m->width > 0;
    int64_t least = m->width < m->height ? m->width : m->height, most = m->width > m->height ? m->width : m->height;
    double value;
    switch (node->field) {
    case FILTER_WATERMARK:
        return m->watermark;
    case FILTER_SIMILARITY:
        return m->similarity;
    case FILTER_UNSAFE:
        return m->unsafe;
    case FILTER_AESTHETIC:
        return m->aesthetic;
    case FILTER_WIDTH:
        return whole(m->width, sized);
    case FILTER_HEIGHT:
        return whole(m->height, sized);
    case FILTER_SIDE:
        return whole(least, sized);
    case FILTER_ASPECT:
        return sized ? (double)most / (double)least : NAN;
    case FILTER_PIXELS:
        return whole(m->width * m->height, sized);
    case FILTER_CAPTION_LENGTH:
        return whole(m->caption_length, m->caption_length >= 0);
    case FILTER_JSON:
        if (json_number(json_get(m->root, node->name + strlen("json.")), &value) && isfinite(value)) return value;
        break;
    case FILTER_LANGUAGE:
    case FILTER_STATUS:
        break;
    }
    return NAN;
}

/* A text, or one of the words true and false. NULL: neither. */
static const char *own_text(const JsonValue *value, size_t *size)
{
    bool truth;
    if (!json_boolean(value, &truth)) return json_text(value, size);
    *size = truth ? strlen("true") : strlen("false");
    return truth ? "true" : "false";
}

/* NULL: missing. */
static const char *text_of(const FilterNode *node, const Metadata *m, size_t *size)
{
    switch (node->field) {
    case FILTER_LANGUAGE:
        *size = m->language_size;
        return m->language;
    case FILTER_STATUS:
        *size = m->status_size;
        return m->status;
    case FILTER_JSON:
        return own_text(json_get(m->root, node->name + strlen("json.")), size);
    default:
        return NULL;
    }
}

/* Below 0, 0, above 0: as a stands to b. */
static int compare_texts(const char *a, size_t a_size, const FilterValue *b)
{
    int order = memcmp(a, b->text, a_size < b->size ? a_size : b->size);
    return order ? order : (a_size > b->size) - (a_size < b->size);
}

static bool holds(FilterOperator op, int order)
{
    switch (op) {
    case FILTER_LESS:
        return order < 0;
    case FILTER_LESS_EQUAL:
        return order <= 0;
    case FILTER_GREATER:
        return order > 0;
    case FILTER_GREATER_EQUAL:
        return order >= 0;
    case FILTER_NOT_EQUAL:
        return order != 0;
    default: /* FILTER_EQUAL, FILTER_IN */
        return order == 0;
    }
}

static FilterVerdict compare(const FilterExpression *e, const FilterNode *node, const Metadata *meta)
{
    const FilterValue *values = &e->values[node->value];
    size_t size = 0;
    const char *text = values->text ? text_of(node, meta, &size) : NULL;
    double number = values->text ? 0 : number_of(node, meta);
    if (values->text ? !text : isnan(number)) return FILTER_UNKNOWN;
    for (uint32_t i = 0; i < node->value_count; i++) {
        int order =
            text ? compare_texts(text, size, &values[i]) : (number > values[i].number) - (number < values[i].number);
        if (holds(node->op, order)) return FILTER_TRUE;
    }
    return FILTER_FALSE;
}

static bool is_there(const FilterNode *node, const Metadata *meta)
{
    size_t size;
    return text_of(node, meta, &size) || !isnan(number_of(node, meta));
}

static FilterVerdict evaluate(const FilterExpression *e, uint32_t at, const Metadata *meta, const char **missing);

/* The first operand that decides; else unknown when any is. `decisive`: false for and, true for or. */
static FilterVerdict evaluate_joined(const FilterExpression *e, const FilterNode *node, const Metadata *meta,
                                     FilterVerdict decisive, const char **missing)
{
    FilterVerdict all = decisive == FILTER_TRUE ? FILTER_FALSE : FILTER_TRUE;
    uint32_t at = node->child;
    do {
        const char *field = NULL;
        FilterVerdict one = evaluate(e, at, meta, &field);
        if (one == decisive) return decisive;
        if (one == FILTER_UNKNOWN && all != FILTER_UNKNOWN) {
            all = FILTER_UNKNOWN;
            *missing = field;
        }
        at = e->nodes[at].next;
    } while (at);
    return all;
}

/* As deep as the expression is, which the parser bounds. */
static FilterVerdict evaluate(const FilterExpression *e, uint32_t at, const Metadata *meta, const char **missing)
{
    const FilterNode *node = &e->nodes[at];
    FilterVerdict verdict;
    switch (node->op) {
    case FILTER_AND:
        return evaluate_joined(e, node, meta, FILTER_FALSE, missing);
    case FILTER_OR:
        return evaluate_joined(e, node, meta, FILTER_TRUE, missing);
    case FILTER_NOT:
        verdict = evaluate(e, node->child, meta, missing);
        return verdict == FILTER_UNKNOWN ? verdict : verdict == FILTER_TRUE ? FILTER_FALSE : FILTER_TRUE;
    case FILTER_HAS:
        return is_there(node, meta) ? FILTER_TRUE : FILTER_FALSE;
    default:
        verdict = compare(e, node, meta);
        if (verdict == FILTER_UNKNOWN) *missing = node->name;
        return verdict;
    }
}

FilterVerdict filter_evaluate(const FilterExpression *expression, const Metadata *meta, const char **missing)
{
    const char *field = NULL;
    FilterVerdict verdict = evaluate(expression, expression->root, meta, &field);
    if (missing) *missing = verdict == FILTER_UNKNOWN ? field : NULL;
    return verdict;
}

static bool asks_for_field(const FilterNode *node)
{
    return node->op >= FILTER_HAS;
}

size_t filter_field_count(const FilterExpression *expression)
{
    size_t count = 0;
    for (size_t i = 0; i < expression->node_count; i++) count += asks_for_field(&expression->nodes[i]);
    return count;
}

const char *filter_field_name(const FilterExpression *expression, size_t field)
{
    size_t at = 0;
    while (!asks_for_field(&expression->nodes[at]) || field-- > 0) at++;
    return expression->nodes[at].name;
}

void filter_count_fields(const FilterExpression *expression, const Metadata *meta, int64_t *counts)
{
    for (size_t i = 0; i < expression->node_count; i++) {
        const FilterNode *node = &expression->nodes[i];
        if (!asks_for_field(node)) continue;
        *counts++ += node->op == FILTER_HAS ? is_there(node, meta) : compare(expression, node, meta) != FILTER_UNKNOWN;
    }
}
