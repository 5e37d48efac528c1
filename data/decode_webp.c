/* WebP through libwebp. */
#include <string.h>

#include <webp/decode.h>

#include "data/picture.h"

Status picture_decode_webp(const uint8_t *data, size_t size, const PictureLimits *limits, Picture *picture)
{
    Status status = STATUS_OK;
    WebPBitstreamFeatures features;
    if (WebPGetFeatures(data, size, &features) != VP8_STATUS_OK) FAIL(ERR_FORMAT, "WebP: broken header");
    if (features.has_animation) FAIL(ERR_FORMAT, "WebP: animated, only still pictures are read");
    int channels = features.has_alpha ? 4 : 3;
    TRY(picture_check(picture, features.width, features.height, limits));
    TRY(picture_make_room(picture, features.width, features.height, channels));
    int stride = features.width * channels; /* a WebP side is at most 16383 */
    uint8_t *done = channels == 4 ? WebPDecodeRGBAInto(data, size, picture->rgb, picture->capacity, stride)
                                  : WebPDecodeRGBInto(data, size, picture->rgb, picture->capacity, stride);
    if (!done) FAIL(ERR_FORMAT, "WebP: broken or truncated");
    if (channels == 4) picture_drop_alpha(picture->rgb, (size_t)picture->width * (size_t)picture->height);
fail:
    return status;
}
