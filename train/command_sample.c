/* vasily sample: pictures from captions, or from captions and a picture, with the weights of a checkpoint. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "data/png_write.h"
#include "engine/param_image.h"
#include "train/command.h"
#include "train/language_study.h"
#include "train/network.h"
#include "train/picture_grid.h"
#include "train/sample_arguments.h"
#include "train/sample_progress.h"
#include "train/sampling.h"
#include "train/saved_model.h"

enum { PROMPT_FILE_LIMIT = 16 << 20, PROMPTS_MAX = 1 << 20, LABEL_MAX = 64 };

typedef struct Job {
    SampleArguments a; /* complete */
    Arena *arena;
    ArgTexts prompts;      /* one a picture, perhaps with a label */
    const char **captions; /* the same without */
    LanguageGrid grid;     /* instead of these, where grid_config is not NULL */
    Config *grid_config;
    int64_t width, height;
    SavedModel model;
    const char *from; /* where it came from, as given */
    Backend *backend;
    Diffusion *diffusion;
    Sampling *sampling;
    InitPicture init;
    SampleNotes notes;
    SampleProgress progress;
} Job;

/* ---- captions ---- */

/* Lines of a file, empty ones left out; they stay in `text`. */
static Status read_prompts(const char *path, Arena *arena, char **text, ArgTexts *out)
{
    Status status = STATUS_OK;
    size_t size;
    TRY(file_read(path, PROMPT_FILE_LIMIT, text, &size));
    if (strlen(*text) != size)
        FAIL(ERR_FORMAT, "%s: holds a zero byte; captions are a text in UTF-8, not in UTF-16 or a file of another kind",
             path);
    const char *begin = *text;
    utf8_skip_mark(&begin, &size);
    char *line = *text + (begin - *text);
    for (int64_t number = 1; *line; number++) {
        const size_t length = strcspn(line, "\r\n");
        char *end = line + length;
        char *next = end + (end[0] == '\r' && end[1] == '\n' ? 2 : end[0] != 0);
        *end = 0;
        if (!utf8_valid(line, length))
            FAIL(ERR_FORMAT, "%s:%" PRId64 ": the caption is not valid UTF-8; save the file in UTF-8", path, number);
        if (length) TRY(args_texts_add(out, arena, line));
        line = next;
    }
    if (!out->count) FAIL(ERR_FORMAT, "%s: has no captions; one a line, or language<TAB>caption", path);
fail:
    return status;
}

/* Each prompt `count` times in a row. */
static Status repeat_prompts(Job *job, const ArgTexts *from, int64_t count)
{
    Status status = STATUS_OK;
    if ((int64_t)from->count > PROMPTS_MAX / count)
        FAIL(ERR_LIMIT, "%zu captions x %lld pictures are more than %d", from->count, (long long)count, PROMPTS_MAX);
    for (size_t i = 0; i < from->count; i++)
        for (int64_t k = 0; k < count; k++) TRY(args_texts_add(&job->prompts, job->arena, from->items[i]));
    job->captions = arena_alloc_array(job->arena, job->prompts.count, sizeof *job->captions);
    if (!job->captions) FAIL(ERR_MEMORY, "out of memory");
    for (size_t i = 0; i < job->prompts.count; i++) job->captions[i] = prompt_caption(job->prompts.items[i]);
fail:
    return status;
}

static bool has_grid(const Job *job)
{
    return job->grid_config != NULL;
}

static int64_t picture_count(const Job *job)
{
    return has_grid(job) ? language_grid_pictures(&job->grid) : (int64_t)job->prompts.count;
}

/* Pictures that are drawn in one go: all, or a column of a grid. */
static int64_t most_at_once(const Job *job)
{
    size_t most = job->prompts.count;
    for (size_t i = 0; has_grid(job) && i < job->grid.subjects.count; i++) {
        const size_t rows = language_grid_subject(&job->grid, i)->prompts.count;
        if (rows > most) most = rows;
    }
    return (int64_t)most;
}

/* What is to be drawn. */
static Status read_subjects(Job *job, char **text)
{
    Status status = STATUS_OK;
    const SampleArguments *a = &job->a;
    ArgTexts given = a->prompts;
    if (a->grid || a->grid_text) {
        TRY(language_grid_load(a->grid ? a->grid : a->like, a->grid_text, &job->grid, &job->grid_config));
        return STATUS_OK;
    }
    if (a->prompt_file) TRY(read_prompts(a->prompt_file, job->arena, text, &given));
    if (!given.count) FAIL(ERR_USAGE, "vasily sample: nothing to draw; --prompt TEXT, --prompts FILE or --grid FILE");
    TRY(repeat_prompts(job, &given, a->count));
fail:
    return status;
}

