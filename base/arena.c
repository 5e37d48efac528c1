#include "base/arena.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define FIRST_CHUNK ((size_t)16 << 10)
#define LARGEST_CHUNK ((size_t)1 << 20)
#define ALIGNMENT 16
#define HUGE_PAGE ((size_t)2 << 20)
#define MAPPED_FROM ((size_t)4 << 20) /* aligned blocks from this size are mappings of their own */

static atomic_int_fast64_t allocation_count;
static _Thread_local int64_t thread_allocation_count;

static void count_allocation(void)
{
    thread_allocation_count++;
    atomic_fetch_add_explicit(&allocation_count, 1, memory_order_relaxed);
}

int64_t mem_allocation_count(void)
{
    return atomic_load_explicit(&allocation_count, memory_order_relaxed);
}

int64_t mem_thread_allocation_count(void)
{
    return thread_allocation_count;
}

static void record_failure(size_t size, int line)
{
    status_fail(ERR_MEMORY, __FILE__, line, "out of memory: %zu bytes could not be had", size);
}

bool mem_mul_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

bool mem_add_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

/* --- arenas --- */

typedef struct Chunk {
    struct Chunk *next;
    size_t size, used; /* of the bytes that follow */
} Chunk;

#define CHUNK_HEADER ((sizeof(Chunk) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT)

struct Arena {
    Chunk *chunks; /* the newest first; allocations come from it */
    size_t next_size;
};

Status arena_create(Arena **out)
{
    *out = NULL;
    Arena *arena = mem_alloc_array(1, sizeof *arena);
    if (!arena) return ERR_MEMORY;
    arena->next_size = FIRST_CHUNK;
    *out = arena;
    return STATUS_OK;
}

void arena_free(Arena *arena)
{
    if (!arena) return;
    for (Chunk *chunk = arena->chunks, *next; chunk; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    free(arena);
}

void *arena_alloc(Arena *arena, size_t size)
{
    size_t rounded;
    if (size == 0) size = 1;
    if (!mem_add_size(size, ALIGNMENT - 1, &rounded)) {
        record_failure(size, __LINE__);
        return NULL;
    }
    rounded = rounded / ALIGNMENT * ALIGNMENT;

    Chunk *chunk = arena->chunks;
    if (!chunk || chunk->size - chunk->used < rounded) {
        size_t wanted = rounded > arena->next_size / 4 ? rounded : arena->next_size;
        size_t total;
        Chunk *fresh = mem_add_size(wanted, CHUNK_HEADER, &total) ? calloc(1, total) : NULL;
        if (!fresh) {
            record_failure(size, __LINE__);
            return NULL;
        }
        count_allocation();
        fresh->size = wanted;
        if (wanted == rounded && chunk) {
            /* A large block gets a chunk of its own, placed second so that the room left in the first is not lost. */
            fresh->next = chunk->next;
            chunk->next = fresh;
        } else {
            fresh->next = chunk;
            arena->chunks = fresh;
            if (arena->next_size < LARGEST_CHUNK) arena->next_size *= 2;
        }
        chunk = fresh;
    }
    void *memory = (char *)chunk + CHUNK_HEADER + chunk->used;
    chunk->used += rounded;
    return memory;
}

void *arena_alloc_array(Arena *arena, size_t count, size_t size)
{
    size_t total;
    if (!mem_mul_size(count, size, &total)) {
        record_failure(SIZE_MAX, __LINE__);
        return NULL;
    }
    return arena_alloc(arena, total);
}

char *arena_strdup(Arena *arena, const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = arena_alloc(arena, size);
    if (copy) memcpy(copy, text, size);
    return copy;
}

char *arena_printf(Arena *arena, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0) {
        record_failure(0, __LINE__);
        return NULL;
    }
    char *text = arena_alloc(arena, (size_t)length + 1);
    if (!text) return NULL;
    va_start(args, format);
    vsnprintf(text, (size_t)length + 1, format, args);
    va_end(args);
    return text;
}

/* --- heap --- */

void *mem_alloc_array(size_t count, size_t size)
{
    size_t total;
    void *memory = mem_mul_size(count, size, &total) ? calloc(1, total ? total : 1) : NULL;
    if (!memory) {
        record_failure(mem_mul_size(count, size, &total) ? total : SIZE_MAX, __LINE__);
        return NULL;
    }
    count_allocation();
    return memory;
}

