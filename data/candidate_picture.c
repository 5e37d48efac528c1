/* A sample's picture. */
#include "base/file.h"
#include "base/random.h"
#include "data/candidate_inside.h"

SampleReason candidate_broken_picture(const uint8_t *data, size_t size)
{
    switch (picture_sniff(data, size)) {
    case PICTURE_PNG:
        return SAMPLE_BAD_PNG;
    case PICTURE_JPEG:
        return SAMPLE_BAD_JPEG;
    case PICTURE_WEBP:
        return SAMPLE_BAD_WEBP;
    case PICTURE_UNKNOWN:
        break;
    }
    return SAMPLE_UNKNOWN_PICTURE;
}

const SampleMember *candidate_picture_member(const SampleTable *table, const Sample *sample)
{
    static const char *const suffixes[] = {"jpg", "jpeg", "png", "webp", "image", "img", NULL};
    const SampleMember *member = NULL;
    for (int i = 0; !member && suffixes[i]; i++) member = sample_member(table, sample, suffixes[i]);
    return member;
}

/* A picture on its way into Candidate.pixels: its rows are resized as they are decoded. */
typedef struct Shrink {
    Resizer *resizer;
    uint8_t *out;
    int resolution;
    bool mirror;
    double seconds;
} Shrink;

static Status shrink_begin(void *context, const PictureSquare *square)
{
    Shrink *shrink = context;
    double start = clock_seconds();
    Status status = resize_begin(shrink->resizer,
                                 &(ResizeShape){.width = square->width,
                                                .height = square->height,
                                                .x = square->x,
                                                .y = square->y,
                                                .box_width = square->side,
                                                .box_height = square->side,
                                                .to_width = shrink->resolution,
                                                .to_height = shrink->resolution,
                                                .mirror = shrink->mirror},
                                 shrink->out);
    shrink->seconds += clock_seconds() - start;
    return status;
}

static void shrink_rows(void *context, const uint8_t *rgb, size_t pitch, int count)
{
    Shrink *shrink = context;
    double start = clock_seconds();
    resize_add_rows(shrink->resizer, rgb, pitch, count);
    shrink->seconds += clock_seconds() - start;
}

/* Which square, and whether mirrored: drawn for the visit, whatever thread, rank or run makes it. */
static PictureCut draw_cut(const CandidateContext *context, const Candidate *c)
{
    const DataConfig *config = context->config;
    PictureCut cut = {.enough_pixels = config->scaled_decode ? 2 * context->resolution : 0};
    if (config->augment.crop == CROP_RANDOM) {
        cut.anywhere = true;
        cut.place = random_u32(context->seed, RANDOM_CROP, c->visit_key, 0);
    }
    return cut;
}

static bool draw_flip(const CandidateContext *context, const Candidate *c)
{
    double share = context->config->augment.flip;
    return share > 0 && random_uniform(context->seed, RANDOM_FLIP, c->visit_key, 0) < (float)share;
}

static Status decode(const CandidateContext *context, CandidateScratch *scratch, Candidate *c, size_t size,
                     int64_t min_side)
{
    const PictureLimits limits = {.max_pixels = context->config->limits.picture_pixels, .min_side = min_side};
    const PictureCut cut = draw_cut(context, c);
    Shrink shrink = {.resizer = &scratch->resizer,
                     .out = c->pixels,
                     .resolution = context->resolution,
                     .mirror = draw_flip(context, c)};
    const PictureSink sink = {.begin = shrink_begin, .rows = shrink_rows, .context = &shrink};
    double start = clock_seconds();
    Status status =
        picture_decode_square(scratch->member, size, &limits, &cut, c->pixels ? &sink : NULL, &scratch->picture);
    c->seconds[STAGE_DECODE] += clock_seconds() - start - shrink.seconds;
    c->seconds[STAGE_RESIZE] += shrink.seconds;
    return status;
}

void candidate_read_picture(const CandidateContext *context, CandidateScratch *scratch, Candidate *c,
                            const ShardWindow *window, const Sample *sample, int64_t min_side)
{
    const SampleMember *member = candidate_picture_member(&window->index->table, sample);
    if (!member) {
        candidate_reject_with(c, SAMPLE_NO_PICTURE, "it has no .jpg, .png or .webp");
        return;
    }
    if (!candidate_read_member(context, scratch, c, window, member, context->config->limits.member_bytes)) return;
    Status status = decode(context, scratch, c, (size_t)member->size, min_side);
    if (status == ERR_MEMORY)
        candidate_stop_run(c, status);
    else if (status == ERR_LIMIT)
        candidate_reject(c, SAMPLE_TOO_LARGE);
    else if (status == ERR_UNSUPPORTED)
        candidate_reject(c, SAMPLE_SMALL);
    else if (status != STATUS_OK)
        candidate_reject(c, candidate_broken_picture(scratch->member, (size_t)member->size));
}
