/* The order without any file: epochs are complete, lanes disjoint, any position can be resumed. */
#include "shards.h"

#include <stdlib.h>
#include <string.h>

#include "data/cursor.h"
#include "data/order.h"

static const int64_t shard_samples[] = {100, 0, 37, 1, 500, 3, 212};
#define SHARDS 7
#define SAMPLES 853

static void create(OrderSource *source, const char *name, int64_t block, int32_t mix, int32_t lanes)
{
    const OrderShuffle shuffle = {.block = block, .mix = mix, .lanes = lanes};
    assert_ok(order_source_create(name, shard_samples, SHARDS, &shuffle, source));
}

static void test_epochs(void **state)
{
    (void)state;
    const int32_t lane_counts[] = {1, 2, 12, 48, 853}, mixes[] = {1, 2, 5, 64};
    const int64_t blocks[] = {1, 7, 1000};
    for (size_t n = 0; n < 60; n++) {
        int32_t lanes = lane_counts[n % 5];
        OrderSource source;
        unsigned char seen[3][SHARDS][500];
        memset(seen, 0, sizeof seen);
        create(&source, "s", blocks[n / 5 % 3], mixes[n / 15], lanes);
        assert_int_equal(source.samples, SAMPLES);
        assert_true(source.block_size <= blocks[n / 5 % 3]);
        for (int32_t lane = 0; lane < lanes; lane++) {
            OrderStream stream;
            int64_t count = 0;
            assert_ok(order_stream_start(&stream, &source, 42, lane, lanes, 0, 0));
            while (stream.epoch < 3) {
                OrderVisit visit;
                int64_t epoch = stream.epoch;
                order_stream_next(&stream, &visit);
                assert_int_equal(visit.visit_epoch, epoch);
                const OrderBlock *block = &visit.block;
                assert_true(block->first >= 0 && block->first + block->size <= shard_samples[block->shard]);
                assert_true(visit.sample >= block->first && visit.sample < block->first + block->size);
                assert_int_equal(seen[epoch][block->shard][visit.sample], 0);
                seen[epoch][block->shard][visit.sample] = 1;
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
    create(&source, "s", 50, 2, 2);
    create(&other, "t", 50, 2, 2);
    assert_ok(order_stream_start(&stream, &source, 1, 0, 2, 0, 0));
    for (int i = 0; i < 400; i++) order_stream_next(&stream, &a[i]);
    for (int i = 1; i < 400; i++)
        neighbours += a[i].block.shard == a[i - 1].block.shard && a[i].sample == a[i - 1].sample + 1;
    assert_true(neighbours < 40);
    assert_ok(order_stream_start(&stream, &source, 2, 0, 2, 0, 0));
    for (int i = 0; i < 400; i++)
        order_stream_next(&stream, &b), same_seed += b.block.shard == a[i].block.shard && b.sample == a[i].sample;
    assert_ok(order_stream_start(&stream, &source, 1, 0, 2, 1, 0));
    for (int i = 0; i < 400; i++)
        order_stream_next(&stream, &b), same_epoch += b.block.shard == a[i].block.shard && b.sample == a[i].sample;
    assert_ok(order_stream_start(&stream, &other, 1, 0, 2, 0, 0));
    for (int i = 0; i < 400; i++)
        order_stream_next(&stream, &b), same_name += b.block.shard == a[i].block.shard && b.sample == a[i].sample;
    assert_true(same_seed < 60 && same_epoch < 60 && same_name < 60);
    order_source_free(&source);
    order_source_free(&other);
}

static void test_resume_anywhere(void **state)
{
    (void)state;
    for (int32_t mix = 1; mix <= 7; mix += 3) {
        OrderSource source;
        create(&source, "s", 20, mix, 5);
        for (int32_t lane = 0; lane < 5; lane++) {
            OrderStream all, part;
            assert_ok(order_stream_start(&all, &source, 9, lane, 5, 0, 0));
            OrderVisit visit = {.epoch = 0, .position = 0};
            for (int i = 0; i < 600; i++) {
                assert_ok(order_stream_start(&part, &source, 9, lane, 5, visit.epoch, visit.position));
                OrderVisit next;
                order_stream_next(&part, &next);
                order_stream_next(&all, &visit);
                assert_int_equal(next.block.shard, visit.block.shard);
                assert_int_equal(next.sample, visit.sample);
                assert_int_equal(next.epoch, visit.epoch);
                assert_int_equal(next.position, visit.position);
            }
            assert_int_equal(order_stream_start(&part, &source, 9, lane, 5, 0, 100000), ERR_MISMATCH);
            assert_int_equal(order_stream_start(&part, &source, 9, lane, 5, -1, 0), ERR_MISMATCH);
            assert_int_equal(order_stream_start(&part, &source, 9, lane, 5, 0, -1), ERR_MISMATCH);
        }
        order_source_free(&source);
    }
}

/* Correlation of neighbours in a lane by the shard that they are from: of a number +1 or -1 that each shard has, the
 * mean over some seeds. A full shuffle has 0, one shard after another 1, and groups of `mix` blocks about 1 / mix. */
static double neighbour_correlation(int64_t block, int32_t mix)
{
    enum { FEW = 40, EACH = 500, COUNT = FEW * EACH, SEEDS = 20 };
    static int of[COUNT];
    int64_t samples[FEW];
    double product = 0;
    OrderSource source;
    OrderStream stream;
    const OrderShuffle shuffle = {.block = block, .mix = mix, .lanes = 1};
    for (int s = 0; s < FEW; s++) samples[s] = EACH;
    assert_ok(order_source_create("s", samples, FEW, &shuffle, &source));
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        assert_ok(order_stream_start(&stream, &source, seed, 0, 1, 0, 0));
        for (int i = 0; i < COUNT; i++) {
            OrderVisit visit;
            order_stream_next(&stream, &visit);
            of[i] = visit.block.shard % 2 ? 1 : -1; /* an epoch: half of them each, the mean is 0 */
        }
        for (int i = 1; i < COUNT; i++) product += of[i - 1] * of[i];
    }
    order_source_free(&source);
    return product / SEEDS / (COUNT - 1);
}

static void test_mixed(void **state)
{
    (void)state;
    double alone = neighbour_correlation(250, 1), mixed = neighbour_correlation(250, 8);
    double finer = neighbour_correlation(50, 32), full = neighbour_correlation(500, 40);
    print_message("correlation of neighbours in a lane: %.3f a block at a time, %.3f with 8 mixed, %.3f with 32, %.3f "
                  "with all\n",
                  alone, mixed, finer, full);
    assert_true(alone > 0.95 && mixed < 0.2 && finer < 0.06 && full < 0.01);
}

static void test_too_few(void **state)
{
    (void)state;
    OrderSource source;
    OrderShuffle shuffle = {.block = 10, .mix = 1, .lanes = 854};
    assert_int_equal(order_source_create("tiny", shard_samples, SHARDS, &shuffle, &source), ERR_CONFIG);
    check_message("tiny");
    check_message("data.lanes");
    shuffle = (OrderShuffle){.block = 10, .mix = ORDER_MAX_MIX + 1, .lanes = 1};
    assert_int_equal(order_source_create("mixed", shard_samples, SHARDS, &shuffle, &source), ERR_CONFIG);
    check_message("data.shuffle_mix");
    const int64_t impossible[] = {10, ORDER_MAX_SHARD_SAMPLES + 1}, negative[] = {10, -1};
    shuffle.mix = 1;
    assert_int_equal(order_source_create("huge", impossible, 2, &shuffle, &source), ERR_LIMIT);
    assert_int_equal(order_source_create("huge", negative, 2, &shuffle, &source), ERR_LIMIT);
}

/* Realised proportions: to within 1% of each share after 100,000 samples, and close to it all the time. */
static void test_mixture(void **state)
{
    (void)state;
    const double shares[] = {0.1, 0, 700.0 / 790 * 0.9, 46.0 / 790 * 0.9, 44.0 / 790 * 0.9};
    const bool ended[5] = {false};
    for (uint64_t seed = 1; seed <= 5; seed++) {
        int64_t counts[5] = {0};
        for (int64_t i = 0; i < 100000; i++) counts[order_pick_source(seed, i + 77, shares, ended, 5)]++;
        for (int s = 0; s < 5; s++) {
            double wanted = shares[s] * 100000, error = (double)counts[s] - wanted;
            assert_true((error < 0 ? -error : error) <= 0.01 * wanted);
        }
    }
}

/* When a source ends, the samples of the others stay where they were, and its own go to them by their shares. */
static void test_ended(void **state)
{
    (void)state;
    const double shares[] = {0.5, 0.3, 0.2, 0};
    bool ended[4] = {false};
    int64_t moved[4] = {0};
    for (int64_t i = 0; i < 40000; i++) {
        ended[0] = false;
        int32_t before = order_pick_source(3, i, shares, ended, 4);
        ended[0] = true;
        int32_t after = order_pick_source(3, i, shares, ended, 4);
        if (before != 0) assert_int_equal(after, before);
        if (before == 0) moved[after]++;
    }
    assert_int_equal(moved[0] + moved[3], 0);
    assert_in_range(moved[1], 11600, 12400);
    assert_in_range(moved[2], 7600, 8400);
    ended[1] = true;
    for (int64_t i = 0; i < 100; i++) assert_int_equal(order_pick_source(3, i, shares, ended, 4), 2);
    const double tiny[] = {1 - 1e-12, 1e-12};
    const bool first[] = {true, false}, both[] = {true, true};
    for (int64_t i = 0; i < 100; i++) assert_int_equal(order_pick_source(3, i, tiny, first, 2), 1);
    assert_int_equal(order_pick_source(3, 0, tiny, both, 2), -1);
}

/* A visit's key is its own: another in the next epoch, the same for whoever asks. */
static void test_visit_keys(void **state)
{
    (void)state;
    OrderSource source;
    OrderStream stream;
    uint64_t keys[2 * SAMPLES];
    create(&source, "s", 50, 3, 1);
    assert_ok(order_stream_start(&stream, &source, 1, 0, 1, 0, 0));
    for (int i = 0; i < 2 * SAMPLES; i++) {
        OrderVisit visit;
        order_stream_next(&stream, &visit);
        keys[i] = order_visit_key(&source, &visit);
        for (int j = 0; j < i; j++) assert_true(keys[j] != keys[i]);
    }
    order_source_free(&source);
}

/* Sources that are not served for a while keep their places. */
static void test_cursor_join(void **state)
{
    Cursor *before, *served, *joined;
    assert_ok(cursor_create(3, 2, 3, &before));
    assert_ok(cursor_set_source(before, 0, "a", &(CursorSource){.samples = 5, .block_size = 1, .mix = 1}));
    assert_ok(
        cursor_set_source(before, 1, "b", &(CursorSource){.samples = 6, .block_size = 2, .mix = 1, .identity = 9}));
    assert_ok(cursor_set_source(before, 2, "c", &(CursorSource){.samples = 7, .block_size = 1, .mix = 1}));
    for (int i = 0; i < 6; i++) before->positions[i] = (LanePosition){.epoch = i, .position = 10 * i};
    before->next_index = 100;
    assert_ok(cursor_create(3, 2, 2, &served));
    assert_ok(cursor_set_source(served, 0, "c", &(CursorSource){.samples = 7, .block_size = 1, .mix = 1}));
    assert_ok(cursor_set_source(served, 1, "new", &(CursorSource){.samples = 8, .block_size = 1, .mix = 1}));
    for (int i = 0; i < 4; i++) served->positions[i] = (LanePosition){.epoch = 50 + i, .position = 7 * i};
    served->next_index = 140;
    assert_ok(cursor_join(served, before, &joined));
    assert_int_equal(joined->next_index, 140);
    assert_int_equal(joined->source_count, 4);
    const char *const names[] = {"c", "new", "a", "b"};
    for (int s = 0; s < 4; s++) assert_string_equal(joined->sources[s].name, names[s]);
    assert_memory_equal(joined->positions, served->positions, 4 * sizeof(LanePosition));
    assert_memory_equal(joined->positions + 4, before->positions, 4 * sizeof(LanePosition));
    assert_int_equal(joined->sources[3].identity, 9);
    cursor_free(joined);
    cursor_free(served);
    cursor_free(before);
}

static void test_cursor_text(void **state)
{
    (void)state;
    Cursor *cursor, *copy, *part;
    StrBuf text = {0}, again = {0};
    assert_ok(cursor_create(0xfedcba9876543210u, 6, 2, &cursor));
    const CursorSource facts = {.samples = 1000, .block_size = 7, .mix = 3, .identity = 0xffffffffffffffffu};
    assert_ok(cursor_set_source(cursor, 0, "laion \"x\" é", &facts));
    assert_ok(cursor_set_source(cursor, 1, "b", &(CursorSource){.samples = 5, .block_size = 1, .mix = 1}));
    cursor->next_index = (int64_t)1 << 40;
    for (int i = 0; i < 12; i++) cursor->positions[i] = (LanePosition){.epoch = i, .position = 100 * i};
    assert_ok(cursor_save(cursor, &text));
    assert_ok(cursor_load(text.data, text.size, &copy));
    assert_int_equal(copy->next_index, (int64_t)1 << 40);
    assert_true(copy->seed == 0xfedcba9876543210u);
    assert_string_equal(copy->sources[0].name, "laion \"x\" é");
    assert_true(copy->sources[0].identity == 0xffffffffffffffffu);
    assert_int_equal(copy->sources[0].mix, 3);
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
        "{\"version\":2,\"seed\":\"0000000000000000\",\"next_index\":0,\"lanes\":1,\"sources\":[{\"name\":\"a\","
        "\"samples\":1,\"block_size\":1,\"mix\":1,\"identity\":\"0000000000000000\",\"positions\":[0,-1]}]}";
    const char *bad[] = {"{}",
                         "[]",
                         "{\"version\":1}",
                         "{\"version\":2,\"seed\":\"0000000000000000\",\"next_index\":0,\"lanes\":1,\"sources\":[]}",
                         "{\"version\":2,\"seed\":\"0000000000000000\",\"next_index\":0,\"lanes\":-1,\"sources\":[{}]}",
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
        cmocka_unit_test(test_epochs),      cmocka_unit_test(test_shuffled),   cmocka_unit_test(test_resume_anywhere),
        cmocka_unit_test(test_mixed),       cmocka_unit_test(test_too_few),    cmocka_unit_test(test_mixture),
        cmocka_unit_test(test_ended),       cmocka_unit_test(test_visit_keys), cmocka_unit_test(test_cursor_text),
        cmocka_unit_test(test_cursor_join),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
