/* PNG, JPEG and WebP, cropped and resized. */
#include <stdlib.h>

#include "data/picture.h"
#include "data/resize.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const PictureLimits limits = {.max_pixels = 1 << 18, .min_side = 2};
    static uint8_t out[16 * 16 * 3];
    Picture picture = {0};
    Resizer resizer = {0};
    Status status = picture_decode(data, size, &limits, &picture);
    if (status == STATUS_OK) {
        if (picture.width < 2 || picture.height < 2 || picture.width > limits.max_pixels / picture.height) abort();
        if (resize_square(&resizer, picture.rgb, picture.width, picture.height, 16, out) != STATUS_OK) abort();
    } else if (status != ERR_FORMAT && status != ERR_LIMIT && status != ERR_UNSUPPORTED) {
        abort();
    }
    picture_free(&picture);
    resizer_free(&resizer);
    return 0;
}
