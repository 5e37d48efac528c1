/* The names that a pickle of torch.save may use, and what they make. Everything else is inert. */
#include <string.h>

#include "model/pickle_inside.h"

typedef enum Meaning {
    ORDERED_DICT,
    DEFAULT_DICT,
    REBUILD_TENSOR,    /* (storage, offset, size, stride, ...); _v2 has more that does not matter */
    REBUILD_TENSOR3,   /* (storage, offset, size, stride, requires_grad, hooks, dtype, ...) */
    REBUILD_FROM,      /* (tensor, ...): a Parameter is its tensor */
    REBUILD_FROM_TYPE, /* (function, class, arguments, state): tensors with attributes, and subclasses */
    STORAGE,           /* a storage class of one dtype */
    UNTYPED_STORAGE,
    DTYPE
} Meaning;

typedef struct Known {
    const char *module, *name;
    Meaning meaning;
    SafeDtype dtype;
} Known;

static const Known KNOWN[] = {
    {"collections", "OrderedDict", ORDERED_DICT, SAFE_F32},
    {"collections", "defaultdict", DEFAULT_DICT, SAFE_F32},
    {"torch._utils", "_rebuild_tensor", REBUILD_TENSOR, SAFE_F32},
    {"torch._utils", "_rebuild_tensor_v2", REBUILD_TENSOR, SAFE_F32},
    {"torch._utils", "_rebuild_tensor_v3", REBUILD_TENSOR3, SAFE_F32},
    {"torch._utils", "_rebuild_parameter", REBUILD_FROM, SAFE_F32},
    {"torch._utils", "_rebuild_parameter_with_state", REBUILD_FROM, SAFE_F32},
    {"torch.nn.parameter", "Parameter", REBUILD_FROM, SAFE_F32},
    {"torch.nn", "Parameter", REBUILD_FROM, SAFE_F32},
    {"torch._tensor", "_rebuild_from_type_v2", REBUILD_FROM_TYPE, SAFE_F32},
    {"torch", "FloatStorage", STORAGE, SAFE_F32},
    {"torch", "DoubleStorage", STORAGE, SAFE_F64},
    {"torch", "HalfStorage", STORAGE, SAFE_F16},
    {"torch", "BFloat16Storage", STORAGE, SAFE_BF16},
    {"torch", "LongStorage", STORAGE, SAFE_I64},
    {"torch", "IntStorage", STORAGE, SAFE_I32},
    {"torch", "ShortStorage", STORAGE, SAFE_I16},
    {"torch", "CharStorage", STORAGE, SAFE_I8},
    {"torch", "ByteStorage", STORAGE, SAFE_U8},
    {"torch", "BoolStorage", STORAGE, SAFE_BOOL},
    {"torch", "UntypedStorage", UNTYPED_STORAGE, SAFE_U8},
    {"torch.storage", "UntypedStorage", UNTYPED_STORAGE, SAFE_U8},
    {"torch.storage", "_UntypedStorage", UNTYPED_STORAGE, SAFE_U8},
    {"torch", "float32", DTYPE, SAFE_F32},
    {"torch", "float64", DTYPE, SAFE_F64},
    {"torch", "float16", DTYPE, SAFE_F16},
    {"torch", "bfloat16", DTYPE, SAFE_BF16},
    {"torch", "int64", DTYPE, SAFE_I64},
    {"torch", "int32", DTYPE, SAFE_I32},
    {"torch", "int16", DTYPE, SAFE_I16},
    {"torch", "int8", DTYPE, SAFE_I8},
    {"torch", "uint8", DTYPE, SAFE_U8},
    {"torch", "uint16", DTYPE, SAFE_U16},
    {"torch", "uint32", DTYPE, SAFE_U32},
    {"torch", "uint64", DTYPE, SAFE_U64},
    {"torch", "bool", DTYPE, SAFE_BOOL},
};
enum { KNOWN_COUNT = sizeof KNOWN / sizeof KNOWN[0] };

static bool is_word(const char *text, size_t size, const char *word)
{
    return strlen(word) == size && memcmp(text, word, size) == 0;
}

enum { SHOWN_NAME = 160 };

