/* What `vasily sample` is told: the command line's options, which are also what is noted in each PNG and read back from
 * one (--like). */
#ifndef TRAIN_SAMPLE_ARGUMENTS_H
#define TRAIN_SAMPLE_ARGUMENTS_H

#include "data/png_text.h"
#include "train/args.h"
#include "train/run_config.h"

#define SAMPLE_UNSET (-1) /* of whole numbers and words; NaN of other numbers, NULL of texts */

typedef enum SampleCompat { COMPAT_OURS, COMPAT_REFERENCE } SampleCompat;

typedef struct SampleArguments {
    ArgTexts prompts;
    const char *prompt_file, *out, *like;
    const char *grid;      /* file of languages (train/language_grid.h) */
    const char *grid_text; /* such a file as a PNG keeps it; NULL: read the file */
    int64_t steps, seed, first, count, batch, columns;
    double scale, eta, threshold, strength;
    int32_t sampler; /* SamplerKind */
    int32_t compat;  /* SampleCompat */
    const char *size, *place, *init, *mask;
    bool no_ema, no_labels, paste;
} SampleArguments;

enum { SAMPLE_OPTION_COUNT = 24 };
extern const ArgSpec SAMPLE_OPTIONS[SAMPLE_OPTION_COUNT];
extern const SampleArguments SAMPLE_ARGUMENT_DEFAULTS;

/* Fills what was not given from the texts of the PNG a->like, and the captions (or the grid) where there are none.
 * ERR_FORMAT: they were not written by `vasily sample`. */
Status sample_arguments_like(SampleArguments *a, Arena *arena, PngTexts *texts);
/* ERR_USAGE where a --prompt is not UTF-8. Before sample_arguments_like. */
Status sample_arguments_check_prompts(const SampleArguments *a);
/* ERR_USAGE where there is a grid and what contradicts it. Before sample_arguments_like. */
Status sample_arguments_check_grid(const SampleArguments *a);
/* Fills what was not given from the run, and checks what does not need the model: then nothing but `like`, `mask`,
 * `init`, `place`, `prompt_file` and the grid is unset, and with a grid `seed` and `columns`. `size` becomes "WxH". */
Status sample_arguments_complete(SampleArguments *a, const RunConfig *run, Arena *arena);
/* "512x768" or "512", and "-8,16". */
Status sample_parse_size(const char *text, int64_t *width, int64_t *height);
Status sample_parse_place(const char *text, int64_t *x, int64_t *y);

/* What a PNG says. */
typedef struct SampleNotes {
    const char *keys[40], *values[40];
    int count;
} SampleNotes;
/* Replaces the key's value where it is there; values live as long as the arena or the caller's text. */
Status sample_note(SampleNotes *notes, const char *key, const char *value);
/* All arguments that have a value, by which the pictures can be drawn again. */
Status sample_notes_of(const SampleArguments *a, Arena *arena, SampleNotes *notes);

#endif
