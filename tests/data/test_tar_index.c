/* Grouping of members, the index by scan and by file, and what damage does to it. */
#include "shards.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "data/tar_index.h"

static char folder[512];

static const ReadConfig reading = {
    .index_folder = "", .cache_folder = "", .chunk_bytes = 65536, .cache_bytes = 1 << 20};
static ShardAccess *shard_access;

static int set_up(void **state)
{
    (void)state;
    make_folder(folder);
    return shard_access_create(&reading, &shard_access) != STATUS_OK;
}

static int tear_down(void **state)
{
    (void)state;
    shard_access_free(shard_access);
    remove_folder(folder);
    return 0;
}

static Status scan(const char *path, TarIndex *out)
{
    ShardFile *file = NULL;
    *out = (TarIndex){0};
    Status status = shard_file_open(shard_access, path, -1, &file);
    if (status == STATUS_OK) status = tar_index_scan(file, out);
    shard_file_close(file);
    return status;
}

static Status open_in(const char *path, const char *index_folder, bool write, TarIndex *out)
{
    ShardFile *file = NULL;
    *out = (TarIndex){0};
    Status status = shard_file_open(shard_access, path, -1, &file);
    if (status == STATUS_OK) status = tar_index_open(file, index_folder, write, out);
    shard_file_close(file);
    return status;
}

static void expect_split(const char *name, const char *key, const char *suffix)
{
    size_t size;
    const char *found;
    bool kept = sample_split_name(name, &size, &found);
    assert_int_equal(kept, key != NULL);
    if (!key) return;
    assert_int_equal(size, strlen(key));
    assert_memory_equal(name, key, size);
    assert_string_equal(found, suffix);
}

static void test_names(void **state)
{
    (void)state;
    expect_split("a.jpg", "a", "jpg");
    expect_split("x/y/a.seg.png", "x/y/a", "seg.png");
    expect_split("v1.2/a.txt", "v1.2/a", "txt");
    expect_split("./a.txt", "./a", "txt");
    expect_split("a", NULL, NULL);
    expect_split("a.", NULL, NULL);
    expect_split(".hidden", NULL, NULL);
    expect_split("x/.hidden.jpg", NULL, NULL);
    expect_split("x/._a.jpg", NULL, NULL);
    expect_split("__meta__", NULL, NULL);
    expect_split("__meta__/a.txt", NULL, NULL);
    expect_split("x/__meta__.txt", "x/__meta__", "txt");
    expect_split("__a.txt", "__a", "txt");
    expect_split("____", NULL, NULL);
    expect_split("", NULL, NULL);
}

static void make_tar(StrBuf *tar)
{
    char long_name[300];
    memset(long_name, 'n', 250);
    strcpy(long_name + 250, ".jpg");
    tar_text(tar, "one.JPG", "11111");
    tar_text(tar, "one.txt", "caption");
    tar_text(tar, ".DS_Store", "x");
    tar_text(tar, "__info__/i.json", "{}");
    tar_text(tar, "d/two.png", "22");
    tar_text(tar, "d/two.PNG", "33");
    tar_pax_name(tar, long_name, "pax bytes", 9);
    tar_text(tar, "last.txt", "end");
    tar_end(tar);
}

static void check_index(const TarIndex *index, const StrBuf *tar)
{
    const SampleTable *t = &index->table;
    assert_int_equal(t->sample_count, 4);
    assert_int_equal(t->member_count, 6);
    assert_string_equal(sample_key(t, &t->samples[0]), "one");
    const SampleMember *jpg = sample_member(t, &t->samples[0], "jpg");
    assert_non_null(jpg);
    assert_memory_equal(tar->data + jpg->offset, "11111", 5);
    assert_false(t->samples[0].duplicate);
    assert_true(t->samples[1].duplicate);
    const SampleMember *pax = sample_member(t, &t->samples[2], "jpg");
    assert_non_null(pax);
    assert_int_equal(strlen(sample_key(t, &t->samples[2])), 250);
    assert_int_equal(pax->size, 9);
    assert_memory_equal(tar->data + pax->offset, "pax bytes", 9);
    assert_null(sample_member(t, &t->samples[3], "jpg"));
}