/* "module.name" for messages. One that is not plain ASCII is cut at its first odd byte. */
static void show_name(const char *module, size_t module_size, const char *name, size_t name_size, char out[SHOWN_NAME])
{
    size_t size = 0;
    for (size_t i = 0; i < module_size && size < SHOWN_NAME / 2 - 1 && module[i] > ' ' && module[i] < 127; i++)
        out[size++] = module[i];
    out[size++] = '.';
    for (size_t i = 0; i < name_size && size < SHOWN_NAME - 1 && name[i] > ' ' && name[i] < 127; i++)
        out[size++] = name[i];
    out[size] = '\0';
}

/* Keeps the name for those who want to know what the file was made of. */
static Status note_foreign(Pickle *p, const char *shown)
{
    Status status = STATUS_OK;
    if (p->foreign_count == PICKLE_MAX_FOREIGN) return STATUS_OK;
    for (size_t i = 0; i < p->foreign_count; i++)
        if (strcmp(p->foreign[i], shown) == 0) return STATUS_OK;
    p->foreign[p->foreign_count] = arena_strdup(p->arena, shown);
    if (!p->foreign[p->foreign_count]) FAIL(ERR_MEMORY, "%s: out of memory", p->name);
    p->foreign_count++;
fail:
    return status;
}

Status pickle_find_global(Pickle *p, const char *module, size_t module_size, const char *name, size_t name_size,
                          uint32_t *out)
{
    Status status = STATUS_OK;
    char shown[SHOWN_NAME];
    size_t plain = module_size;
    if (is_word(module, module_size, "torch.cuda")) plain = strlen("torch"); /* storages of an older torch */
    for (int32_t i = 0; i < KNOWN_COUNT; i++) {
        if (!is_word(module, plain, KNOWN[i].module) || !is_word(name, name_size, KNOWN[i].name)) continue;
        TRY(pickle_add(p, PICKLE_GLOBAL, out));
        p->values[*out].as.global = i;
        return STATUS_OK;
    }
    show_name(module, module_size, name, name_size, shown);
    if (pickle_is_dangerous(module, module_size, name, name_size))
        FAIL(
            ERR_FORMAT,
            "%s: the pickle asks for %s, which no weights need: the file was made to run something where it is loaded. "
            "Nothing of it was executed here; do not load it with Python either",
            p->name, shown);
    TRY(pickle_add(p, PICKLE_INERT, out));
    TRY(note_foreign(p, shown));
fail:
    return status;
}

static const Known *known(const PickleValue *value)
{
    return value->type == PICKLE_GLOBAL ? &KNOWN[value->as.global] : NULL;
}

/* Argument `index` of a tuple, or NULL. */
static const PickleValue *argument(const Pickle *p, const PickleValue *args, uint32_t index)
{
    return index < args->count ? &p->values[args->as.items[index]] : NULL;
}

static bool is_integer(const PickleValue *value, int64_t min)
{
    return value && value->type == PICKLE_INT && value->as.integer >= min;
}

/* A tuple of sizes or strides. */
static bool read_dims(const Pickle *p, const PickleValue *tuple, int64_t out[SAFETENSORS_MAX_DIMS])
{
    if (!tuple || (tuple->type != PICKLE_TUPLE && tuple->type != PICKLE_LIST)) return false;
    if (tuple->count > SAFETENSORS_MAX_DIMS) return false;
    for (uint32_t i = 0; i < tuple->count; i++) {
        const PickleValue *d = argument(p, tuple, i);
        if (!is_integer(d, 0)) return false;
        out[i] = d->as.integer;
    }
    return true;
}

/* Whether every element lies among the `elements` of the storage. */
static bool is_inside(const PickleTensor *t, int64_t elements)
{
    uint64_t last = (uint64_t)t->offset;
    for (int32_t d = 0; d < t->ndim; d++)
        if (t->shape[d] == 0) return t->offset <= elements;
    for (int32_t d = 0; d < t->ndim; d++) {
        uint64_t reach;
        if (__builtin_mul_overflow((uint64_t)t->shape[d] - 1, (uint64_t)t->stride[d], &reach) ||
            __builtin_add_overflow(last, reach, &last))
            return false;
    }
    return last < (uint64_t)elements;
}

