/* The order without any file: epochs are complete, lanes disjoint, any position can be resumed. */
#include "shards.h"

#include <stdlib.h>
#include <string.h>

#include "data/cursor.h"
#include "data/order.h"

static const int64_t shard_samples[] = {100, 0, 37, 1, 500, 3, 212};
#define SHARDS 7
#define SAMPLES 853

static void test_epochs(void **state)
{
    (void)state;
    const int32_t lane_counts[] = {1, 2, 12, 48, 853};
    const int64_t blocks[] = {1, 7, 1000};
    for (size_t n = 0; n < 15; n++) {
        int32_t lanes = lane_counts[n % 5];
        OrderSource source;
        unsigned char seen[3][SHARDS][500];
        memset(seen, 0, sizeof seen);
        assert_ok(order_source_create("s", shard_samples, SHARDS, blocks[n / 5], lanes, &source));
        assert_int_equal(source.samples, SAMPLES);
        assert_true(source.block_size <= blocks[n / 5]);
        for (int32_t lane = 0; lane < lanes; lane++) {
            OrderStream stream;
            int64_t count = 0;
            assert_ok(order_stream_start(&stream, &source, 42, lane, lanes, 0, 0));
            while (stream.epoch < 3) {
                OrderVisit visit;
                int64_t epoch = stream.epoch;
                order_stream_next(&stream, &visit);
                assert_int_equal(visit.visit_epoch, epoch);
                assert_true(visit.sample < shard_samples[visit.shard]);
                assert_int_equal(seen[epoch][visit.shard][visit.sample], 0);
                seen[epoch][visit.shard][visit.sample] = 1;
                count++;
            }
            assert_true(count >= 3); /* no lane is empty in an epoch */
        }
        for (int e = 0; e < 3; e++) {
            int total = 0;
            for (int s = 0; s < SHARDS; s++)
                for (int i = 0; i < 500; i++) total += seen[e][s][i];
            assert_int_equal(total, SAMPLES);
        }
        order_source_free(&source);
    }
}

static void test_shuffled(void **state)
{
    (void)state;
    OrderSource source, other;
    OrderVisit a[400], b;
    OrderStream stream;
    int same_seed = 0, same_epoch = 0, same_name = 0, neighbours = 0;
    assert_ok(order_source_create("s", shard_samples, SHARDS, 50, 2, &source));
    assert_ok(order_source_create("t", shard_samples, SHARDS, 50, 2, &other));
    assert_ok(order_stream_start(&stream, &source, 1, 0, 2, 0, 0));
    for (int i = 0; i < 400; i++) order_stream_next(&stream, &a[i]);
    for (int i = 1; i < 400; i++) neighbours += a[i].shard == a[i - 1].shard && a[i].sample == a[i - 1].sample + 1;
    assert_true(neighbours < 40);
    assert_ok(order_stream_start(&stream, &source, 2, 0, 2, 0, 0));
    for (int i = 0; i < 400; i++)
        order_stream_next(&stream, &b), same_seed += b.shard == a[i].shard && b.sample == a[i].sample;
    assert_ok(order_stream_start(&stream, &source, 1, 0, 2, 1, 0));
    for (int i = 0; i < 400; i++)
        order_stream_next(&stream, &b), same_epoch += b.shard == a[i].shard && b.sample == a[i].sample;
    assert_ok(order_stream_start(&stream, &other, 1, 0, 2, 0, 0));
    for (int i = 0; i < 400; i++)
        order_stream_next(&stream, &b), same_name += b.shard == a[i].shard && b.sample == a[i].sample;
    assert_true(same_seed < 60 && same_epoch < 60 && same_name < 60);
    order_source_free(&source);
    order_source_free(&other);
}

static void test_resume_anywhere(void **state)
{
    (void)state;
    OrderSource source;
    assert_ok(order_source_create("s", shard_samples, SHARDS, 20, 5, &source));
    for (int32_t lane = 0; lane < 5; lane++) {
        OrderStream all, part;
        assert_ok(order_stream_start(&all, &source, 9, lane, 5, 0, 0));
        OrderVisit visit = {.epoch = 0, .position = 0};
        for (int i = 0; i < 600; i++) {
            assert_ok(order_stream_start(&part, &source, 9, lane, 5, visit.epoch, visit.position));
            OrderVisit next;
            order_stream_next(&part, &next);
            order_stream_next(&all, &visit);
            assert_int_equal(next.shard, visit.shard);
            assert_int_equal(next.sample, visit.sample);
            assert_int_equal(next.epoch, visit.epoch);
            assert_int_equal(next.position, visit.position);
        }
        assert_int_equal(order_stream_start(&part, &source, 9, lane, 5, 0, 100000), ERR_MISMATCH);
    }
    order_source_free(&source);
}