/* ---- the picture to start from ---- */

static Status load_init(Job *job)
{
    Status status = STATUS_OK;
    const SampleArguments *a = &job->a;
    const ModelConfig *m = &job->model.run.model;
    InitPictureOptions o = {
        .picture = a->init,
        .mask = a->mask,
        .width = job->width,
        .height = job->height,
        .drawn_width = generator_drawn_size(m, job->width),
        .drawn_height = generator_drawn_size(m, job->height),
        .placed = a->place != NULL,
        .stretched = a->compat == COMPAT_REFERENCE,
        .max_pixels = job->model.run.data.limits.picture_pixels,
    };
    if (!a->init) return STATUS_OK;
    if (a->place) TRY(sample_parse_place(a->place, &o.x, &o.y));
    status = init_picture_load(&o, &job->init);
    if (status != STATUS_OK) status_prefix("vasily sample: ");
    TRY(status);
    if (job->init.mask && m->in_channels == model_latent_channels(m))
        log_warn("this model was not trained for inpainting (model.in_channels is %lld, not %lld): what is kept is put "
                 "back at every step, but the network does not see the mask, and edges may show",
                 (long long)m->in_channels, (long long)(2 * model_latent_channels(m) + 1));
fail:
    return status;
}

/* ---- notes in the pictures ---- */

static Status note_hash(Job *job, const char *key, Hash128 hash)
{
    char *text = arena_alloc(job->arena, 33);
    if (!text) return ERR_MEMORY;
    hash_format(hash, text);
    return sample_note(&job->notes, key, text);
}

static const char *const FROZEN_HASHES[FROZEN_NETWORK_COUNT] = {"autoencoder-hash", "text-encoder1-hash",
                                                                "text-encoder2-hash"};

static Status make_notes(Job *job)
{
    Status status = STATUS_OK;
    const SavedModel *model = &job->model;
    TRY(sample_note(&job->notes, "prompt", ""));
    TRY(sample_note(&job->notes, "pictures", "1"));
    TRY(sample_note(&job->notes, "Software", "vasily"));
    TRY(sample_notes_of(&job->a, job->arena, &job->notes));
    TRY(sample_note(&job->notes, "checkpoint", model->path[0] ? model->path : model->run.init.from));
    if (model->path[0]) {
        const char *step = arena_printf(job->arena, "%lld", (long long)model->state.step);
        if (!step) FAIL(ERR_MEMORY, "out of memory");
        TRY(sample_note(&job->notes, "weights", model->ema ? "ema" : "weights"));
        TRY(sample_note(&job->notes, "step", step));
    } else {
        TRY(sample_note(&job->notes, "config", job->from));
    }
    size_t bytes = (size_t)param_table_trainable_elements(model->params) * sizeof(float);
    TRY(note_hash(job, "weights-hash", hash_memory(model->store.weights, bytes)));
    TRY(sample_note(&job->notes, "precision",
                    model_compute_dtype(&model->run.model, job->backend) == DTYPE_BF16 ? "bf16" : "f32"));
    for (int n = 0; n < FROZEN_NETWORK_COUNT; n++) { /* those of the run where it has noted them */
        char *hash = arena_strdup(job->arena, "00000000000000000000000000000000");
        if (!hash) FAIL(ERR_MEMORY, "out of memory");
        memcpy(hash, model->state.frozen[n], 33);
        if (!hash[0]) TRY(frozen_weights_fingerprint(model->frozen, (FrozenNetwork)n, (uint64_t)model->run.seed, hash));
        if (hash[0]) TRY(sample_note(&job->notes, FROZEN_HASHES[n], hash));
    }
    if (job->a.init) TRY(note_hash(job, "init-hash", job->init.picture_hash));
    if (job->a.mask) TRY(note_hash(job, "mask-hash", job->init.mask_hash));
fail:
    return status;
}

