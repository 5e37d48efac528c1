/* Inside the emulated runtime (runtime_*.cc). One lock is held by every call of the API and by all work that it runs.
 */
#ifndef TESTS_EMU_RUNTIME_H
#define TESTS_EMU_RUNTIME_H

#include <stdint.h>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "emu.h"

namespace emu
{

typedef std::function<void()> Work;

struct Lock {
    Lock();
    ~Lock();
};
/* Device memory can be touched while one of these lives. */
struct Access {
    Access()
    {
        emu_device_enter();
    }
    ~Access()
    {
        emu_device_leave();
    }
};

/* A record of an event: done once its stream has run so many tasks. */
struct Mark {
    CUstream_st *stream;
    uint64_t ticket;
    bool done, asked;
    double seconds;
};
struct Task {
    Work work;
    std::shared_ptr<Mark> after; /* waited for first; may be empty */
};
struct Recorded {
    std::vector<Work> nodes;
};
/* What of each stream of a recording comes before. */
typedef std::map<CUstream_st *, size_t> Clock;
struct Capture {
    CUstream_st *origin;
    enum cudaStreamCaptureMode mode;
    std::thread::id thread; /* that began it */
    std::shared_ptr<Recorded> recorded;
    std::map<CUstream_st *, Clock> streams; /* that take part */
    bool invalid, ended;
};

/* The stream's own object; NULL and the special handles too. NULL where the handle is none. */
CUstream_st *stream_of(cudaStream_t handle);
cudaError_t enqueue_now(CUstream_st *stream, Task task); /* as a node, where the stream is being captured */
void drain(CUstream_st *stream);
void drain_all();
/* Calls that must not come while a stream is being captured (by anyone, or by this thread) spoil that recording. */
cudaError_t refuse_in_capture();

} // namespace emu

struct CUstream_st {
    bool blocking; /* waits for the default stream, and the other way round */
    int priority;
    std::deque<emu::Task> tasks;
    uint64_t queued, done;
    std::shared_ptr<emu::Capture> capture; /* empty: none */
};
struct CUevent_st {
    unsigned flags;
    std::shared_ptr<emu::Mark> mark;       /* of the last record; empty: never recorded */
    std::shared_ptr<emu::Capture> capture; /* it was recorded in */
    emu::Clock clock;                      /* there */
};

#endif
