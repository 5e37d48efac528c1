/* WebP pictures, whole and as the loader takes them. */
#include "fuzz_picture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_picture(PICTURE_WEBP, data, size);
    return 0;
}
