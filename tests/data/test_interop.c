/* Shards that the real img2dataset, webdataset and Python's tarfile have written (tests/interop/make_fixtures.py) are
 * read as webdataset reads them: keys, members, bytes, captions; compressed as they lie here, and as plain tars. */
#include "shards.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "data/shard_file.h"
#include "data/shard_reader.h"

#define FIXTURES TEST_SOURCE_DIR "/data/interop"

static const char *const fixtures[] = {"img2dataset-jpg", "img2dataset-webp", "webdataset", "gnu", "pax"};
enum { FIXTURE_COUNT = sizeof fixtures / sizeof fixtures[0] };

static char folder[512];

static int set_up(void **state)
{
    (void)state;
    make_folder(folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    remove_folder(folder);
    return 0;
}

static void describe_members(ShardStore *store, const Candidate *c, StrBuf *out)
{
    const ShardWindow *window;
    assert_ok(shard_store_acquire(store, c->source, c->shard, c->first, c->count, &window));
    const SampleTable *table = &window->index->table;
    const Sample *sample = &table->samples[c->sample - window->first];
    for (uint32_t m = 0; m < sample->member_count; m++) {
        const SampleMember *member = &table->members[sample->first_member + m];
        uint8_t *bytes = malloc((size_t)member->size + SHARD_HEADER);
        char digits[33];
        assert_non_null(bytes);
        assert_ok(shard_window_read(store, window, member, bytes));
        hash_format(hash_memory(bytes + SHARD_HEADER, (size_t)member->size), digits);
        assert_ok(strbuf_printf(out, "member %s %d %s\n", sample_suffix(table, member), (int)member->size, digits));
        free(bytes);
    }
    shard_store_release(store, window);
}

/* Every sample of a shard, as expected.txt has it. */
static void describe(const char *name, const char *path, StrBuf *out)
{
    DataConfig data;
    BadSamples bad = {0};
    ShardStore *store;
    ShardReader *reader;
    const Candidate *c;
    Config *config = parse_data_config(&data,
                                       "sources: [{name: s, shards: ['%s']}]\nwrite_index: false\ndecode_threads: 2\n"
                                       "filter: {watermark_max: 10, unsafe_max: 10, similarity_min: -1, min_side: 0}\n",
                                       path);
    ShardStoreOptions options = {.config = &data, .threads = 1, .windows = 4};
    Status status;
    assert_ok(shard_store_open(&options, &bad, &store));
    assert_int_equal(bad.counts[SHARD_BROKEN], 0);
    assert_ok(shard_reader_open(&data, store, 16, false, &reader));
    assert_ok(strbuf_printf(out, "shard %s\n", name));
    shard_reader_begin(reader, 0, 0, shard_store_samples(store, 0)[0]);
    while ((status = shard_reader_next(reader, &c)) == STATUS_OK) {
        assert_ok(strbuf_printf(out, "sample %s\n", c->key.data));
        describe_members(store, c, out);
        for (size_t i = 0; i < c->caption_count; i++) {
            const char *language = c->text.data + c->captions[i].language;
            assert_ok(strbuf_printf(out, "caption %s %s\n", language[0] ? language : "-",
                                    c->text.data + c->captions[i].text));
        }
        assert_int_equal(c->reason, c->caption_count > 0 ? SAMPLE_ACCEPTED : SAMPLE_NO_CAPTION);
    }
    assert_int_equal(status, STATUS_END);
    shard_reader_close(reader);
    shard_store_close(store);
    config_free(config);
}

/* The tar inside of x.tar.gz, as ShardFile unpacks it. */
static void unpack(const char *packed, const char *path)
{
    static const ReadConfig reading = {.index_folder = "", .cache_folder = ""};
    ShardAccess *access;
    ShardFile *file;
    assert_ok(shard_access_create(&reading, &access));
    assert_ok(shard_file_open(access, packed, -1, &file));
    assert_true(shard_file_unpacked(file));
    size_t size = (size_t)shard_file_bytes(file);
    char *bytes = malloc(size);
    assert_non_null(bytes);
    assert_ok(shard_file_read(file, bytes, (int64_t)size, 0));
    write_file(path, bytes, size);
    free(bytes);
    shard_file_close(file);
    shard_access_free(access);
}

/* Line by line: a whole text would say little. */
static void compare(const StrBuf *found, const StrBuf *expected)
{
    char *a_rest = NULL, *b_rest = NULL;
    char *a = strtok_r(found->data, "\n", &a_rest), *b = strtok_r(expected->data, "\n", &b_rest);
    while (a && b) {
        assert_string_equal(a, b);
        a = strtok_r(NULL, "\n", &a_rest);
        b = strtok_r(NULL, "\n", &b_rest);
    }
    assert_null(a);
    assert_null(b);
}

static void test_fixtures(void **state)
{
    (void)state;
    for (int plain = 0; plain < 2; plain++) {
        StrBuf found = {0}, expected = {0};
        for (int i = 0; i < FIXTURE_COUNT; i++) {
            char packed[600], tar[600];
            snprintf(packed, sizeof packed, FIXTURES "/%s.tar.gz", fixtures[i]);
            snprintf(tar, sizeof tar, "%s/%s.tar", folder, fixtures[i]);
            if (plain) unpack(packed, tar);
            describe(fixtures[i], plain ? tar : packed, &found);
        }
        read_file(FIXTURES "/expected.txt", &expected);
        compare(&found, &expected);
        strbuf_free(&found);
        strbuf_free(&expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fixtures)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
