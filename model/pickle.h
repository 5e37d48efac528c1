/* A reader of the pickles that torch.save writes. It is no Python: it knows the opcodes that build values, and a short
 * list of names (model/pickle_torch.c). A name that is not on the list becomes an inert token; calling one, or building
 * on one, gives an inert token again. So nothing is ever looked up, imported or executed.
 *
 * Work and memory are bounded by the pickle's size, which is bounded. Containers are held by reference, so a value may
 * be shared or contain itself: who walks the values limits depth and steps. */
#ifndef MODEL_PICKLE_H
#define MODEL_PICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "model/safetensors.h"

#define PICKLE_MAX_BYTES ((size_t)64 << 20)
#define PICKLE_MAX_VALUES ((size_t)4 << 20)
#define PICKLE_MAX_ITEMS ((size_t)16 << 20) /* of all lists, tuples and dictionaries together */

typedef enum PickleType {
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INT,
    PICKLE_FLOAT,
    PICKLE_TEXT, /* str or bytes */
    PICKLE_LIST,
    PICKLE_TUPLE,
    PICKLE_DICT,
    PICKLE_GLOBAL, /* a name of the list */
    PICKLE_STORAGE,
    PICKLE_TENSOR,
    PICKLE_INERT
} PickleType;

/* What a persistent id ('storage', class, key, location, elements) names. */
typedef struct PickleStorage {
    const char *key; /* key_size bytes, no NUL behind */
    size_t key_size;
    bool typed;      /* else `elements` are bytes */
    SafeDtype dtype; /* of a typed one */
    int64_t elements;
    int64_t first; /* legacy views: the first element within the storage of that key */
} PickleStorage;

typedef struct PickleTensor {
    PickleStorage storage;
    SafeDtype dtype;
    int64_t offset; /* elements of dtype, within the storage */
    int32_t ndim;
    int64_t shape[SAFETENSORS_MAX_DIMS], stride[SAFETENSORS_MAX_DIMS]; /* none is negative */
} PickleTensor;

typedef struct PickleValue {
    PickleType type;
    uint32_t count;    /* items of a list or tuple, twice the pairs of a dict, bytes of a text */
    uint32_t capacity; /* of items */
    union {
        int64_t integer; /* INT, BOOL */
        double real;
        const char *text; /* within the pickle */
        uint32_t *items;  /* values; a dict's are key, value, key, value ... */
        int32_t global;
        PickleStorage *storage;
        PickleTensor *tensor;
    } as;
} PickleValue;

typedef struct Pickle Pickle;

/* Reads one pickle from the front of `data`, which must stay; *used is where it ended. `name` is for messages. */
Status pickle_read(const char *name, const uint8_t *data, size_t size, size_t *used, Pickle **out);
void pickle_free(Pickle *pickle); /* NULL is fine */
uint32_t pickle_root(const Pickle *pickle);
uint32_t pickle_count(const Pickle *pickle); /* values, reachable or not */
const PickleValue *pickle_get(const Pickle *pickle, uint32_t value);
/* "module.name" of what was met and is not on the list, each once (the first 64); NULL past the last. */
const char *pickle_foreign(const Pickle *pickle, size_t index);

/* The value of a text key in a dict; NULL when absent or not a dict. */
const PickleValue *pickle_lookup(const Pickle *pickle, const PickleValue *dict, const char *key);

#endif
