/* The parts of the watchdog that need no ranks: the flight record, what is decided, and frames from strangers. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "engine/watchdog_internal.h"

/* ---- the flight record ---- */

static const FlightWhat SUM = {.kind = "sum", .unit = "floats", .count = 7, .ranks = 3};

static void test_record_position(void **state)
{
    (void)state;
    FlightRecord *record;
    FlightPosition at;
    assert_int_equal(flight_record_create(&record), STATUS_OK);
    flight_record_position(record, &at);
    assert_int_equal(at.step, -1);
    assert_int_equal(at.begun, 0);
    assert_int_equal(at.oldest, -1);
    assert_null(at.what.kind);
    flight_record_note(record, 12, "computing");
    assert_int_equal(flight_record_begin(record, &SUM), 0);
    assert_int_equal(flight_record_begin(record, &(FlightWhat){.kind = "barrier"}), 1);
    flight_record_position(record, &at);
    assert_int_equal(at.step, 12);
    assert_string_equal(at.activity, "computing");
    assert_int_equal(at.begun, 2);
    assert_int_equal(at.oldest, 0);
    assert_string_equal(at.what.kind, "sum");
    flight_record_end(record, 1, false); /* out of order */
    flight_record_position(record, &at);
    assert_int_equal(at.oldest, 0);
    flight_record_end(record, 0, false);
    flight_record_position(record, &at);
    assert_int_equal(at.oldest, -1);
    assert_string_equal(at.what.kind, "barrier");
    flight_record_end(record, 99, false); /* never begun */
    flight_record_end(record, -1, false);
    flight_record_free(record);
    flight_record_free(NULL);
}

static void test_record_file(void **state)
{
    (void)state;
    char path[] = "/tmp/vasily-flight-XXXXXX", *text, *rest;
    size_t size;
    FlightRecord *record;
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(flight_record_create(&record), STATUS_OK);
    /* The first stays unfinished and leaves the ring; two of the last fail and stay unfinished. */
    for (int64_t i = 0; i < 2500; i++) {
        flight_record_note(record, i / 10, i % 10 ? "computing" : "a \"quoted\"\nname");
        assert_int_equal(flight_record_begin(record, &SUM), i);
        if (i > 0 && i < 2499) flight_record_end(record, i, i == 2498);
    }
    FlightPosition at;
    flight_record_position(record, &at);
    assert_int_equal(at.oldest, 2499);
    const FlightHeader header = {.rank = 1, .world = 3, .host = "here", .reason = "rank 2 has died"};
    assert_int_equal(flight_record_write(record, &header, path), STATUS_OK);
    assert_int_equal(file_read(path, 1 << 20, &text, &size), STATUS_OK);
    int64_t lines = 0;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest), lines++) {
        JsonDoc *doc;
        int64_t number = -1;
        assert_int_equal(json_parse(line, strlen(line), 4096, &doc), STATUS_OK);
        const JsonValue *root = json_root(doc);
        const char *words = json_text(json_get(root, "state"), &size);
        if (lines == 0) {
            assert_true(json_integer(json_get(root, "collectives"), &number));
            assert_int_equal(number, 2500);
            assert_string_equal(json_text(json_get(root, "reason"), &size), "rank 2 has died");
        } else {
            assert_true(json_integer(json_get(root, "collective"), &number));
            assert_int_equal(number, 1499 + lines);
            assert_string_equal(words, number == 2499 ? "begun" : number == 2498 ? "failed" : "done");
            assert_true(json_is_null(json_get(root, "ended")) == (number == 2499));
        }
        json_free(doc);
    }
    assert_int_equal(lines, 1 + FLIGHT_ENTRIES);
    free(text);
    unlink(path);
    assert_int_equal(flight_record_write(record, &header, "/no/such/folder/x"), ERR_IO);
    flight_record_free(record);
}

static time_t clock_was_set; /* by so many seconds */

int clock_gettime(clockid_t clock, struct timespec *out)
{
    const int result = (int)syscall(SYS_clock_gettime, clock, out);
    if (result == 0 && clock == CLOCK_REALTIME) out->tv_sec += clock_was_set;
    return result;
}

