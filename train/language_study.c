#include "train/language_study.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "data/png_write.h"
#include "train/language_sheet.h"

enum { SLUG_MAX = 48 };

/* The pictures of one subject. */
typedef struct Drawn {
    const LanguageSubject *subject;
    size_t rows, columns, bytes; /* bytes of a picture */
    uint8_t *pictures;           /* (rows, columns, bytes) */
    uint8_t *means;              /* (rows, bytes) */
} Drawn;

static void drawn_free(Drawn *d)
{
    free(d->pictures);
    free(d->means);
    *d = (Drawn){0};
}

static uint8_t *picture_of(const Drawn *d, size_t row, size_t column)
{
    return d->pictures + (row * d->columns + column) * d->bytes;
}

/* Column by column, for all of a column start from one noise. */
static Status draw_pictures(const LanguageStudy *s, Drawn *d)
{
    Status status = STATUS_OK;
    uint8_t *column = mem_alloc_array(d->rows, d->bytes);
    if (!column) FAIL(ERR_MEMORY, "no memory for %zu pictures", d->rows);
    for (size_t c = 0; c < d->columns; c++) {
        s->progress->pictures_here = (int64_t)d->rows;
        TRY(sampling_draw_alike(s->sampling, (const char *const *)d->subject->prompts.values, (int64_t)d->rows,
                                (uint64_t)s->grid->seeds.items[c], (uint64_t)s->first, column, sample_progress_step,
                                s->progress));
        s->progress->pictures_done += (int64_t)d->rows;
        for (size_t row = 0; row < d->rows; row++) memcpy(picture_of(d, row, c), column + row * d->bytes, d->bytes);
    }
fail:
    free(column);
    return status;
}

static Status draw_subject(const LanguageStudy *s, const LanguageSubject *subject, Drawn *d)
{
    Status status = STATUS_OK;
    size_t row_bytes = 0;
    *d = (Drawn){.subject = subject,
                 .rows = subject->prompts.count,
                 .columns = s->grid->seeds.count,
                 .bytes = (size_t)(s->width * s->height * 3)};
    if (mem_mul_size(d->columns, d->bytes, &row_bytes)) d->pictures = mem_alloc_array(d->rows, row_bytes);
    d->means = mem_alloc_array(d->rows, d->bytes);
    if (!d->pictures || !d->means)
        FAIL(ERR_MEMORY, "no memory for %zu x %zu pictures of \"%s\"; take fewer seeds, or draw smaller ones", d->rows,
             d->columns, subject->title);
    TRY(draw_pictures(s, d));
    for (size_t row = 0; row < d->rows; row++)
        picture_mean(picture_of(d, row, 0), d->columns, d->bytes / 3, d->means + row * d->bytes);
fail:
    return status;
}

static Status draw_sheet(const LanguageStudy *s, const Drawn *d, PictureGrid *out)
{
    return language_sheet_draw(&(LanguageSheet){.subject = d->subject,
                                                .seeds = &s->grid->seeds,
                                                .pictures = d->pictures,
                                                .means = d->means,
                                                .width = (int32_t)s->width,
                                                .height = (int32_t)s->height,
                                                .labels = s->labels},
                               out);
}

/* ---- what the PNGs say ---- */

/* A sheet is drawn again from the text of its grid. */
static Status write_sheet(const LanguageStudy *s, const LanguageSubject *subject, const PictureGrid *sheet,
                          const char *path)
{
    Status status = STATUS_OK;
    StrBuf grid = {0};
    SampleNotes notes = *s->notes;
    const size_t rows = subject ? subject->prompts.count : 0, count = rows * s->grid->seeds.count;
    const char *pictures =
        arena_printf(s->arena, "%lld", subject ? (long long)count : (long long)language_grid_pictures(s->grid));
    if (!pictures) FAIL(ERR_MEMORY, "out of memory");
    TRY(sample_note(&notes, "pictures", pictures));
    TRY(language_grid_dump(s->grid, subject, &grid));
    TRY(sample_note(&notes, "prompt", subject ? subject->title : language_grid_subject(s->grid, 0)->title));
    TRY(sample_note(&notes, "grid", grid.data));
    TRY(png_write_rgb(path, sheet->width, sheet->height, sheet->rgb, notes.keys, notes.values, notes.count));
fail:
    strbuf_free(&grid);
    return status;
}

