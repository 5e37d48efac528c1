/* Arenas and checked allocation. An arena lives as long as the object that owns it; everything in it goes at once. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct Arena Arena;

Status arena_create(Arena **out);
void arena_free(Arena *arena); /* NULL is fine */
/* Zeroed memory, 16-byte aligned; NULL when out of memory (and ERR_MEMORY is recorded). */
void *arena_alloc(Arena *arena, size_t size);
void *arena_alloc_array(Arena *arena, size_t count, size_t size); /* NULL on overflow too */
char *arena_strdup(Arena *arena, const char *text);
char *arena_printf(Arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Heap memory with the multiplication checked; zeroed. NULL (and ERR_MEMORY recorded) on failure. */
void *mem_alloc_array(size_t count, size_t size);
/* Grows `*items` to hold at least `needed` items, doubling. The old pointer stays valid on failure. */
Status mem_grow(void *items_pointer, size_t *capacity, size_t needed, size_t item_size);
/* 64-byte aligned, zeroed; large blocks on huge pages where the system has them. Free with mem_free_aligned. */
void *mem_alloc_aligned(size_t size);
void mem_free_aligned(void *memory);

/* a*b and a+b of int64/size_t with overflow reported; true when it fits. */
bool mem_mul_size(size_t a, size_t b, size_t *out);
bool mem_add_size(size_t a, size_t b, size_t *out);

/* How many times this process has called the allocators above and malloc-like ones it wraps: a training loop proves
 * with it that nothing is allocated after the first step. */
int64_t mem_allocation_count(void);
/* The same by the calling thread alone: a loader's threads go on decoding meanwhile. */
int64_t mem_thread_allocation_count(void);

/* A growing byte string, always NUL-terminated past `size`. Once it could not grow, every later call fails too, so that
 * who looks at the last one alone never takes a text with a gap for a whole one. */
typedef struct StrBuf {
    char *data;
    size_t size, capacity;
    bool failed;
} StrBuf;
Status strbuf_append(StrBuf *buf, const void *data, size_t size);
Status strbuf_printf(StrBuf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
void strbuf_free(StrBuf *buf); /* leaves an empty, reusable buffer */

#endif