/* The machine's clock is set back by an hour while a collective runs: it has still taken no less than no time. */
static void test_record_clock(void **state)
{
    (void)state;
    char path[] = "/tmp/vasily-flight-XXXXXX", *text;
    size_t size;
    double seconds = -1, begun = -1, ended = -1;
    FlightRecord *record;
    JsonDoc *doc;
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(flight_record_create(&record), STATUS_OK);
    const int64_t number = flight_record_begin(record, &SUM);
    clock_was_set = -3600;
    flight_record_end(record, number, false);
    assert_int_equal(flight_record_write(record, &(FlightHeader){.host = "here", .reason = "none"}, path), STATUS_OK);
    clock_was_set = 0;
    assert_int_equal(file_read(path, 1 << 20, &text, &size), STATUS_OK);
    const char *line = strchr(text, '\n') + 1;
    assert_int_equal(json_parse(line, strlen(line), 4096, &doc), STATUS_OK);
    assert_true(json_number(json_get(json_root(doc), "seconds"), &seconds));
    assert_true(json_number(json_get(json_root(doc), "begun"), &begun));
    assert_true(json_number(json_get(json_root(doc), "ended"), &ended));
    assert_true(seconds >= 0 && seconds < 60);
    assert_true(ended >= begun && ended < begun + 60);
    json_free(doc);
    free(text);
    unlink(path);
    flight_record_free(record);
}

static void *record_many(void *record)
{
    for (int i = 0; i < 3000; i++) flight_record_end(record, flight_record_begin(record, &SUM), false);
    return NULL;
}

static void test_record_threads(void **state)
{
    (void)state;
    FlightRecord *record;
    FlightPosition at;
    pthread_t threads[3];
    assert_int_equal(flight_record_create(&record), STATUS_OK);
    for (int i = 0; i < 3; i++) assert_int_equal(pthread_create(&threads[i], NULL, record_many, record), 0);
    for (int i = 0; i < 1000; i++) {
        flight_record_position(record, &at);
        assert_true(at.oldest < at.begun);
    }
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    flight_record_position(record, &at);
    assert_int_equal(at.begun, 9000);
    assert_int_equal(at.oldest, -1);
    flight_record_free(record);
}

/* ---- deciding ---- */

enum { RANKS = 10000 };
static WatchPosition positions[RANKS];

/* All ranks have begun 50 collectives and are waiting in the last one for `waited` seconds. */
static void all_wait(double waited)
{
    for (int r = 0; r < RANKS; r++)
        positions[r] = (WatchPosition){
            .step = 12, .begun = 50, .oldest = 49, .waited = waited, .activity = "computing", .collective = "a sum"};
}

static void test_judge(void **state)
{
    (void)state;
    WatchVerdict v;
    all_wait(9);
    assert_false(watch_judge(positions, RANKS, 10, 9, &v));
    all_wait(11);
    positions[77].waited = 12;
    assert_true(watch_judge(positions, RANKS, 10, 11, &v));
    assert_int_equal(v.reason, WATCH_HANGS);
    assert_int_equal(v.rank, 77);
    assert_int_equal(v.collective, 49);
    assert_string_equal(v.awaited, "a sum");

    positions[4000].oldest = -1; /* computes, and has not begun it */
    positions[4000].begun = 49;
    positions[4000].waited = 0;
    assert_true(watch_judge(positions, RANKS, 10, 0, &v));
    assert_int_equal(v.reason, WATCH_BEHIND);
    assert_int_equal(v.rank, 4000);
    assert_int_equal(v.collective, 49);
    assert_true(v.seconds == 12);

    positions[9999].begun = -1; /* not heard of: nothing is decided */
    assert_false(watch_judge(positions, RANKS, 10, 100, &v));
    positions[9999] = positions[0];
    positions[4000].step = -1; /* opening: half an hour more */
    assert_false(watch_judge(positions, RANKS, 10, 12, &v));
    positions[0].waited = 10 + WATCH_OPENING_SECONDS;
    assert_true(watch_judge(positions, RANKS, 10, 12, &v));
    assert_int_equal(v.rank, 4000);

    all_wait(0); /* nobody waits, and nothing changes */
    for (int r = 0; r < RANKS; r++) positions[r].oldest = -1;
    positions[5].begun = 48;
    assert_false(watch_judge(positions, RANKS, 10, 9, &v));
    assert_true(watch_judge(positions, RANKS, 10, 10, &v));
    assert_int_equal(v.reason, WATCH_STUCK);
    assert_int_equal(v.rank, 5);
}

/* ---- what comes over the wire ---- */

static WatchVerdict good_verdict(void)
{
    WatchVerdict v = {.reason = WATCH_DIED, .rank = 2, .code = 76, .seconds = 1, .collective = -1};
    snprintf(v.host, sizeof v.host, "node7");
    v.position = positions[0];
    return v;
}

