/* Shards behind a web server that misbehaves: their bytes are those of the file, or it is said why not. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/random.h"
#include "data/chunk_cache.h"
#include "data/index_name.h"
#include "shard_fixture.h"

/* ---- http ---- */

static void test_http(void **state)
{
    read_config.stall_seconds = 10; /* nothing stalls here, however busy the machine */
    char head[4096];
    ShardFile *file = open_ok(url("a.tar"));
    assert_int_equal(shard_file_bytes(file), BYTES);
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < 50; i++) {
            int64_t offset = (int64_t)random_below(3, RANDOM_TEST, (uint64_t)i, 0, BYTES);
            expect_range(file, (int64_t)random_below(3, RANDOM_TEST, (uint64_t)i, 1, (uint64_t)(BYTES - offset)),
                         offset);
        }
        expect_range(file, BYTES, 0);
    }
    assert_in_range(stats().fetched_bytes, BYTES, BYTES + 1024); /* once, and what told its size */
    assert_int_equal(stats().refetched_bytes, 0);
    assert_int_equal(stats().retries, 0);
    shard_file_close(file);
    /* Opened again, the chunks are still there. */
    file = open_ok(url("a.tar"));
    expect_range(file, BYTES, 0);
    shard_file_close(file);
    assert_in_range(stats().fetched_bytes, BYTES, BYTES + 2048);
    fault_server_last(shard_server, head);
    assert_non_null(strstr(head, "Range: bytes=0-511\r\n"));
    assert_non_null(strstr(head, "Accept-Encoding: identity\r\n"));
    assert_null(strstr(head, "gzip"));
    open_fails(url("a.tar"), 5, ERR_MISMATCH, "has 700001 bytes");

    write_file(in_folder(shard_folder, "empty.tar"), "", 0);
    write_file(in_folder(shard_folder, "small.tar"), shard_content.data, 300);
    file = open_ok(url("empty.tar"));
    assert_int_equal(shard_file_bytes(file), 0);
    shard_file_close(file);
    file = open_ok(url("small.tar"));
    assert_int_equal(shard_file_bytes(file), 300);
    expect_range(file, 300, 0);
    shard_file_close(file);
}

/* With any single fault at a third of the requests all bytes come. */
static void test_faults(void **state)
{
    read_config.retries = 40;
    read_config.retry_seconds = 0.001;
    read_config.stall_seconds = 0.2;
    for (int fault = 0; fault < FAULT_COUNT; fault++) {
        if (fault == FAULT_FLIP) continue; /* not to be noticed without checksums: test_checksums, test_doubt */
        /* Waits of a second each: fewer. */
        bool slow = fault == FAULT_STALL || fault == FAULT_DRIP || fault == FAULT_BUSY;
        set_fault((Fault)fault, slow ? 0.15 : 0.33);
        for (int pass = 0; pass < (slow ? 1 : 2); pass++) {
            restart_access();
            ShardFile *file = open_ok(url("a.tar"));
            for (int64_t at = 0; at < BYTES; at += 50000)
                expect_range(file, BYTES - at < 50000 ? BYTES - at : 50000, at);
            shard_file_close(file);
            ShardAccessStats now = stats();
            bool cuts = fault == FAULT_CUT || fault == FAULT_SHORTER;
            if (cuts) assert_true(now.restarts > 0 || now.refetched_bytes > 0);
        }
        assert_true(fault_server_faults(shard_server, (Fault)fault) > 0);
    }
    /* A transfer goes on where it stopped: cut transfers cost no byte twice. */
    FaultOptions options = HEALTHY;
    restart_access();
    fault_server_set(shard_server, &options);
    ShardFile *file = open_ok(url("a.tar"));
    set_fault(FAULT_CUT, 0.5);
    expect_range(file, BYTES, 0);
    shard_file_close(file);
    assert_true(stats().restarts > 0);
    assert_in_range(stats().fetched_bytes, BYTES, BYTES + 512);
}

static void test_busy(void **state)
{
    FaultOptions options = HEALTHY;
    options.first_requests = 1;
    options.first_code = 503;
    fault_server_set(shard_server, &options);
    double begun = clock_seconds();
    read_config.retry_seconds = 0;
    ShardFile *file = open_ok(url("a.tar"));
    assert_true(clock_seconds() - begun >= 0.99); /* as the server asked */
    shard_file_close(file);
}

