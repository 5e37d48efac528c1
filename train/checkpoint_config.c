#include "train/checkpoint_config.h"

#define AT(name) offsetof(CheckpointConfig, name)

static const char *const ASYNC_WORDS[] = {"false", "true", "auto", NULL};

static const ConfigField FIELDS[] = {
    {"every", CONFIG_INT, AT(every), "1000", 0, 1e12, NULL, NULL,
     "steps between checkpoints; 0: only at the end and on a signal"},
    {"every_minutes", CONFIG_FLOAT, AT(every_minutes), "0", 0, 1e6, NULL, NULL,
     "a checkpoint too when the last one was begun so many minutes ago; 0: never for that"},
    {"keep", CONFIG_INT, AT(keep), "3", 1, 1e6, NULL, NULL, "newest checkpoints that are kept"},
    {"permanent_every", CONFIG_INT, AT(permanent_every), "0", 0, 1e12, NULL, NULL,
     "checkpoints of steps that are a multiple of this are never removed; 0: none"},
    {"async", CONFIG_ENUM, AT(async), "auto", 0, 0, ASYNC_WORDS, NULL,
     "copy what is saved, and write it while training goes on: true takes the memory for the copy (`vasily plan`), "
     "auto "
     "where it is there, false writes while training waits"},
};
const ConfigSchema CHECKPOINT_CONFIG_SCHEMA = {"checkpoint", FIELDS, sizeof FIELDS / sizeof FIELDS[0],
                                               sizeof(CheckpointConfig)};
