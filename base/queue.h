/* A bounded queue of pointers between threads. Push blocks while full, pop while empty; closing wakes everyone. */
#ifndef BASE_QUEUE_H
#define BASE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

typedef struct Queue Queue;

Status queue_create(size_t capacity, Queue **out);
void queue_free(Queue *queue);             /* does not free what is still inside: pop it first */
bool queue_push(Queue *queue, void *item); /* false: closed, the item stays the caller's */
void *queue_pop(Queue *queue);             /* NULL: closed and empty */
void *queue_try_pop(Queue *queue);         /* NULL: empty now */
/* Waits for an item at most so long: false when none came. *item NULL: closed and empty. */
bool queue_pop_within(Queue *queue, double seconds, void **item);
void queue_close(Queue *queue);
size_t queue_count(Queue *queue);

#endif
