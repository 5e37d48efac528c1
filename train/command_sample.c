/* vasily sample: pictures from captions, with the weights of a checkpoint. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "data/png_write.h"
#include "engine/backend.h"
#include "train/command.h"
#include "train/network.h"
#include "train/picture_grid.h"
#include "train/sampling.h"
#include "train/saved_model.h"

enum { PROMPT_FILE_LIMIT = 16 << 20, PROMPTS_MAX = 1 << 20, LABEL_MAX = 64 };
static const int64_t UNSET = -1; /* the run's preview section says */

typedef struct SampleArguments {
    ArgTexts prompts;
    const char *prompt_file, *out;
    int64_t steps, seed, count, batch, columns;
    double scale, eta, threshold;
    int32_t sampler;
    bool no_ema, no_labels;
} SampleArguments;

/* ---- captions ---- */

/* Lines of a file, empty ones left out; they stay in `text`. */
static Status read_prompts(const char *path, Arena *arena, char **text, ArgTexts *out)
{
    Status status = STATUS_OK;
    size_t size;
    TRY(file_read(path, PROMPT_FILE_LIMIT, text, &size));
    if (strlen(*text) != size) FAIL(ERR_FORMAT, "%s: holds a zero byte; it is no list of captions", path);
    for (char *line = strtok(*text, "\r\n"); line; line = strtok(NULL, "\r\n"))
        if (*line) TRY(args_texts_add(out, arena, line));
    if (!out->count) FAIL(ERR_FORMAT, "%s: has no captions; one a line, or language<TAB>caption", path);
fail:
    return status;
}

/* Each prompt `count` times in a row. */
static Status repeat_prompts(const ArgTexts *from, int64_t count, Arena *arena, ArgTexts *out)
{
    Status status = STATUS_OK;
    if ((int64_t)from->count > PROMPTS_MAX / count)
        FAIL(ERR_LIMIT, "%zu captions x %lld pictures are more than %d", from->count, (long long)count, PROMPTS_MAX);
    for (size_t i = 0; i < from->count; i++)
        for (int64_t k = 0; k < count; k++) TRY(args_texts_add(out, arena, from->items[i]));
fail:
    return status;
}

static SamplingOptions options_of(const SampleArguments *a, const SavedModel *model, int64_t pictures)
{
    SamplingOptions o = sampling_options(&model->run);
    if (a->batch != UNSET) o.batch = a->batch;
    if (o.batch > pictures) o.batch = pictures;
    if (a->steps != UNSET) o.steps = (int32_t)a->steps;
    if (!isnan(a->scale)) o.scale = a->scale;
    if (a->sampler != UNSET) o.sampler.kind = (SamplerKind)a->sampler;
    if (!isnan(a->eta)) o.sampler.eta = a->eta;
    if (!isnan(a->threshold)) o.sampler.threshold = a->threshold;
    if (a->seed != UNSET) o.seed = (uint64_t)a->seed;
    return o;
}

/* ---- pictures ---- */

/* What a picture was made with, as texts of the PNG; the first value is the prompt. */
typedef struct PictureNotes {
    const char *keys[10], *values[10];
    char numbers[6][32];
    int count;
} PictureNotes;

static void add_note(PictureNotes *notes, const char *key, const char *value)
{
    notes->keys[notes->count] = key;
    notes->values[notes->count++] = value;
}

static void note_number(PictureNotes *notes, int slot, const char *key, double value)
{
    snprintf(notes->numbers[slot], sizeof notes->numbers[slot], "%.10g", value);
    add_note(notes, key, notes->numbers[slot]);
}

static void make_notes(const SavedModel *model, const SamplingOptions *o, PictureNotes *notes)
{
    memset(notes, 0, sizeof *notes);
    add_note(notes, "prompt", "");
    add_note(notes, "Software", "vasily");
    add_note(notes, "checkpoint", model->path);
    add_note(notes, "weights", model->ema ? "ema" : "weights");
    add_note(notes, "sampler", SAMPLER_WORDS[o->sampler.kind]);
    note_number(notes, 0, "steps", o->steps);
    note_number(notes, 1, "scale", o->scale);
    note_number(notes, 2, "eta", o->sampler.eta);
    note_number(notes, 3, "threshold", o->sampler.threshold);
    note_number(notes, 4, "seed", (double)o->seed);
}

