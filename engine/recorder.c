#include "engine/recorder.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/log.h"

struct Recorder {
    Backend *backend;
    bool on;
    Recording *recordings[RECORDER_VARIANTS];
};

Status recorder_create(Backend *backend, bool on, Recorder **out)
{
    Recorder *recorder = mem_alloc_array(1, sizeof *recorder);
    if (!recorder) return ERR_MEMORY;
    recorder->backend = backend;
    recorder->on = on && backend->device;
    *out = recorder;
    return STATUS_OK;
}

void recorder_forget(Recorder *recorder)
{
    for (int v = 0; v < RECORDER_VARIANTS && recorder->on; v++) {
        recorder->backend->device->recording_free(recorder->backend, recorder->recordings[v]);
        recorder->recordings[v] = NULL;
    }
}

void recorder_free(Recorder *recorder)
{
    if (!recorder) return;
    recorder_forget(recorder);
    free(recorder);
}

/* Notes the work without doing it. */
static Status record(Backend *backend, Status (*work)(void *context), void *context, Recording **out)
{
    Status status = STATUS_OK;
    bool recording = false;
    TRY(backend->device->record_begin(backend));
    recording = true;
    TRY(work(context));
    recording = false;
    TRY(backend->device->record_end(backend, out));
    return STATUS_OK;
fail:
    if (recording) { /* the failure of the work is the one to tell */
        StatusRecord failure;
        status_save(status, &failure);
        (void)backend->device->record_end(backend, NULL);
        status = status_restore(&failure);
    }
    return status;
}

Status recorder_run(Recorder *recorder, int32_t variant, Status (*work)(void *context), void *context)
{
    Status status = STATUS_OK;
    Backend *backend = recorder->backend;
    Recording **recording = &recorder->recordings[variant];
    if (recorder->on && *recording) return backend->device->replay(backend, *recording);
    /* The first time for real: kernels are loaded and libraries set up, which may not happen while recording. */
    TRY(work(context));
    if (recorder->on && record(backend, work, context, recording) != STATUS_OK) {
        log_warn("this work cannot be recorded (%s): it goes on as kernels one by one, more slowly", status_message());
        recorder_forget(recorder);
        recorder->on = false;
    }
fail:
    return status;
}
