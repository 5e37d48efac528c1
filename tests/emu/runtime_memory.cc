/* Device memory: one range of addresses that the host cannot touch but while emulated work runs. Allocations lie
 * between guards, and fresh ones hold NaN. What was freed is used again only after some more has been freed, so that
 * late uses of it are found. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime.h"

#ifdef EMU_ASAN
#include <sanitizer/asan_interface.h>
#define EMU_POISON(memory, size) __asan_poison_memory_region((memory), (size))
#define EMU_UNPOISON(memory, size) __asan_unpoison_memory_region((memory), (size))
#else
#define EMU_POISON(memory, size) ((void)(memory), (void)(size))
#define EMU_UNPOISON(memory, size) ((void)(memory), (void)(size))
#endif

namespace
{

const size_t guard = 256, alignment = 256, page = 4096;
/* Freed memory that is not used again yet; blocks whose pages go back to the system. */
const size_t waiting_most = (size_t)1 << 24, large = (size_t)1 << 20;
const char guard_byte = (char)0xa5;

struct Arena {
    char *base;
    size_t capacity, top;      /* top: never used from here on */
    size_t open_from, open_to; /* what emu_device_enter made accessible */
    int entered;
    std::map<size_t, size_t> live;                 /* offset of the first byte -> size as asked for */
    std::map<size_t, size_t> freed;                /* offset, guards included -> size */
    std::deque<std::pair<size_t, size_t>> waiting; /* to become freed: offset and size */
    size_t live_bytes, waiting_bytes;
};
Arena arena;
std::map<const char *, size_t> pinned; /* page-locked host memory */
std::map<const char *, bool> pinned_ours;

void die(const char *what)
{
    fprintf(stderr, "emulated device: %s\n", what);
    abort();
}

void arena_open()
{
    if (arena.base) return;
    const size_t least = (size_t)1 << 34;
    arena.capacity = emu_settings()->memory * 4 < least ? least : emu_settings()->memory * 4;
    void *memory = mmap(nullptr, arena.capacity, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) die("no address space for device memory");
    arena.base = static_cast<char *>(memory);
}

size_t rounded(size_t size, size_t multiple)
{
    return (size + multiple - 1) / multiple * multiple;
}

void protect(int protection, size_t from, size_t to)
{
    if (to > from && mprotect(arena.base + from, to - from, protection) != 0) die("mprotect of device memory failed");
}

/* From the first allocation to the last. */
void open_live()
{
    const size_t from = arena.open_from, to = arena.open_to;
    arena.open_from = arena.open_to = 0;
    if (arena.live.empty()) return;
    const auto last = std::prev(arena.live.end());
    arena.open_from = (arena.live.begin()->first - guard) / page * page;
    arena.open_to = rounded(last->first + rounded(last->second, alignment) + guard, page);
    if (emu_settings()->open && from <= arena.open_from && arena.open_to <= to) { /* it was left open */
        arena.open_from = from;
        arena.open_to = to;
        return;
    }
    protect(PROT_READ | PROT_WRITE, arena.open_from, arena.open_to);
}

/* Whole range with guards; SIZE_MAX where there is none. */
size_t range_take(size_t size)
{
    for (const auto &[at, length] : arena.freed) {
        if (length < size) continue;
        const size_t begin = at, rest = length - size;
        arena.freed.erase(begin);
        if (rest > 0) arena.freed[begin + size] = rest;
        return begin;
    }
    if (arena.top + size > arena.capacity) return SIZE_MAX;
    arena.top += size;
    return arena.top - size;
}

void range_give(size_t at, size_t size)
{
    auto next = arena.freed.lower_bound(at);
    if (next != arena.freed.end() && next->first == at + size) {
        size += next->second;
        next = arena.freed.erase(next);
    }
    if (next != arena.freed.begin()) {
        const auto before = std::prev(next);
        if (before->first + before->second == at) {
            before->second += size;
            return;
        }
    }
    arena.freed[at] = size;
}

void check_guards(size_t at, size_t size)
{
#ifndef EMU_ASAN
    const char *memory = arena.base + at;
    for (size_t i = 1; i <= guard; i++) {
        if (memory[-(ptrdiff_t)i] != guard_byte) die("memory before an allocation was written to");
        if (memory[size + i - 1] != guard_byte) die("memory behind an allocation was written to");
    }
#else
    (void)at;
    (void)size;
#endif
}

/* The allocation that a pointer lies in, or end. */
std::map<size_t, size_t>::const_iterator allocation_of(const void *pointer)
{
    const char *p = static_cast<const char *>(pointer);
    if (!arena.base || p < arena.base || p >= arena.base + arena.capacity) return arena.live.end();
    auto after = arena.live.upper_bound((size_t)(p - arena.base));
    if (after == arena.live.begin()) return arena.live.end();
    return std::prev(after);
}

cudaError_t host_take(void **memory, size_t size)
{
    const emu::Lock lock;
    *memory = nullptr;
    if (emu::refuse_in_capture() != cudaSuccess) return cudaErrorStreamCaptureUnsupported;
    if (size == 0) return cudaSuccess;
    if (posix_memalign(memory, alignment, size) != 0) return emu_note(cudaErrorMemoryAllocation);
    memset(*memory, 0xff, size);
    pinned[static_cast<char *>(*memory)] = size;
    pinned_ours[static_cast<char *>(*memory)] = true;
    return cudaSuccess;
}

} // namespace