/* {"neg": True} or {"conj": True}: the storage's values are not the tensor's. */
static bool is_lazy(const Pickle *p, const PickleValue *metadata)
{
    if (!metadata || metadata->type != PICKLE_DICT) return false;
    for (uint32_t i = 1; i < metadata->count; i += 2) {
        const PickleValue *flag = argument(p, metadata, i);
        if (flag->type == PICKLE_BOOL && flag->as.integer) return true;
    }
    return false;
}

static Status rebuild_tensor(Pickle *p, const PickleValue *args, bool has_dtype, uint32_t *out)
{
    Status status = STATUS_OK;
    const PickleValue *storage = argument(p, args, 0), *offset = argument(p, args, 1);
    const PickleValue *size = argument(p, args, 2), *stride = argument(p, args, 3);
    if (!storage || storage->type != PICKLE_STORAGE) return pickle_add(p, PICKLE_INERT, out); /* a foreign kind of it */
    PickleTensor *t = arena_alloc(p->arena, sizeof *t);
    if (!t) FAIL(ERR_MEMORY, "%s: out of memory", p->name);
    t->storage = *storage->as.storage;
    t->dtype = t->storage.dtype;
    if (has_dtype) {
        const PickleValue *dtype = argument(p, args, 6);
        const Known *name = dtype ? known(dtype) : NULL;
        if (!name || name->meaning != DTYPE) return pickle_add(p, PICKLE_INERT, out);
        t->dtype = name->dtype;
    } else if (!t->storage.typed) {
        FAIL(ERR_FORMAT, "%s: a tensor of the pickle has no type", p->name);
    }
    if (is_lazy(p, argument(p, args, has_dtype ? 7 : 6)))
        FAIL(ERR_UNSUPPORTED, "%s: a tensor of the pickle is lazily negated or conjugated; save x.resolve_neg()",
             p->name);
    if (!is_integer(offset, 0) || !read_dims(p, size, t->shape) || !read_dims(p, stride, t->stride) ||
        size->count != stride->count)
        FAIL(ERR_FORMAT, "%s: a tensor of the pickle has no offset, shape and strides of at most %d dimensions",
             p->name, SAFETENSORS_MAX_DIMS);
    t->offset = offset->as.integer;
    t->ndim = (int32_t)size->count;
    size_t unit = t->storage.typed ? safe_dtype_size(t->storage.dtype) : 1;
    /* elements of the storage are checked against its bytes where it is found; here against what is declared */
    if (!is_inside(t, (int64_t)((uint64_t)t->storage.elements * unit / safe_dtype_size(t->dtype))))
        FAIL(ERR_FORMAT, "%s: a tensor of the pickle reaches beyond its storage '%.*s' of %lld elements", p->name,
             (int)(t->storage.key_size < 64 ? t->storage.key_size : 64), t->storage.key,
             (long long)t->storage.elements);
    TRY(pickle_add(p, PICKLE_TENSOR, out));
    p->values[*out].as.tensor = t;
fail:
    return status;
}

/* OrderedDict() or OrderedDict([(key, value), ...]). */
static Status make_dict(Pickle *p, const PickleValue *pairs, uint32_t *out)
{
    Status status = STATUS_OK;
    bool filled = pairs && (pairs->type == PICKLE_LIST || pairs->type == PICKLE_TUPLE);
    const uint32_t *items = filled ? pairs->as.items : NULL;
    const uint32_t count = filled ? pairs->count : 0;
    TRY(pickle_add(p, PICKLE_DICT, out)); /* moves the values, not their items */
    for (uint32_t i = 0; i < count; i++) {
        const PickleValue *pair = &p->values[items[i]];
        if ((pair->type != PICKLE_LIST && pair->type != PICKLE_TUPLE) || pair->count != 2)
            FAIL(ERR_FORMAT, "%s: a dictionary of the pickle is made of something else than pairs", p->name);
        const uint32_t key = pair->as.items[0], value = pair->as.items[1];
        TRY(pickle_append(p, *out, key));
        TRY(pickle_append(p, *out, value));
    }
fail:
    return status;
}

