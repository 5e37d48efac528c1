/* A small config with every type of field, for the tests and the fuzzer. */
#ifndef TESTS_BASE_CONFIG_SAMPLE_H
#define TESTS_BASE_CONFIG_SAMPLE_H

#include "base/config.h"

typedef struct SampleSource {
    ConfigStrings shards;
    double weight;
    char *name;
    struct {
        int64_t side;
    } filter;
} SampleSource;

typedef struct SamplePart {
    char *name;
    ConfigPatch train, data;
} SamplePart;

typedef struct Sample {
    int64_t seed;
    struct {
        char *dir;
    } run;
    struct {
        int64_t steps, batch, part;
        bool fast;
        int32_t precision;
    } train;
    struct {
        double lr, decay;
        ConfigInts mult;
    } optim;
    struct {
        ConfigList sources; /* SampleSource */
        ConfigStrings languages;
        ConfigPairs names;
        struct {
            int64_t side;
        } filter;
    } data;
    ConfigList parts; /* SamplePart */
} Sample;

extern const ConfigSchema SAMPLE_SCHEMA;

#endif
