/* Our version, and the libraries at run time. */
#ifndef TRAIN_VERSIONS_H
#define TRAIN_VERSIONS_H

#include "base/arena.h"

/* A few lines, as `vasily --version` prints them. */
Status versions_describe(StrBuf *out);

#endif
