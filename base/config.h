/* Config: a YAML file read through a schema into a C struct.
 *
 * Each room declares a struct for its part of the config and a schema for it; `train/run_config.c` composes them.
 * Unknown keys, wrong types and values out of range are refused with file, line, key and what would be right (the
 * nearest known key, the range, the allowed words). Overrides "a.b=value" on the command line are parsed as YAML and
 * checked the same way, and named as such in errors. Anchors, aliases and tags of YAML are refused; depth, size and
 * node count are bounded.
 *
 * A later check that involves several keys reports through config_error, so it still names file and line. */
#ifndef BASE_CONFIG_H
#define BASE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"

typedef enum ConfigType {
    CONFIG_BOOL,        /* bool */
    CONFIG_INT,         /* int64_t; suffixes k, M, G (decimal) and Ki, Mi, Gi are understood */
    CONFIG_FLOAT,       /* double */
    CONFIG_STRING,      /* char *, never NULL */
    CONFIG_ENUM,        /* int32_t: the index into `words` */
    CONFIG_INT_LIST,    /* ConfigInts */
    CONFIG_STRING_LIST, /* ConfigStrings */
    CONFIG_STRING_MAP,  /* ConfigPairs: texts under keys that the file chooses */
    CONFIG_SECTION,     /* a nested struct, in place */
    CONFIG_LIST,        /* ConfigList of structs */
    CONFIG_PATCH        /* ConfigPatch: keys of another section that are written anew, see config_variant */
} ConfigType;

typedef struct ConfigInts {
    int64_t *items;
    size_t count;
} ConfigInts;

typedef struct ConfigStrings {
    char **items;
    size_t count;
} ConfigStrings;

typedef struct ConfigPairs {
    char **keys, **values; /* in the order written */
    size_t count;
} ConfigPairs;

typedef struct ConfigList {
    void *items; /* count structs of the schema's size */
    size_t count;
} ConfigList;

typedef struct ConfigPatch {
    const void *written; /* inside config only; NULL: nothing is */
    void *values;        /* a struct of the section's schema: the keys that are written are filled, all others zero */
} ConfigPatch;

struct ConfigSchema;

typedef struct ConfigField {
    const char *key;
    ConfigType type;
    size_t offset;            /* offsetof in the struct */
    const char *default_text; /* YAML text such as "0.1", "[1, 2]"; NULL: required (CONFIG_SECTION: its fields'
                                 defaults; CONFIG_LIST, CONFIG_PATCH: empty) */
    double min, max;          /* numbers and each item of number lists; both 0: unbounded; max < min: no maximum */
    const char *const *words; /* CONFIG_ENUM: NULL-terminated. CONFIG_INT: words that may stand for a number, -1 for the
                                 first, -2 for the second; NULL: none. CONFIG_PATCH: the keys that may be written;
                                 NULL: all of the schema's */
    const struct ConfigSchema *schema; /* CONFIG_SECTION, CONFIG_LIST, CONFIG_PATCH */
    const char *help;                  /* one line, unit included */
} ConfigField;

typedef struct ConfigSchema {
    const char *name;
    const ConfigField *fields;
    size_t field_count;
    size_t struct_size;
} ConfigSchema;

typedef struct Config Config; /* the parsed document with its line numbers, and the memory of the struct's strings */

/* Reads `path` (or, with `text` not NULL, that text under the name `path`), applies the overrides in order, fills
 * *out (struct_size bytes). Keep the Config as long as *out is used. */
Status config_load(const char *path, const char *text, const ConfigSchema *schema, const char *const *overrides,
                   size_t override_count, void *out, Config **config);
void config_free(Config *config);

/* The config as item `i` of the list `list` (a CONFIG_LIST of the schema) changes it: a copy of the document without
 * that list, with the item's CONFIG_PATCH fields laid over the sections of the same name, bound to *out anew. Sections
 * are laid over key by key; lists and values replace. Errors name the lines where things were written, and begin with
 * `label` ("stage clean: "). *variant is independent of `config`; keep it as long as *out is used. */
Status config_variant(const Config *config, const char *list, size_t i, const char *label, void *out, Config **variant);
/* Whether `key` is written in the file or on the command line; false where its default stands. */
bool config_is_written(const Config *config, const char *key);

/* A failure about `key` ("train.micro_batch", "data.sources[1].weight"), with file and line (or "command line", or
 * "default" where the key was not written). */
Status config_error(const Config *config, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A finite number in decimal notation; false when the text is none. */
bool config_parse_float(const char *text, double *out);
/* Of `count` words, the one nearest to `word` in edits, or NULL when none is near. */
const char *config_nearest(const char *word, const char *const *words, size_t count);

/* The full effective config as YAML, every key written, floats with enough digits to read back exactly. */
Status config_dump(const ConfigSchema *schema, const void *values, StrBuf *out);
/* What config_dump writes behind the key "run.dir": a text as it is, without quotes and escapes; other values in the
 * words of YAML. ERR_USAGE: there is no such key, or it is a section, which has no value. */
Status config_dump_value(const ConfigSchema *schema, const void *values, const char *key, StrBuf *out);
/* Keys, types, defaults, ranges and help, for --help and the docs. */
Status config_describe(const ConfigSchema *schema, StrBuf *out);

#endif
