/* The pickle machine: opcodes of protocols 2 to 5 that build values. */
#include "model/pickle.h"

#include <stdlib.h>
#include <string.h>

#include "model/pickle_inside.h"

#define MAX_NAME_BYTES 512 /* of a module or class */

/* ---- the input ---- */

/* The next `count` bytes, or NULL at the end. */
static const uint8_t *take(Pickle *p, size_t count)
{
    if (count > p->size - p->at) return NULL;
    const uint8_t *bytes = p->data + p->at;
    p->at += count;
    return bytes;
}

static Status ended(const Pickle *p)
{
    return status_fail(ERR_FORMAT, __FILE__, __LINE__, "%s: the pickle ends too early; is the file complete?", p->name);
}

/* A little-endian number of 1 to 8 bytes. */
static Status take_number(Pickle *p, size_t bytes, uint64_t *out)
{
    const uint8_t *at = take(p, bytes);
    *out = 0;
    if (!at) return ended(p);
    for (size_t i = bytes; i-- > 0;) *out = *out << 8 | at[i];
    return STATUS_OK;
}

/* A text line, without its end. */
static Status take_line(Pickle *p, const char **out, size_t *size)
{
    Status status = STATUS_OK;
    const char *line = (const char *)p->data + p->at;
    const char *end = memchr(line, '\n', p->size - p->at);
    if (!end) FAIL_WITH(ended(p));
    *out = line;
    *size = (size_t)(end - line);
    p->at += *size + 1;
    if (*size > MAX_NAME_BYTES) FAIL(ERR_FORMAT, "%s: a name in the pickle has %zu bytes", p->name, *size);
fail:
    return status;
}

/* ---- the stack ---- */

static Status push(Pickle *p, uint32_t value)
{
    Status status = STATUS_OK;
    TRY(mem_grow(&p->stack, &p->stack_capacity, p->depth + 1, sizeof *p->stack));
    p->stack[p->depth++] = value;
fail:
    return status;
}

/* How many values there are above the newest mark. */
static size_t above_mark(const Pickle *p)
{
    return p->depth - (p->mark_count ? p->marks[p->mark_count - 1] : 0);
}

/* Only what lies above the newest mark may be taken. */
static Status need(const Pickle *p, size_t count)
{
    Status status = STATUS_OK;
    if (above_mark(p) < count)
        FAIL(ERR_FORMAT, "%s: the pickle takes %zu values where its stack has %zu", p->name, count, above_mark(p));
fail:
    return status;
}

static Status pop(Pickle *p, uint32_t *out)
{
    Status status = STATUS_OK;
    TRY(need(p, 1));
    *out = p->stack[--p->depth];
fail:
    return status;
}

/* The values above the newest mark, which goes: stack[*first .. *first + *count). */
static Status pop_mark(Pickle *p, size_t *first, size_t *count)
{
    Status status = STATUS_OK;
    if (p->mark_count == 0) FAIL(ERR_FORMAT, "%s: the pickle has no mark where one is needed", p->name);
    *first = p->marks[--p->mark_count];
    *count = p->depth - *first;
    p->depth = *first; /* the values stay readable until the next push */
fail:
    return status;
}

static Status push_new(Pickle *p, PickleType type, uint32_t *out)
{
    Status status = STATUS_OK;
    TRY(pickle_add(p, type, out));
    TRY(push(p, *out));
fail:
    return status;
}

static Status push_integer(Pickle *p, PickleType type, int64_t integer)
{
    Status status = STATUS_OK;
    uint32_t value;
    TRY(push_new(p, type, &value));
    p->values[value].as.integer = integer;
fail:
    return status;
}

static Status push_text(Pickle *p, size_t length_bytes)
{
    Status status = STATUS_OK;
    uint64_t size;
    uint32_t value;
    TRY(take_number(p, length_bytes, &size));
    const uint8_t *text = size <= p->size ? take(p, (size_t)size) : NULL;
    if (!text) FAIL_WITH(ended(p));
    TRY(push_new(p, PICKLE_TEXT, &value));
    p->values[value].as.text = (const char *)text;
    p->values[value].count = (uint32_t)size;
fail:
    return status;
}

