/* Recordings: work that a captured stream noted instead of running it, with its arguments as they were then. */
#include "runtime.h"

struct CUgraph_st {
    std::shared_ptr<emu::Recorded> recorded;
};
struct CUgraphExec_st {
    std::shared_ptr<const emu::Recorded> recorded;
};

using emu::Capture;
using emu::Lock;

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, enum cudaStreamCaptureMode mode)
{
    const Lock lock;
    CUstream_st *stream = emu::stream_of(handle);
    if (!stream) return emu_note(cudaErrorInvalidResourceHandle);
    if (stream == emu::stream_of(nullptr)) return emu_note(cudaErrorStreamCaptureUnsupported);
    if (stream->capture) return emu_note(cudaErrorIllegalState);
    stream->capture = std::make_shared<Capture>(
        Capture{stream, mode, std::this_thread::get_id(), std::make_shared<emu::Recorded>(), {}, false, false});
    stream->capture->streams[stream] = {};
    return cudaSuccess;
}

/* Everything that the streams noted comes before what the first stream noted last. */
static bool joined(const std::shared_ptr<Capture> &capture)
{
    const emu::Clock &origin = capture->streams.at(capture->origin);
    for (const auto &[stream, clock] : capture->streams) {
        const auto own = clock.find(stream), seen = origin.find(stream);
        if (own == clock.end() || stream == capture->origin) continue;
        if (seen == origin.end() || seen->second < own->second) return false;
    }
    return true;
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t *graph)
{
    const Lock lock;
    *graph = nullptr;
    CUstream_st *stream = emu::stream_of(handle);
    if (!stream || !stream->capture) return emu_note(cudaErrorIllegalState);
    const std::shared_ptr<Capture> capture = stream->capture;
    if (capture->origin != stream) return emu_note(cudaErrorStreamCaptureUnmatched);
    const bool whole = joined(capture), invalid = capture->invalid;
    if (whole && !invalid) *graph = new CUgraph_st{capture->recorded};
    for (const auto &part : capture->streams) part.first->capture = nullptr;
    capture->ended = true;
    if (invalid) return emu_note(cudaErrorStreamCaptureInvalidated);
    return emu_note(whole ? cudaSuccess : cudaErrorStreamCaptureUnjoined);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, enum cudaStreamCaptureStatus *status)
{
    const Lock lock;
    const CUstream_st *stream = emu::stream_of(handle);
    if (!stream) return emu_note(cudaErrorInvalidResourceHandle);
    *status = !stream->capture           ? cudaStreamCaptureStatusNone
              : stream->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                         : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode)
{
    *mode = cudaStreamCaptureModeGlobal;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count)
{
    if (nodes) return emu_note(cudaErrorNotSupported);
    *count = graph->recorded->nodes.size();
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags)
{
    if (!graph) return emu_note(cudaErrorInvalidValue);
    *exec = new CUgraphExec_st{graph->recorded};
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags)
{
    return cudaGraphInstantiate(exec, graph, flags);
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream)
{
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    const Lock lock;
    if (!exec) return emu_note(cudaErrorInvalidResourceHandle);
    const std::shared_ptr<const emu::Recorded> recorded = exec->recorded;
    return emu::enqueue(stream, [recorded] {
        for (const emu::Work &node : recorded->nodes) {
            if (node) node();
        }
    });
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    delete exec;
    return cudaSuccess;
}
