/* Between the machine (pickle.c) and the names it knows (pickle_torch.c). */
#ifndef MODEL_PICKLE_INSIDE_H
#define MODEL_PICKLE_INSIDE_H

#include "base/arena.h"
#include "model/pickle.h"

#define PICKLE_MAX_FOREIGN 64

struct Pickle {
    const char *name; /* for messages, while reading */
    const uint8_t *data;
    size_t size, at;
    PickleValue *values;
    size_t value_count, value_capacity;
    size_t item_count; /* of all lists, tuples and dicts */
    uint32_t *stack;
    size_t depth, stack_capacity;
    size_t *marks; /* stack depths */
    size_t mark_count, mark_capacity;
    uint32_t *memo; /* value + 1; 0 is empty */
    size_t memo_size, memo_capacity, memo_used;
    const char *foreign[PICKLE_MAX_FOREIGN];
    size_t foreign_count;
    Arena *arena; /* storages, tensors, foreign names */
    uint32_t root;
};

/* A value of the type, zeroed otherwise. */
Status pickle_add(Pickle *p, PickleType type, uint32_t *out);
Status pickle_append(Pickle *p, uint32_t container, uint32_t item);

/* The value of a global: PICKLE_GLOBAL or, for all that is not on the list, PICKLE_INERT. ERR_FORMAT for names that are
 * there to do harm. */
Status pickle_find_global(Pickle *p, const char *module, size_t module_size, const char *name, size_t name_size,
                          uint32_t *out);
/* Whether a name is one for running or opening things (pickle_danger.c). */
bool pickle_is_dangerous(const char *module, size_t module_size, const char *name, size_t name_size);
/* callable(*args), by the list. */
Status pickle_call(Pickle *p, uint32_t callable, uint32_t args, uint32_t *out);
/* What a persistent id stands for: a storage, or inert. */
Status pickle_persistent(Pickle *p, uint32_t id, uint32_t *out);

#endif
