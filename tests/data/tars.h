/* Tar headers of every kind, and archives read from memory. */
#ifndef TESTS_DATA_TARS_H
#define TESTS_DATA_TARS_H

#include "shards.h"

#include "data/tar_walk.h"

typedef enum TarMagic { MAGIC_USTAR, MAGIC_GNU, MAGIC_V7 } TarMagic;

typedef struct TarHeader {
    const char *name, *prefix; /* prefix NULL: none */
    int64_t size;
    char type;
    TarMagic magic;
    bool base256;  /* how the size is written; a negative one only so */
    bool map_more; /* GNU sparse: the map goes on in the next block */
} TarHeader;

void tar_header(const TarHeader *header, uint8_t out[512]);
/* Header, bytes, padding. */
void tar_put(StrBuf *tar, const TarHeader *header, const void *data, size_t size);
void tar_put_text(StrBuf *tar, const TarHeader *header, const char *text); /* its size is the text's */
/* A pax record "<length> key=value\n". */
void pax_record(StrBuf *out, const char *key, const char *value);

/* An archive that is nowhere whole: block i of it is made when it is asked for. */
typedef struct TarMemory {
    const char *data; /* NULL: `make` is asked */
    void (*make)(int64_t block, uint8_t out[512]);
    int64_t size;
    int64_t reads, bytes_read;
} TarMemory;
TarWalkSource tar_memory(TarMemory *memory);

#endif