static void test_scan_and_file(void **state)
{
    (void)state;
    StrBuf tar = {0}, text = {0}, again = {0};
    TarIndex index;
    make_tar(&tar);
    const char *path = in_folder(folder, "a.tar");
    write_file(path, tar.data, tar.size);
    assert_ok(scan(path, &index));
    assert_false(index.broken);
    check_index(&index, &tar);
    assert_ok(tar_index_format(&index, &text));
    assert_memory_equal(text.data, "v1.2 4\njpg 512 5 one.jpg txt 1536 7 one.txt\n", 44);
    tar_index_free(&index);

    assert_ok(tar_index_parse(text.data, text.size, (int64_t)tar.size, &index));
    check_index(&index, &tar);
    assert_ok(tar_index_format(&index, &again));
    assert_string_equal(again.data, text.data);
    tar_index_free(&index);

    assert_ok(open_in(path, "", true, &index)); /* leaves a.tar.idx */
    tar_index_free(&index);
    assert_true(file_exists(in_folder(folder, "a.tar.idx")));
    /* An index that says less is believed while it is newer than the shard, and no longer after the shard changes. */
    write_file(in_folder(folder, "a.tar.idx"), "v1.2 1\ntxt 1536 7 one.txt\n", 26);
    assert_ok(open_in(path, "", false, &index));
    assert_int_equal(index.table.sample_count, 1);
    tar_index_free(&index);
    struct timespec later[2] = {{.tv_sec = time(NULL) + 100}, {.tv_sec = time(NULL) + 100}};
    assert_int_equal(utimensat(AT_FDCWD, path, later, 0), 0);
    assert_ok(open_in(path, "", false, &index));
    check_index(&index, &tar);
    tar_index_free(&index);
    strbuf_free(&tar);
    strbuf_free(&text);
    strbuf_free(&again);
}

static void test_bad_index_files(void **state)
{
    (void)state;
    const char *bad[] = {"",
                         "v1.1 1\njpg 512 5 a.jpg\n",
                         "v1.2\n",
                         "v1.2 x\n",
                         "v1.2 2\njpg 512 5 a.jpg\n",
                         "v1.2 1\njpg 512 5\n",
                         "v1.2 1\njpg 5 5 a.jpg\n",
                         "v1.2 1\njpg 512 -5 a.jpg\n",
                         "v1.2 1\njpg 512 999999 a.jpg\n",
                         "v1.2 1\njpg 999999999999999999999 5 a.jpg\n",
                         "v1.2 1\njpg 512 5 a.jpg\rjpg 512 5 a.jpg\n",
                         "v1.2 1 jpg 512 5 a.jpg\n",
                         "v1.2 1\njpg 512 5 a.jpg txt 512 5 b.txt\n",  /* two samples in a line */
                         "v1.2 2\njpg 512 5 a.jpg\ntxt 512 5 a.txt\n", /* one in two */
                         "v1.2 2\njpg 512 5 a.jpg txt 512 5 b.txt\n",
                         "v1.2 1\njpg 512 5 __x__/a.jpg\n"};
    TarIndex index;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(tar_index_parse(bad[i], strlen(bad[i]), 4096, &index), ERR_FORMAT);
    assert_int_equal(tar_index_parse("v1.2 1\njpg 512 5 a\0.jpg\n", 24, 4096, &index), ERR_FORMAT);
    assert_ok(tar_index_parse("v1.2 1\r\njpg 512 5 a.jpg\r\n", 25, 4096, &index));
    tar_index_free(&index);
    assert_ok(tar_index_parse("v1.2 1\njpg 512 5 a.jpg", 22, 4096, &index));
    tar_index_free(&index);
    /* A bad one beside a shard is passed over. */
    StrBuf tar = {0};
    make_tar(&tar);
    write_file(in_folder(folder, "b.tar"), tar.data, tar.size);
    write_file(in_folder(folder, "b.idx"), "rubbish", 7);
    assert_ok(open_in(in_folder(folder, "b.tar"), "", false, &index));
    check_index(&index, &tar);
    tar_index_free(&index);
    strbuf_free(&tar);
}

static void test_damage(void **state)
{
    (void)state;
    StrBuf tar = {0};
    TarIndex index;
    make_tar(&tar);
    const char *path = in_folder(folder, "c.tar");
    /* Cut anywhere: never more samples than whole ones before the cut, never a failure. */
    for (size_t cut = 0; cut < tar.size; cut += 100) {
        write_file(path, tar.data, cut);
        assert_ok(scan(path, &index));
        assert_true(index.table.sample_count <= 4);
        for (size_t m = 0; m < index.table.member_count; m++)
            assert_true(index.table.members[m].offset + index.table.members[m].size <= (int64_t)cut);
        tar_index_free(&index);
    }
    /* Inside the second sample's bytes: the first is whole, the second is dropped, and the index says why. */
    const char *at = memmem(tar.data, tar.size, "33", 2);
    write_file(path, tar.data, (size_t)(at - tar.data) + 1);
    assert_ok(open_in(path, "", true, &index));
    assert_true(index.broken);
    assert_non_null(strstr(index.trouble, "runcated"));
    assert_int_equal(index.table.sample_count, 1);
    tar_index_free(&index);
    assert_false(file_exists(in_folder(folder, "c.tar.idx"))); /* else the next run would not say so */

    write_file(path, "this is no tar at all, whatever its name says.......", 50);
    assert_ok(scan(path, &index));
    assert_true(index.broken);
    assert_int_equal(index.table.sample_count, 0);
    tar_index_free(&index);

    write_file(path, "", 0);
    assert_ok(scan(path, &index));
    assert_false(index.broken);
    assert_int_equal(index.table.sample_count, 0);
    tar_index_free(&index);

    assert_int_equal(open_in(in_folder(folder, "absent.tar"), "", true, &index), ERR_IO);
    check_message("absent.tar");
    assert_int_equal(open_in(folder, "", true, &index), ERR_IO);
    strbuf_free(&tar);
}

