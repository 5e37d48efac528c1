#include "base/queue.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/arena.h"

struct Queue {
    pthread_mutex_t mutex;
    pthread_cond_t not_full, not_empty;
    size_t capacity, head, count;
    bool closed;
    void **items; /* a ring: `count` items from `head` on */
};

Status queue_create(size_t capacity, Queue **out)
{
    Status status = STATUS_OK;
    Queue *queue = NULL;
    *out = NULL;
    if (capacity == 0) FAIL(ERR_INTERNAL, "a queue needs room for one item at least");
    queue = mem_alloc_array(1, sizeof *queue);
    if (!queue) FAIL_WITH(ERR_MEMORY);
    queue->items = mem_alloc_array(capacity, sizeof *queue->items);
    if (!queue->items) FAIL_WITH(ERR_MEMORY);
    queue->capacity = capacity;
    pthread_mutex_init(&queue->mutex, NULL); /* never fails on Linux with default attributes */
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&queue->not_full, NULL);
    pthread_cond_init(&queue->not_empty, &monotonic);
    pthread_condattr_destroy(&monotonic);
    *out = queue;
    return STATUS_OK;
fail:
    free(queue);
    return status;
}

void queue_free(Queue *queue)
{
    if (!queue) return;
    pthread_cond_destroy(&queue->not_empty);
    pthread_cond_destroy(&queue->not_full);
    pthread_mutex_destroy(&queue->mutex);
    free(queue->items);
    free(queue);
}

bool queue_push(Queue *queue, void *item)
{
    pthread_mutex_lock(&queue->mutex);
    while (queue->count == queue->capacity && !queue->closed) pthread_cond_wait(&queue->not_full, &queue->mutex);
    bool accepted = !queue->closed;
    if (accepted) {
        queue->items[(queue->head + queue->count) % queue->capacity] = item;
        queue->count++;
        pthread_cond_signal(&queue->not_empty);
    }
    pthread_mutex_unlock(&queue->mutex);
    return accepted;
}

/* With the mutex held and an item inside. */
static void *take(Queue *queue)
{
    void *item = queue->items[queue->head];
    queue->head = (queue->head + 1) % queue->capacity;
    queue->count--;
    pthread_cond_signal(&queue->not_full);
    return item;
}

void *queue_pop(Queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    while (queue->count == 0 && !queue->closed) pthread_cond_wait(&queue->not_empty, &queue->mutex);
    void *item = queue->count > 0 ? take(queue) : NULL;
    pthread_mutex_unlock(&queue->mutex);
    return item;
}

void *queue_try_pop(Queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    void *item = queue->count > 0 ? take(queue) : NULL;
    pthread_mutex_unlock(&queue->mutex);
    return item;
}

bool queue_pop_within(Queue *queue, double seconds, void **item)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)seconds;
    until.tv_nsec += (long)((seconds - (double)(time_t)seconds) * 1e9);
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_mutex_lock(&queue->mutex);
    int waited = 0;
    while (queue->count == 0 && !queue->closed && waited == 0)
        waited = pthread_cond_timedwait(&queue->not_empty, &queue->mutex, &until);
    bool came = queue->count > 0 || queue->closed;
    *item = queue->count > 0 ? take(queue) : NULL;
    pthread_mutex_unlock(&queue->mutex);
    return came;
}

void queue_close(Queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    queue->closed = true;
    pthread_cond_broadcast(&queue->not_full);
    pthread_cond_broadcast(&queue->not_empty);
    pthread_mutex_unlock(&queue->mutex);
}

size_t queue_count(Queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    size_t count = queue->count;
    pthread_mutex_unlock(&queue->mutex);
    return count;
}
