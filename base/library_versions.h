/* The versions of the libraries that base/ stands on, as loaded now: "libyaml 0.2.5, ...". */
#ifndef BASE_LIBRARY_VERSIONS_H
#define BASE_LIBRARY_VERSIONS_H

#include "base/arena.h"

Status base_library_versions(StrBuf *out);

#endif