static void test_blanks_in_names(void **state)
{
    (void)state;
    StrBuf tar = {0}, text = {0};
    TarIndex index;
    tar_text(&tar, "a b.txt", "x");
    tar_end(&tar);
    write_file(in_folder(folder, "d.tar"), tar.data, tar.size);
    assert_ok(open_in(in_folder(folder, "d.tar"), "", true, &index));
    assert_int_equal(index.table.sample_count, 1);
    assert_int_equal(tar_index_format(&index, &text), ERR_UNSUPPORTED);
    tar_index_free(&index);
    assert_false(file_exists(in_folder(folder, "d.tar.idx")));
    strbuf_free(&tar);
    strbuf_free(&text);
}

/* ---- windows ---- */

static void same_samples(const TarIndex *whole, int64_t first, int64_t count, const TarIndex *window)
{
    const SampleTable *w = &whole->table, *t = &window->table;
    assert_int_equal(t->sample_count, count);
    for (int64_t i = 0; i < count; i++) {
        const Sample *a = &w->samples[first + i], *b = &t->samples[i];
        assert_string_equal(sample_key(w, a), sample_key(t, b));
        assert_int_equal(a->member_count, b->member_count);
        assert_int_equal(a->duplicate, b->duplicate);
        for (uint32_t m = 0; m < a->member_count; m++) {
            const SampleMember *x = &w->members[a->first_member + m], *y = &t->members[b->first_member + m];
            assert_string_equal(sample_suffix(w, x), sample_suffix(t, y));
            assert_int_equal(x->offset, y->offset);
            assert_int_equal(x->size, y->size);
        }
    }
}

/* A number below n: the draws of the tests are as fixed as those of training. */
static int64_t draw(int64_t n)
{
    static uint32_t state = 12345;
    state = state * 1664525u + 1013904223u;
    return (int64_t)(state >> 8) % n;
}

static void random_index(TarIndex *index, int64_t samples)
{
    static const char *const suffixes[] = {"jpg", "json", "txt", "cls", "a.b", "JPG"};
    char name[600];
    int64_t offset = 512;
    *index = (TarIndex){0};
    for (int64_t s = 0; s < samples; s++) {
        int64_t members = 1 + draw(4), pad = draw(20) == 0 ? draw(500) : 0;
        for (int64_t m = 0; m < members; m++) {
            int64_t size = draw(100000);
            snprintf(name, sizeof name, "d%0*d/%d.%s", (int)pad + 1, 0, (int)s, suffixes[draw(6)]);
            assert_ok(sample_table_add(&index->table, name, offset, size));
            offset += 512 + (size + 511) / 512 * 512;
        }
    }
}

static void test_windows(void **state)
{
    (void)state;
    const char *path = in_folder(folder, "w.tar.idx");
    for (int round = 0; round < 20; round++) {
        TarIndex whole, window;
        int64_t n = round < 2 ? round : 1 + draw(round < 15 ? 50 : 6000);
        random_index(&whole, n);
        assert_ok(tar_index_write(&whole, path));
        for (int i = 0; i < 20; i++) {
            int64_t first = draw(n + 1), count = draw(n - first + 1);
            assert_ok(tar_index_window(path, first, count, -1, &window));
            same_samples(&whole, first, count, &window);
            tar_index_free(&window);
        }
        assert_int_equal(tar_index_window(path, n, 1, -1, &window), ERR_FORMAT);
        assert_int_equal(tar_index_window(path, 0, n + 1, -1, &window), ERR_FORMAT);
        assert_int_equal(tar_index_window(path, -1, 1, -1, &window), ERR_FORMAT);
        assert_int_equal(tar_index_window(path, INT64_MAX, INT64_MAX, -1, &window), ERR_FORMAT);
        if (n > 0) { /* its last member ends behind a shard that is too short */
            assert_int_equal(tar_index_window(path, n - 1, 1, 512, &window), ERR_FORMAT);
            check_message("outside of the shard");
        }
        tar_index_free(&whole);
    }
}

