/* vasily data masks: the masks that training draws, as a contact sheet and in numbers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/png_write.h"
#include "train/command.h"
#include "train/picture_grid.h"
#include "train/run_config.h"
#include "train/training_mask.h"

enum {
    TILE = 128,        /* pixels a side of a mask on the sheet, about */
    COUNTED = 10000,   /* masks that the figures are of */
    COUNT_MOST = 4096, /* on one sheet */
    LABEL_MAX = 64
};

/* Greys: what is kept, what lies beside what is to be painted and is painted with it, what is to be painted. */
enum { GREY_KEPT = 232, GREY_BESIDE = 150, GREY_PAINTED = 40 };

typedef struct MasksArguments {
    const char *out;
    int64_t count, first;
} MasksArguments;

typedef struct Sheet {
    const RunConfig *run;
    int64_t side, factor, cell, tile; /* latents; pixels of one in a picture and on the sheet; pixels of a mask */
    float *scratch, *keep, *pixels;   /* (2,side,side), (side,side), (tile,tile) */
    uint8_t *rgb;                     /* (count,tile,tile,3) */
    char (*labels)[LABEL_MAX];
    const char **label_pointers;
} Sheet;

/* Sums over masks. */
typedef struct Figures {
    int64_t masks, first[MASK_KINDS], shapes;
    int64_t more;              /* of more than one shape */
    int64_t untouched, wholly; /* masks with no latent to paint, and with none to keep */
    double kept_pixels, kept_latents;
} Figures;

static Status open_sheet(const RunConfig *run, int64_t count, Sheet *s)
{
    Status status = STATUS_OK;
    const size_t floats = sizeof(float), n = (size_t)count;
    *s = (Sheet){.run = run};
    s->side = model_latent_size(&run->model, run->train.resolution);
    s->factor = model_latent_factor(&run->model);
    s->cell = s->side < TILE ? TILE / s->side : 1;
    s->tile = s->side * s->cell;
    s->scratch = mem_alloc_array(2 * (size_t)(s->side * s->side), floats);
    s->keep = mem_alloc_array((size_t)(s->side * s->side), floats);
    s->pixels = mem_alloc_array((size_t)(s->tile * s->tile), floats);
    s->rgb = mem_alloc_array(n, (size_t)(s->tile * s->tile * 3));
    s->labels = mem_alloc_array(n, sizeof *s->labels);
    s->label_pointers = mem_alloc_array(n, sizeof *s->label_pointers);
    if (!s->scratch || !s->keep || !s->pixels || !s->rgb || !s->labels || !s->label_pointers)
        FAIL(ERR_MEMORY, "no memory for a sheet of %lld masks", (long long)count);
fail:
    return status;
}

static void close_sheet(Sheet *s)
{
    free(s->scratch);
    free(s->keep);
    free(s->pixels);
    free(s->rgb);
    free(s->labels);
    free(s->label_pointers);
}

/* Both forms of sample `index`'s mask. */
static void draw(Sheet *s, int64_t index, Mask *mask)
{
    const uint64_t seed = (uint64_t)s->run->seed;
    mask_draw(&s->run->inpainting, seed, (uint64_t)index, mask);
    mask_rasterise(mask, s->tile, 1, s->pixels);
    training_mask(&s->run->inpainting, seed, (uint64_t)index, s->side, s->factor, s->scratch, s->keep);
}

static void paint_tile(Sheet *s, int64_t k, const Mask *mask)
{
    uint8_t *to = s->rgb + k * s->tile * s->tile * 3;
    for (int64_t y = 0; y < s->tile; y++)
        for (int64_t x = 0; x < s->tile; x++, to += 3) {
            const bool kept = s->keep[y / s->cell * s->side + x / s->cell] > 0;
            memset(to, s->pixels[y * s->tile + x] == 0 ? GREY_PAINTED : kept ? GREY_KEPT : GREY_BESIDE, 3);
        }
    char *label = s->labels[k];
    for (int32_t i = 0, at = 0; i < mask->count; i++)
        at += snprintf(label + at, LABEL_MAX - (size_t)at, "%s%s", i ? "+" : "", MASK_WORDS[mask->shape[i].kind]);
    s->label_pointers[k] = label;
}

static double mean(const float *values, int64_t count)
{
    double sum = 0;
    for (int64_t k = 0; k < count; k++) sum += (double)values[k];
    return sum / (double)count;
}

static void count_mask(const Sheet *s, const Mask *mask, Figures *f)
{
    const double latents = mean(s->keep, s->side * s->side);
    f->masks++;
    f->first[mask->shape[0].kind]++;
    f->shapes += mask->count;
    f->more += mask->count > 1;
    f->untouched += latents >= 1;
    f->wholly += latents <= 0;
    f->kept_pixels += mean(s->pixels, s->tile * s->tile);
    f->kept_latents += latents;
}

static double percent(double part, double whole)
{
    return whole > 0 ? 100 * part / whole : 0;
}