static void test_too_few(void **state)
{
    (void)state;
    OrderSource source;
    assert_int_equal(order_source_create("tiny", shard_samples, SHARDS, 10, 854, &source), ERR_CONFIG);
    check_message("tiny");
    check_message("data.lanes");
}

static void test_mixture(void **state)
{
    (void)state;
    const double shares[] = {0.1, 0.1, 0.7, 1.0}; /* 10%, nothing, 60%, 30% */
    int counts[4] = {0};
    for (int64_t i = 0; i < 20000; i++) counts[order_pick_source(3, i, shares, 4)]++;
    assert_in_range(counts[0], 1800, 2200);
    assert_int_equal(counts[1], 0);
    assert_in_range(counts[2], 11600, 12400);
    assert_in_range(counts[3], 5700, 6300);
}

static void test_cursor_text(void **state)
{
    (void)state;
    Cursor *cursor, *copy, *part;
    StrBuf text = {0}, again = {0};
    assert_ok(cursor_create(0xfedcba9876543210u, 6, 2, &cursor));
    assert_ok(cursor_set_source(cursor, 0, "laion \"x\" é", 1000, 7, 0xffffffffffffffffu));
    assert_ok(cursor_set_source(cursor, 1, "b", 5, 1, 0));
    cursor->next_index = (int64_t)1 << 40;
    for (int i = 0; i < 12; i++) cursor->positions[i] = (LanePosition){.epoch = i, .position = 100 * i};
    assert_ok(cursor_save(cursor, &text));
    assert_ok(cursor_load(text.data, text.size, &copy));
    assert_int_equal(copy->next_index, (int64_t)1 << 40);
    assert_true(copy->seed == 0xfedcba9876543210u);
    assert_string_equal(copy->sources[0].name, "laion \"x\" é");
    assert_true(copy->sources[0].identity == 0xffffffffffffffffu);
    assert_memory_equal(copy->positions, cursor->positions, 12 * sizeof(LanePosition));
    assert_ok(cursor_save(copy, &again));
    assert_string_equal(again.data, text.data);

    /* Three ranks, each with its own lanes advanced: merged one by one, and as a sum over ranks. */
    int64_t sum[24] = {0}, values[24];
    Cursor *full;
    assert_ok(cursor_clone(cursor, &full));
    for (int rank = 0; rank < 3; rank++) {
        assert_ok(cursor_clone(cursor, &part));
        for (int i = 0; i < 12; i++) part->positions[i].position = i % 6 % 3 == rank ? 7 + i : -1;
        assert_ok(cursor_merge(full, part, rank, 3));
        assert_int_equal(cursor_value_count(part), 24);
        cursor_export(part, rank, 3, values);
        for (int v = 0; v < 24; v++) sum[v] += values[v];
        if (rank == 2) {
            part->next_index++;
            assert_int_equal(cursor_merge(full, part, rank, 3), ERR_MISMATCH);
        }
        cursor_free(part);
    }
    for (int i = 0; i < 12; i++) assert_int_equal(full->positions[i].position, 7 + i);
    cursor_import(copy, sum);
    assert_memory_equal(copy->positions, full->positions, 12 * sizeof(LanePosition));

    /* Every cut of the text, and some wrong values, are refused. */
    cursor_free(copy);
    for (size_t cut = 0; cut + 1 < text.size; cut++)
        assert_int_not_equal(cursor_load(text.data, cut, &copy), STATUS_OK);
    const char *negative =
        "{\"version\":1,\"seed\":\"0000000000000000\",\"next_index\":0,\"lanes\":1,\"sources\":[{\"name\":\"a\","
        "\"samples\":1,\"block_size\":1,\"identity\":\"0000000000000000\",\"positions\":[0,-1]}]}";
    const char *bad[] = {"{}",
                         "[]",
                         "{\"version\":2}",
                         "{\"version\":1,\"seed\":\"0000000000000000\",\"next_index\":0,\"lanes\":1,\"sources\":[]}",
                         "{\"version\":1,\"seed\":\"0000000000000000\",\"next_index\":0,\"lanes\":-1,\"sources\":[{}]}",
                         negative};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(cursor_load(bad[i], strlen(bad[i]), &copy), ERR_FORMAT);
    strbuf_free(&text);
    strbuf_free(&again);
    cursor_free(cursor);
    cursor_free(full);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_epochs),  cmocka_unit_test(test_shuffled), cmocka_unit_test(test_resume_anywhere),
        cmocka_unit_test(test_too_few), cmocka_unit_test(test_mixture),  cmocka_unit_test(test_cursor_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
