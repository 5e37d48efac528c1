/* Zip files of stored entries, with the lies that a test wants to tell. */
#ifndef TESTS_MODEL_ZIP_MAKER_H
#define TESTS_MODEL_ZIP_MAKER_H

#include "base/arena.h"

typedef struct ZipMaker {
    StrBuf file, directory;
    int entries;
    /* of the next entry; reset by zip_add */
    int method, flags;
    long place_shift;       /* added to the place of its local header */
    const char *other_name; /* in the local header */
    long size_shift;        /* added to the size in the directory */
    bool zip64;             /* sizes and place in a zip64 field */
} ZipMaker;

void zip_add(ZipMaker *zip, const char *name, const void *data, size_t size);
/* `zip64`: with a zip64 record, whose number of entries is `shift` higher. The file is in zip->file. */
void zip_finish(ZipMaker *zip, bool zip64, int shift);
void zip_free(ZipMaker *zip);

#endif
