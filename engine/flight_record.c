#include "engine/flight_record.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/json.h"

typedef enum FlightState { FLIGHT_BEGUN, FLIGHT_DONE, FLIGHT_FAILED } FlightState;

typedef struct FlightEntry {
    FlightWhat what;
    int64_t step;
    const char *activity;
    double begun; /* seconds of the system's clock since 1970, comparable between machines as far as it is */
    double since; /* the same instant on the clock that nobody sets */
    double seconds;
    FlightState state;
} FlightEntry;

struct FlightRecord {
    pthread_mutex_t lock; /* guards all of it */
    int64_t step;
    const char *activity;
    int64_t begun;
    int64_t oldest; /* all before have ended, or have left the ring */
    FlightEntry entries[FLIGHT_ENTRIES];
};

static double wall_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static FlightEntry *entry_at(FlightRecord *record, int64_t number)
{
    return &record->entries[number % FLIGHT_ENTRIES];
}

Status flight_record_create(FlightRecord **out)
{
    FlightRecord *record = mem_alloc_array(1, sizeof *record);
    *out = record;
    if (!record) return status_fail(ERR_MEMORY, __FILE__, __LINE__, "no memory for the flight record");
    pthread_mutex_init(&record->lock, NULL);
    record->step = -1;
    record->activity = "";
    return STATUS_OK;
}

void flight_record_free(FlightRecord *record)
{
    if (!record) return;
    pthread_mutex_destroy(&record->lock);
    free(record);
}

/* Under the lock. */
static int64_t first_kept(const FlightRecord *record)
{
    return record->begun > FLIGHT_ENTRIES ? record->begun - FLIGHT_ENTRIES : 0;
}

static void advance_oldest(FlightRecord *record)
{
    if (record->oldest < first_kept(record)) record->oldest = first_kept(record);
    while (record->oldest < record->begun && entry_at(record, record->oldest)->state != FLIGHT_BEGUN) record->oldest++;
}

int64_t flight_record_begin(FlightRecord *record, const FlightWhat *what)
{
    if (!record) return 0;
    const double time = wall_clock(), since = clock_seconds();
    pthread_mutex_lock(&record->lock);
    const int64_t number = record->begun++;
    *entry_at(record, number) =
        (FlightEntry){.what = *what, .step = record->step, .activity = record->activity, .begun = time, .since = since};
    advance_oldest(record);
    pthread_mutex_unlock(&record->lock);
    return number;
}

void flight_record_end(FlightRecord *record, int64_t number, bool failed)
{
    if (!record) return;
    const double time = clock_seconds();
    pthread_mutex_lock(&record->lock);
    if (number >= first_kept(record) && number < record->begun) {
        FlightEntry *entry = entry_at(record, number);
        entry->seconds = time - entry->since;
        entry->state = failed ? FLIGHT_FAILED : FLIGHT_DONE;
        advance_oldest(record);
    }
    pthread_mutex_unlock(&record->lock);
}

void flight_record_note(FlightRecord *record, int64_t step, const char *activity)
{
    if (!record) return;
    pthread_mutex_lock(&record->lock);
    record->step = step;
    record->activity = activity;
    pthread_mutex_unlock(&record->lock);
}

void flight_record_position(FlightRecord *record, FlightPosition *out)
{
    *out = (FlightPosition){.step = -1, .activity = "", .oldest = -1};
    if (!record) return;
    pthread_mutex_lock(&record->lock);
    out->step = record->step;
    out->activity = record->activity;
    out->begun = record->begun;
    out->oldest = record->oldest < record->begun ? record->oldest : -1;
    if (record->begun > 0) out->what = entry_at(record, out->oldest >= 0 ? out->oldest : record->begun - 1)->what;
    pthread_mutex_unlock(&record->lock);
}

static void write_header(JsonWriter *w, const FlightHeader *header, int64_t begun)
{
    json_object(w, NULL);
    json_int(w, "rank", header->rank);
    json_int(w, "world", header->world);
    json_string(w, "host", header->host);
    json_string(w, "reason", header->reason);
    json_float(w, "written", wall_clock());
    json_int(w, "collectives", begun);
    json_end_object(w);
}

static void write_entry(JsonWriter *w, int64_t number, const FlightEntry *entry)
{
    static const char *const STATES[] = {[FLIGHT_BEGUN] = "begun", [FLIGHT_DONE] = "done", [FLIGHT_FAILED] = "failed"};
    json_object(w, NULL);
    json_int(w, "collective", number);
    json_string(w, "kind", entry->what.kind);
    if (entry->what.unit) {
        json_int(w, "count", entry->what.count);
        json_string(w, "unit", entry->what.unit);
    }
    if (entry->what.stands_for > 1) json_int(w, "stands_for", entry->what.stands_for);
    json_int(w, "ranks", entry->what.ranks);
    json_int(w, "step", entry->step);
    json_string(w, "activity", entry->activity);
    json_string(w, "state", STATES[entry->state]);
    json_float(w, "begun", entry->begun);
    if (entry->state != FLIGHT_BEGUN) {
        json_float(w, "ended", entry->begun + entry->seconds);
        json_float(w, "seconds", entry->seconds);
    }
    json_end_object(w);
}

static Status end_line(JsonWriter *w, StrBuf *text)
{
    Status status = strbuf_append(text, "\n", 1);
    json_begin(w, text);
    return status;
}

Status flight_record_write(FlightRecord *record, const FlightHeader *header, const char *path)
{
    Status status = STATUS_OK;
    StrBuf text = {0};
    JsonWriter w;
    /* A copy, so that nobody who records waits for a disk. */
    FlightRecord *copy = mem_alloc_array(1, sizeof *copy);
    if (!copy) FAIL(ERR_MEMORY, "no memory to write the flight record");
    pthread_mutex_lock(&record->lock);
    copy->begun = record->begun;
    memcpy(copy->entries, record->entries, sizeof copy->entries);
    pthread_mutex_unlock(&record->lock);

    json_begin(&w, &text);
    write_header(&w, header, copy->begun);
    TRY(end_line(&w, &text));
    for (int64_t number = first_kept(copy); number < copy->begun; number++) {
        write_entry(&w, number, entry_at(copy, number));
        TRY(end_line(&w, &text));
    }
    TRY(file_write_atomic(path, text.data, text.size));
fail:
    strbuf_free(&text);
    free(copy);
    return status;
}
