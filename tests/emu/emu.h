/* Inside the emulator: what its files offer each other, and the stand-ins for libraries (blas_emu.c, dnn_emu.c,
 * nccl_emu.c). C and C++.
 *
 * Settings, read from the environment at first use:
 *   VASILY_EMU_SCHEDULE   forward, reverse or random: which threads, warps and blocks run first
 *   VASILY_EMU_SEED       of random
 *   VASILY_EMU_LAZY       0: work runs when it is queued. 1: no sooner than something waits for it, so that a missing
 *                         wait shows. 2: like 1, but then the other streams go first, as far as their own waits let
 * them VASILY_EMU_MEMORY     bytes that the device has (4 GiB) VASILY_EMU_DEVICE     a number: which device this is;
 * processes with the same one share it (default: none do) VASILY_EMU_HOST_POINTERS  1: kernels may be given any pointer
 */
#ifndef TESTS_EMU_EMU_H
#define TESTS_EMU_EMU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/cuda_runtime_api.h"

#ifdef __cplusplus
extern "C" {
#endif

enum EmuSchedule { EMU_FORWARD, EMU_REVERSE, EMU_RANDOM };
typedef struct EmuSettings {
    enum EmuSchedule schedule;
    uint64_t seed;
    int lazy;
    size_t memory;
    bool host_pointers;
    bool open; /* the host may touch device memory: quicker, where much of it is in use */
} EmuSettings;
const EmuSettings *emu_settings(void);

/* Queues work(closure), which may touch device memory; `size` bytes of the closure are copied. Like a launch it is
 * noted instead where the stream is being captured. */
cudaError_t emu_enqueue(cudaStream_t stream, void (*work)(void *closure), const void *closure, size_t size);

/* Device memory can be touched from this thread's first emu_device_enter to its last emu_device_leave. */
void emu_device_enter(void);
void emu_device_leave(void);

/* Where a pointer points; whether so many bytes from it on are inside one allocation. */
bool emu_is_device(const void *memory);
bool emu_is_pinned(const void *memory);
bool emu_range_holds(const void *memory, size_t size);

/* For cudaPeekAtLastError; returns `error`. */
cudaError_t emu_note(cudaError_t error);
/* The limit set by cudaFuncSetAttribute for a kernel, or the usual 48 KiB. */
size_t emu_dynamic_shared_limit(const void *function);

#ifdef __cplusplus
}

#include <functional>
#include "threads.h"

namespace emu
{
cudaError_t enqueue(cudaStream_t stream, std::function<void()> work);
/* block.cc: runs every block of a launch, now. */
void run_launch(const Launch &launch);
/* shared.cc: fills this thread's __shared__ variables with NaN before a block. `all`: every one of the library that the
 * kernel is in, for the first block of a launch; else those that the launch has used so far. */
void poison_shared(const Launch &launch, bool all);
} // namespace emu
#endif

#endif