/* One picture says what `vasily sample` says of it. */
static Status write_picture(const LanguageStudy *s, const Drawn *d, size_t row, size_t column, const char *path)
{
    Status status = STATUS_OK;
    SampleNotes notes = *s->notes;
    const char *seed = arena_printf(s->arena, "%lld", (long long)s->grid->seeds.items[column]);
    if (!seed) FAIL(ERR_MEMORY, "out of memory");
    TRY(sample_note(&notes, "prompt", d->subject->prompts.values[row]));
    TRY(sample_note(&notes, "language", d->subject->prompts.keys[row]));
    TRY(sample_note(&notes, "seed", seed));
    TRY(png_write_rgb(path, (int)s->width, (int)s->height, picture_of(d, row, column), notes.keys, notes.values,
                      notes.count));
fail:
    return status;
}

static Status write_mean(const LanguageStudy *s, const Drawn *d, size_t row, const char *path)
{
    Status status = STATUS_OK;
    StrBuf of = {0};
    TRY(strbuf_printf(&of, "pictures of the seeds"));
    for (size_t c = 0; c < d->columns; c++)
        TRY(strbuf_printf(&of, "%s %lld", c ? "," : "", (long long)s->grid->seeds.items[c]));
    TRY(strbuf_printf(&of, ", in linear light"));
    TRY(png_write_rgb(
        path, (int)s->width, (int)s->height, d->means + row * d->bytes,
        (const char *const[]){"Software", "caption", "language", "mean"},
        (const char *const[]){"vasily", d->subject->prompts.values[row], d->subject->prompts.keys[row], of.data}, 4));
fail:
    strbuf_free(&of);
    return status;
}

/* ---- folders ---- */

/* "1-a-cat" of the first subject, "A cat!". */
static void slug_of(const char *title, size_t number, char out[SLUG_MAX + 24])
{
    int length = snprintf(out, 24, "%zu", number + 1);
    bool dash = true;
    for (const char *c = title; *c && length < SLUG_MAX; c++) {
        const bool letter = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9');
        if (letter && dash) out[length++] = '-';
        if (letter) out[length++] = *c >= 'A' && *c <= 'Z' ? (char)(*c - 'A' + 'a') : *c;
        dash = !letter;
    }
    out[length] = 0;
}

static Status write_folder(const LanguageStudy *s, const Drawn *d, const PictureGrid *sheet, const char *folder,
                           size_t number)
{
    Status status = STATUS_OK;
    char slug[SLUG_MAX + 24], name[SLUG_MAX + 64], inside[PATH_MAX], path[PATH_MAX];
    slug_of(d->subject->title, number, slug);
    TRY(path_join(inside, sizeof inside, folder, slug));
    TRY(file_make_dirs(inside));
    snprintf(name, sizeof name, "%s.png", slug);
    TRY(path_join(path, sizeof path, folder, name));
    TRY(write_sheet(s, d->subject, sheet, path));
    for (size_t row = 0; row < d->rows; row++) {
        const char *language = d->subject->prompts.keys[row];
        for (size_t c = 0; c < d->columns; c++) {
            snprintf(name, sizeof name, "%s-%lld.png", language, (long long)s->grid->seeds.items[c]);
            TRY(path_join(path, sizeof path, inside, name));
            TRY(write_picture(s, d, row, c, path));
        }
        snprintf(name, sizeof name, "%s-mean.png", language);
        TRY(path_join(path, sizeof path, inside, name));
        TRY(write_mean(s, d, row, path));
    }
fail:
    return status;
}

/* ---- all subjects ---- */

Status language_study_draw(const LanguageStudy *s, const char *out, bool to_folder)
{
    Status status = STATUS_OK;
    const size_t count = s->grid->subjects.count;
    PictureGrid whole = {0}, *sheets = mem_alloc_array(count, sizeof *sheets);
    Drawn d = {0};
    if (!sheets) FAIL(ERR_MEMORY, "out of memory");
    for (size_t i = 0; i < count; i++) {
        TRY(draw_subject(s, language_grid_subject(s->grid, i), &d));
        TRY(draw_sheet(s, &d, &sheets[i]));
        if (to_folder) {
            TRY(write_folder(s, &d, &sheets[i], out, i));
            picture_grid_free(&sheets[i]);
        }
        drawn_free(&d);
    }
    if (to_folder) goto fail;
    TRY(language_sheets_stack(sheets, count, &whole));
    TRY(write_sheet(s, NULL, &whole, out));
fail:
    for (size_t i = 0; sheets && i < count; i++) picture_grid_free(&sheets[i]);
    free(sheets);
    picture_grid_free(&whole);
    drawn_free(&d);
    return status;
}
