#include "train/sample_arguments.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "model/sampler.h"

enum { PNG_LIMIT = 1 << 30 };
static const double default_strength = 0.7; /* as the public code's */
static const char *const COMPAT_WORDS[] = {"ours", "reference", NULL};
static const char *const YES = "yes";

#define AT(member) offsetof(SampleArguments, member)

const ArgSpec SAMPLE_OPTIONS[SAMPLE_OPTION_COUNT] = {
    {"prompt", ARG_TEXTS, AT(prompts), "TEXT", "a caption; may be repeated", 0, 0, NULL},
    {"prompts", ARG_TEXT, AT(prompt_file), "FILE",
     "captions, one a line; \"language<TAB>caption\" puts the language under the picture", 0, 0, NULL},
    {"grid", ARG_TEXT, AT(grid), "FILE",
     "captions in many languages x several seeds, and each language's mean (docs/sampling.md)", 0, 0, NULL},
    {"out", ARG_TEXT, AT(out), "PATH",
     "X.png: one picture, or a grid of several; else a folder of one PNG each (default samples.png)", 0, 0, NULL},
    {"size", ARG_TEXT, AT(size), "WxH", "in pixels (default: the run's resolution)", 0, 0, NULL},
    {"sampler", ARG_WORD, AT(sampler), "NAME", "ddpm, ddim, plms or dpm++: how noise becomes a picture", 0, 0,
     SAMPLER_WORDS},
    {"steps", ARG_INT, AT(steps), "N", "sampling steps", 1, 1000000, NULL},
    {"scale", ARG_FLOAT, AT(scale), "S", "classifier-free guidance; 1: none", 0, 1000, NULL},
    {"eta", ARG_FLOAT, AT(eta), "E", "ddim: 0 deterministic, 1 as random as ddpm", 0, 0, NULL},
    {"threshold", ARG_FLOAT, AT(threshold), "P", "dynamic thresholding at this percentile; 0: none", 0, 100, NULL},
    {"seed", ARG_INT, AT(seed), "N", "of the noise", 0, 9e15, NULL},
    {"first", ARG_INT, AT(first), "I", "which of the seed's noises the first picture takes (default 0)", 0, 9e15, NULL},
    {"init", ARG_TEXT, AT(init), "PICTURE", "PNG, JPEG or WebP to start from", 0, 0, NULL},
    {"strength", ARG_FLOAT, AT(strength), "S",
     "how much of it stays, above 0 and below 1 (default 0.7; with --mask or --place the start is noise)", 0, 0, NULL},
    {"mask", ARG_TEXT, AT(mask), "PICTURE", "as large as the one of --init: white is kept, black drawn anew", 0, 0,
     NULL},
    {"place", ARG_TEXT, AT(place), "X,Y", "puts the one of --init here, unscaled; what it leaves free is drawn", 0, 0,
     NULL},
    {"paste", ARG_FLAG, AT(paste), NULL, "kept pixels as they were, not as the autoencoder gives them back", 0, 0,
     NULL},
    {"count", ARG_INT, AT(count), "K", "pictures of each caption (default 1)", 1, 100000, NULL},
    {"batch", ARG_INT, AT(batch), "N", "pictures at once; the result does not depend on it", 1, 4096, NULL},
    {"columns", ARG_INT, AT(columns), "N", "of the grid (default: about square)", 0, 10000, NULL},
    {"compat", ARG_WORD, AT(compat), "ours|reference", "reference: step for step as the public code samples", 0, 0,
     COMPAT_WORDS},
    {"like", ARG_TEXT, AT(like), "PNG", "takes what is not given from the texts of a picture drawn before", 0, 0, NULL},
    {"no-ema", ARG_FLAG, AT(no_ema), NULL, "the weights themselves, not their moving average", 0, 0, NULL},
    {"no-labels", ARG_FLAG, AT(no_labels), NULL, "no text under the pictures of a grid", 0, 0, NULL},
};
_Static_assert(sizeof SAMPLE_OPTIONS / sizeof *SAMPLE_OPTIONS == SAMPLE_OPTION_COUNT, "options");
const SampleArguments SAMPLE_ARGUMENT_DEFAULTS = {
    .out = "samples.png",
    .steps = SAMPLE_UNSET,
    .seed = SAMPLE_UNSET,
    .first = SAMPLE_UNSET,
    .count = 1,
    .batch = SAMPLE_UNSET,
    .columns = SAMPLE_UNSET,
    .scale = NAN,
    .eta = NAN,
    .threshold = NAN,
    .strength = NAN,
    .sampler = SAMPLE_UNSET,
    .compat = SAMPLE_UNSET,
};