void emu_device_enter(void)
{
    const emu::Lock lock;
    arena_open();
    if (arena.entered++ > 0) return;
    open_live();
}

void emu_device_leave(void)
{
    const emu::Lock lock;
    if (--arena.entered == 0 && !emu_settings()->open) protect(PROT_NONE, arena.open_from, arena.open_to);
}

bool emu_is_device(const void *memory)
{
    const emu::Lock lock;
    const char *p = static_cast<const char *>(memory);
    return arena.base && p >= arena.base && p < arena.base + arena.capacity;
}

bool emu_is_pinned(const void *memory)
{
    const emu::Lock lock;
    const char *p = static_cast<const char *>(memory);
    const auto after = pinned.upper_bound(p);
    if (after == pinned.begin()) return false;
    const auto &[base, size] = *std::prev(after);
    return p < base + size;
}

cudaError_t cudaMalloc(void **memory, size_t size)
{
    const emu::Lock lock;
    *memory = nullptr;
    if (emu::refuse_in_capture() != cudaSuccess) return cudaErrorStreamCaptureUnsupported;
    if (size == 0) return cudaSuccess;
    if (size > emu_settings()->memory - arena.live_bytes) return emu_note(cudaErrorMemoryAllocation);
    arena_open();
    const size_t whole = rounded(size, alignment) + 2 * guard, range = range_take(whole);
    if (range == SIZE_MAX) return emu_note(cudaErrorMemoryAllocation);
    arena.live[range + guard] = size;
    arena.live_bytes += size;
    const emu::Access access;
    if (arena.entered > 1) open_live(); /* it was open already */
    char *begin = arena.base + range, *data = begin + guard;
    EMU_UNPOISON(begin, whole);
    memset(begin, guard_byte, guard);
    memset(data, 0xff, size);
    memset(data + size, guard_byte, whole - guard - size);
    EMU_POISON(begin, guard);
    EMU_POISON(data + size, whole - guard - size);
    *memory = data;
    return cudaSuccess;
}

cudaError_t cudaFree(void *memory)
{
    const emu::Lock lock;
    if (!memory) return cudaSuccess;
    if (emu::refuse_in_capture() != cudaSuccess) return cudaErrorStreamCaptureUnsupported;
    emu::drain_all();
    const auto found =
        arena.base ? arena.live.find((size_t)(static_cast<char *>(memory) - arena.base)) : arena.live.end();
    if (found == arena.live.end()) return emu_note(cudaErrorInvalidValue);
    const emu::Access access;
    const size_t at = found->first, size = found->second, whole = rounded(size, alignment) + 2 * guard;
    check_guards(at, size);
    arena.live.erase(found);
    arena.live_bytes -= size;
    const size_t first = rounded(at, page), end = (at + size) / page * page;
    EMU_UNPOISON(arena.base + at - guard, whole);
    if (end > first + large) madvise(arena.base + first, end - first, MADV_DONTNEED);
    EMU_POISON(arena.base + at - guard, whole);
    arena.waiting.push_back({at - guard, whole});
    arena.waiting_bytes += whole;
    while (arena.waiting_bytes > waiting_most) {
        const auto [oldest, length] = arena.waiting.front();
        arena.waiting.pop_front();
        arena.waiting_bytes -= length;
        range_give(oldest, length);
    }
    return cudaSuccess;
}

cudaError_t cudaMallocAsync(void **memory, size_t size, cudaStream_t stream)
{
    return cudaMalloc(memory, size);
}

cudaError_t cudaFreeAsync(void *memory, cudaStream_t stream)
{
    return cudaFree(memory);
}

cudaError_t cudaHostAlloc(void **memory, size_t size, unsigned int flags)
{
    return host_take(memory, size);
}

cudaError_t cudaMallocHost(void **memory, size_t size)
{
    return host_take(memory, size);
}

cudaError_t cudaFreeHost(void *memory)
{
    const emu::Lock lock;
    if (!memory) return cudaSuccess;
    emu::drain_all();
    const char *key = static_cast<char *>(memory);
    if (!pinned_ours.count(key)) return emu_note(cudaErrorInvalidValue);
    pinned.erase(key);
    pinned_ours.erase(key);
    free(memory);
    return cudaSuccess;
}

cudaError_t cudaHostRegister(void *memory, size_t size, unsigned int flags)
{
    const emu::Lock lock;
    pinned[static_cast<char *>(memory)] = size;
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *memory)
{
    const emu::Lock lock;
    emu::drain_all();
    return emu_note(pinned.erase(static_cast<char *>(memory)) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total)
{
    const emu::Lock lock;
    *total = emu_settings()->memory;
    *free = *total - arena.live_bytes;
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, const void *memory)
{
    void *pointer = const_cast<void *>(memory);
    *attributes = cudaPointerAttributes{cudaMemoryTypeUnregistered, -1, nullptr, pointer};
    if (emu_is_device(memory)) *attributes = {cudaMemoryTypeDevice, 0, pointer, nullptr};
    if (emu_is_pinned(memory)) *attributes = {cudaMemoryTypeHost, 0, pointer, pointer};
    return cudaSuccess;
}

/* For copies: whether [memory, memory + size) is inside one allocation. */
bool emu_range_holds(const void *memory, size_t size)
{
    const emu::Lock lock;
    const auto found = allocation_of(memory);
    if (found == arena.live.end()) return false;
    const size_t offset = (size_t)(static_cast<const char *>(memory) - arena.base) - found->first;
    return offset <= found->second && size <= found->second - offset;
}
