/* Runs the blocks of a launch: threads as fibers, in the order of the schedule. A thread runs until it waits for
 * others; one that never waits leaves its stack to the next. */
#include <stdio.h>
#include <stdlib.h>
#include <algorithm>
#include <memory>
#include <vector>

#include "emu.h"
#include "fiber.h"
#include "threads.h"

#ifdef EMU_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace emu
{

__thread Thread *current;

namespace
{

enum class Wait : uint8_t { nothing, block, warp };

struct Lane : Thread {
    bool started, ended;
    Wait wait;
    Fiber *fiber;
    int warp;
    const char *what, *file; /* that it waits in */
    int line, place;
    /* warp collectives */
    unsigned mask;
    int source; /* whose value it wants; -1: everyone's predicate, -2: nothing */
    uint64_t value;
};

/* One system thread's block, and what it keeps from block to block. */
struct Runner : Block {
    const Launch *launch;
    uint64_t launch_number;
    uint64_t random;
    std::vector<Lane> lanes;
    std::vector<int> order;                 /* of warps */
    std::vector<unsigned> running;          /* by warp: lanes that have not ended */
    int alive, arrived, predicates, result; /* of the block's barrier */
    Fiber home;
    std::vector<Fiber *> stacks; /* free ones */
    std::vector<char> shared;

    Lane *lane(int warp, int k)
    {
        return &lanes[(size_t)warp * 32 + (size_t)k];
    }
    int warp_size(int warp) const
    {
        return std::min(32, (int)lanes.size() - warp * 32);
    }
};

thread_local Runner *runner;

const char *schedule_name()
{
    const char *const names[] = {"forward", "reverse", "random"};
    return names[emu_settings()->schedule];
}

[[noreturn]] void stop(const char *why)
{
    const Runner *r = runner;
    fprintf(stderr, "emulated device: kernel %s, block (%u,%u,%u) of (%u,%u,%u) threads, %s schedule: %s\n",
            r->launch->kernel, r->index.x, r->index.y, r->index.z, r->size.x, r->size.y, r->size.z, schedule_name(),
            why);
    const Lane *last = nullptr;
    for (const Lane &lane : r->lanes) {
        if (lane.ended || lane.wait == Wait::nothing) continue;
        /* One line for threads that wait for the same. */
        if (last && last->wait == lane.wait && last->what == lane.what && last->place == lane.place &&
            (lane.wait == Wait::block || last->mask == lane.mask))
            continue;
        last = &lane;
        fprintf(stderr, "  thread (%u,%u,%u) and others wait in %s", lane.index.x, lane.index.y, lane.index.z,
                lane.what);
        if (lane.wait == Wait::warp) fprintf(stderr, " for lanes %08x", lane.mask);
        if (lane.file) fprintf(stderr, " at %s:%d", lane.file, lane.line);
        fprintf(stderr, "\n");
    }
    abort();
}

uint64_t draw(Runner *r)
{
    r->random += 0x9e3779b97f4a7c15u; /* splitmix64 */
    uint64_t z = r->random;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void give_turn(Lane *lane, bool ended)
{
    fiber_switch(lane->fiber, &runner->home, ended);
}

/* ---- the block's barrier ---- */

/* Everyone who waits must wait in the same place: two barriers that some threads reach one and some the other are a
 * mistake even where their numbers agree. */
void release_block(Runner *r)
{
    const Lane *first = nullptr;
    for (Lane &lane : r->lanes) {
        if (lane.wait != Wait::block) continue;
        if (first && (lane.place != first->place || strcmp(lane.file, first->file) != 0))
            stop("divergent barrier: threads of one block wait in different places");
        if (!first) first = &lane;
    }
    for (Lane &lane : r->lanes) {
        if (lane.wait == Wait::block) lane.wait = Wait::nothing;
    }
    r->result = r->predicates;
    r->arrived = r->predicates = 0;
}

/* ---- warps ---- */

/* Once all lanes of `mask` wait for each other, each gets what it wants. */
void release_warp(Runner *r, int warp, unsigned mask)
{
    const unsigned wanted = mask & r->running[(size_t)warp];
    unsigned vote = 0;
    for (unsigned left = wanted; left != 0; left &= left - 1) {
        const Lane *lane = r->lane(warp, __builtin_ctz(left));
        if (lane->wait != Wait::warp || lane->mask != mask) return;
        if (lane->source == -1 && lane->value) vote |= left & -left;
    }
    uint64_t values[32];
    for (unsigned left = wanted; left != 0; left &= left - 1) {
        const int k = __builtin_ctz(left);
        values[k] = r->lane(warp, k)->value;
    }
    for (unsigned left = wanted; left != 0; left &= left - 1) {
        Lane *lane = r->lane(warp, __builtin_ctz(left));
        if (lane->source >= 0 && !(wanted >> lane->source & 1u))
            stop("a shuffle reads a lane that has ended, was never there or is not in the mask");
        if (lane->source >= 0) lane->value = values[lane->source];
        if (lane->source == -1) lane->value = vote;
    }
    for (unsigned left = wanted; left != 0; left &= left - 1) r->lane(warp, __builtin_ctz(left))->wait = Wait::nothing;
}

uint64_t collective(const char *what, const char *file, int line, unsigned mask, uint64_t value, int source)
{
    Lane *self = static_cast<Lane *>(current);
    self->what = what;
    self->file = file;
    self->line = line;
    self->place = 0;
    self->mask = mask;
    self->value = value;
    self->source = source;
    self->wait = Wait::warp;
    if (!(mask >> self->lane & 1u)) stop("a lane is not in the mask that it names");
    release_warp(runner, self->warp, mask);
    while (self->wait != Wait::nothing) give_turn(self, false);
    return self->value;
}

/* ---- threads ---- */

void end(Lane *self)
{
    Runner *r = runner;
    self->ended = true;
    r->alive--;
    r->running[(size_t)self->warp] &= ~(1u << self->lane);
    if (r->alive > 0 && r->arrived == r->alive) release_block(r);
    for (int k = 0; k < r->warp_size(self->warp); k++) {
        const Lane *other = r->lane(self->warp, k);
        if (other->wait == Wait::warp) release_warp(r, self->warp, other->mask);
    }
    r->stacks.push_back(self->fiber);
    give_turn(self, true);
    __builtin_unreachable();
}

void thread_main()
{
    Lane *self = static_cast<Lane *>(current);
    fiber_started(self->fiber, &runner->home);
    runner->launch->body();
    end(self);
}

void run_lane(Runner *r, Lane *lane)
{
    if (!lane->started) {
        lane->started = true;
        if (r->stacks.empty()) r->stacks.push_back(new Fiber(fiber_create()));
        lane->fiber = r->stacks.back();
        r->stacks.pop_back();
        fiber_reset(lane->fiber, thread_main);
    }
    current = lane;
    fiber_switch(&r->home, lane->fiber, false);
    current = nullptr;
}

/* Each lane that can run runs once; false when none can. */
bool run_warp_once(Runner *r, int warp)
{
    const int size = r->warp_size(warp);
    const EmuSchedule schedule = emu_settings()->schedule;
    const int first = schedule == EMU_RANDOM ? (int)(draw(r) % (uint64_t)size) : 0;
    bool ran = false;
    for (int i = 0; i < size; i++) {
        const int k = schedule == EMU_REVERSE ? size - 1 - i : (i + first) % size;
        Lane *lane = r->lane(warp, k);
        if (lane->ended || lane->wait != Wait::nothing) continue;
        run_lane(r, lane);
        ran = true;
    }
    return ran;
}

/* forward and reverse: a warp goes on until it waits for the block. random: warps take turns at every step. */
void run_threads(Runner *r)
{
    const EmuSchedule schedule = emu_settings()->schedule;
    while (r->alive > 0) {
        bool ran = false;
        if (schedule == EMU_RANDOM) {
            for (size_t i = r->order.size() - 1; i > 0; i--) std::swap(r->order[i], r->order[draw(r) % (i + 1)]);
        }
        for (const int warp : r->order) {
            while (run_warp_once(r, warp)) {
                ran = true;
                if (schedule == EMU_RANDOM) break;
            }
        }
        if (!ran) stop("divergent barrier: everyone waits, for others that never come");
    }
}

/* ---- blocks ---- */

/* NaN throughout, exactly as many bytes as were asked for, with guards. */
void place_dynamic_shared(Runner *r, size_t size)
{
    const size_t guard = 256, alignment = 128;
#ifdef EMU_ASAN
    __asan_unpoison_memory_region(r->shared.data(), r->shared.size());
#endif
    r->shared.assign(size + 2 * guard + alignment, (char)0xff);
    void *begin = r->shared.data() + guard;
    size_t room = r->shared.size() - guard;
    r->dynamic_shared = std::align(alignment, size, begin, room);
#ifdef EMU_ASAN
    char *first = r->shared.data(), *used = static_cast<char *>(r->dynamic_shared);
    __asan_poison_memory_region(first, (size_t)(used - first));
    __asan_poison_memory_region(used + size, (size_t)(first + r->shared.size() - used) - size);
#endif
}

void prepare_threads(Runner *r)
{
    const dim3 size = r->size;
    const int threads = (int)(size.x * size.y * size.z), warps = (threads + 31) / 32;
    r->lanes.assign((size_t)threads, Lane{});
    r->running.assign((size_t)warps, 0);
    r->order.resize((size_t)warps);
    for (int i = 0; i < warps; i++) {
        r->order[(size_t)i] = emu_settings()->schedule == EMU_REVERSE ? warps - 1 - i : i;
    }
    for (int i = 0; i < threads; i++) {
        Lane &lane = r->lanes[(size_t)i];
        const unsigned u = (unsigned)i;
        lane.index = uint3{u % size.x, u / size.x % size.y, u / (size.x * size.y)};
        lane.block = r;
        lane.lane = i % 32;
        lane.warp = i / 32;
        r->running[(size_t)lane.warp] |= 1u << lane.lane;
    }
    r->alive = threads;
    r->arrived = r->predicates = 0;
}

void run_block(const Launch &launch, int64_t number)
{
    if (!runner) runner = new Runner{};
    Runner *r = runner;
    const int64_t x = launch.grid.x, y = launch.grid.y;
    r->launch = &launch;
    r->grid = launch.grid;
    r->size = launch.block;
    r->index = uint3{(unsigned)(number % x), (unsigned)(number / x % y), (unsigned)(number / (x * y))};
    r->random = emu_settings()->seed * 0x2545f4914f6cdd1du + (uint64_t)number;
    prepare_threads(r);
    place_dynamic_shared(r, launch.shared);
    poison_shared(launch, r->launch_number != launch.number);
    r->launch_number = launch.number;
    run_threads(r);
}

/* A permutation of [0, blocks). */
int64_t block_at(int64_t i, int64_t blocks)
{
    if (emu_settings()->schedule == EMU_FORWARD) return i;
    if (emu_settings()->schedule == EMU_REVERSE || blocks < 3) return blocks - 1 - i;
    const int64_t step = 7919; /* a prime */
    const int64_t shift = (int64_t)(emu_settings()->seed % (uint64_t)blocks);
    return blocks % step == 0 ? blocks - 1 - i : (i * step + shift) % blocks;
}

} // namespace

int block_barrier(const char *what, const char *file, int line, int place, int predicate)
{
    Lane *self = static_cast<Lane *>(current);
    Runner *r = runner;
    self->what = what;
    self->file = file;
    self->line = line;
    self->place = place;
    self->wait = Wait::block;
    r->predicates += predicate;
    if (++r->arrived == r->alive) release_block(r);
    while (self->wait != Wait::nothing) give_turn(self, false);
    return r->result;
}

void warp_barrier(const char *file, int line, unsigned mask)
{
    collective("__syncwarp", file, line, mask, 0, -2);
}

uint64_t warp_exchange(const char *what, unsigned mask, uint64_t value, int source)
{
    return collective(what, nullptr, 0, mask, value, source);
}

unsigned warp_vote(const char *what, unsigned mask, int predicate)
{
    return (unsigned)collective(what, nullptr, 0, mask, predicate != 0, -1);
}

void run_launch(const Launch &launch)
{
    const int64_t blocks = (int64_t)launch.grid.x * launch.grid.y * launch.grid.z;
#ifdef EMU_ASAN
    for (int64_t i = 0; i < blocks; i++) run_block(launch, block_at(i, blocks));
#else
#pragma omp parallel for schedule(dynamic) if (blocks > 1)
    for (int64_t i = 0; i < blocks; i++) run_block(launch, block_at(i, blocks));
#endif
}

} // namespace emu