/* Two's complement of any length; what does not fit 64 bits is of no use to us and becomes inert. */
static Status push_long(Pickle *p, size_t length_bytes)
{
    Status status = STATUS_OK;
    uint64_t size, number = 0;
    uint32_t inert;
    TRY(take_number(p, length_bytes, &size));
    const uint8_t *bytes = size <= p->size ? take(p, (size_t)size) : NULL;
    if (!bytes) FAIL_WITH(ended(p));
    if (size > 8) return push_new(p, PICKLE_INERT, &inert);
    if (size > 0 && bytes[size - 1] & 0x80) number = UINT64_MAX;
    for (size_t i = (size_t)size; i-- > 0;) number = number << 8 | bytes[i];
    int64_t integer;
    memcpy(&integer, &number, sizeof integer);
    TRY(push_integer(p, PICKLE_INT, integer));
fail:
    return status;
}

static Status push_float(Pickle *p, size_t unused)
{
    Status status = STATUS_OK;
    uint32_t value;
    uint64_t bits = 0;
    const uint8_t *bytes = take(p, 8); /* big-endian, alone among the numbers */
    if (!bytes) FAIL_WITH(ended(p));
    for (int i = 0; i < 8; i++) bits = bits << 8 | bytes[i];
    TRY(push_new(p, PICKLE_FLOAT, &value));
    memcpy(&p->values[value].as.real, &bits, sizeof bits);
fail:
    return status;
}

/* The top `count` values become a tuple. */
static Status push_tuple(Pickle *p, size_t first, size_t count)
{
    Status status = STATUS_OK;
    uint32_t tuple;
    TRY(pickle_add(p, PICKLE_TUPLE, &tuple));
    for (size_t i = 0; i < count; i++) TRY(pickle_append(p, tuple, p->stack[first + i]));
    p->depth = first;
    TRY(push(p, tuple));
fail:
    return status;
}

static Status push_small_tuple(Pickle *p, size_t count)
{
    Status status = STATUS_OK;
    TRY(need(p, count));
    TRY(push_tuple(p, p->depth - count, count));
fail:
    return status;
}

/* ---- containers ---- */

/* `count` values from stack[first] on into the container on top of the stack, which stays. */
static Status add_items(Pickle *p, size_t first, size_t count, PickleType type)
{
    Status status = STATUS_OK;
    TRY(need(p, 1));
    uint32_t container = p->stack[p->depth - 1];
    PickleType have = p->values[container].type;
    if (have == PICKLE_INERT || have == PICKLE_TENSOR) return STATUS_OK; /* an object of a class unknown to us */
    if (have != type)
        FAIL(ERR_FORMAT, "%s: the pickle adds items to something that is no %s", p->name,
             type == PICKLE_DICT ? "dictionary" : "list");
    if (type == PICKLE_DICT && count % 2) FAIL(ERR_FORMAT, "%s: the pickle has a key without a value", p->name);
    for (size_t i = 0; i < count; i++) TRY(pickle_append(p, container, p->stack[first + i]));
fail:
    return status;
}

static Status add_single(Pickle *p, size_t type)
{
    Status status = STATUS_OK;
    const size_t count = type == PICKLE_DICT ? 2 : 1;
    TRY(need(p, count + 1));
    p->depth -= count;
    TRY(add_items(p, p->depth, count, (PickleType)type));
fail:
    return status;
}

static Status add_marked(Pickle *p, size_t type)
{
    Status status = STATUS_OK;
    size_t first, count;
    TRY(pop_mark(p, &first, &count));
    TRY(add_items(p, first, count, (PickleType)type));
fail:
    return status;
}

/* ---- memo ---- */