static void test_windows_of_damaged_files(void **state)
{
    (void)state;
    const char *path = in_folder(folder, "x.tar.idx");
    TarIndex index;
    const char *text = "v1.2 3\r\n\r\njpg 512 5 a.jpg\n  \n\njpg 1536 6 b.jpg\r\njpg rubbish\n";
    write_file(path, text, strlen(text));
    assert_ok(
        tar_index_window(path, 0, 2, 4096, &index)); /* blank lines are no samples; what is not asked for is not read */
    assert_int_equal(index.table.sample_count, 2);
    assert_int_equal(index.table.members[1].offset, 1536);
    tar_index_free(&index);
    assert_int_equal(tar_index_window(path, 2, 1, 4096, &index), ERR_FORMAT);
    check_message("x.tar.idx, line 7");
    text = "v1.2 3\njpg 512 5 a.jpg\n";
    write_file(path, text, strlen(text));
    assert_int_equal(tar_index_window(path, 2, 1, 4096, &index), ERR_FORMAT);
    check_message("says 3 samples but has 1");
    StrBuf line = {0};
    assert_ok(strbuf_printf(&line, "v1.2 2\n"));
    for (int i = 0; i < 3 << 19; i++) assert_ok(strbuf_append(&line, "x", 1));
    write_file(path, line.data, line.size);
    assert_int_equal(tar_index_window(path, 1, 1, 4096, &index), ERR_FORMAT);
    check_message("too long");
    strbuf_free(&line);
    assert_int_equal(tar_index_window(in_folder(folder, "absent.idx"), 0, 1, -1, &index), ERR_IO);
}

/* ---- where index files are ---- */

static void test_finding(void **state)
{
    (void)state;
    StrBuf tar = {0};
    TarIndex index;
    int64_t samples;
    char path[PATH_MAX], other[PATH_MAX], kept[600];
    make_tar(&tar);
    const char *shard = in_folder(folder, "f.tar");
    write_file(shard, tar.data, tar.size);
    assert_int_equal(tar_index_find(shard, "", &samples, path), STATUS_END);
    const char *dali = in_folder(folder, "f.idx"), *beside = in_folder(folder, "f.tar.idx");
    write_file(dali, "v1.2 7\njpg 512 5 a.jpg", 22); /* as long as lines of 8 bytes allow: nothing else is looked at */
    assert_int_equal(tar_index_find(shard, "", &samples, path), STATUS_END);
    write_file(dali, "v1.2 2\njpg 512 5 a.jpg", 22);
    assert_ok(tar_index_find(shard, "", &samples, path));
    assert_int_equal(samples, 2);
    assert_string_equal(path, dali);
    write_file(beside, "v1.2 1\njpg 512 5 a.jpg", 22);
    assert_ok(tar_index_find(shard, "", &samples, path));
    assert_int_equal(samples, 1);
    assert_string_equal(path, beside);

    struct timespec past[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    assert_int_equal(utimensat(AT_FDCWD, beside, past, 0), 0);
    assert_int_equal(utimensat(AT_FDCWD, dali, past, 0), 0);
    assert_int_equal(tar_index_find(shard, "", &samples, path), STATUS_END);

    /* A folder for them: made when it is needed, and trusted however old a file is. */
    snprintf(kept, sizeof kept, "%s", in_folder(folder, "kept/indexes"));
    assert_int_equal(tar_index_find(shard, kept, &samples, path), STATUS_END);
    assert_ok(open_in(shard, kept, true, &index));
    check_index(&index, &tar);
    tar_index_free(&index);
    assert_ok(tar_index_find(shard, kept, &samples, path));
    assert_int_equal(samples, 4);
    assert_ok(tar_index_path(shard, kept, other));
    assert_string_equal(path, other);
    assert_int_equal(utimensat(AT_FDCWD, path, past, 0), 0);
    assert_ok(tar_index_find(shard, kept, &samples, path));
    assert_ok(tar_index_path("http://h/x/f.tar", kept, path)); /* another shard of that name has another file */
    assert_ok(tar_index_path("http://h/y/f.tar", kept, other));
    assert_string_not_equal(path, other);
    assert_int_equal(tar_index_path("http://h/x/f.tar", "", path), ERR_CONFIG);
    check_message("index_folder");
    assert_int_equal(tar_index_find("http://h/x/f.tar", "", &samples, path), STATUS_END);
    strbuf_free(&tar);
}

/* A sample of very many members costs no more than its share. */
static void test_many_members(void **state)
{
    (void)state;
    TarIndex index = {0};
    char name[64];
    for (int i = 0; i < 200000; i++) {
        snprintf(name, sizeof name, "a.%d", i);
        assert_ok(sample_table_add(&index.table, name, 512, 0));
    }
    assert_int_equal(index.table.sample_count, 1);
    assert_true(index.table.samples[0].duplicate); /* and so passed over */
    tar_index_free(&index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_scan_and_file),
        cmocka_unit_test(test_bad_index_files),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_blanks_in_names),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_windows_of_damaged_files),
        cmocka_unit_test(test_finding),
        cmocka_unit_test(test_many_members),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