static void test_checks(void **state)
{
    (void)state;
    all_wait(1);
    WatchVerdict v = good_verdict();
    assert_true(watch_verdict_check(&v, 3));
    assert_false(watch_verdict_check(&v, 2));
    const int bad_codes[] = {0, -1, 256};
    for (int i = 0; i < 3; i++) {
        v = good_verdict();
        v.code = bad_codes[i];
        assert_false(watch_verdict_check(&v, 3));
    }
    v = good_verdict();
    v.reason = WATCH_REASONS;
    assert_false(watch_verdict_check(&v, 3));
    v = good_verdict();
    v.position.oldest = 51;
    assert_false(watch_verdict_check(&v, 3));
    v = good_verdict();
    v.position.waited = 0.0 / 0.0;
    assert_false(watch_verdict_check(&v, 3));
    /* No end, and what a terminal would obey. */
    v = good_verdict();
    v.reason = WATCH_FAILED;
    memset(v.message, 'x', sizeof v.message);
    memcpy(v.host, "a\033[2J", 6);
    assert_true(watch_verdict_check(&v, 3));
    assert_string_equal(v.host, "a?[2J");
    char text[WATCH_TEXT_MAX];
    watch_verdict_text(&v, &positions[0], text);
    assert_true(strlen(text) < WATCH_TEXT_MAX);
    assert_non_null(strstr(text, "rank 2 on a?[2J has failed: xxx"));
    assert_non_null(strstr(text, "this rank is at step 12 (computing), in collective 49, a sum"));
}

static WatchLink link_here;
static int there;

static int open_pair(void **state)
{
    (void)state;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return 1;
    watch_link_open(&link_here, pair[0], 1);
    there = pair[1];
    return 0;
}

static int close_pair(void **state)
{
    (void)state;
    watch_link_close(&link_here);
    close(there);
    return 0;
}

static void feed(const void *bytes, size_t size)
{
    assert_int_equal(write(there, bytes, size), size);
}

static void test_frames_in_pieces(void **state)
{
    (void)state;
    WatchFrame frame = {.type = WATCH_FRAME_BEAT, .rank = 2, .is.position = {.step = 3, .begun = 5, .oldest = 4}}, got;
    const size_t size = offsetof(WatchFrame, is) + sizeof(WatchPosition);
    const char *bytes = (const char *)&frame;
    for (size_t i = 0; i + 1 < size; i++) {
        feed(bytes + i, 1);
        assert_int_equal(watch_link_receive(&link_here, 3, &got), WATCH_NOTHING);
    }
    feed(bytes + size - 1, 1);
    frame.type = WATCH_FRAME_GOODBYE;
    feed(&frame, offsetof(WatchFrame, is));
    assert_int_equal(watch_link_receive(&link_here, 3, &got), WATCH_FRAME);
    assert_int_equal(got.type, WATCH_FRAME_BEAT);
    assert_int_equal(got.is.position.begun, 5);
    assert_int_equal(watch_link_receive(&link_here, 3, &got), WATCH_FRAME);
    assert_int_equal(got.type, WATCH_FRAME_GOODBYE);
    assert_int_equal(watch_link_receive(&link_here, 3, &got), WATCH_NOTHING);
    close(there);
    there = -1;
    assert_int_equal(watch_link_receive(&link_here, 3, &got), WATCH_CLOSED);
}

static void test_frames_of_strangers(void **state)
{
    (void)state;
    WatchFrame got;
    feed("GET / HTTP/1.1\r\n\r\n", 18);
    assert_int_equal(watch_link_receive(&link_here, 3, &got), WATCH_CLOSED);
    assert_int_equal(watch_link_receive(&link_here, 3, &got), WATCH_CLOSED);
}

static void test_frames_of_no_rank(void **state)
{
    (void)state;
    WatchFrame got;
    const WatchFrame frame = {.type = WATCH_FRAME_DONE, .rank = 3};
    feed(&frame, offsetof(WatchFrame, is));
    assert_int_equal(watch_link_receive(&link_here, 3, &got), WATCH_CLOSED);
}

/* Who does not read cannot hold us up; a verdict still finds room where heartbeats no longer do. */
static void test_frames_unread(void **state)
{
    (void)state;
    const WatchFrame beat = {.type = WATCH_FRAME_BEAT, .rank = 1};
    const WatchFrame verdict = {.type = WATCH_FRAME_VERDICT, .rank = 1};
    int64_t sent = 0;
    while (watch_link_send(&link_here, &beat)) assert_true(++sent < 1000000);
    assert_true(watch_link_send(&link_here, &verdict));
    assert_true(link_here.out_used <= sizeof link_here.out);
    close(there);
    there = -1;
    assert_true(watch_link_send(&link_here, &verdict)); /* lost, without a signal */
    watch_link_close(&link_here);
    assert_false(watch_link_send(&link_here, &verdict));
}