static void test_refused(void **state)
{
    FaultOptions options = HEALTHY;
    char path[200];
    options.gone = "gone";
    options.loop = "loop";
    options.escape = "escape";
    fault_server_set(shard_server, &options);
    snprintf(path, sizeof path, "http://user:secret@127.0.0.1:%d/gone.tar?token=secret",
             fault_server_port(shard_server));
    open_fails(path, -1, ERR_IO, "/gone.tar?...: the server answers with code 404");
    check_message("given up after 9 tries: http://127.0.0.1:");
    assert_null(strstr(status_message(), "secret"));
    assert_null(strstr(status_message(), "user"));
    int64_t before = fault_server_requests(shard_server);
    open_fails(url("loop.tar"), -1, ERR_IO, "redirects");
    assert_in_range(fault_server_requests(shard_server) - before, 2, 7);
    open_fails(url("escape.tar"), -1, ERR_IO, "escape.tar: ");
    options.first_requests = 1;
    options.first_code = 401;
    fault_server_set(shard_server, &options);
    open_fails(url("a.tar"), -1, ERR_IO, "code 401"); /* for good: not tried again */
    options.first_requests = 1;
    options.first_code = 404;
    fault_server_set(shard_server, &options);
    shard_file_close(open_ok(url("a.tar")));
    /* Nobody there. */
    read_config.retries = 1;
    open_fails("http://127.0.0.1:1/a.tar", -1, ERR_IO, "given up after 2 tries");
    open_fails("http://no host/a.tar", -1, ERR_IO, "no host");
}

static void test_truncated(void **state)
{
    FaultOptions options = HEALTHY;
    char byte;
    options.truncated = "a.tar";
    fault_server_set(shard_server, &options);
    ShardFile *file = open_ok(url("a.tar"));
    expect_range(file, 4 * CHUNK, 0);
    assert_int_equal(shard_file_read(file, &byte, 1, BYTES - 1), ERR_IO);
    check_message("given up after 9 tries");
    assert_false(shard_file_doubt(file, 1, BYTES - 1)); /* it was asked for often enough */
    expect_range(file, 4 * CHUNK, 0);
    /* What failed is asked for again by the next who wants it. */
    fault_server_set(shard_server, &HEALTHY);
    expect_range(file, BYTES, 0);
    shard_file_close(file);
}

static void test_changed(void **state)
{
    char byte;
    for (int i = 0; i < 2; i++) {
        write_file(in_folder(shard_folder, "b.tar"), shard_content.data, BYTES);
        ShardFile *file = open_ok(url("b.tar"));
        expect_range(file, 10, 0);
        write_file(in_folder(shard_folder, "b.tar"), shard_content.data + i, (size_t)(BYTES - i));
        assert_int_equal(shard_file_read(file, &byte, 1, BYTES / 2), ERR_MISMATCH);
        check_message("changed");
        shard_file_close(file);
    }
}

static void test_no_range(void **state)
{
    FaultOptions options = HEALTHY;
    options.no_range = true;
    for (int i = 0; i < 3; i++) {
        if (i == 1) options.no_validator = true;
        if (i == 2) options.share[FAULT_CUT] = options.share[FAULT_LONGER] = 0.3;
        fault_server_set(shard_server, &options);
        ShardFile *file = open_ok(url("a.tar"));
        assert_int_equal(shard_file_bytes(file), BYTES);
        expect_range(file, BYTES, 0);
        shard_file_close(file);
    }
    /* Doubt fetches all of it anew. */
    memset(options.share, 0, sizeof options.share);
    options.corrupt = "a.tar";
    fault_server_set(shard_server, &options);
    ShardFile *file = open_ok(url("a.tar"));
    char bytes[100];
    assert_ok(shard_file_read(file, bytes, 100, 25000));
    assert_memory_not_equal(bytes, shard_content.data + 25000, 100);
    assert_false(shard_file_doubt(file, 100, 25000)); /* the same again */
    options.corrupt = NULL;
    fault_server_set(shard_server, &options);
    assert_true(shard_file_doubt(file, 100, 25000));
    expect_range(file, BYTES, 0);
    shard_file_close(file);
}

/* ---- the cache ---- */