/* "OUT/0007-de.png" of each picture. */
static Status write_each(const char *folder, const ArgTexts *prompts, int64_t side, const uint8_t *rgb,
                         PictureNotes *notes)
{
    Status status = STATUS_OK;
    char path[PATH_MAX], label[LABEL_MAX], name[2 * LABEL_MAX];
    TRY(file_make_dirs(folder));
    for (size_t i = 0; i < prompts->count; i++) {
        const char *tab = strchr(prompts->items[i], '\t');
        label[0] = 0;
        if (tab) prompt_label(prompts->items[i], label, sizeof label);
        for (char *c = label; *c; c++)
            if (*c == '/' || (unsigned char)*c < ' ') *c = '_';
        snprintf(name, sizeof name, "%04zu%s%s.png", i, label[0] ? "-" : "", label);
        TRY(path_join(path, sizeof path, folder, name));
        notes->values[0] = prompt_caption(prompts->items[i]);
        TRY(png_write_rgb(path, (int)side, (int)side, rgb + i * (size_t)(side * side * 3), notes->keys, notes->values,
                          notes->count));
    }
fail:
    return status;
}

/* One picture as it is, several as a grid with their labels. */
static Status write_one(const char *path, const ArgTexts *prompts, int64_t side, const uint8_t *rgb,
                        const SampleArguments *arguments, Arena *arena, PictureNotes *notes)
{
    Status status = STATUS_OK;
    PictureGrid grid = {0};
    StrBuf all = {0};
    if (prompts->count == 1) {
        notes->values[0] = prompt_caption(prompts->items[0]);
        return png_write_rgb(path, (int)side, (int)side, rgb, notes->keys, notes->values, notes->count);
    }
    const char **labels = arena_alloc_array(arena, prompts->count, sizeof *labels);
    if (!labels) FAIL(ERR_MEMORY, "out of memory");
    for (size_t i = 0; i < prompts->count; i++) {
        char *label = arena_alloc(arena, LABEL_MAX);
        if (!label) FAIL(ERR_MEMORY, "out of memory");
        prompt_label(prompts->items[i], label, LABEL_MAX);
        labels[i] = label;
        TRY(strbuf_printf(&all, "%s%s", i ? "\n" : "", prompts->items[i]));
    }
    notes->values[0] = all.data;
    TRY(picture_grid_draw(&(GridSpec){.pictures = rgb,
                                      .labels = arguments->no_labels ? NULL : labels,
                                      .count = (int32_t)prompts->count,
                                      .width = (int32_t)side,
                                      .height = (int32_t)side,
                                      .columns = (int32_t)arguments->columns},
                          &grid));
    TRY(png_write_rgb(path, grid.width, grid.height, grid.rgb, notes->keys, notes->values, notes->count));
fail:
    picture_grid_free(&grid);
    strbuf_free(&all);
    return status;
}

static void show_progress(void *context, int64_t done, int64_t total)
{
    char text[80];
    (void)context;
    snprintf(text, sizeof text, "sampling step %lld/%lld", (long long)done, (long long)total);
    log_live_line(done < total ? text : NULL);
}

static bool is_png(const char *path)
{
    size_t length = strlen(path);
    return length > 4 && strcmp(path + length - 4, ".png") == 0;
}

/* ---- the command ---- */

static Status run(CommandCall *call)
{
    Status status = STATUS_OK;
    const SampleArguments *arguments = call->options;
    const char *const *overrides;
    size_t override_count;
    ArgTexts given = arguments->prompts, prompts = {0};
    SavedModel model = {0};
    Backend *backend = NULL;
    Diffusion *diffusion = NULL;
    Sampling *sampling = NULL;
    PictureNotes notes;
    char *text = NULL, tokenizer1[PATH_MAX], tokenizer2[PATH_MAX];
    uint8_t *rgb = NULL;
    double start;
    TRY(command_arguments(call, 1, &overrides, &override_count));
    if (arguments->prompt_file) TRY(read_prompts(arguments->prompt_file, call->arena, &text, &given));
    if (!given.count) FAIL(ERR_USAGE, "vasily sample: nothing to draw; --prompt TEXT or --prompts FILE");
    if (!arguments->out[0]) FAIL(ERR_USAGE, "vasily sample: --out is empty");
    TRY(repeat_prompts(&given, arguments->count, call->arena, &prompts));
    TRY(saved_model_open(call->positional.items[0], !arguments->no_ema, overrides, override_count, &model));
    SamplingOptions options = options_of(arguments, &model, (int64_t)prompts.count);
    TRY(saved_model_tokenizers(&model, overrides, override_count, tokenizer1, tokenizer2));
    options.tokenizer1 = tokenizer1;
    options.tokenizer2 = tokenizer2;
    if (options.steps > model.run.diffusion.steps)
        FAIL(ERR_USAGE, "vasily sample: --steps %d is more than the %lld steps of the model's noise process",
             options.steps, (long long)model.run.diffusion.steps);
    make_notes(&model, &options, &notes);

    int64_t side = model.run.train.resolution;
    rgb = mem_alloc_array(prompts.count, (size_t)(side * side * 3));
    const char **captions = arena_alloc_array(call->arena, prompts.count, sizeof *captions);
    if (!rgb || !captions) FAIL(ERR_MEMORY, "no memory for %zu pictures", prompts.count);
    for (size_t i = 0; i < prompts.count; i++) captions[i] = prompt_caption(prompts.items[i]);

    TRY(network_open_backend(&model.run, NULL, &backend));
    TRY(diffusion_create(&model.run.diffusion, &diffusion));
    TRY(sampling_create(&model.run, backend, model.params, &model.store, diffusion, &options, &sampling));
    log_info("%s: %zu pictures of %lld pixels, %s, %d steps, scale %g", model.path, prompts.count, (long long)side,
             SAMPLER_WORDS[options.sampler.kind], options.steps, options.scale);
    start = clock_seconds();
    TRY(sampling_draw(sampling, NULL, captions, (int64_t)prompts.count, 0, rgb, show_progress, NULL));
    if (is_png(arguments->out))
        TRY(write_one(arguments->out, &prompts, side, rgb, arguments, call->arena, &notes));
    else
        TRY(write_each(arguments->out, &prompts, side, rgb, &notes));
    log_info("wrote %s (%.1f s)", arguments->out, clock_seconds() - start);
fail:
    log_live_line(NULL);
    sampling_free(sampling);
    diffusion_free(diffusion);
    if (backend) backend_close(backend);
    saved_model_close(&model);
    free(rgb);
    free(text);
    return status;
}