static Status memo_put(Pickle *p, uint64_t index)
{
    Status status = STATUS_OK;
    TRY(need(p, 1));
    if (index >= PICKLE_MAX_VALUES)
        FAIL(ERR_LIMIT, "%s: the pickle's memo has a place %llu; there are at most %zu", p->name,
             (unsigned long long)index, PICKLE_MAX_VALUES);
    size_t needed = (size_t)index + 1, old = p->memo_capacity;
    TRY(mem_grow(&p->memo, &p->memo_capacity, needed, sizeof *p->memo));
    if (p->memo_capacity > old) memset(p->memo + old, 0, (p->memo_capacity - old) * sizeof *p->memo);
    if (p->memo_size < needed) p->memo_size = needed;
    if (p->memo[index] == 0) p->memo_used++;
    p->memo[index] = p->stack[p->depth - 1] + 1;
fail:
    return status;
}

static Status memo_get(Pickle *p, uint64_t index)
{
    Status status = STATUS_OK;
    if (index >= p->memo_size || p->memo[index] == 0)
        FAIL(ERR_FORMAT, "%s: the pickle takes place %llu of its memo, which is empty", p->name,
             (unsigned long long)index);
    TRY(push(p, p->memo[index] - 1));
fail:
    return status;
}

/* ---- names and calls ---- */

static Status push_global(Pickle *p, size_t unused)
{
    Status status = STATUS_OK;
    const char *module = NULL, *name = NULL;
    size_t module_size = 0, name_size = 0;
    uint32_t value;
    TRY(take_line(p, &module, &module_size));
    TRY(take_line(p, &name, &name_size));
    TRY(pickle_find_global(p, module, module_size, name, name_size, &value));
    TRY(push(p, value));
fail:
    return status;
}

static Status push_stack_global(Pickle *p, size_t unused)
{
    Status status = STATUS_OK;
    uint32_t module_value, name_value, value;
    TRY(need(p, 2));
    TRY(pop(p, &name_value));
    TRY(pop(p, &module_value));
    const PickleValue *module = &p->values[module_value], *name = &p->values[name_value];
    if (module->type != PICKLE_TEXT || name->type != PICKLE_TEXT || module->count > MAX_NAME_BYTES ||
        name->count > MAX_NAME_BYTES)
        FAIL(ERR_FORMAT, "%s: the pickle names a class by something that is no name", p->name);
    TRY(pickle_find_global(p, module->as.text, module->count, name->as.text, name->count, &value));
    TRY(push(p, value));
fail:
    return status;
}

/* The stack ends with a callable, its arguments and `extra` more that are passed over. */
static Status call(Pickle *p, size_t extra)
{
    Status status = STATUS_OK;
    uint32_t value;
    TRY(need(p, 2 + extra));
    p->depth -= 2 + extra;
    TRY(pickle_call(p, p->stack[p->depth], p->stack[p->depth + 1], &value));
    TRY(push(p, value));
fail:
    return status;
}

static Status push_persistent(Pickle *p, size_t unused)
{
    Status status = STATUS_OK;
    uint32_t id, value;
    TRY(pop(p, &id));
    TRY(pickle_persistent(p, id, &value));
    TRY(push(p, value));
fail:
    return status;
}

/* A set or the like: its items go. */
static Status drop_marked(Pickle *p, size_t push_inert)
{
    Status status = STATUS_OK;
    size_t first, count;
    uint32_t value;
    TRY(pop_mark(p, &first, &count));
    if (push_inert) TRY(push_new(p, PICKLE_INERT, &value));
fail:
    return status;
}

/* ---- opcodes ---- */

static Status push_value(Pickle *p, size_t type)
{
    uint32_t value;
    return push_new(p, (PickleType)type, &value);
}

static Status push_bool(Pickle *p, size_t truth)
{
    return push_integer(p, PICKLE_BOOL, (int64_t)truth);
}

/* 4 bytes have a sign, fewer have none. */
static Status push_binint(Pickle *p, size_t bytes)
{
    Status status = STATUS_OK;
    uint64_t number = 0;
    TRY(take_number(p, bytes, &number));
    TRY(push_integer(p, PICKLE_INT, bytes == 4 ? (int64_t)(int32_t)(uint32_t)number : (int64_t)number));
fail:
    return status;
}