static Status call_known(Pickle *p, const Known *name, const PickleValue *args, uint32_t *out)
{
    switch (name->meaning) {
    case ORDERED_DICT:
        return make_dict(p, args->count > 0 ? &p->values[args->as.items[0]] : NULL, out);
    case DEFAULT_DICT:
        return make_dict(p, args->count > 1 ? &p->values[args->as.items[1]] : NULL, out);
    case REBUILD_TENSOR:
        return rebuild_tensor(p, args, false, out);
    case REBUILD_TENSOR3:
        return rebuild_tensor(p, args, true, out);
    case REBUILD_FROM: {
        const PickleValue *tensor = argument(p, args, 0);
        if (!tensor || tensor->type != PICKLE_TENSOR) break;
        *out = args->as.items[0];
        return STATUS_OK;
    }
    case REBUILD_FROM_TYPE: {
        const PickleValue *function = argument(p, args, 0), *inner = argument(p, args, 2);
        const Known *rebuild = function ? known(function) : NULL;
        if (!rebuild || !inner || inner->type != PICKLE_TUPLE) break;
        if (rebuild->meaning != REBUILD_TENSOR && rebuild->meaning != REBUILD_TENSOR3) break;
        return rebuild_tensor(p, inner, rebuild->meaning == REBUILD_TENSOR3, out);
    }
    case STORAGE:
    case UNTYPED_STORAGE:
    case DTYPE:
        break;
    }
    return pickle_add(p, PICKLE_INERT, out);
}

Status pickle_call(Pickle *p, uint32_t callable, uint32_t args, uint32_t *out)
{
    Status status = STATUS_OK;
    const PickleValue *function = &p->values[callable], *arguments = &p->values[args];
    if (function->type == PICKLE_INERT) return pickle_add(p, PICKLE_INERT, out);
    const Known *name = known(function);
    if (!name || arguments->type != PICKLE_TUPLE)
        FAIL(ERR_FORMAT, "%s: the pickle calls something that is no function", p->name);
    TRY(call_known(p, name, arguments, out));
fail:
    return status;
}

/* ('storage', class, key, location, elements[, view]); a legacy view is None or (key, first element, elements). */
Status pickle_persistent(Pickle *p, uint32_t id, uint32_t *out)
{
    Status status = STATUS_OK;
    const PickleValue *tuple = &p->values[id];
    const PickleValue *word = tuple->type == PICKLE_TUPLE ? argument(p, tuple, 0) : NULL;
    if (word && word->type == PICKLE_TEXT && is_word(word->as.text, word->count, "module"))
        return pickle_add(p, PICKLE_INERT, out); /* the source of a pickled class */
    if (!word || word->type != PICKLE_TEXT || !is_word(word->as.text, word->count, "storage"))
        FAIL(ERR_FORMAT, "%s: the pickle refers to something outside that is no storage", p->name);
    const PickleValue *class = argument(p, tuple, 1), *key = argument(p, tuple, 2), *elements = argument(p, tuple, 4);
    const PickleValue *view = argument(p, tuple, 5);
    if (!class || !key || key->type != PICKLE_TEXT || !is_integer(elements, 0))
        FAIL(ERR_FORMAT, "%s: a storage of the pickle has no class, key or size", p->name);
    const Known *name = known(class);
    if (!name || (name->meaning != STORAGE && name->meaning != UNTYPED_STORAGE))
        return pickle_add(p, PICKLE_INERT, out); /* of a type that we do not read, such as complex numbers */
    PickleStorage *storage = arena_alloc(p->arena, sizeof *storage);
    if (!storage) FAIL(ERR_MEMORY, "%s: out of memory", p->name);
    *storage = (PickleStorage){.key = key->as.text,
                               .key_size = key->count,
                               .typed = name->meaning == STORAGE,
                               .dtype = name->dtype,
                               .elements = elements->as.integer};
    if (storage->elements > INT64_MAX / 16)
        FAIL(ERR_FORMAT, "%s: a storage of the pickle claims %lld elements", p->name, (long long)storage->elements);
    if (view && view->type == PICKLE_TUPLE) {
        const PickleValue *first = argument(p, view, 1), *part = argument(p, view, 2);
        if (!is_integer(first, 0) || !is_integer(part, 0) || first->as.integer > storage->elements ||
            part->as.integer > storage->elements - first->as.integer)
            FAIL(ERR_FORMAT, "%s: a view of the pickle reaches beyond its storage", p->name);
        storage->first = first->as.integer;
        storage->elements = part->as.integer;
    }
    TRY(pickle_add(p, PICKLE_STORAGE, out));
    p->values[*out].as.storage = storage;
fail:
    return status;
}