/* Names what makes a picture drawn like another one differ from it. */
static void compare_notes(const Job *job, const PngTexts *like)
{
    static const char *const keys[] = {"weights-hash", "autoencoder-hash", "text-encoder1-hash", "text-encoder2-hash",
                                       "init-hash",    "mask-hash",        "precision"};
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        const char *then = png_texts_find(like, keys[k]);
        for (int i = 0; then && i < job->notes.count; i++)
            if (strcmp(job->notes.keys[i], keys[k]) == 0 && strcmp(job->notes.values[i], then) != 0)
                log_warn("%s of %s was %s and is %s now: the picture will differ", keys[k], job->a.like, then,
                         job->notes.values[i]);
    }
}

static Status write_png(Job *job, const char *path, int64_t width, int64_t height, const uint8_t *rgb)
{
    return png_write_rgb(path, (int)width, (int)height, rgb, job->notes.keys, job->notes.values, job->notes.count);
}

/* ---- drawing ---- */

/* Pictures first .. first + count - 1. */
static Status draw(Job *job, int64_t first, int64_t count, uint8_t *rgb)
{
    Status status = STATUS_OK;
    job->progress.pictures_done = first;
    job->progress.pictures_here = count;
    TRY(sampling_draw(job->sampling, NULL, job->captions + first, count, (uint64_t)(job->a.first + first), rgb,
                      sample_progress_step, &job->progress));
    for (int64_t i = 0; job->a.paste && i < count; i++)
        init_picture_paste(&job->init, rgb + (size_t)i * (size_t)(job->width * job->height * 3));
fail:
    return status;
}

/* "OUT/0007-de.png" of each picture, written as soon as its batch is drawn. */
static Status draw_each(Job *job, const char *folder, int64_t batch)
{
    Status status = STATUS_OK;
    char path[PATH_MAX], label[LABEL_MAX], name[2 * LABEL_MAX], number[24];
    int64_t total = (int64_t)job->prompts.count;
    size_t bytes = (size_t)(job->width * job->height * 3);
    uint8_t *rgb = mem_alloc_array((size_t)batch, bytes);
    if (!rgb) FAIL(ERR_MEMORY, "no memory for %lld pictures", (long long)batch);
    TRY(file_make_dirs(folder));
    for (int64_t first = 0; first < total; first += batch) {
        int64_t here = total - first < batch ? total - first : batch;
        TRY(draw(job, first, here, rgb));
        for (int64_t i = first; i < first + here; i++) {
            const char *prompt = job->prompts.items[i];
            label[0] = 0;
            if (strchr(prompt, '\t')) prompt_label(prompt, label, sizeof label);
            for (char *c = label; *c; c++)
                if (*c == '/' || (unsigned char)*c < ' ') *c = '_';
            snprintf(name, sizeof name, "%04lld%s%s.png", (long long)i, label[0] ? "-" : "", label);
            snprintf(number, sizeof number, "%" PRId64, job->a.first + i);
            TRY(path_join(path, sizeof path, folder, name));
            TRY(sample_note(&job->notes, "prompt", prompt_caption(prompt)));
            TRY(sample_note(&job->notes, "first", number));
            TRY(write_png(job, path, job->width, job->height, rgb + (size_t)(i - first) * bytes));
        }
    }
fail:
    free(rgb);
    return status;
}

/* One picture as it is, several as a grid with their labels. */
static Status draw_one(Job *job, const char *path)
{
    Status status = STATUS_OK;
    PictureGrid grid = {0};
    StrBuf all = {0};
    size_t count = job->prompts.count;
    char number[24];
    uint8_t *rgb = mem_alloc_array(count, (size_t)(job->width * job->height * 3));
    const char **labels = arena_alloc_array(job->arena, count, sizeof *labels);
    if (!rgb || !labels)
        FAIL(ERR_MEMORY, "no memory for a grid of %zu pictures; --out FOLDER writes each as it is drawn", count);
    TRY(draw(job, 0, (int64_t)count, rgb));
    if (count == 1) {
        TRY(sample_note(&job->notes, "prompt", job->captions[0]));
        TRY(write_png(job, path, job->width, job->height, rgb));
        goto fail;
    }
    for (size_t i = 0; i < count; i++) {
        char *label = arena_alloc(job->arena, LABEL_MAX);
        if (!label) FAIL(ERR_MEMORY, "out of memory");
        prompt_label(job->prompts.items[i], label, LABEL_MAX);
        labels[i] = label;
        TRY(strbuf_printf(&all, "%s%s", i ? "\n" : "", job->prompts.items[i]));
    }
    snprintf(number, sizeof number, "%zu", count);
    TRY(sample_note(&job->notes, "prompt", all.data));
    TRY(sample_note(&job->notes, "pictures", number));
    TRY(picture_grid_draw(&(GridSpec){.pictures = rgb,
                                      .labels = job->a.no_labels ? NULL : labels,
                                      .count = (int32_t)count,
                                      .width = (int32_t)job->width,
                                      .height = (int32_t)job->height,
                                      .columns = (int32_t)job->a.columns},
                          &grid));
    TRY(write_png(job, path, grid.width, grid.height, grid.rgb));
fail:
    picture_grid_free(&grid);
    strbuf_free(&all);
    free(rgb);
    return status;
}

