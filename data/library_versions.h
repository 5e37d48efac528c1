/* The versions of the libraries that data/ stands on: of libpng, libwebp and libcurl as loaded now, of the others as
 * built. */
#ifndef DATA_LIBRARY_VERSIONS_H
#define DATA_LIBRARY_VERSIONS_H

#include "base/arena.h"

Status data_library_versions(StrBuf *out);

#endif
