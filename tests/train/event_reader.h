/* Reads TensorBoard's event files as strictly as can be: every checksum, every record whole. */
#ifndef TESTS_TRAIN_EVENT_READER_H
#define TESTS_TRAIN_EVENT_READER_H

#include <stdbool.h>
#include <stddef.h>

#include <tensorboard.pb-c.h>

typedef struct EventRecords {
    Vasily__Tensorboard__Event *events[4096];
    size_t count;
    char fault[200]; /* "": none */
} EventRecords;

/* False, with `fault` and the events before it, where the file is not whole. */
bool event_records_read(const char *path, EventRecords *out);
/* The same of a file's bytes. */
bool event_records_parse(const void *data, size_t size, EventRecords *out);
void event_records_free(EventRecords *records);

/* The value of a tag in an event; NULL: it has none. */
const Vasily__Tensorboard__Summary__Value *event_value(const Vasily__Tensorboard__Event *event, const char *tag);

#endif
