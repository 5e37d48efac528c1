#include "data/webp_write.h"

#include <webp/encode.h>

Status webp_encode_rgb(int width, int height, const uint8_t *rgb, double quality, StrBuf *out)
{
    Status status = STATUS_OK;
    uint8_t *encoded = NULL;
    if (width < 1 || height < 1 || width > WEBP_MAX_DIMENSION || height > WEBP_MAX_DIMENSION)
        FAIL(ERR_LIMIT, "a WebP of %dx%d; sides of 1 to %d can be written", width, height, WEBP_MAX_DIMENSION);
    const size_t size = WebPEncodeRGB(rgb, width, height, 3 * width, (float)quality, &encoded);
    if (size == 0) FAIL(ERR_MEMORY, "no memory to write a WebP of %dx%d", width, height);
    TRY(strbuf_append(out, encoded, size));
fail:
    WebPFree(encoded);
    return status;
}