static void test_eviction(void **state)
{
    read_config.stall_seconds = 10; /* nothing stalls here, however busy the machine */
    read_config.cache_bytes = 4 * CHUNK;
    restart_access();
    ShardFile *file = open_ok(url("a.tar"));
    for (int pass = 0; pass < 2; pass++) expect_range(file, BYTES, 0);
    assert_in_range(stats().fetched_bytes, 2 * BYTES, 2 * BYTES + 512);
    assert_in_range(stats().refetched_bytes, BYTES, BYTES);
    shard_file_close(file);
    /* A disk that is full costs only speed. */
    read_config.cache_folder = "/nonexistent";
    restart_access();
    open_fails(url("a.tar"), -1, ERR_SPACE, "/nonexistent: cannot make a file");
}

typedef struct Reader {
    ShardFile *file;
    pthread_t thread;
    int number, reads;
    int64_t most;
    Status status;
    bool wrong;
} Reader;

static void *read_randomly(void *argument)
{
    Reader *reader = argument;
    char *out = malloc((size_t)reader->most);
    for (int i = 0; i < reader->reads && reader->status == STATUS_OK && !reader->wrong; i++) {
        uint64_t key = (uint64_t)reader->number * 1000 + (uint64_t)i;
        int64_t size = 1 + (int64_t)random_below(5, RANDOM_TEST, key, 0, (uint64_t)reader->most);
        int64_t offset = (int64_t)random_below(5, RANDOM_TEST, key, 1, (uint64_t)(BYTES - size));
        reader->status = shard_file_read(reader->file, out, size, offset);
        if (reader->status == STATUS_OK) reader->wrong = memcmp(out, shard_content.data + offset, (size_t)size) != 0;
        if (reader->status != STATUS_OK) print_error("%s\n", status_message());
    }
    free(out);
    return NULL;
}

static void read_by_threads(ShardFile *file, int threads, int reads)
{
    Reader readers[16] = {{0}};
    for (int i = 0; i < threads; i++) {
        readers[i] = (Reader){.file = file, .number = i, .reads = reads, .most = 100000};
        assert_int_equal(pthread_create(&readers[i].thread, NULL, read_randomly, &readers[i]), 0);
    }
    for (int i = 0; i < threads; i++) pthread_join(readers[i].thread, NULL);
    for (int i = 0; i < threads; i++) {
        assert_int_equal(readers[i].status, STATUS_OK);
        assert_false(readers[i].wrong);
    }
}

static void test_threads(void **state)
{
    read_config.stall_seconds = 10; /* nothing stalls here, however busy the machine */
    FaultOptions options = HEALTHY;
    /* Each chunk once, whoever wants it. */
    ShardFile *file = open_ok(url("a.tar"));
    read_by_threads(file, 8, 30);
    assert_true(stats().fetched_bytes <= BYTES + 512);
    shard_file_close(file);
    /* All that can go wrong, a cache that is too small, and checksums. */
    note_sums(url("a.tar"));
    read_config.cache_bytes = 5 * CHUNK;
    read_config.stall_seconds = 0.2;
    read_config.retry_seconds = 0.002;
    read_config.retries = 20;
    restart_access();
    for (int f = 0; f < FAULT_COUNT; f++) options.share[f] = 0.04;
    options.share[FAULT_BUSY] = options.share[FAULT_DRIP] = options.share[FAULT_STALL] = 0.01;
    options.share[FAULT_WHOLE] = 0;
    fault_server_set(shard_server, &options);
    file = open_ok(url("a.tar"));
    read_by_threads(file, 8, 12);
    shard_file_close(file);
    assert_true(fault_server_faults(shard_server, FAULT_FLIP) > 0);
}

/* A failure is everybody's who waits for the chunk: nobody begins anew after the others have given up. */
static void test_shared_failure(void **state)
{
    FaultOptions options = HEALTHY;
    Reader readers[8] = {{0}};
    read_config.retries = 3;
    read_config.retry_seconds = 0.2;
    ShardFile *file = open_ok(url("a.tar"));
    options.gone = "a.tar";
    fault_server_set(shard_server, &options);
    int64_t before = fault_server_requests(shard_server);
    for (int i = 0; i < 8; i++) {
        readers[i] = (Reader){.file = file, .number = 1, .reads = 1, .most = 10};
        assert_int_equal(pthread_create(&readers[i].thread, NULL, read_randomly, &readers[i]), 0);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(readers[i].thread, NULL);
        assert_int_equal(readers[i].status, ERR_IO);
    }
    assert_in_range(fault_server_requests(shard_server) - before, 4, 12); /* 4, unless a thread came very late */
    shard_file_close(file);
}

