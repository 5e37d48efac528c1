/* The values of a pickle: making, filling and reading them. */
#include <stdlib.h>
#include <string.h>

#include "model/pickle_inside.h"

Status pickle_add(Pickle *p, PickleType type, uint32_t *out)
{
    Status status = STATUS_OK;
    if (p->value_count >= PICKLE_MAX_VALUES)
        FAIL(ERR_LIMIT, "%s: the pickle has more than %zu values", p->name, PICKLE_MAX_VALUES);
    TRY(mem_grow(&p->values, &p->value_capacity, p->value_count + 1, sizeof *p->values));
    p->values[p->value_count] = (PickleValue){.type = type};
    *out = (uint32_t)p->value_count++;
fail:
    return status;
}

Status pickle_append(Pickle *p, uint32_t container, uint32_t item)
{
    Status status = STATUS_OK;
    PickleValue *value = &p->values[container];
    size_t capacity = value->capacity;
    if (p->item_count++ >= PICKLE_MAX_ITEMS)
        FAIL(ERR_LIMIT, "%s: the pickle's lists have more than %zu items", p->name, PICKLE_MAX_ITEMS);
    TRY(mem_grow(&value->as.items, &capacity, (size_t)value->count + 1, sizeof *value->as.items));
    value->capacity = (uint32_t)capacity;
    value->as.items[value->count++] = item;
fail:
    return status;
}

void pickle_free(Pickle *p)
{
    if (!p) return;
    for (size_t i = 0; i < p->value_count; i++)
        if (p->values[i].capacity > 0) free(p->values[i].as.items);
    free(p->values);
    free(p->stack);
    free(p->marks);
    free(p->memo);
    arena_free(p->arena);
    free(p);
}

uint32_t pickle_root(const Pickle *p)
{
    return p->root;
}

uint32_t pickle_count(const Pickle *p)
{
    return (uint32_t)p->value_count;
}

const PickleValue *pickle_get(const Pickle *p, uint32_t value)
{
    return &p->values[value];
}

const char *pickle_foreign(const Pickle *p, size_t index)
{
    return index < p->foreign_count ? p->foreign[index] : NULL;
}

const PickleValue *pickle_lookup(const Pickle *p, const PickleValue *dict, const char *key)
{
    if (!dict || dict->type != PICKLE_DICT) return NULL;
    for (uint32_t i = 0; i + 1 < dict->count; i += 2) {
        const PickleValue *k = &p->values[dict->as.items[i]];
        if (k->type == PICKLE_TEXT && k->count == strlen(key) && memcmp(k->as.text, key, k->count) == 0)
            return &p->values[dict->as.items[i + 1]];
    }
    return NULL;
}