static void print_figures(const Sheet *s, const Figures *f, int64_t first)
{
    const MaskConfig *c = &s->run->inpainting;
    const double masks = (double)f->masks;
    double sum = 0;
    for (int k = 0; k < MASK_KINDS; k++) sum += c->share[k];
    printf("of the %lld samples from %lld on, seed %lld, %lld pixels, %lldx%lld latents:\n", (long long)f->masks,
           (long long)first, (long long)s->run->seed, (long long)s->run->train.resolution, (long long)s->side,
           (long long)s->side);
    printf("  %-22s %7s %7s\n", "begins with", "asked", "drawn");
    for (int k = 0; k < MASK_KINDS; k++)
        printf("  %-22s %6.1f%% %6.1f%%\n", MASK_WORDS[k], percent(c->share[k], sum),
               percent((double)f->first[k], masks));
    printf("  %-22s %6.1f%% %6.1f%%\n", "more than one shape", 100 * mask_more_share(c),
           percent((double)f->more, masks));
    if (c->more > 0 && mask_more_share(c) == 0)
        printf(
            "  inpainting.more, %g, does nothing here: it adds boxes, polygons and strokes, by their shares, to masks "
            "that do not begin with whole\n",
            c->more);
    printf("  shapes in a mask: %.2f on average\n", (double)f->shapes / masks);
    printf("  kept on average: %.1f%% of the picture, %.1f%% of its latents (what is painted spreads to neighbours)\n",
           percent(f->kept_pixels, masks), percent(f->kept_latents, masks));
    printf("  of the latents nothing is painted in %.1f%% of the masks, all in %.1f%%\n",
           percent((double)f->untouched, masks), percent((double)f->wholly, masks));
}

static Status write_sheet(const Sheet *s, const char *path, int64_t count)
{
    Status status = STATUS_OK;
    PictureGrid grid = {0};
    TRY(picture_grid_draw(&(GridSpec){.pictures = s->rgb,
                                      .labels = s->label_pointers,
                                      .count = (int32_t)count,
                                      .width = (int32_t)s->tile,
                                      .height = (int32_t)s->tile},
                          &grid));
    TRY(png_write_rgb(path, grid.width, grid.height, grid.rgb, (const char *const[]){"Software"},
                      (const char *const[]){"vasily"}, 1));
fail:
    picture_grid_free(&grid);
    return status;
}

static Status run(CommandCall *call)
{
    Status status = STATUS_OK;
    const MasksArguments *a = call->options;
    const char *const *overrides;
    size_t override_count;
    RunConfig config;
    Config *file = NULL;
    Sheet sheet = {0};
    Figures figures = {0};
    Mask mask;
    TRY(command_arguments(call, 1, &overrides, &override_count));
    if (!a->out) FAIL(ERR_USAGE, "vasily data masks: --out names the PNG file to write");
    if (!png_is_name(a->out))
        FAIL(ERR_USAGE, "vasily data masks: --out %s: the sheet is a PNG; let its name end in .png", a->out);
    TRY(run_config_load(call->positional.items[0], NULL, overrides, override_count, &config, &file));
    TRY(open_sheet(&config, a->count, &sheet));
    for (int64_t k = 0; k < a->count || k < COUNTED; k++) {
        draw(&sheet, a->first + k, &mask);
        if (k < a->count) paint_tile(&sheet, k, &mask);
        count_mask(&sheet, &mask, &figures);
    }
    TRY(write_sheet(&sheet, a->out, a->count));
    if (!model_paints(&config.model))
        printf("this config trains no inpainting model (model.in_channels is %lld, not %lld): with one it would draw "
               "these\n",
               (long long)config.model.in_channels, 2 * (long long)model_latent_channels(&config.model) + 1);
    print_figures(&sheet, &figures, a->first);
fail:
    close_sheet(&sheet);
    config_free(file);
    return status;
}

static const ArgSpec options[] = {
    {"out", ARG_TEXT, offsetof(MasksArguments, out), "FILE.png", "where the sheet goes", 0, 0, NULL},
    {"count", ARG_INT, offsetof(MasksArguments, count), "N", "masks on the sheet (default 64)", 1, COUNT_MOST, NULL},
    {"first", ARG_INT, offsetof(MasksArguments, first), "I", "the sample whose mask comes first (default 0)", 0, 9e15,
     NULL},
};
static const MasksArguments defaults = {.count = 64};

const Command command_data_masks = {
    .name = "data masks",
    .summary = "draw the masks of an inpainting config, and count them",
    .usage = "CONFIG [key.path=value ...] --out FILE.png [--count N] [--first I]",
    .details = "The sheet has the masks of samples I to I + N - 1, by their number in the order of training: dark is "
               "painted, light\n"
               "is kept, and what lies between is painted too, because a latent beside one to be painted is painted "
               "with it. The\n"
               "figures are of 10,000 samples, or of N where that is more.\n",
    .table = COMMAND_TABLE(options),
    .options_size = sizeof(MasksArguments),
    .defaults = &defaults,
    .run = run,
};
