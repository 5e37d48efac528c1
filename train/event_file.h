/* A file of records as TensorBoard reads them: each is
 *
 *   8 bytes   size of the data, little-endian
 *   4 bytes   masked CRC-32C of these 8 bytes
 *   data
 *   4 bytes   masked CRC-32C of the data
 *
 * Records are gathered in memory and written when there are many, or at the first call after EVENT_FILE_SECONDS. */
#ifndef TRAIN_EVENT_FILE_H
#define TRAIN_EVENT_FILE_H

#include <limits.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"

#define EVENT_FILE_SECONDS 5.0

typedef struct EventFile {
    char path[PATH_MAX];
    int file; /* descriptor; -1: none */
    StrBuf waiting;
    double flushed; /* clock_seconds of the last time */
} EventFile;

/* Makes FOLDER, and in it a new events.out.tfevents.TIME.HOST.PID. Readers take a folder's files in the order of their
 * names and never go back, so TIME is the time of day in seconds, and later than that of any file there is. */
Status event_file_create(const char *folder, EventFile *out);
Status event_file_add(EventFile *file, const void *data, size_t size);
Status event_file_flush(EventFile *file);
/* Where something has waited for EVENT_FILE_SECONDS. */
Status event_file_flush_overdue(EventFile *file);
void event_file_close(EventFile *file); /* does not flush */

/* The checksum as it stands in the file: rotated and offset, because checksums of checksums are weak. */
uint32_t event_file_checksum(const void *data, size_t size);

#endif