static Status push_marked_tuple(Pickle *p, size_t unused)
{
    Status status = STATUS_OK;
    size_t first, count;
    TRY(pop_mark(p, &first, &count));
    TRY(push_tuple(p, first, count));
fail:
    return status;
}

static Status put_mark(Pickle *p, size_t unused)
{
    Status status = STATUS_OK;
    if (p->mark_count >= PICKLE_MAX_VALUES)
        FAIL(ERR_LIMIT, "%s: the pickle has more than %zu open marks", p->name, PICKLE_MAX_VALUES);
    TRY(mem_grow(&p->marks, &p->mark_capacity, p->mark_count + 1, sizeof *p->marks));
    p->marks[p->mark_count++] = p->depth;
fail:
    return status;
}

/* The value on top, or a mark where that is on top. */
static Status drop(Pickle *p, size_t unused)
{
    uint32_t value;
    return p->mark_count > 0 && above_mark(p) == 0 ? drop_marked(p, false) : pop(p, &value);
}

static Status duplicate(Pickle *p, size_t unused)
{
    Status status = STATUS_OK;
    TRY(need(p, 1));
    TRY(push(p, p->stack[p->depth - 1]));
fail:
    return status;
}

/* Attributes of an object, which stays as it is; an OrderedDict's are its `_metadata`. */
static Status build(Pickle *p, size_t unused)
{
    Status status = STATUS_OK;
    uint32_t state;
    TRY(need(p, 2));
    TRY(pop(p, &state));
fail:
    return status;
}

static Status put(Pickle *p, size_t bytes)
{
    Status status = STATUS_OK;
    uint64_t index = 0;
    TRY(take_number(p, bytes, &index));
    TRY(memo_put(p, index));
fail:
    return status;
}

static Status put_next(Pickle *p, size_t unused)
{
    return memo_put(p, p->memo_used);
}

static Status get(Pickle *p, size_t bytes)
{
    Status status = STATUS_OK;
    uint64_t index = 0;
    TRY(take_number(p, bytes, &index));
    TRY(memo_get(p, index));
fail:
    return status;
}

static Status check_protocol(Pickle *p, size_t highest)
{
    Status status = STATUS_OK;
    uint64_t number = 0;
    TRY(take_number(p, 1, &number));
    if (number > highest)
        FAIL(ERR_UNSUPPORTED, "%s: pickle protocol %llu; 2 to %zu are read", p->name, (unsigned long long)number,
             highest);
fail:
    return status;
}

static Status check_frame(Pickle *p, size_t bytes)
{
    Status status = STATUS_OK;
    uint64_t number = 0;
    TRY(take_number(p, bytes, &number));
    if (number > p->size - p->at) FAIL_WITH(ended(p));
fail:
    return status;
}

/* Opcodes as Python's pickletools lists them. Those missing (I, L, S, i, o, P ... of protocol 0, and the registry of
 * extensions) torch.save does not write. */