Status mem_grow(void *items_pointer, size_t *capacity, size_t needed, size_t item_size)
{
    if (needed <= *capacity) return STATUS_OK;
    size_t wanted = *capacity ? *capacity : 8;
    while (wanted < needed) {
        if (!mem_mul_size(wanted, 2, &wanted)) wanted = needed;
    }
    void *items;
    memcpy(&items, items_pointer, sizeof items);
    size_t total;
    void *grown = mem_mul_size(wanted, item_size, &total) ? realloc(items, total ? total : 1) : NULL;
    if (!grown) {
        record_failure(mem_mul_size(needed, item_size, &total) ? total : SIZE_MAX, __LINE__);
        return ERR_MEMORY;
    }
    count_allocation();
    memcpy(items_pointer, &grown, sizeof grown);
    *capacity = wanted;
    return STATUS_OK;
}

/* Stands in the 64 bytes before an aligned block. */
typedef struct AlignedHeader {
    void *base;
    size_t mapped_size; /* 0: from the heap */
} AlignedHeader;

#define CACHE_LINE ((size_t)64)

static AlignedHeader *aligned_header(void *memory)
{
    return (AlignedHeader *)(void *)((char *)memory - CACHE_LINE);
}

/* Pages that are zero until touched. The block begins on a huge page; its header lies in the small page before. */
static void *map_aligned(size_t size)
{
    const size_t page = 4096;
    size_t total;
    if (!mem_add_size(size, HUGE_PAGE + 2 * page, &total)) return NULL;
    total = total / page * page;
    char *base = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return NULL;
    size_t beyond = (uintptr_t)(base + page) % HUGE_PAGE;
    char *block = base + page + (beyond ? HUGE_PAGE - beyond : 0);
    char *start = block - page;
    char *end = block + (size + page - 1) / page * page;
    if (start > base) munmap(base, (size_t)(start - base));
    if (base + total > end) munmap(end, (size_t)(base + total - end));
    (void)madvise(block, size, MADV_HUGEPAGE); /* a wish: not every kernel has huge pages */
    *aligned_header(block) = (AlignedHeader){start, (size_t)(end - start)};
    return block;
}

void *mem_alloc_aligned(size_t size)
{
    void *block = NULL;
    if (size >= MAPPED_FROM) {
        block = map_aligned(size);
    } else {
        void *base;
        if (posix_memalign(&base, CACHE_LINE, size + CACHE_LINE) == 0) {
            memset(base, 0, size + CACHE_LINE);
            block = (char *)base + CACHE_LINE;
            *aligned_header(block) = (AlignedHeader){base, 0};
        }
    }
    if (!block) {
        record_failure(size, __LINE__);
        return NULL;
    }
    count_allocation();
    return block;
}

void mem_free_aligned(void *memory)
{
    if (!memory) return;
    AlignedHeader header = *aligned_header(memory);
    if (header.mapped_size)
        munmap(header.base, header.mapped_size);
    else
        free(header.base);
}

/* --- strings --- */

static Status strbuf_reserve(StrBuf *buf, size_t extra)
{
    size_t needed;
    if (buf->failed || !mem_add_size(buf->size, extra, &needed) || !mem_add_size(needed, 1, &needed)) {
        record_failure(SIZE_MAX, __LINE__);
        buf->failed = true;
        return ERR_MEMORY;
    }
    const Status status = mem_grow(&buf->data, &buf->capacity, needed, 1);
    buf->failed = status != STATUS_OK;
    return status;
}

Status strbuf_append(StrBuf *buf, const void *data, size_t size)
{
    Status status = STATUS_OK;
    TRY(strbuf_reserve(buf, size));
    if (size) memcpy(buf->data + buf->size, data, size);
    buf->size += size;
    buf->data[buf->size] = '\0';
fail:
    return status;
}

Status strbuf_printf(StrBuf *buf, const char *format, ...)
{
    Status status = STATUS_OK;
    va_list args;
    TRY(strbuf_reserve(buf, 64));
    va_start(args, format);
    int length = vsnprintf(buf->data + buf->size, buf->capacity - buf->size, format, args);
    va_end(args);
    if (length < 0) FAIL(ERR_INTERNAL, "a text could not be formatted: %s", format);
    if ((size_t)length >= buf->capacity - buf->size) {
        buf->data[buf->size] = '\0';
        TRY(strbuf_reserve(buf, (size_t)length));
        va_start(args, format);
        vsnprintf(buf->data + buf->size, buf->capacity - buf->size, format, args);
        va_end(args);
    }
    buf->size += (size_t)length;
fail:
    return status;
}

void strbuf_free(StrBuf *buf)
{
    free(buf->data);
    *buf = (StrBuf){0};
}
