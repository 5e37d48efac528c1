/* Streams, events and copies. In the plain mode work runs when it is queued; else (VASILY_EMU_LAZY) it lies in its
 * stream's queue until something waits for it. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <algorithm>
#include <set>

#include "runtime.h"

namespace emu
{
namespace
{

CUstream_st default_stream = {true, 0, {}, 0, 0, nullptr};
std::set<CUstream_st *> streams = {&default_stream};

double now()
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void run_to(CUstream_st *stream, uint64_t ticket);

void run_next(CUstream_st *stream)
{
    Task task = std::move(stream->tasks.front());
    stream->tasks.pop_front();
    if (task.after && !task.after->done) run_to(task.after->stream, task.after->ticket);
    if (task.work) task.work();
    stream->done++;
}

/* The others, as far as they need not wait for anything. */
void run_others(CUstream_st *stream)
{
    for (CUstream_st *other : streams) {
        while (other != stream && !other->tasks.empty()) {
            const Mark *after = other->tasks.front().after.get();
            if (after && !after->done) break;
            run_next(other);
        }
    }
}

void run_to(CUstream_st *stream, uint64_t ticket)
{
    while (stream->done < ticket && !stream->tasks.empty()) {
        if (emu_settings()->lazy == 2) run_others(stream);
        if (stream->done < ticket && !stream->tasks.empty()) run_next(stream);
    }
}

/* Blocking streams and the default one wait for each other. */
void join_default(CUstream_st *stream)
{
    if (!stream->blocking) return;
    for (CUstream_st *other : streams) {
        const bool joins = stream == &default_stream ? other->blocking && other != stream : other == &default_stream;
        if (!joins || other->done == other->queued) continue;
        const auto mark = std::make_shared<Mark>(Mark{other, ++other->queued, false, false, 0});
        other->tasks.push_back({[mark] { mark->done = true; }, nullptr});
        stream->tasks.push_back({nullptr, mark});
        stream->queued++;
    }
}

} // namespace

CUstream_st *stream_of(cudaStream_t handle)
{
    if (!handle || handle == cudaStreamLegacy || handle == cudaStreamPerThread) return &default_stream;
    return streams.count(handle) ? handle : nullptr;
}

cudaError_t enqueue_now(CUstream_st *stream, Task task)
{
    if (!stream) return emu_note(cudaErrorInvalidResourceHandle);
    if (stream->capture) {
        const std::shared_ptr<Capture> capture = stream->capture;
        if (capture->invalid) return emu_note(cudaErrorStreamCaptureInvalidated);
        capture->recorded->nodes.push_back(std::move(task.work));
        capture->streams[stream][stream]++;
        return cudaSuccess;
    }
    if (stream->blocking && refuse_in_capture() != cudaSuccess) return cudaErrorStreamCaptureUnsupported;
    if (emu_settings()->lazy == 0) {
        const Access access;
        if (task.work) task.work();
        stream->done = ++stream->queued;
        return cudaSuccess;
    }
    join_default(stream);
    stream->tasks.push_back(std::move(task));
    stream->queued++;
    return cudaSuccess;
}

cudaError_t enqueue(cudaStream_t stream, Work work)
{
    const Lock lock;
    return enqueue_now(stream_of(stream), {std::move(work), nullptr});
}

void drain(CUstream_st *stream)
{
    if (stream->done == stream->queued) return;
    const Access access;
    run_to(stream, stream->queued);
}

void drain_all()
{
    for (CUstream_st *stream : streams) drain(stream);
}

static bool forbids(const Capture &capture)
{
    if (capture.mode == cudaStreamCaptureModeThreadLocal) return capture.thread == std::this_thread::get_id();
    return capture.mode == cudaStreamCaptureModeGlobal;
}

cudaError_t refuse_in_capture()
{
    for (const CUstream_st *stream : streams) {
        if (!stream->capture || !forbids(*stream->capture)) continue;
        stream->capture->invalid = true;
        return emu_note(cudaErrorStreamCaptureUnsupported);
    }
    return cudaSuccess;
}

/* For calls that wait for a stream. */
static cudaError_t refuse_wait(CUstream_st *stream)
{
    if (!stream) return emu_note(cudaErrorInvalidResourceHandle);
    if (!stream->capture) return refuse_in_capture();
    stream->capture->invalid = true;
    return emu_note(cudaErrorStreamCaptureUnsupported);
}

} // namespace emu

using emu::Lock;
using emu::Mark;

