/* A picture's size without decoding it: what a decoder finds in the header is found here, too. */
#include <stdlib.h>

#include "data/picture.h"
#include "data/picture_size.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const PictureLimits limits = {.max_pixels = 1};
    int64_t width, height;
    Picture picture = {0};
    Status status = picture_read_size(data, size, &width, &height);
    if (status != STATUS_OK && status != STATUS_END && status != ERR_FORMAT) abort();
    if (status == STATUS_OK && (width < 1 || height < 1)) abort();
    (void)picture_decode(data, size, &limits, &picture);
    if (picture.width > 0 && (status != STATUS_OK || picture.width != width || picture.height != height)) abort();
    picture_free(&picture);
    return 0;
}
