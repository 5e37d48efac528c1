/* The command line: long options described by a table, and positional arguments.
 *
 * `--name value` and `--name=value` are the same; a flag takes no value; `--` ends the options. An unknown option is
 * ERR_USAGE and the message names the nearest known one. Values land in a struct of the command's own, by offset. */
#ifndef TRAIN_ARGS_H
#define TRAIN_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"

typedef enum ArgType {
    ARG_FLAG,  /* bool */
    ARG_TEXT,  /* const char * */
    ARG_TEXTS, /* ArgTexts; the option may be repeated */
    ARG_INT,   /* int64_t */
    ARG_FLOAT, /* double */
    ARG_WORD   /* int32_t: the index into `words` */
} ArgType;

typedef struct ArgTexts {
    const char **items;
    size_t count, capacity;
} ArgTexts;

typedef struct ArgSpec {
    const char *name; /* without the dashes */
    ArgType type;
    size_t offset;
    const char *value_name;   /* as the help shows it: "N", "PATH"; NULL for flags */
    const char *help;         /* one line; says the default */
    double min, max;          /* numbers; both 0: unbounded */
    const char *const *words; /* ARG_WORD: NULL-terminated */
} ArgSpec;

typedef struct ArgTable {
    const ArgSpec *items;
    size_t count;
} ArgTable;

/* Fills the options that were given into *out (the caller has put the defaults there) and the rest into *positional.
 * Texts point into argv; lists live in the arena. `command` is named in errors. */
Status args_parse(const char *command, ArgTable table, int argc, char **argv, Arena *arena, void *out,
                  ArgTexts *positional);

/* The options as lines of help; --help, which every command has, is not among them. */
Status args_describe(ArgTable table, StrBuf *out);

/* The candidate nearest to `word` by edit distance, or NULL when none is near. */
const char *args_nearest(const char *word, const char *const *candidates, size_t count);

/* True when "--help" or "-h" is among the arguments before a "--". */
bool args_want_help(int argc, char **argv);

/* Appends to a list that lives in an arena. */
Status args_texts_add(ArgTexts *list, Arena *arena, const char *text);

#endif