static const struct Operation {
    uint8_t opcode;
    Status (*run)(Pickle *p, size_t argument);
    size_t argument;
} OPERATIONS[] = {
    {'(', put_mark, 0},               /* MARK */
    {'0', drop, 0},                   /* POP */
    {'1', drop_marked, false},        /* POP_MARK */
    {'2', duplicate, 0},              /* DUP */
    {'G', push_float, 0},             /* BINFLOAT */
    {'J', push_binint, 4},            /* BININT */
    {'K', push_binint, 1},            /* BININT1 */
    {'M', push_binint, 2},            /* BININT2 */
    {'N', push_value, PICKLE_NONE},   /* NONE */
    {'Q', push_persistent, 0},        /* BINPERSID */
    {'R', call, 0},                   /* REDUCE */
    {'T', push_text, 4},              /* BINSTRING */
    {'U', push_text, 1},              /* SHORT_BINSTRING */
    {'X', push_text, 4},              /* BINUNICODE */
    {'a', add_single, PICKLE_LIST},   /* APPEND */
    {'b', build, 0},                  /* BUILD */
    {'c', push_global, 0},            /* GLOBAL */
    {'}', push_value, PICKLE_DICT},   /* EMPTY_DICT */
    {'e', add_marked, PICKLE_LIST},   /* APPENDS */
    {'h', get, 1},                    /* BINGET */
    {'j', get, 4},                    /* LONG_BINGET */
    {']', push_value, PICKLE_LIST},   /* EMPTY_LIST */
    {'q', put, 1},                    /* BINPUT */
    {'r', put, 4},                    /* LONG_BINPUT */
    {'s', add_single, PICKLE_DICT},   /* SETITEM */
    {'t', push_marked_tuple, 0},      /* TUPLE */
    {')', push_value, PICKLE_TUPLE},  /* EMPTY_TUPLE */
    {'u', add_marked, PICKLE_DICT},   /* SETITEMS */
    {'B', push_text, 4},              /* BINBYTES */
    {'C', push_text, 1},              /* SHORT_BINBYTES */
    {0x80, check_protocol, 5},        /* PROTO */
    {0x81, call, 0},                  /* NEWOBJ */
    {0x85, push_small_tuple, 1},      /* TUPLE1 */
    {0x86, push_small_tuple, 2},      /* TUPLE2 */
    {0x87, push_small_tuple, 3},      /* TUPLE3 */
    {0x88, push_bool, true},          /* NEWTRUE */
    {0x89, push_bool, false},         /* NEWFALSE */
    {0x8a, push_long, 1},             /* LONG1 */
    {0x8b, push_long, 4},             /* LONG4 */
    {0x8c, push_text, 1},             /* SHORT_BINUNICODE */
    {0x8d, push_text, 8},             /* BINUNICODE8 */
    {0x8e, push_text, 8},             /* BINBYTES8 */
    {0x8f, push_value, PICKLE_INERT}, /* EMPTY_SET */
    {0x90, drop_marked, false},       /* ADDITEMS */
    {0x91, drop_marked, true},        /* FROZENSET */
    {0x92, call, 1},                  /* NEWOBJ_EX */
    {0x93, push_stack_global, 0},     /* STACK_GLOBAL */
    {0x94, put_next, 0},              /* MEMOIZE */
    {0x95, check_frame, 8},           /* FRAME */
    {0x96, push_text, 8},             /* BYTEARRAY8 */
};

static const struct Operation *find_operation(uint8_t opcode)
{
    for (size_t i = 0; i < sizeof OPERATIONS / sizeof OPERATIONS[0]; i++)
        if (OPERATIONS[i].opcode == opcode) return &OPERATIONS[i];
    return NULL;
}

static Status run(Pickle *p)
{
    Status status = STATUS_OK;
    for (;;) {
        const uint8_t *opcode = take(p, 1);
        if (!opcode) FAIL_WITH(ended(p));
        if (*opcode == '.') break; /* STOP */
        const struct Operation *operation = find_operation(*opcode);
        if (!operation)
            FAIL(ERR_FORMAT, "%s: the pickle has the opcode 0x%02x at byte %zu, which torch.save does not write",
                 p->name, *opcode, p->at - 1);
        TRY(operation->run(p, operation->argument));
    }
    TRY(pop(p, &p->root));
fail:
    return status;
}

Status pickle_read(const char *name, const uint8_t *data, size_t size, size_t *used, Pickle **out)
{
    Status status = STATUS_OK;
    Pickle *p = mem_alloc_array(1, sizeof *p);
    if (!p) return ERR_MEMORY;
    *p = (Pickle){.name = name, .data = data, .size = size < PICKLE_MAX_BYTES ? size : PICKLE_MAX_BYTES};
    TRY(arena_create(&p->arena));
    TRY(run(p));
    *used = p->at;
    p->name = NULL;
    *out = p;
    return STATUS_OK;
fail:
    pickle_free(p);
    return status;
}