static void test_connect(void **state)
{
    (void)state;
    WatchAddresses at;
    int listener, fd, next = 0;
    assert_int_equal(watch_listen(true, &listener, &at), STATUS_OK);
    assert_true(at.port > 0);
    assert_int_equal(watch_connect(&at, true, 5, &next, &fd), STATUS_OK);
    close(fd);
    close(listener);
    assert_int_equal(watch_connect(&at, true, 5, &next, &fd), ERR_COMM);
    assert_non_null(strstr(status_message(), "127.0.0.1"));
    assert_int_equal(watch_connect(&(WatchAddresses){.port = 1}, false, 5, &next, &fd), ERR_COMM);
    assert_non_null(strstr(status_message(), "none but its loopback"));
}

/* Rank 0 waits for rank 2 on its machine; here nobody waits for rank 1. */
static char hosts[3][WATCH_HOST_MAX] = {"a", "b", "a"};
static int32_t leaders[3] = {0, 1, 0};
static const uint8_t SECRET[2 * WATCH_SECRET] = "the child's part the parent's.";
static int door;

static void *accept_rank_2(void *w)
{
    static Status status;
    status = watchdog_accept_children(w, door, SECRET);
    return &status;
}

static int come(const WatchAddresses *at, uint32_t type, int rank, const char *secret)
{
    int next = 0, fd = -1;
    WatchFrame frame = {.type = type, .rank = rank};
    memcpy(frame.is.secret, secret, WATCH_SECRET);
    assert_int_equal(watch_connect(at, true, 5, &next, &fd), STATUS_OK);
    assert_int_equal(write(fd, &frame, offsetof(WatchFrame, is) + WATCH_SECRET),
                     offsetof(WatchFrame, is) + WATCH_SECRET);
    return fd;
}

static void test_strangers_at_the_door(void **state)
{
    (void)state;
    WatchLink down = {.fd = -1, .rank = -1}, self;
    Watchdog w = {.world = 3, .hosts = hosts, .leaders = leaders, .down = &down, .children = 1};
    WatchAddresses at;
    pthread_t thread;
    void *status;
    int silent[8], next = 0;
    char byte;
    assert_int_equal(watch_listen(false, &door, &at), STATUS_OK);
    assert_int_equal(pthread_create(&thread, NULL, accept_rank_2, &w), 0);
    for (int i = 0; i < 8; i++) assert_int_equal(watch_connect(&at, true, 5, &next, &silent[i]), STATUS_OK);
    const int turned_away[] = {
        come(&at, WATCH_FRAME_HELLO, 2, "the child's port"), come(&at, WATCH_FRAME_HELLO, 0, "the child's part"),
        come(&at, WATCH_FRAME_BEAT, 2, "the child's part"), come(&at, 0x20544547, 2, "the child's part"),
        come(&at, WATCH_FRAME_HELLO, -1, "the child's part")};
    for (int i = 0; i < 5; i++) {
        /* The third waits for the rest of its frame, as the silent ones do. */
        if (i != 2) assert_true(read(turned_away[i], &byte, 1) <= 0);
    }
    watch_link_open(&self, come(&at, WATCH_FRAME_HELLO, 2, "the child's part"), 0);
    pthread_join(thread, &status);
    assert_int_equal(*(Status *)status, STATUS_OK);
    assert_int_equal(down.rank, 2);
    WatchFrame got;
    assert_int_equal(watch_link_receive(&self, 3, &got), WATCH_FRAME);
    assert_int_equal(got.type, WATCH_FRAME_WELCOME);
    assert_memory_equal(got.is.secret, SECRET + WATCH_SECRET, WATCH_SECRET);
    watch_link_close(&self);
    watch_link_close(&down);
    close(door);
    for (int i = 0; i < 8; i++) close(silent[i]);
    for (int i = 0; i < 5; i++) close(turned_away[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record_position),
        cmocka_unit_test(test_record_file),
        cmocka_unit_test(test_record_clock),
        cmocka_unit_test(test_record_threads),
        cmocka_unit_test(test_judge),
        cmocka_unit_test(test_checks),
        cmocka_unit_test_setup_teardown(test_frames_in_pieces, open_pair, close_pair),
        cmocka_unit_test_setup_teardown(test_frames_of_strangers, open_pair, close_pair),
        cmocka_unit_test_setup_teardown(test_frames_of_no_rank, open_pair, close_pair),
        cmocka_unit_test_setup_teardown(test_frames_unread, open_pair, close_pair),
        cmocka_unit_test(test_connect),
        cmocka_unit_test(test_strangers_at_the_door),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
