/* A sample's picture. */
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

void candidate_read_picture(const CandidateContext *context, CandidateScratch *scratch, Candidate *c,
                            const ShardWindow *window, const Sample *sample, int64_t min_side)
{
    const SampleMember *member = candidate_picture_member(&window->index->table, sample);
    if (!member) {
        candidate_reject_with(c, SAMPLE_NO_PICTURE, "it has no .jpg, .png or .webp");
        return;
    }
    if (!candidate_read_member(context, scratch, c, window, member, context->config->limits.member_bytes)) return;
    PictureLimits limits = {.max_pixels = context->config->limits.picture_pixels, .min_side = min_side};
    Picture *picture = &scratch->picture;
    Status status = picture_decode(scratch->member, (size_t)member->size, &limits, picture);
    if (status == STATUS_OK && c->pixels)
        status = resize_square(&scratch->resizer, picture->rgb, picture->width, picture->height, context->resolution,
                               c->pixels);
    if (status == ERR_MEMORY)
        candidate_stop_run(c, status);
    else if (status == ERR_LIMIT)
        candidate_reject(c, SAMPLE_TOO_LARGE);
    else if (status == ERR_UNSUPPORTED)
        candidate_reject(c, SAMPLE_SMALL);
    else if (status != STATUS_OK)
        candidate_reject(c, candidate_broken_picture(scratch->member, (size_t)member->size));
}