/* ---- failures of others ---- */

typedef struct Flaky {
    ChunkCache *cache;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool begun, go;
    int fetches; /* of chunk 7: the first fails, when it may go on */
} Flaky;

static Status fetch_flaky(void *context, int64_t chunk, uint8_t *out, int64_t size, bool again, bool *checked)
{
    Flaky *flaky = context;
    (void)again;
    *checked = false;
    memset(out, (int)chunk, (size_t)size);
    if (chunk != 7) return STATUS_OK;
    pthread_mutex_lock(&flaky->lock);
    const bool fails = flaky->fetches++ == 0;
    flaky->begun = true;
    pthread_cond_broadcast(&flaky->changed);
    while (!flaky->go) pthread_cond_wait(&flaky->changed, &flaky->lock);
    pthread_mutex_unlock(&flaky->lock);
    return fails ? status_fail(ERR_IO, __FILE__, __LINE__, "a bad moment") : STATUS_OK;
}

static Status read_flaky(Flaky *flaky, int64_t chunk)
{
    uint8_t byte;
    return chunk_cache_read(flaky->cache, (ChunkKey){.chunk = chunk}, CHUNK, 0, 1, &byte, fetch_flaky, flaky);
}

static void *read_flaky_thread(void *flaky)
{
    return read_flaky(flaky, 7) == ERR_IO ? NULL : flaky;
}

/* A thread that waits for a chunk wakes up whenever any chunk has come. It hears of the failure once, and then the
 * failure is over: the next who wants the chunk fetches it. */
static void test_failure_passes(void **state)
{
    Flaky flaky = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    pthread_t threads[3];
    void *wrong;
    assert_ok(chunk_cache_create(&read_config, &flaky.cache));
    for (int i = 0; i < 3; i++) assert_int_equal(pthread_create(&threads[i], NULL, read_flaky_thread, &flaky), 0);
    pthread_mutex_lock(&flaky.lock);
    while (!flaky.begun) pthread_cond_wait(&flaky.changed, &flaky.lock);
    pthread_mutex_unlock(&flaky.lock);
    usleep(100000); /* the others wait by now, or the test sees less */
    for (int i = 0; i < 20; i++) {
        assert_ok(read_flaky(&flaky, 20 + i));
        usleep(2000);
    }
    pthread_mutex_lock(&flaky.lock);
    flaky.go = true;
    pthread_cond_broadcast(&flaky.changed);
    pthread_mutex_unlock(&flaky.lock);
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], &wrong);
        if (wrong) assert_true(flaky.fetches > 1); /* it came late */
    }
    const int before = flaky.fetches;
    assert_ok(read_flaky(&flaky, 7));
    assert_int_equal(flaky.fetches, before > 1 ? before : 2);
    chunk_cache_free(flaky.cache);
}

/* ---- checksums and doubt ---- */

static Status fetch_same(void *context, int64_t chunk, uint8_t *out, int64_t size, bool again, bool *checked)
{
    (void)context;
    (void)again;
    *checked = false;
    memset(out, (int)chunk, (size_t)size);
    return STATUS_OK;
}

/* A whole shard of 1,000 chunks is doubted: each comes once more, and no more often when it is the same. */
static void test_doubt_of_many(void **state)
{
    enum { CHUNKS = 1000, SIZE = 4096 };
    ChunkCache *cache;
    uint8_t byte;
    read_config.chunk_bytes = SIZE;
    read_config.cache_bytes = (CHUNKS + 1) * SIZE;
    assert_ok(chunk_cache_create(&read_config, &cache));
    for (int round = 0; round < 3; round++)
        for (int64_t chunk = 0; chunk < CHUNKS; chunk++) {
            const ChunkKey key = {.file.low = 5, .chunk = chunk};
            assert_ok(chunk_cache_read(cache, key, SIZE, 0, 1, &byte, fetch_same, NULL));
            assert_int_equal(chunk_cache_doubt(cache, key), round == 0);
        }
    chunk_cache_free(cache);
}

