#include "train/args.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NEAREST_MAX_LENGTH = 64 };

static size_t edit_distance(const char *a, const char *b)
{
    size_t row[NEAREST_MAX_LENGTH + 1];
    size_t length_a = strlen(a), length_b = strlen(b);
    if (length_a > NEAREST_MAX_LENGTH || length_b > NEAREST_MAX_LENGTH) return SIZE_MAX;
    for (size_t j = 0; j <= length_b; j++) row[j] = j;
    for (size_t i = 1; i <= length_a; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= length_b; j++) {
            size_t above = row[j];
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            if (above + 1 < best) best = above + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = above;
            row[j] = best;
        }
    }
    return row[length_b];
}

const char *args_nearest(const char *word, const char *const *candidates, size_t count)
{
    const char *best = NULL;
    size_t best_distance = strlen(word) / 3 + 2; /* one or two slips in a short word */
    for (size_t i = 0; i < count; i++) {
        size_t distance = edit_distance(word, candidates[i]);
        if (distance < best_distance) {
            best_distance = distance;
            best = candidates[i];
        }
    }
    return best;
}

bool args_want_help(int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0) return false;
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return true;
    }
    return false;
}

Status args_texts_add(ArgTexts *list, Arena *arena, const char *text)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 8;
        const char **items = arena_alloc_array(arena, capacity, sizeof *items);
        if (!items) return ERR_MEMORY;
        if (list->count) memcpy(items, list->items, list->count * sizeof *items);
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = text;
    return STATUS_OK;
}

static Status usage_unknown(const char *command, ArgTable table, const char *name)
{
    const char *names[64];
    size_t count = 0;
    for (size_t i = 0; i < table.count && i < 64; i++) names[count++] = table.items[i].name;
    const char *near = args_nearest(name, names, count);
    Status status;
    if (near) FAIL(ERR_USAGE, "vasily %s: there is no option --%s; did you mean --%s?", command, name, near);
    FAIL(ERR_USAGE, "vasily %s: there is no option --%s; `vasily %s --help` lists them", command, name, command);
fail:
    return status;
}

static Status parse_int(const char *command, const ArgSpec *spec, const char *text, int64_t *out)
{
    Status status = STATUS_OK;
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || end == text || *end)
        FAIL(ERR_USAGE, "vasily %s: --%s takes a whole number, not \"%s\"", command, spec->name, text);
    if ((spec->min != 0 || spec->max != 0) && ((double)value < spec->min || (double)value > spec->max))
        FAIL(ERR_USAGE, "vasily %s: --%s takes a number from %g to %g, not %s", command, spec->name, spec->min,
             spec->max, text);
    *out = value;
fail:
    return status;
}

static Status parse_float(const char *command, const ArgSpec *spec, const char *text, double *out)
{
    Status status = STATUS_OK;
    char *end = NULL;
    errno = 0;
    double value = strtod(text, &end);
    if (errno || end == text || *end || !isfinite(value))
        FAIL(ERR_USAGE, "vasily %s: --%s takes a number, not \"%s\"", command, spec->name, text);
    if ((spec->min != 0 || spec->max != 0) && (value < spec->min || value > spec->max))
        FAIL(ERR_USAGE, "vasily %s: --%s takes a number from %g to %g, not %s", command, spec->name, spec->min,
             spec->max, text);
    *out = value;
fail:
    return status;
}

static Status parse_word(const char *command, const ArgSpec *spec, const char *text, int32_t *out)
{
    Status status = STATUS_OK;
    char known[256] = "";
    for (int32_t i = 0; spec->words[i]; i++) {
        if (strcmp(spec->words[i], text) == 0) {
            *out = i;
            return STATUS_OK;
        }
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", spec->words[i]);
    }
    FAIL(ERR_USAGE, "vasily %s: --%s takes one of %s, not \"%s\"", command, spec->name, known, text);
fail:
    return status;
}

static Status store_value(const char *command, const ArgSpec *spec, const char *text, Arena *arena, void *out)
{
    char *at = (char *)out + spec->offset;
    switch (spec->type) {
    case ARG_FLAG:
        *(bool *)(void *)at = true;
        return STATUS_OK;
    case ARG_TEXT:
        *(const char **)(void *)at = text;
        return STATUS_OK;
    case ARG_TEXTS:
        return args_texts_add((ArgTexts *)(void *)at, arena, text);
    case ARG_INT:
        return parse_int(command, spec, text, (int64_t *)(void *)at);
    case ARG_FLOAT:
        return parse_float(command, spec, text, (double *)(void *)at);
    case ARG_WORD:
        return parse_word(command, spec, text, (int32_t *)(void *)at);
    }
    return ERR_INTERNAL;
}

Status args_parse(const char *command, ArgTable table, int argc, char **argv, Arena *arena, void *out,
                  ArgTexts *positional)
{
    Status status = STATUS_OK;
    bool options = true;
    for (int i = 0; i < argc; i++) {
        const char *arg = argv[i];
        if (!options || strncmp(arg, "--", 2) != 0) {
            if (options && arg[0] == '-' && arg[1])
                FAIL(ERR_USAGE, "vasily %s: options have two dashes and a name, not \"%s\"", command, arg);
            TRY(args_texts_add(positional, arena, arg));
            continue;
        }
        if (!arg[2]) {
            options = false;
            continue;
        }
        const char *equals = strchr(arg, '=');
        char name[NEAREST_MAX_LENGTH];
        size_t length = equals ? (size_t)(equals - arg) - 2 : strlen(arg) - 2;
        if (length >= sizeof name) length = sizeof name - 1;
        memcpy(name, arg + 2, length);
        name[length] = 0;

        const ArgSpec *spec = NULL;
        for (size_t k = 0; k < table.count && !spec; k++)
            if (strcmp(table.items[k].name, name) == 0) spec = &table.items[k];
        if (!spec) FAIL_WITH(usage_unknown(command, table, name));
        const char *value = equals ? equals + 1 : NULL;
        if (spec->type == ARG_FLAG) {
            if (value) FAIL(ERR_USAGE, "vasily %s: --%s takes no value", command, name);
        } else if (!value) {
            if (i + 1 >= argc) FAIL(ERR_USAGE, "vasily %s: --%s needs a value (%s)", command, name, spec->value_name);
            value = argv[++i];
        }
        TRY(store_value(command, spec, value, arena, out));
    }
fail:
    return status;
}

Status args_describe(ArgTable table, StrBuf *out)
{
    Status status = STATUS_OK;
    for (size_t i = 0; i < table.count; i++) {
        const ArgSpec *spec = &table.items[i];
        char left[NEAREST_MAX_LENGTH];
        snprintf(left, sizeof left, "--%s%s%s", spec->name, spec->value_name ? " " : "",
                 spec->value_name ? spec->value_name : "");
        TRY(strbuf_printf(out, "  %-24s %s\n", left, spec->help));
    }
fail:
    return status;
}
