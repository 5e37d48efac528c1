#include "event_reader.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "train/event_file.h"

static uint64_t little_endian(const uint8_t *bytes, int count)
{
    uint64_t value = 0;
    for (int i = count - 1; i >= 0; i--) value = value << 8 | bytes[i];
    return value;
}

static bool fault(EventRecords *out, const char *what, size_t at)
{
    snprintf(out->fault, sizeof out->fault, "%s at byte %zu", what, at);
    return false;
}

bool event_records_parse(const void *data, size_t size, EventRecords *out)
{
    const uint8_t *bytes = data;
    size_t at = 0;
    memset(out, 0, sizeof *out);
    while (at < size) {
        if (size - at < 16) return fault(out, "a torn record", at);
        const uint64_t length = little_endian(bytes + at, 8);
        if (little_endian(bytes + at + 8, 4) != event_file_checksum(bytes + at, 8))
            return fault(out, "a wrong checksum of the size", at);
        if (length > size - at - 16) return fault(out, "a torn record", at);
        if (little_endian(bytes + at + 12 + length, 4) != event_file_checksum(bytes + at + 12, length))
            return fault(out, "a wrong checksum of the data", at);
        if (out->count == sizeof out->events / sizeof out->events[0]) return fault(out, "too many records", at);
        Vasily__Tensorboard__Event *event = vasily__tensorboard__event__unpack(NULL, length, bytes + at + 12);
        if (!event) return fault(out, "a record that is no event", at);
        out->events[out->count++] = event;
        at += length + 16;
    }
    return true;
}

bool event_records_read(const char *path, EventRecords *out)
{
    char *data = NULL;
    size_t size = 0;
    memset(out, 0, sizeof *out);
    if (file_read(path, (size_t)64 << 20, &data, &size) != STATUS_OK) return fault(out, "cannot be read", 0);
    const bool whole = event_records_parse(data, size, out);
    free(data);
    return whole;
}

void event_records_free(EventRecords *records)
{
    for (size_t i = 0; i < records->count; i++) vasily__tensorboard__event__free_unpacked(records->events[i], NULL);
    records->count = 0;
}

const Vasily__Tensorboard__Summary__Value *event_value(const Vasily__Tensorboard__Event *event, const char *tag)
{
    if (event->what_case != VASILY__TENSORBOARD__EVENT__WHAT_SUMMARY) return NULL;
    for (size_t i = 0; i < event->summary->n_value; i++)
        if (strcmp(event->summary->value[i]->tag, tag) == 0) return event->summary->value[i];
    return NULL;
}
