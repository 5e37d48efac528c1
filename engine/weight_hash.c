/* The host's half of the hash: parts of the words to threads, their sums added up. */
#include "engine/weight_hash.h"

#include <pthread.h>

enum { THREADS_MAX = 64 };
/* A thread costs some ten microseconds to start: so many words are hashed in less. */
#define WORDS_A_THREAD ((int64_t)1 << 16)

typedef struct Part {
    const uint32_t *words;
    int64_t count;
    uint64_t first, sum;
} Part;

static uint64_t sum_of(const uint32_t *words, int64_t count, uint64_t first)
{
    uint64_t sum = 0;
    for (int64_t i = 0; i < count; i++) sum += weight_hash_mix((first + (uint64_t)i) << 32 | words[i]);
    return sum;
}

static void *hash_part(void *argument)
{
    Part *part = argument;
    part->sum = sum_of(part->words, part->count, part->first);
    return NULL;
}

uint64_t weight_hash(const uint32_t *words, int64_t count, uint64_t first, int threads)
{
    Part parts[THREADS_MAX] = {{0}};
    pthread_t ids[THREADS_MAX];
    int started = 0;
    if (threads > count / WORDS_A_THREAD) threads = (int)(count / WORDS_A_THREAD);
    if (threads > THREADS_MAX) threads = THREADS_MAX;
    if (threads < 1) threads = 1;
    const int64_t each = count / threads;
    for (; started + 1 < threads; started++) {
        Part *part = &parts[started];
        *part = (Part){words + each * started, each, first + (uint64_t)(each * started), 0};
        if (pthread_create(&ids[started], NULL, hash_part, part)) break;
    }
    /* The rest is ours, with what threads that could not start would have done. */
    const int64_t done = each * started;
    uint64_t sum = sum_of(words + done, count - done, first + (uint64_t)done);
    for (int k = 0; k < started; k++) {
        pthread_join(ids[k], NULL);
        sum += parts[k].sum;
    }
    return sum;
}
