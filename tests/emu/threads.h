/* What the threads of a block do together: barriers, shuffles, votes; and how a launch becomes queued work. */
#ifndef TESTS_EMU_THREADS_H
#define TESTS_EMU_THREADS_H

#include <stdint.h>
#include <string.h>
#include <functional>
#include <tuple>
#include <type_traits>

#include "include/cuda_runtime_api.h"

#if defined(__SANITIZE_ADDRESS__)
#define EMU_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMU_ASAN 1
#endif
#endif
#define EMU_SHARED_ALIGNMENT 128

namespace emu
{

/* What a thread sees of its block, and of itself. */
struct Block {
    uint3 index;
    dim3 size, grid;
    void *dynamic_shared;
};
struct Thread {
    uint3 index;
    const Block *block;
    int lane;
};
extern __thread Thread *current;

/* Waits for the other threads of the block that have not ended; returns how many had a true predicate. `place`: which
 * barrier of the file it is. */
int block_barrier(const char *what, const char *file, int line, int place, int predicate);
/* Waits for the other lanes of the mask that have not ended. */
void warp_barrier(const char *file, int line, unsigned mask);
static inline unsigned mask_or_all(unsigned mask = 0xffffffffu)
{
    return mask;
}
/* Gives `value` to the others and returns that of the lane `source`. */
uint64_t warp_exchange(const char *what, unsigned mask, uint64_t value, int source);
/* One bit for each lane. */
unsigned warp_vote(const char *what, unsigned mask, int predicate);

template <class T> static inline T shuffle(const char *what, unsigned mask, T value, int source)
{
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value, "shuffles move up to 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = warp_exchange(what, mask, bits, source);
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* A launch with its arguments bound. */
struct Launch {
    const char *kernel;
    const void *function;
    void *(*touch)(); /* makes this thread's copies of the shared variables that the kernel's file declares */
    dim3 grid, block;
    size_t shared;
    std::function<void()> body;
    uint64_t number; /* of all launches that ran, from 1 */
};
void queue_launch(Launch &&launch, cudaStream_t stream);
void check_argument(const char *kernel, int position, const void *pointer);

template <class T> static inline void check(const char *kernel, int position, const T &argument)
{
    if constexpr (std::is_pointer<T>::value) check_argument(kernel, position, argument);
}

template <class T> struct Same {
    typedef T type;
};
template <class... P>
static inline void launch(const char *name, dim3 grid, dim3 block, size_t shared, cudaStream_t stream, void *(*touch)(),
                          void (*kernel)(P...), typename Same<P>::type... arguments)
{
    int position = 0;
    (check(name, position++, arguments), ...);
    const std::tuple<std::decay_t<P>...> bound(arguments...);
    queue_launch({name, reinterpret_cast<const void *>(kernel), touch, grid, block, shared,
                  [=] { std::apply(kernel, bound); }, 0},
                 stream);
}

static __thread char thread_variable __attribute__((unused));
static __attribute__((unused)) void *touch_thread_variables()
{
    return &thread_variable;
}

} // namespace emu

#define __syncthreads() ((void)emu::block_barrier("__syncthreads", __FILE__, __LINE__, __COUNTER__, 0))
#define __syncthreads_count(predicate) \
    emu::block_barrier("__syncthreads_count", __FILE__, __LINE__, __COUNTER__, (predicate) != 0)
#define __syncthreads_or(predicate) (__syncthreads_count(predicate) != 0)
#define __syncthreads_and(predicate) (__syncthreads_count(!(predicate)) == 0)
#define __syncwarp(...) emu::warp_barrier(__FILE__, __LINE__, emu::mask_or_all(__VA_ARGS__))

template <class T> static inline T __shfl_sync(unsigned mask, T value, int source, int width = 32)
{
    const int lane = emu::current->lane;
    return emu::shuffle("__shfl_sync", mask, value, (lane & ~(width - 1)) | (source & (width - 1)));
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32)
{
    const int lane = emu::current->lane, source = lane ^ bits;
    const bool inside = source < ((lane & ~(width - 1)) + width);
    return emu::shuffle("__shfl_xor_sync", mask, value, inside ? source : lane);
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T value, unsigned step, int width = 32)
{
    const int lane = emu::current->lane;
    const bool inside = (lane & (width - 1)) + (int)step < width;
    return emu::shuffle("__shfl_down_sync", mask, value, inside ? lane + (int)step : lane);
}
template <class T> static inline T __shfl_up_sync(unsigned mask, T value, unsigned step, int width = 32)
{
    const int lane = emu::current->lane;
    const bool inside = (lane & (width - 1)) >= (int)step;
    return emu::shuffle("__shfl_up_sync", mask, value, inside ? lane - (int)step : lane);
}
static inline unsigned __ballot_sync(unsigned mask, int predicate)
{
    return emu::warp_vote("__ballot_sync", mask, predicate);
}
static inline int __any_sync(unsigned mask, int predicate)
{
    return emu::warp_vote("__any_sync", mask, predicate) != 0;
}
static inline int __all_sync(unsigned mask, int predicate)
{
    return emu::warp_vote("__all_sync", mask, !predicate) == 0;
}

#endif
