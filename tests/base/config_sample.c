#include "config_sample.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define SCHEMA(label, list, size)                                                            \
    {                                                                                        \
        .name = (label), .fields = (list), .field_count = COUNT(list), .struct_size = (size) \
    }

static const char *const PRECISIONS[] = {"fp32", "bf16", "auto", NULL};
static const char *const PARTS[] = {"auto", "all", NULL};
#define PART(member) sizeof(((Sample *)0)->member)

static const ConfigField FILTER_FIELDS[] = {
    {.key = "side", .type = CONFIG_INT, .default_text = "256", .min = 1, .max = 0, .help = "smallest side, pixels"},
};
static const ConfigSchema FILTER = SCHEMA("filter", FILTER_FIELDS, sizeof(((SampleSource *)0)->filter));

static const ConfigField SOURCE_FIELDS[] = {
    {.key = "shards", .type = CONFIG_STRING_LIST, .offset = offsetof(SampleSource, shards), .help = "tar files"},
    {.key = "weight",
     .type = CONFIG_FLOAT,
     .offset = offsetof(SampleSource, weight),
     .default_text = "1",
     .min = 0,
     .max = 1e6,
     .help = "share of the mixture"},
    {.key = "name", .type = CONFIG_STRING, .offset = offsetof(SampleSource, name), .default_text = "", .help = "name"},
    {.key = "filter",
     .type = CONFIG_SECTION,
     .offset = offsetof(SampleSource, filter),
     .schema = &FILTER,
     .help = "filter"},
};
static const ConfigSchema SOURCE = SCHEMA("source", SOURCE_FIELDS, sizeof(SampleSource));

static const ConfigField RUN_FIELDS[] = {
    {.key = "dir", .type = CONFIG_STRING, .help = "folder of the run"},
};
static const ConfigSchema RUN = SCHEMA("run", RUN_FIELDS, PART(run));

#define TRAIN(member) (offsetof(Sample, train.member) - offsetof(Sample, train))
static const ConfigField TRAIN_FIELDS[] = {
    {.key = "steps", .type = CONFIG_INT, .offset = TRAIN(steps), .min = 1, .max = 1e9, .help = "optimizer steps"},
    {.key = "global_batch",
     .type = CONFIG_INT,
     .offset = TRAIN(batch),
     .default_text = "32",
     .min = 1,
     .max = 65536,
     .help = "images a step"},
    {.key = "part",
     .type = CONFIG_INT,
     .offset = TRAIN(part),
     .default_text = "0",
     .min = 0,
     .max = 1024,
     .words = PARTS,
     .help = "images at once"},
    {.key = "fast", .type = CONFIG_BOOL, .offset = TRAIN(fast), .default_text = "true", .help = "faster"},
    {.key = "precision",
     .type = CONFIG_ENUM,
     .offset = TRAIN(precision),
     .default_text = "auto",
     .words = PRECISIONS,
     .help = "of the computation"},
};
static const ConfigSchema TRAIN_SCHEMA = SCHEMA("train", TRAIN_FIELDS, PART(train));

#define OPTIM(member) (offsetof(Sample, optim.member) - offsetof(Sample, optim))
static const ConfigField OPTIM_FIELDS[] = {
    {.key = "lr",
     .type = CONFIG_FLOAT,
     .offset = OPTIM(lr),
     .default_text = "1e-4",
     .min = 0,
     .max = 1,
     .help = "rate"},
    {.key = "decay", .type = CONFIG_FLOAT, .offset = OPTIM(decay), .default_text = "0.0", .help = "weight decay"},
    {.key = "mult",
     .type = CONFIG_INT_LIST,
     .offset = OPTIM(mult),
     .default_text = "[1, 2, 4]",
     .min = 1,
     .max = 8,
     .help = "multipliers"},
};
static const ConfigSchema OPTIM_SCHEMA = SCHEMA("optim", OPTIM_FIELDS, PART(optim));

#define DATA(member) (offsetof(Sample, data.member) - offsetof(Sample, data))
static const ConfigField DATA_FIELDS[] = {
    {.key = "sources", .type = CONFIG_LIST, .offset = DATA(sources), .schema = &SOURCE, .help = "the mixture"},
    {.key = "languages", .type = CONFIG_STRING_LIST, .offset = DATA(languages), .default_text = "[]", .help = "codes"},
    {.key = "names", .type = CONFIG_STRING_MAP, .offset = DATA(names), .default_text = "{}", .help = "by code"},
    {.key = "filter", .type = CONFIG_SECTION, .offset = DATA(filter), .schema = &FILTER, .help = "filter"},
};
static const ConfigSchema DATA_SCHEMA = SCHEMA("data", DATA_FIELDS, PART(data));

static const char *const PART_KEYS[] = {"global_batch", "part", "fast", NULL};
static const ConfigField PART_FIELDS[] = {
    {.key = "name", .type = CONFIG_STRING, .offset = offsetof(SamplePart, name), .help = "name"},
    {.key = "train",
     .type = CONFIG_PATCH,
     .offset = offsetof(SamplePart, train),
     .words = PART_KEYS,
     .schema = &TRAIN_SCHEMA,
     .help = "differs"},
    {.key = "data",
     .type = CONFIG_PATCH,
     .offset = offsetof(SamplePart, data),
     .schema = &DATA_SCHEMA,
     .help = "differs"},
};
static const ConfigSchema PART_SCHEMA = SCHEMA("part", PART_FIELDS, sizeof(SamplePart));

static const ConfigField SAMPLE_FIELDS[] = {
    {.key = "seed", .type = CONFIG_INT, .offset = offsetof(Sample, seed), .default_text = "0", .help = "seed"},
    {.key = "run", .type = CONFIG_SECTION, .offset = offsetof(Sample, run), .schema = &RUN, .help = "the run"},
    {.key = "train", .type = CONFIG_SECTION, .offset = offsetof(Sample, train), .schema = &TRAIN_SCHEMA, .help = "t"},
    {.key = "optim", .type = CONFIG_SECTION, .offset = offsetof(Sample, optim), .schema = &OPTIM_SCHEMA, .help = "o"},
    {.key = "data", .type = CONFIG_SECTION, .offset = offsetof(Sample, data), .schema = &DATA_SCHEMA, .help = "d"},
    {.key = "parts", .type = CONFIG_LIST, .offset = offsetof(Sample, parts), .schema = &PART_SCHEMA, .help = "p"},
};
const ConfigSchema SAMPLE_SCHEMA = SCHEMA("sample", SAMPLE_FIELDS, sizeof(Sample));
