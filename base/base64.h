/* Base64 (RFC 4648, with padding), as data: addresses have it. */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include <stddef.h>

#include "base/arena.h"
#include "base/status.h"

Status base64_append(StrBuf *out, const void *data, size_t size);

#endif
