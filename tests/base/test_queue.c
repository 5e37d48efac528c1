/* The queue between threads: nothing lost, nothing twice, nobody left waiting. */
#include "check.h"

#include <pthread.h>

#include "base/queue.h"
#include "temp_dir.h"

enum { PRODUCERS = 3, CONSUMERS = 4, ITEMS = 5000 };

typedef struct Consumer {
    Queue *queue;
    unsigned char *seen;
    int count;
} Consumer;

static int numbers[PRODUCERS * ITEMS];

static void *produce(void *argument)
{
    Queue *queue = ((void **)argument)[0];
    int *items = ((void **)argument)[1];
    for (int i = 0; i < ITEMS; i++) assert_true(queue_push(queue, &items[i]));
    return NULL;
}

static void *consume(void *argument)
{
    Consumer *consumer = argument;
    for (int *item; (item = queue_pop(consumer->queue));) {
        __atomic_fetch_add(&consumer->seen[*item], 1, __ATOMIC_RELAXED);
        consumer->count++;
    }
    return NULL;
}

static void test_many_threads(void **state)
{
    Queue *queue;
    assert_ok(queue_create(7, &queue));
    unsigned char *seen = calloc(PRODUCERS * ITEMS, 1);
    for (int i = 0; i < PRODUCERS * ITEMS; i++) numbers[i] = i;
    pthread_t producers[PRODUCERS], consumers[CONSUMERS];
    void *arguments[PRODUCERS][2];
    Consumer states[CONSUMERS];
    for (int i = 0; i < CONSUMERS; i++) {
        states[i] = (Consumer){queue, seen, 0};
        pthread_create(&consumers[i], NULL, consume, &states[i]);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        arguments[i][0] = queue;
        arguments[i][1] = numbers + i * ITEMS;
        pthread_create(&producers[i], NULL, produce, arguments[i]);
    }
    for (int i = 0; i < PRODUCERS; i++) pthread_join(producers[i], NULL);
    queue_close(queue);
    int total = 0;
    for (int i = 0; i < CONSUMERS; i++) {
        pthread_join(consumers[i], NULL);
        total += states[i].count;
    }
    assert_int_equal(total, PRODUCERS * ITEMS);
    for (int i = 0; i < PRODUCERS * ITEMS; i++) assert_int_equal(seen[i], 1);
    free(seen);
    queue_free(queue);
}

static void test_order_and_close(void **state)
{
    Queue *queue;
    int items[3] = {0};
    assert_ok(queue_create(3, &queue));
    assert_null(queue_try_pop(queue));
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 3; i++) assert_true(queue_push(queue, &items[i]));
        assert_int_equal(queue_count(queue), 3);
        assert_ptr_equal(queue_pop(queue), &items[0]);
        assert_ptr_equal(queue_try_pop(queue), &items[1]);
        assert_ptr_equal(queue_pop(queue), &items[2]);
    }
    assert_true(queue_push(queue, &items[1]));
    queue_close(queue);
    assert_false(queue_push(queue, &items[2]));
    assert_ptr_equal(queue_pop(queue), &items[1]); /* what is inside comes out still */
    assert_null(queue_pop(queue));
    queue_free(queue);
    queue_free(NULL);
    assert_fails(queue_create(0, &queue), ERR_INTERNAL, "queue");
}

static void *push_until_closed(void *queue)
{
    static int item;
    while (queue_push(queue, &item)) continue;
    return NULL;
}

static void *pop_one(void *queue)
{
    return queue_pop(queue);
}

/* Closing wakes those who wait for room and those who wait for an item. */
static void test_close_wakes(void **state)
{
    Queue *full, *empty;
    pthread_t pushers[3], poppers[3];
    assert_ok(queue_create(1, &full));
    assert_ok(queue_create(1, &empty));
    for (int i = 0; i < 3; i++) {
        pthread_create(&pushers[i], NULL, push_until_closed, full);
        pthread_create(&poppers[i], NULL, pop_one, empty);
    }
    while (queue_count(full) == 0) continue;
    queue_close(full);
    queue_close(empty);
    for (int i = 0; i < 3; i++) {
        void *got;
        pthread_join(pushers[i], NULL);
        pthread_join(poppers[i], &got);
        assert_null(got);
    }
    queue_free(full);
    queue_free(empty);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_threads),
        cmocka_unit_test(test_order_and_close),
        cmocka_unit_test(test_close_wakes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