cudaError_t emu_enqueue(cudaStream_t stream, void (*work)(void *closure), const void *closure, size_t size)
{
    const char *bytes = static_cast<const char *>(closure);
    /* Aligned for anything, and copied for each run: what work() changes must not stay. */
    const std::vector<char> kept(bytes, bytes + size);
    return emu::enqueue(stream, [=] {
        std::vector<char> copy(kept);
        work(copy.data());
    });
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned int flags, int priority)
{
    const Lock lock;
    *stream = new CUstream_st{!(flags & cudaStreamNonBlocking), priority, {}, 0, 0, nullptr};
    emu::streams.insert(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int flags)
{
    return cudaStreamCreateWithPriority(stream, flags, 0);
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    return cudaStreamCreateWithPriority(stream, cudaStreamDefault, 0);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    const Lock lock;
    if (!stream || !emu::streams.count(stream) || stream->capture) return emu_note(cudaErrorInvalidResourceHandle);
    emu::drain(stream);
    emu::streams.erase(stream);
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle)
{
    const Lock lock;
    CUstream_st *stream = emu::stream_of(handle);
    const cudaError_t error = emu::refuse_wait(stream);
    if (error != cudaSuccess) return error;
    emu::drain(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t handle)
{
    const Lock lock;
    CUstream_st *stream = emu::stream_of(handle);
    const cudaError_t error = emu::refuse_wait(stream);
    if (error != cudaSuccess) return error;
    if (stream->done == stream->queued) return cudaSuccess;
    emu::drain(stream); /* so that polling ends */
    return cudaErrorNotReady;
}

cudaError_t cudaDeviceSynchronize(void)
{
    const Lock lock;
    if (emu::refuse_in_capture() != cudaSuccess) return cudaErrorStreamCaptureUnsupported;
    emu::drain_all();
    return cudaSuccess;
}

cudaError_t cudaDeviceReset(void)
{
    return cudaDeviceSynchronize();
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data)
{
    return emu::enqueue(stream, [=] {
        emu_device_leave(); /* it is host code */
        function(data);
        emu_device_enter();
    });
}

/* ---- events ---- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int flags)
{
    *event = new CUevent_st{flags, nullptr, nullptr, {}};
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    const Lock lock;
    if (!event) return emu_note(cudaErrorInvalidResourceHandle);
    delete event;
    return cudaSuccess;
}

static cudaError_t record(cudaEvent_t event, CUstream_st *stream)
{
    const auto mark = std::make_shared<Mark>(Mark{stream, 0, false, false, 0});
    const cudaError_t error = emu::enqueue_now(stream, {[mark] {
                                                            mark->seconds = emu::now();
                                                            mark->done = true;
                                                        },
                                                        nullptr});
    if (error != cudaSuccess) return error;
    mark->ticket = stream->queued;
    event->mark = mark;
    event->capture = nullptr;
    return cudaSuccess;
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t handle, unsigned int flags)
{
    const Lock lock;
    CUstream_st *stream = emu::stream_of(handle);
    if (!event || !stream) return emu_note(cudaErrorInvalidResourceHandle);
    if (!stream->capture) return record(event, stream);
    if (stream->capture->invalid) return emu_note(cudaErrorStreamCaptureInvalidated);
    if (flags & cudaEventRecordExternal) {
        /* A node that records when it is replayed; the event must live as long as the recording, as on a device. */
        return emu::enqueue_now(stream,
                                {[event, stream] {
                                     event->mark = std::make_shared<Mark>(Mark{stream, 0, true, false, emu::now()});
                                     event->capture = nullptr;
                                 },
                                 nullptr});
    }
    event->mark = nullptr;
    event->capture = stream->capture;
    event->clock = stream->capture->streams[stream];
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    return cudaEventRecordWithFlags(event, stream, cudaEventRecordDefault);
}

