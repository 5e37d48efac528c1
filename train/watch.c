#include "train/watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "train/json_lines.h"
#include "train/report_pictures.h"
#include "train/report_writer.h"
#include "train/run_plan.h"
#include "train/tensorboard.h"

enum { PICTURE_BYTES_MAX = 256 << 20 };

struct Watch {
    const WatchConfig *config;
    const RunDir *dir;
    int64_t report_every;
    TensorBoard *board;    /* NULL: none, or given up */
    JsonLines validation;  /* as far as this board has it, or those before have */
    ReportWriter *reports; /* NULL: none */
};

/* One warning, and no more tries: a file with a hole in it would be worse than one that ends. */
static void give_up(Watch *watch, Status status)
{
    if (!status) return;
    log_warn("no more is written for TensorBoard: %s", status_message());
    tensorboard_close(watch->board);
    watch->board = NULL;
}

static Status open_board(Watch *watch, const WatchOptions *options)
{
    Status status = STATUS_OK;
    char folder[PATH_MAX], validation[PATH_MAX];
    struct stat about;
    TRY(path_join(validation, sizeof validation, watch->dir->path, "validation.jsonl"));
    TRY(json_lines_name(&watch->validation, validation));
    /* What is there is in earlier files; a run's first one takes all. What an earlier start has left undone at this
     * step is made up for later. */
    if (options->step > 0 && stat(validation, &about) == 0) watch->validation.offset = about.st_size;
    TRY(path_join(folder, sizeof folder, watch->dir->path, "tensorboard"));
    TRY(tensorboard_open(folder, options->step, &watch->board));
    TRY(tensorboard_text(watch->board, options->step, "config", options->config));
    TRY(tensorboard_flush(watch->board));
fail:
    return status;
}

static Status write_plan(const Watch *watch, const WatchOptions *options)
{
    Status status = STATUS_OK;
    char path[PATH_MAX];
    TRY(path_join(path, sizeof path, watch->dir->path, "plan.json"));
    TRY(run_plan_write(path, options->run, options->network, options->ranks, options->device));
fail:
    return status;
}

Status watch_open(const WatchOptions *options, Watch **out)
{
    Status status = STATUS_OK;
    const WatchConfig *config = &options->run->watch;
    *out = NULL;
    Watch *watch = mem_alloc_array(1, sizeof *watch);
    if (!watch) FAIL(ERR_MEMORY, "out of memory");
    watch->config = config;
    watch->dir = options->dir;
    watch->report_every = config->report_every > 0 ? config->report_every : options->run->checkpoint.every;
    if (options->network && write_plan(watch, options) != STATUS_OK)
        log_warn("the plan is not written: %s", status_message());
    if (config->tensorboard) give_up(watch, open_board(watch, options));
    if (config->report) TRY(report_writer_open(watch->dir->path, &watch->reports));
    *out = watch;
    return STATUS_OK;
fail:
    watch_close(watch);
    return status;
}

static bool take_validation(void *context, const JsonValue *line)
{
    Watch *watch = context;
    int64_t step;
    if (!watch->board || !json_integer(json_get(line, "step"), &step)) return false;
    give_up(watch, tensorboard_validation(watch->board, step, line));
    return true;
}

static void look_for_validation(Watch *watch)
{
    struct stat about;
    if (!watch->board || stat(watch->validation.path, &about) != 0 || about.st_size == watch->validation.offset) return;
    if (json_lines_read(&watch->validation, take_validation, watch) != STATUS_OK) log_warn("%s", status_message());
}

static void add_step(Watch *watch, int64_t step, const char *line, size_t size)
{
    JsonDoc *doc = NULL;
    while (size > 0 && line[size - 1] == '\n') size--;
    Status status = json_parse(line, size, JSON_LINE_MAX, &doc);
    if (!status) status = tensorboard_metrics(watch->board, step, json_root(doc));
    give_up(watch, status);
    json_free(doc);
}

void watch_step(Watch *watch, int64_t step, const char *line, size_t size)
{
    if (!watch) return;
    if (watch->board && step % watch->config->every == 0) add_step(watch, step, line, size);
    look_for_validation(watch);
    if (watch->board) give_up(watch, tensorboard_flush_overdue(watch->board));
    if (watch->reports && watch->report_every > 0 && step % watch->report_every == 0)
        report_writer_begin(watch->reports);
}

/* Of the step's pictures, which marks may tell apart, the one that was drawn last. */
static Status find_preview(const char *folder, int64_t step, char path[PATH_MAX], PreviewName *name)
{
    Status status = STATUS_OK;
    char **names = NULL, one[PATH_MAX];
    size_t count = 0;
    struct timespec newest = {0};
    path[0] = '\0';
    TRY(file_list(folder, &names, &count));
    for (size_t i = 0; i < count; i++) {
        PreviewName found;
        struct stat about;
        if (!preview_name_parse(names[i], &found) || found.step != step) continue;
        TRY(path_join(one, sizeof one, folder, names[i]));
        if (stat(one, &about) != 0) continue;
        const struct timespec at = about.st_mtim;
        if (path[0] && (at.tv_sec < newest.tv_sec || (at.tv_sec == newest.tv_sec && at.tv_nsec < newest.tv_nsec)))
            continue;
        memcpy(path, one, sizeof one);
        newest = at;
        *name = found;
    }
fail:
    file_free_list(names, count);
    return status;
}

void watch_preview(Watch *watch, int64_t step)
{
    Status status = STATUS_OK;
    char path[PATH_MAX], tag[TENSORBOARD_TAG_MAX], *png = NULL;
    size_t size;
    PreviewName name;
    if (!watch || !watch->board) return;
    TRY(find_preview(watch->dir->previews, step, path, &name));
    if (!path[0]) return;
    snprintf(tag, sizeof tag, "previews%s%s", name.mark[0] ? "/" : "", name.mark);
    TRY(file_read(path, PICTURE_BYTES_MAX, &png, &size));
    TRY(tensorboard_png(watch->board, step, tag, png, size));
    TRY(tensorboard_flush(watch->board)); /* rare and large */
fail:
    free(png);
    give_up(watch, status);
}

void watch_close(Watch *watch)
{
    if (!watch) return;
    look_for_validation(watch);
    if (watch->board) give_up(watch, tensorboard_flush(watch->board));
    tensorboard_close(watch->board);
    if (watch->reports) report_writer_finish(watch->reports);
    report_writer_free(watch->reports);
    free(watch);
}
