/* Work for a device that is the same every time: done the first time, noted right after, and replayed as a whole from
 * the second time on. On backends without a queue, or with `on` false, it is simply done.
 *
 * The work may queue kernels and copies; it must depend on nothing that the host changes between calls, except through
 * memory that is copied from (learning rate, clip, indices of samples: all lie on the device). */
#ifndef ENGINE_RECORDER_H
#define ENGINE_RECORDER_H

#include "engine/backend.h"

#define RECORDER_VARIANTS 4

typedef struct Recorder Recorder;

Status recorder_create(Backend *backend, bool on, Recorder **out);
void recorder_free(Recorder *recorder); /* NULL is fine */
/* What was noted is not true any more: other addresses, other shapes. */
void recorder_forget(Recorder *recorder);
/* `variant`: [0, RECORDER_VARIANTS), one for each piece of work that differs. */
Status recorder_run(Recorder *recorder, int32_t variant, Status (*work)(void *context), void *context);

#endif
