#include "base/base64.h"

#include <stdint.h>

Status base64_append(StrBuf *out, const void *data, size_t size)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    Status status = STATUS_OK;
    const uint8_t *bytes = data;
    char text[4 * 256];
    size_t used = 0;
    for (size_t i = 0; i < size; i += 3) {
        const uint32_t three = (uint32_t)bytes[i] << 16 | (uint32_t)(i + 1 < size ? bytes[i + 1] : 0) << 8 |
                               (uint32_t)(i + 2 < size ? bytes[i + 2] : 0);
        text[used++] = letters[three >> 18];
        text[used++] = letters[three >> 12 & 63];
        text[used++] = i + 1 < size ? letters[three >> 6 & 63] : '=';
        text[used++] = i + 2 < size ? letters[three & 63] : '=';
        if (used == sizeof text || i + 3 >= size) {
            TRY(strbuf_append(out, text, used));
            used = 0;
        }
    }
fail:
    return status;
}