/* What is noted and read back, under the options' own names. */
static const char *const NOTED[] = {"sampler",  "steps",   "scale",  "eta",   "threshold", "seed",
                                    "first",    "size",    "init",   "mask",  "place",     "paste",
                                    "strength", "columns", "compat", "batch", "no-ema",    "no-labels"};

static const ArgSpec *spec_of(const char *name)
{
    for (size_t i = 0; i < SAMPLE_OPTION_COUNT; i++)
        if (strcmp(SAMPLE_OPTIONS[i].name, name) == 0) return &SAMPLE_OPTIONS[i];
    return NULL;
}

/* ---- notes ---- */

Status sample_note(SampleNotes *notes, const char *key, const char *value)
{
    Status status = STATUS_OK;
    int at = 0;
    while (at < notes->count && strcmp(notes->keys[at], key) != 0) at++;
    if (at == (int)(sizeof notes->keys / sizeof *notes->keys)) FAIL(ERR_INTERNAL, "more notes than there is room for");
    notes->keys[at] = key;
    notes->values[at] = value;
    if (at == notes->count) notes->count++;
fail:
    return status;
}

/* The fewest digits that read back as the same number. */
static char *number_text(double value, Arena *arena)
{
    char text[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    return arena_strdup(arena, text);
}

/* NULL where there is nothing to say. */
static Status text_of(const SampleArguments *a, const ArgSpec *spec, Arena *arena, const char **out)
{
    Status status = STATUS_OK;
    const char *at = (const char *)a + spec->offset;
    bool said = true;
    *out = NULL;
    switch (spec->type) {
    case ARG_FLAG:
        said = *(const bool *)(const void *)at;
        if (said) *out = YES;
        break;
    case ARG_TEXT:
        *out = *(const char *const *)(const void *)at;
        said = *out != NULL;
        break;
    case ARG_INT:
        said = *(const int64_t *)(const void *)at != SAMPLE_UNSET;
        if (said) *out = arena_printf(arena, "%" PRId64, *(const int64_t *)(const void *)at);
        break;
    case ARG_FLOAT:
        said = !isnan(*(const double *)(const void *)at);
        if (said) *out = number_text(*(const double *)(const void *)at, arena);
        break;
    case ARG_WORD:
        said = *(const int32_t *)(const void *)at != SAMPLE_UNSET;
        if (said) *out = spec->words[*(const int32_t *)(const void *)at];
        break;
    case ARG_TEXTS:
        FAIL(ERR_INTERNAL, "--%s is not noted", spec->name);
    }
    if (said && *out == NULL) FAIL(ERR_MEMORY, "out of memory");
fail:
    return status;
}

/* The public ddpm thresholds by a batch's first picture. */
static bool batch_matters(const SampleArguments *a)
{
    return a->compat == COMPAT_REFERENCE && a->sampler == SAMPLER_DDPM;
}

Status sample_notes_of(const SampleArguments *a, Arena *arena, SampleNotes *notes)
{
    Status status = STATUS_OK;
    for (size_t i = 0; i < sizeof NOTED / sizeof *NOTED; i++) {
        const ArgSpec *spec = spec_of(NOTED[i]);
        const char *text;
        TRY(text_of(a, spec, arena, &text));
        if (spec->offset == AT(batch) && !batch_matters(a)) continue;
        if (text) TRY(sample_note(notes, spec->name, text));
    }
fail:
    return status;
}

/* ---- captions ---- */

Status sample_arguments_check_prompts(const SampleArguments *a)
{
    Status status = STATUS_OK;
    for (size_t i = 0; i < a->prompts.count; i++)
        if (!utf8_valid(a->prompts.items[i], strlen(a->prompts.items[i])))
            FAIL(ERR_USAGE, "vasily sample: --prompt number %zu is not valid UTF-8; is the terminal set to UTF-8?",
                 i + 1);
fail:
    return status;
}

/* ---- grids ---- */

/* A grid has captions, seeds and columns of its own. */
Status sample_arguments_check_grid(const SampleArguments *a)
{
    Status status = STATUS_OK;
    const char *other = a->prompts.count || a->prompt_file ? "captions"
                        : a->seed != SAMPLE_UNSET          ? "--seed"
                        : a->count != 1                    ? "--count"
                        : a->columns != SAMPLE_UNSET       ? "--columns"
                        : a->init || a->mask || a->place   ? "a picture to start from"
                                                           : NULL;
    if ((a->grid || a->grid_text) && other)
        FAIL(ERR_USAGE,
             "vasily sample: --grid draws what its file says, which has captions, seeds and columns; leave "
             "%s away",
             other);
fail:
    return status;
}

/* ---- the other way: like a picture drawn before ---- */

static Status add_captions(SampleArguments *a, const char *text, bool several, Arena *arena)
{
    Status status = STATUS_OK;
    char *copy = arena_strdup(arena, text);
    if (!copy) FAIL(ERR_MEMORY, "out of memory");
    while (several) {
        char *end = strchr(copy, '\n');
        if (!end) break;
        *end = 0;
        TRY(args_texts_add(&a->prompts, arena, copy));
        copy = end + 1;
    }
    TRY(args_texts_add(&a->prompts, arena, copy));
fail:
    return status;
}

Status sample_arguments_like(SampleArguments *a, Arena *arena, PngTexts *texts)
{
    Status status = STATUS_OK;
    char *data = NULL;
    size_t size;
    ArgTexts positional = {0};
    bool own_eta = !isnan(a->eta);
    TRY(file_read(a->like, PNG_LIMIT, &data, &size));
    TRY(png_read_texts(data, size, arena, texts));
    const char *prompt = png_texts_find(texts, "prompt"), *pictures = png_texts_find(texts, "pictures");
    if (!prompt || !png_texts_find(texts, "sampler"))
        FAIL(ERR_FORMAT, "has no texts by which `vasily sample` could draw it again");
    for (size_t i = 0; i < sizeof NOTED / sizeof *NOTED; i++) {
        const ArgSpec *spec = spec_of(NOTED[i]);
        const char *given, *text = png_texts_find(texts, spec->name);
        TRY(text_of(a, spec, arena, &given));
        if (given || !text) continue;
        char *option = arena_printf(arena, spec->type == ARG_FLAG ? "--%s" : "--%s=%s", spec->name, text);
        if (!option) FAIL(ERR_MEMORY, "out of memory");
        /* Through the same checks as the command line. */
        TRY(args_parse("sample", (ArgTable){SAMPLE_OPTIONS, SAMPLE_OPTION_COUNT}, 1, &option, arena, a, &positional));
    }
    if (!own_eta && a->sampler != SAMPLER_DDIM) a->eta = NAN; /* that sampler may be another one's now */
    const char *grid = png_texts_find(texts, "grid");
    if (grid && !a->grid && !a->prompts.count && !a->prompt_file) {
        a->grid_text = arena_strdup(arena, grid);
        if (!a->grid_text) FAIL(ERR_MEMORY, "out of memory");
        TRY(sample_arguments_check_grid(a));
    } else if (!a->grid && !a->prompts.count && !a->prompt_file)
        TRY(add_captions(a, prompt, pictures && strcmp(pictures, "1") != 0, arena));
fail:
    if (status != STATUS_OK && data) status_prefix("%s: ", a->like);
    free(data);
    return status;
}

/* ---- defaults and checks ---- */

Status sample_parse_size(const char *text, int64_t *width, int64_t *height)
{
    Status status = STATUS_OK;
    int used = 0;
    if (sscanf(text, "%5" SCNd64 "x%5" SCNd64 "%n", width, height, &used) != 2 || text[used]) {
        used = 0;
        if (sscanf(text, "%5" SCNd64 "%n", width, &used) != 1 || text[used])
            FAIL(ERR_USAGE, "vasily sample: --size takes WxH in pixels, such as 512x768, not \"%s\"", text);
        *height = *width;
    }
fail:
    return status;
}

Status sample_parse_place(const char *text, int64_t *x, int64_t *y)
{
    Status status = STATUS_OK;
    int used = 0;
    if (sscanf(text, "%7" SCNd64 ",%7" SCNd64 "%n", x, y, &used) != 2 || text[used])
        FAIL(ERR_USAGE, "vasily sample: --place takes X,Y in pixels, such as 0,128, not \"%s\"", text);
fail:
    return status;
}

/* Options that need another. */
static Status check_picture_options(const SampleArguments *a)
{
    Status status = STATUS_OK;
    const char *needs_init = a->mask ? "mask" : a->place ? "place" : !isnan(a->strength) ? "strength" : NULL;
    if (needs_init && !a->init) FAIL(ERR_USAGE, "vasily sample: --%s needs a picture, --init FILE", needs_init);
    if (a->paste && !a->mask && !a->place)
        FAIL(ERR_USAGE, "vasily sample: --paste needs to know what is kept: --mask FILE or --place X,Y");
    if (!isnan(a->strength) && !(a->strength > 0 && a->strength < 1))
        FAIL(ERR_USAGE,
             "vasily sample: --strength %g: it says how much of the picture stays, above 0 (only a trace) and below 1 "
             "(all of it); 0.7 redraws from 30%% of the noise. To draw from the caption alone leave --init away",
             a->strength);
fail:
    return status;
}

static Status check_sampler(const SampleArguments *a, const RunConfig *run)
{
    Status status = STATUS_OK;
    const char *word = SAMPLER_WORDS[a->sampler];
    if (a->steps > run->diffusion.steps)
        FAIL(ERR_USAGE,
             "vasily sample: --steps %" PRId64 " is more than the %" PRId64 " steps of the model's noise process",
             a->steps, run->diffusion.steps);
    if (!isnan(a->eta) && !(a->eta >= 0 && a->eta <= 1))
        FAIL(ERR_USAGE, "vasily sample: --eta takes a number from 0 to 1, not %g", a->eta);
    if (!isnan(a->eta) && a->eta != 0 && a->sampler != SAMPLER_DDIM)
        FAIL(ERR_USAGE, "vasily sample: --eta %g: %s takes no eta, only ddim does%s", a->eta, word,
             a->sampler == SAMPLER_DDPM ? " (ddpm's noise is learned)" : "; it is deterministic");
    if (a->compat == COMPAT_REFERENCE && a->sampler == SAMPLER_DPMPP)
        FAIL(ERR_USAGE, "vasily sample: --compat reference knows ddpm, ddim and plms; the public code has no dpm++");
    /* There, no sampler but ddpm keeps what is known: only the model itself could. */
    if (a->compat == COMPAT_REFERENCE && (a->mask || a->place) && a->sampler != SAMPLER_DDPM &&
        run->model.in_channels == model_latent_channels(&run->model))
        FAIL(ERR_USAGE,
             "vasily sample: --compat reference with %s leaves known pixels to the model, and this one takes "
             "no mask; take ddpm, or leave --compat away",
             word);
fail:
    return status;
}

Status sample_arguments_complete(SampleArguments *a, const RunConfig *run, Arena *arena)
{
    Status status = STATUS_OK;
    const PreviewConfig *preview = &run->preview;
    const bool grid = a->grid || a->grid_text;
    if (grid) { /* what --like may have brought along */
        a->init = a->mask = a->place = NULL;
        a->seed = a->columns = SAMPLE_UNSET;
        a->strength = NAN;
        a->paste = false;
    }
    TRY(check_picture_options(a));
    if (a->sampler == SAMPLE_UNSET) a->sampler = preview->sampler;
    if (a->compat == SAMPLE_UNSET) a->compat = COMPAT_OURS;
    if (a->steps == SAMPLE_UNSET) a->steps = preview->steps;
    TRY(check_sampler(a, run));
    bool reference = a->compat == COMPAT_REFERENCE;
    if (isnan(a->scale)) a->scale = preview->scale;
    /* The public pipeline never passes its eta on. */
    if (isnan(a->eta)) a->eta = a->sampler == SAMPLER_DDIM && !reference ? preview->eta : 0;
    if (isnan(a->threshold)) a->threshold = preview->threshold;
    if (a->seed == SAMPLE_UNSET && !grid) a->seed = preview->seed;
    if (a->first == SAMPLE_UNSET) a->first = 0;
    if (a->batch == SAMPLE_UNSET) a->batch = batch_matters(a) ? 1 : preview->batch;
    if (a->columns == SAMPLE_UNSET && !grid) a->columns = 0;
    if (a->init && isnan(a->strength) && !a->mask && !a->place) a->strength = default_strength;
    int64_t width = run->train.resolution, height = width;
    if (a->size) TRY(sample_parse_size(a->size, &width, &height));
    a->size = arena_printf(arena, "%" PRId64 "x%" PRId64, width, height);
    if (!a->size) FAIL(ERR_MEMORY, "out of memory");
fail:
    return status;
}
