#include "data/library_versions.h"

#include <stdio.h> /* jpeglib.h needs it */

#include <curl/curl.h>
#include <jpeglib.h>
#include <png.h>
#include <webp/decode.h>

#define TEXT_OF(number) #number
#define TEXT(macro) TEXT_OF(macro)

#ifdef LIBJPEG_TURBO_VERSION
#define JPEG_NAME "libjpeg-turbo " TEXT(LIBJPEG_TURBO_VERSION)
#else
#define JPEG_NAME "libjpeg " TEXT(JPEG_LIB_VERSION)
#endif

Status data_library_versions(StrBuf *out)
{
    int webp = WebPGetDecoderVersion();
    return strbuf_printf(out, "libpng %s, %s, libwebp %d.%d.%d, libcurl %s, SentencePiece %s", png_get_libpng_ver(NULL),
                         JPEG_NAME, webp >> 16, webp >> 8 & 0xff, webp & 0xff,
                         curl_version_info(CURLVERSION_NOW)->version, SENTENCEPIECE_BUILD_VERSION);
}