static void test_checksums(void **state)
{
    FaultOptions options = HEALTHY;
    char byte;
    note_sums(url("a.tar"));
    restart_access();
    set_fault(FAULT_FLIP, 0.4);
    ShardFile *file = open_ok(url("a.tar"));
    expect_range(file, BYTES, 0);
    assert_true(stats().refetched_bytes > 0);
    assert_false(shard_file_doubt(file, BYTES, 0)); /* they are right: it is of no use */
    shard_file_close(file);
    /* Wrong for good. */
    options.corrupt = "a.tar";
    fault_server_set(shard_server, &options);
    read_config.retries = 2;
    restart_access();
    file = open_ok(url("a.tar"));
    assert_int_equal(shard_file_read(file, &byte, 1, 0), ERR_FORMAT);
    check_message("are not those that were indexed, 3 times");
    int64_t requests = fault_server_requests(shard_server);
    assert_int_equal(shard_file_read(file, &byte, 1, 100), ERR_FORMAT); /* remembered */
    assert_int_equal(fault_server_requests(shard_server), requests);
    assert_false(shard_file_doubt(file, 1, 0));
    shard_file_close(file);
    /* Not compared when that is not wanted. */
    read_config.checksums = false;
    restart_access();
    file = open_ok(url("a.tar"));
    assert_ok(shard_file_read(file, &byte, 1, 0));
    shard_file_close(file);
    /* Another chunk size that is a multiple of the pieces. */
    read_config.checksums = true;
    read_config.chunk_bytes = 2 * CHUNK;
    fault_server_set(shard_server, &HEALTHY);
    restart_access();
    file = open_ok(url("a.tar"));
    expect_range(file, BYTES, 0);
    assert_false(shard_file_doubt(file, BYTES, 0));
    shard_file_close(file);
    /* A shard of another size. */
    write_file(in_folder(shard_folder, "a.tar"), shard_content.data, 1000);
    open_fails(url("a.tar"), -1, ERR_MISMATCH, "700001 were indexed");
}

static void test_sums_file(void **state)
{
    Checksums sums = {0};
    static const char GOOD[] = "vasily-sums 1 4096 5000\n00112233445566778899aabbccddeeff\n"
                               "ffeeddccbbaa99887766554433221100\n";
    static const char *const BAD[] = {
        "",
        "vasily-sums 1 4096 5000",
        "vasily-sums 2 4096 5000\n",
        "vasily-sums 1 4096 x\n",
        "vasily-sums 1 1 5000\n",
        "vasily-sums 1 4096 999999999999999999\n",
        "vasily-sums 1 4096 2199023255552\n",
        "vasily-sums 1 4096 9999999999999999999999\n",
        "vasily-sums 1 4096 5000\n00112233445566778899aabbccddeeff\n",
        "vasily-sums 1 4096 4000\n00112233445566778899aabbccddeefg\n",
        "vasily-sums 1 4096 4000\n00112233445566778899aabbccddeeff0",
    };
    assert_ok(checksums_parse(GOOD, sizeof GOOD - 1, &sums));
    assert_int_equal(sums.count, 2);
    assert_true(sums.sums[0].high == 0x0011223344556677 && sums.sums[0].low == 0x8899aabbccddeeff);
    const char *path = in_folder(shard_folder, "x.sums");
    assert_ok(checksums_write(&sums, path));
    checksums_free(&sums);
    StrBuf text = {0};
    read_file(path, &text);
    assert_string_equal(text.data, GOOD);
    strbuf_free(&text);
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        assert_int_equal(checksums_parse(BAD[i], strlen(BAD[i]), &sums), ERR_FORMAT);
        assert_int_equal(sums.count, 0);
    }
    write_file(path, BAD[0], 0);
    assert_int_equal(checksums_read(path, &sums), ERR_FORMAT);
    check_message("x.sums: ");
    assert_int_equal(checksums_read(in_folder(shard_folder, "none"), &sums), STATUS_END);
    /* As many as the shard needs, here 2,100,000, but no more. */
    StrBuf many = {0};
    assert_ok(strbuf_printf(&many, "vasily-sums 1 4096 %lld\n", 2100000LL * 4096));
    for (int i = 0; i < 2100000; i++) assert_ok(strbuf_append(&many, GOOD + sizeof GOOD - 34, 33));
    write_file(path, many.data, many.size);
    assert_ok(checksums_read(path, &sums));
    assert_int_equal(sums.count, 2100000);
    checksums_free(&sums);
    assert_ok(strbuf_append(&many, "x", 1));
    write_file(path, many.data, many.size);
    assert_true(checksums_read(path, &sums) != STATUS_OK);
    check_message("x.sums");
    strbuf_free(&many);
    /* Names: equal base names of several places do not meet. */
    char a[PATH_MAX], b[PATH_MAX];
    assert_ok(checksums_path("http://h/x/00001.tar?q=1", "/i", a));
    assert_ok(checksums_path("http://h/y/00001.tar?q=1", "/i", b));
    assert_string_not_equal(a, b);
    assert_memory_equal(a, "/i/00001.tar.", 13);
    /* A renewed token changes nothing; two shards that differ by their queries only are refused. */
    assert_ok(checksums_path("http://user:word@h/x/00001.tar?q=2#y", "/i", b));
    assert_string_equal(a, b);
    char *urls[] = {"http://h/get?file=1", "http://h/a?x", "/a?y", "/a?z", "http://h/a?x", "http://h/get?file=2"};
    assert_ok(index_names_differ(urls, 5));
    assert_int_equal(index_names_differ(urls, 6), ERR_CONFIG);
    check_message("http://h/get?...: two shards");
    assert_ok(checksums_path("/x/00001.tar", "", a));
    assert_string_equal(a, "/x/00001.tar.sums");
    assert_int_equal(checksums_path("http://h/x.tar", "", a), ERR_CONFIG);
}