static Status draw_grid(Job *job, const char *out, bool to_folder)
{
    return language_study_draw(&(LanguageStudy){.grid = &job->grid,
                                                .sampling = job->sampling,
                                                .notes = &job->notes,
                                                .progress = &job->progress,
                                                .arena = job->arena,
                                                .width = job->width,
                                                .height = job->height,
                                                .first = job->a.first,
                                                .labels = !job->a.no_labels},
                               out, to_folder);
}

/* ---- the command ---- */

/* A run or checkpoint, or a config with the weights of its init.from. */
static Status open_model(Job *job, const char *path, const char *const *overrides, size_t override_count)
{
    bool config = file_exists(path) && !file_is_dir(path);
    job->from = path;
    return config ? saved_model_open_config(path, overrides, override_count, &job->model)
                  : saved_model_open(path, !job->a.no_ema, overrides, override_count, &job->model);
}

/* The ending of a kind of picture that a name has and we do not write; NULL for none of them. */
static const char *foreign_ending(const char *path)
{
    static const char *const endings[] = {".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".avif"};
    const char *dot = strrchr(path, '.');
    for (size_t k = 0; dot && k < sizeof endings / sizeof *endings; k++)
        if (strcasecmp(dot, endings[k]) == 0) return dot;
    return NULL;
}

/* Before anything is drawn, which may take hours. */
static Status check_out(const char *out)
{
    Status status = STATUS_OK;
    if (!out[0]) FAIL(ERR_USAGE, "vasily sample: --out is empty");
    const char *foreign = foreign_ending(out);
    if (foreign)
        FAIL(ERR_USAGE,
             "vasily sample: --out %s: pictures are written as PNG, not %s; X.png is one file, another name a folder "
             "(%s/ for one of this name)",
             out, foreign, out);
    const char *slash = png_is_name(out) ? strrchr(out, '/') : NULL;
    if (!slash || slash == out) return STATUS_OK;
    char folder[PATH_MAX];
    int size = snprintf(folder, sizeof folder, "%.*s", (int)(slash - out), out);
    if (size < 0 || (size_t)size >= sizeof folder) FAIL(ERR_LIMIT, "vasily sample: --out: a long path");
    if (!file_is_dir(folder))
        FAIL(ERR_IO, "vasily sample: --out %s: there is no folder %s; is the path right?", out, folder);
fail:
    return status;
}

/* Model, options, captions: everything but the networks. */
static Status prepare(Job *job, CommandCall *call, const char *const *overrides, size_t override_count, PngTexts *like,
                      char **text)
{
    Status status = STATUS_OK;
    SampleArguments *a = &job->a;
    TRY(check_out(a->out));
    TRY(sample_arguments_check_prompts(a));
    TRY(sample_arguments_check_grid(a));
    if (a->like) TRY(sample_arguments_like(a, job->arena, like));
    TRY(read_subjects(job, text));
    TRY(open_model(job, call->positional.items[0], overrides, override_count));
    TRY(sample_arguments_complete(a, &job->model.run, job->arena));
    TRY(sample_parse_size(a->size, &job->width, &job->height));
    status = generator_check_size(&job->model.run.model, job->height, job->width);
    if (status != STATUS_OK) status_prefix("vasily sample: --");
    TRY(status);
    TRY(load_init(job));
fail:
    return status;
}

static SamplingOptions sampling_options_of(const Job *job)
{
    const SampleArguments *a = &job->a;
    SamplingOptions o = sampling_options(&job->model.run);
    o.width = job->width;
    o.height = job->height;
    o.batch = a->batch < most_at_once(job) ? a->batch : most_at_once(job);
    o.steps = (int32_t)a->steps;
    o.scale = a->scale;
    o.seed = has_grid(job) ? 0 : (uint64_t)a->seed; /* a grid's are told with each picture */
    o.init = a->init != NULL;
    o.sampler = (SamplerOptions){.kind = (SamplerKind)a->sampler,
                                 .eta = a->eta,
                                 .threshold = a->threshold,
                                 .strength = isnan(a->strength) ? 0 : a->strength,
                                 .reference = a->compat == COMPAT_REFERENCE};
    return o;
}

static Status run(CommandCall *call)
{
    Status status = STATUS_OK;
    const char *const *overrides;
    size_t override_count;
    Job job = {.a = *(const SampleArguments *)call->options, .arena = call->arena};
    PngTexts like = {0};
    char *text = NULL, tokenizer1[PATH_MAX], tokenizer2[PATH_MAX];
    double start = clock_seconds(), own, all;
    TRY(command_arguments(call, 1, &overrides, &override_count));
    TRY(prepare(&job, call, overrides, override_count, &like, &text));
    TRY(saved_model_tokenizers(&job.model, overrides, override_count, tokenizer1, tokenizer2));
    SamplingOptions options = sampling_options_of(&job);
    options.tokenizer1 = tokenizer1;
    options.tokenizer2 = tokenizer2;
    TRY(network_open_backend(&job.model.run, NULL, &job.backend));
    TRY(param_image_open(&job.model.store, job.backend, false));
    TRY(make_notes(&job));
    compare_notes(&job, &like);
    TRY(diffusion_create(&job.model.run.diffusion, &job.diffusion));
    TRY(sampling_create(&job.model.run, job.backend, job.model.params, &job.model.store, job.diffusion, &options,
                        &job.sampling));
    if (job.a.init) TRY(sampling_use_picture(job.sampling, &job.init));
    const int64_t pictures = picture_count(&job);
    log_info("%s: %lld picture%s of %lldx%lld, %s, %d steps, scale %g",
             job.model.path[0] ? job.model.path : job.model.run.init.from, (long long)pictures,
             pictures == 1 ? "" : "s", (long long)job.width, (long long)job.height, SAMPLER_WORDS[job.a.sampler],
             options.steps, options.scale);
    sample_progress_begin(&job.progress, pictures);
    if (has_grid(&job))
        TRY(draw_grid(&job, job.a.out, !png_is_name(job.a.out)));
    else
        TRY(png_is_name(job.a.out) ? draw_one(&job, job.a.out) : draw_each(&job, job.a.out, options.batch));
    sample_progress_end();
    sampling_times(job.sampling, &own, &all);
    log_info("wrote %s (%.1f s, of them %.1f s drawing, %.1f%% of that in the sampler itself)", job.a.out,
             clock_seconds() - start, all, all > 0 ? 100 * own / all : 0);
fail:
    sample_progress_end();
    sampling_free(job.sampling);
    diffusion_free(job.diffusion);
    saved_model_close(&job.model);
    if (job.backend) backend_close(job.backend);
    init_picture_free(&job.init);
    config_free(job.grid_config);
    free(text);
    return status;
}

const Command command_sample = {
    .name = "sample",
    .summary = "draw pictures from captions",
    .usage = "RUN|CHECKPOINT|CONFIG [key.path=value ...] --prompt TEXT [--prompt ...] [--out samples.png]",
    .details =
        "A run's folder stands for its newest good checkpoint, a config for the weights that its init.from names. "
        "What\n"
        "is not given (--steps, --scale, --sampler, --eta, --threshold, --seed, --batch) is as the `preview` section\n"
        "says. The moving average of the weights is used unless --no-ema. How each picture was made stands in its\n"
        "PNG's texts; --like draws it again.\n"
        "\n"
        "--grid draws captions in many languages side by side, from the same noises, and the mean of each language.\n"
        "--init with --strength varies a picture; with --mask it draws anew what is black (inpainting); with --place\n"
        "and a larger --size it draws what lies around (outpainting). docs/sampling.md tells all of it.\n",
    .table = {SAMPLE_OPTIONS, SAMPLE_OPTION_COUNT},
    .options_size = sizeof(SampleArguments),
    .defaults = &SAMPLE_ARGUMENT_DEFAULTS,
    .computes = true,
    .run = run,
};
