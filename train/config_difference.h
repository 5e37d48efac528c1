/* What differs between two effective configs, as config_dump writes them. */
#ifndef TRAIN_CONFIG_DIFFERENCE_H
#define TRAIN_CONFIG_DIFFERENCE_H

#include <stdbool.h>
#include <stddef.h>

/* One "key: value" line of a dump, as a walk finds it. */
typedef struct ConfigLine {
    char key[256];     /* "data.sources[1].weight" */
    const char *value; /* into the text, not terminated */
    size_t value_size;
} ConfigLine;

typedef struct ConfigWalk {
    const char *at;
    char path[256];
    size_t length[20]; /* of `path` at each depth of indentation */
    long item[20];     /* of the list that is open at each depth */
} ConfigWalk;

void config_walk_begin(ConfigWalk *walk, const char *yaml);
bool config_walk_next(ConfigWalk *walk, ConfigLine *line);
/* The line of one key; false: there is none. */
bool config_find(const char *yaml, const char *key, ConfigLine *out);

/* Logs each key whose value is another one, "train.steps: 30 -> 60". */
void config_log_differences(const char *before, const char *after);

#endif