static void test_doubt(void **state)
{
    FaultOptions options = HEALTHY;
    char bytes[CHUNK];
    /* Damaged once: dropped, and right when it comes again. */
    ShardFile *file = open_ok(url("a.tar"));
    set_fault(FAULT_FLIP, 1);
    assert_ok(shard_file_read(file, bytes, CHUNK, CHUNK));
    assert_memory_not_equal(bytes, shard_content.data + CHUNK, CHUNK);
    fault_server_set(shard_server, &HEALTHY);
    assert_true(shard_file_doubt(file, 10, CHUNK + 5));
    expect_range(file, BYTES, 0);
    assert_true(stats().refetched_bytes >= CHUNK);
    /* Right, but of no use to whoever doubts: fetched once more, then believed, by all who doubt after. */
    assert_true(shard_file_doubt(file, 10, 4 * CHUNK));
    expect_range(file, BYTES, 0);
    assert_false(shard_file_doubt(file, 10, 4 * CHUNK));
    assert_false(shard_file_doubt(file, 10, 4 * CHUNK + 100));
    /* Over the border of two chunks. */
    assert_true(shard_file_doubt(file, 10, 7 * CHUNK - 5));
    expect_range(file, BYTES, 0);
    assert_false(shard_file_doubt(file, 10, 7 * CHUNK - 5));
    shard_file_close(file);
    /* A server that never says the same twice is not asked for ever. */
    options.share[FAULT_FLIP] = 1;
    fault_server_set(shard_server, &options);
    restart_access();
    file = open_ok(url("a.tar"));
    int times = 0;
    do assert_ok(shard_file_read(file, bytes, 10, 0));
    while (shard_file_doubt(file, 10, 0) && ++times < 100);
    assert_in_range(times, 1, 20);
    shard_file_close(file);
}

int main(void)
{
    setenv("no_proxy", "*", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_http, shards_set_up, shards_tear_down),
        cmocka_unit_test_setup_teardown(test_faults, shards_set_up, shards_tear_down),
        cmocka_unit_test_setup_teardown(test_busy, shards_set_up, shards_tear_down),
        cmocka_unit_test_setup_teardown(test_refused, shards_set_up, shards_tear_down),
        cmocka_unit_test_setup_teardown(test_truncated, shards_set_up, shards_tear_down),
        cmocka_unit_test_setup_teardown(test_changed, shards_set_up, shards_tear_down),
        cmocka_unit_test_setup_teardown(test_no_range, shards_set_up, shards_tear_down),
        cmocka_unit_test_setup_teardown(test_eviction, shards_set_up, shards_tear_down),
        cmocka_unit_test_setup_teardown(test_threads, shards_set_up, shards_tear_down),
        cmocka_unit_test_setup_teardown(test_shared_failure, shards_set_up, shards_tear_down),
        cmocka_unit_test_setup_teardown(test_failure_passes, shards_set_up, shards_tear_down),
        cmocka_unit_test_setup_teardown(test_doubt_of_many, shards_set_up, shards_tear_down),
        cmocka_unit_test_setup_teardown(test_checksums, shards_set_up, shards_tear_down),
        cmocka_unit_test_setup_teardown(test_sums_file, shards_set_up, shards_tear_down),
        cmocka_unit_test_setup_teardown(test_doubt, shards_set_up, shards_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