static const ArgSpec options[] = {
    {"prompt", ARG_TEXTS, offsetof(SampleArguments, prompts), "TEXT", "a caption; may be repeated", 0, 0, NULL},
    {"prompts", ARG_TEXT, offsetof(SampleArguments, prompt_file), "FILE",
     "captions, one a line; \"language<TAB>caption\" puts the language under the picture", 0, 0, NULL},
    {"out", ARG_TEXT, offsetof(SampleArguments, out), "PATH",
     "X.png: one picture, or a grid of several; else a folder of one PNG each (default samples.png)", 0, 0, NULL},
    {"steps", ARG_INT, offsetof(SampleArguments, steps), "N", "sampling steps", 1, 100000, NULL},
    {"scale", ARG_FLOAT, offsetof(SampleArguments, scale), "S", "classifier-free guidance; 1: none", 0, 1000, NULL},
    {"sampler", ARG_WORD, offsetof(SampleArguments, sampler), "ddpm|ddim", "how noise becomes a picture", 0, 0,
     SAMPLER_WORDS},
    {"eta", ARG_FLOAT, offsetof(SampleArguments, eta), "E", "ddim: 0 deterministic, 1 as random as ddpm", 0, 1, NULL},
    {"threshold", ARG_FLOAT, offsetof(SampleArguments, threshold), "P",
     "dynamic thresholding at this percentile; 0: none", 0, 100, NULL},
    {"seed", ARG_INT, offsetof(SampleArguments, seed), "N", "of the noise", 0, 9e15, NULL},
    {"count", ARG_INT, offsetof(SampleArguments, count), "K", "pictures of each caption (default 1)", 1, 100000, NULL},
    {"batch", ARG_INT, offsetof(SampleArguments, batch), "N", "pictures at once; the result does not depend on it", 1,
     4096, NULL},
    {"columns", ARG_INT, offsetof(SampleArguments, columns), "N", "of the grid (default: about square)", 0, 10000,
     NULL},
    {"no-ema", ARG_FLAG, offsetof(SampleArguments, no_ema), NULL, "the weights themselves, not their moving average", 0,
     0, NULL},
    {"no-labels", ARG_FLAG, offsetof(SampleArguments, no_labels), NULL, "no text under the pictures of a grid", 0, 0,
     NULL},
};
static const SampleArguments defaults = {
    .out = "samples.png",
    .steps = -1,
    .seed = -1,
    .count = 1,
    .batch = -1,
    .scale = NAN,
    .eta = NAN,
    .threshold = NAN,
    .sampler = -1,
};

const Command command_sample = {
    .name = "sample",
    .summary = "draw pictures from captions",
    .usage = "RUN|CHECKPOINT [key.path=value ...] --prompt TEXT [--prompt ...] [--out samples.png]",
    .details =
        "A run's folder stands for its newest good checkpoint. What is not given (--steps, --scale, --sampler, --eta,\n"
        "--threshold, --seed, --batch) is as the run's `preview` section says. The moving average of the weights is "
        "used\n"
        "unless --no-ema. How each picture was made stands in its PNG's texts.\n",
    .table = COMMAND_TABLE(options),
    .options_size = sizeof(SampleArguments),
    .defaults = &defaults,
    .run = run,
};