/* A wait inside a recording: `stream` takes part in it from now on. */
static cudaError_t wait_in_capture(CUstream_st *stream, cudaEvent_t event)
{
    const std::shared_ptr<emu::Capture> capture = event->capture;
    if (capture->ended) return emu_note(cudaErrorCapturedEvent);
    if (stream->capture && stream->capture != capture) return emu_note(cudaErrorStreamCaptureIsolation);
    if (capture->invalid) return emu_note(cudaErrorStreamCaptureInvalidated);
    stream->capture = capture;
    emu::Clock &clock = capture->streams[stream];
    for (const auto &[other, position] : event->clock) clock[other] = std::max(clock[other], position);
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned int flags)
{
    const Lock lock;
    CUstream_st *stream = emu::stream_of(handle);
    if (!event || !stream) return emu_note(cudaErrorInvalidResourceHandle);
    if (event->capture) return wait_in_capture(stream, event);
    if (!event->mark) return cudaSuccess; /* never recorded */
    if (stream->capture && !(flags & cudaEventWaitExternal)) {
        stream->capture->invalid = true;
        return emu_note(cudaErrorStreamCaptureIsolation);
    }
    if (stream->capture) return cudaSuccess;
    return emu::enqueue_now(stream, {nullptr, event->mark});
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    const Lock lock;
    if (!event) return emu_note(cudaErrorInvalidResourceHandle);
    if (event->capture || emu::refuse_in_capture() != cudaSuccess) return emu_note(cudaErrorStreamCaptureUnsupported);
    Mark *mark = event->mark.get();
    if (!mark || mark->done) return cudaSuccess;
    if (mark->asked) {
        const emu::Access access;
        emu::run_to(mark->stream, mark->ticket);
        return cudaSuccess;
    }
    mark->asked = true; /* the next time it is, so that polling ends */
    return cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    const Lock lock;
    if (!event) return emu_note(cudaErrorInvalidResourceHandle);
    if (event->capture || emu::refuse_in_capture() != cudaSuccess) return emu_note(cudaErrorStreamCaptureUnsupported);
    const Mark *mark = event->mark.get();
    if (!mark || mark->done) return cudaSuccess;
    const emu::Access access;
    emu::run_to(mark->stream, mark->ticket);
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to)
{
    const Lock lock;
    if (!from || !to || !from->mark || !to->mark) return emu_note(cudaErrorInvalidResourceHandle);
    if ((from->flags | to->flags) & cudaEventDisableTiming) return emu_note(cudaErrorInvalidResourceHandle);
    if (!from->mark->done || !to->mark->done) return cudaErrorNotReady;
    *milliseconds = (float)(1e3 * (to->mark->seconds - from->mark->seconds));
    return cudaSuccess;
}

/* ---- copies ---- */

/* Which sides are on the device, as the kind says; false where the pointers say otherwise. */
static bool sides(const void *to, const void *from, size_t size, enum cudaMemcpyKind kind, bool *to_device,
                  bool *from_device)
{
    *to_device = emu_is_device(to);
    *from_device = emu_is_device(from);
    const bool holds = (!*to_device || emu_range_holds(to, size)) && (!*from_device || emu_range_holds(from, size));
    if (!holds) fprintf(stderr, "emulated device: a copy of %zu bytes leaves its allocation\n", size);
    if (!holds || kind == cudaMemcpyDefault) return holds;
    if (*to_device == (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) &&
        *from_device == (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice))
        return true;
    fprintf(stderr, "emulated device: a copy's kind (%d) does not fit its pointers\n", (int)kind);
    return false;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, enum cudaMemcpyKind kind, cudaStream_t handle)
{
    const Lock lock;
    bool to_device, from_device;
    CUstream_st *stream = emu::stream_of(handle);
    if (!stream) return emu_note(cudaErrorInvalidResourceHandle);
    if (size == 0) return cudaSuccess;
    if (!sides(to, from, size, kind, &to_device, &from_device)) return emu_note(cudaErrorInvalidValue);
    const bool pageable_source = !from_device && !emu_is_pinned(from),
               pageable_target = !to_device && !emu_is_pinned(to);
    if (pageable_source && !stream->capture && emu_settings()->lazy != 0) {
        /* It is read before the call returns. */
        const char *bytes = static_cast<const char *>(from);
        const std::vector<char> staged(bytes, bytes + size);
        return emu::enqueue_now(stream, {[=] { memcpy(to, staged.data(), size); }, nullptr});
    }
    const cudaError_t error = emu::enqueue_now(stream, {[=] { memmove(to, from, size); }, nullptr});
    if (error == cudaSuccess && pageable_target && !stream->capture) emu::drain(stream);
    return error;
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    const Lock lock;
    for (size_t i = 0; i < height; i++) {
        const cudaError_t error =
            cudaMemcpyAsync(static_cast<char *>(to) + i * to_pitch, static_cast<const char *>(from) + i * from_pitch,
                            width, kind, stream);
        if (error != cudaSuccess) return error;
    }
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t size, enum cudaMemcpyKind kind)
{
    const Lock lock;
    if (emu::refuse_in_capture() != cudaSuccess) return cudaErrorStreamCaptureUnsupported;
    const cudaError_t error = cudaMemcpyAsync(to, from, size, kind, nullptr);
    if (error == cudaSuccess) emu::drain(emu::stream_of(nullptr));
    return error;
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t size, cudaStream_t stream)
{
    const Lock lock;
    if (size == 0) return cudaSuccess;
    if (!emu_range_holds(memory, size)) {
        fprintf(stderr, "emulated device: a memset of %zu bytes leaves its allocation\n", size);
        return emu_note(cudaErrorInvalidValue);
    }
    return emu::enqueue_now(emu::stream_of(stream), {[=] { memset(memory, value, size); }, nullptr});
}

cudaError_t cudaMemset(void *memory, int value, size_t size)
{
    return cudaMemsetAsync(memory, value, size, nullptr);
}
