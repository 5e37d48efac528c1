#include "train/preview.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/log.h"
#include "data/png_write.h"
#include "train/picture_grid.h"
#include "train/sampling.h"

enum { LABEL_MAX = 64 };

struct Preview {
    const char *folder;
    int64_t count, resolution;
    const char **captions;     /* (count), into the config's prompts */
    char (*labels)[LABEL_MAX]; /* (count) */
    const char **label_pointers;
    uint8_t *pictures; /* (count, R, R, 3) */
    Sampling *sampling;
};

static SamplingOptions options_of(const RunConfig *run)
{
    SamplingOptions options = sampling_options(run);
    const int64_t count = (int64_t)run->preview.prompts.count;
    if (options.batch > count) options.batch = count;
    options.init = run->preview.init[0] != 0;
    return options;
}

Status preview_plan_bytes(const RunConfig *run, const Network *network, int64_t *kept, int64_t *scratch)
{
    Status status = STATUS_OK;
    *kept = *scratch = 0;
    if (!network->previews) return STATUS_OK;
    const SamplingOptions options = options_of(run);
    TRY(sampling_plan_bytes(run, network->backend, network->params, network->diffusion, &options, kept, scratch));
fail:
    return status;
}

/* What an inpainting model's previews complete. */
static Status use_picture(const RunConfig *run, Sampling *sampling)
{
    Status status = STATUS_OK;
    const int64_t side = run->train.resolution, drawn = generator_drawn_size(&run->model, side);
    InitPicture picture = {0};
    if (!run->preview.init[0]) return STATUS_OK;
    status = init_picture_load(&(InitPictureOptions){.picture = run->preview.init,
                                                     .mask = run->preview.mask,
                                                     .width = side,
                                                     .height = side,
                                                     .drawn_width = drawn,
                                                     .drawn_height = drawn,
                                                     .max_pixels = run->data.limits.picture_pixels},
                               &picture);
    if (status != STATUS_OK) status_prefix("preview.init and preview.mask: ");
    TRY(status);
    TRY(sampling_use_picture(sampling, &picture));
fail:
    init_picture_free(&picture);
    return status;
}

Status preview_create(const RunConfig *run, const Network *network, const char *folder, Preview **out)
{
    Status status = STATUS_OK;
    Preview *preview = NULL;
    *out = NULL;
    size_t count = run->preview.prompts.count;
    if (!run->preview.every || !count) return STATUS_OK;
    preview = mem_alloc_array(1, sizeof *preview);
    if (!preview) FAIL(ERR_MEMORY, "out of memory");
    preview->folder = folder;
    preview->count = (int64_t)count;
    preview->resolution = run->train.resolution;
    preview->captions = mem_alloc_array(count, sizeof *preview->captions);
    preview->labels = mem_alloc_array(count, sizeof *preview->labels);
    preview->label_pointers = mem_alloc_array(count, sizeof *preview->label_pointers);
    preview->pictures = mem_alloc_array(count, (size_t)(preview->resolution * preview->resolution * 3));
    if (!preview->captions || !preview->labels || !preview->label_pointers || !preview->pictures)
        FAIL(ERR_MEMORY, "no memory for %zu preview pictures", count);
    for (size_t i = 0; i < count; i++) {
        const char *prompt = run->preview.prompts.items[i];
        preview->captions[i] = prompt_caption(prompt);
        prompt_label(prompt, preview->labels[i], LABEL_MAX);
        preview->label_pointers[i] = preview->labels[i];
    }
    SamplingOptions options = options_of(run);
    /* A GPU's own bf16 copies are those of the weights, and pictures are drawn with the moving average. */
    options.pack = network->plan->pack == PLAN_PACK_IMAGE ? PLAN_PACK_SCRATCH : network->plan->pack;
    TRY(sampling_create(run, network->backend, network->params, &network->store, network->diffusion, &options,
                        &preview->sampling));
    TRY(use_picture(run, preview->sampling));
    *out = preview;
    return STATUS_OK;
fail:
    preview_free(preview);
    return status;
}

void preview_free(Preview *preview)
{
    if (!preview) return;
    sampling_free(preview->sampling);
    free(preview->captions);
    free(preview->labels);
    free(preview->label_pointers);
    free(preview->pictures);
    free(preview);
}

Status preview_draw(Preview *preview, int64_t step, const char *mark, const float *weights)
{
    Status status = STATUS_OK;
    PictureGrid grid = {0};
    char path[PATH_MAX], name[128], text[32];
    double start = clock_seconds();
    TRY(sampling_draw(preview->sampling, weights, preview->captions, preview->count, 0, preview->pictures, NULL, NULL));
    TRY(picture_grid_draw(&(GridSpec){.pictures = preview->pictures,
                                      .labels = preview->label_pointers,
                                      .count = (int32_t)preview->count,
                                      .width = (int32_t)preview->resolution,
                                      .height = (int32_t)preview->resolution},
                          &grid));
    snprintf(name, sizeof name, "step-%07lld%s%s.png", (long long)step, mark[0] ? "-" : "", mark);
    snprintf(text, sizeof text, "%lld", (long long)step);
    TRY(path_join(path, sizeof path, preview->folder, name));
    TRY(png_write_rgb(path, grid.width, grid.height, grid.rgb, (const char *const[]){"Software", "step"},
                      (const char *const[]){"vasily", text}, 2));
    log_info("preview %s (%.1f s)", path, clock_seconds() - start);
fail:
    picture_grid_free(&grid);
    return status;
}
