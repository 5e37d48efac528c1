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
    assert_ok(tar_index_scan(path, &index));
    assert_false(index.broken);
    assert_false(index.compressed);
    check_index(&index, &tar);
    assert_ok(tar_index_format(&index, &text));
    assert_memory_equal(text.data, "v1.2 4\njpg 512 5 one.jpg txt 1536 7 one.txt\n", 44);
    tar_index_free(&index);

    assert_ok(tar_index_parse(text.data, text.size, (int64_t)tar.size, &index));
    check_index(&index, &tar);
    assert_ok(tar_index_format(&index, &again));
    assert_string_equal(again.data, text.data);
    tar_index_free(&index);

    assert_ok(tar_index_open(path, true, &index)); /* leaves a.tar.idx */
    tar_index_free(&index);
    assert_true(file_exists(in_folder(folder, "a.tar.idx")));
    /* An index that says less is believed while it is newer than the shard, and no longer after the shard changes. */
    write_file(in_folder(folder, "a.tar.idx"), "v1.2 1\ntxt 1536 7 one.txt\n", 26);
    assert_ok(tar_index_open(path, false, &index));
    assert_int_equal(index.table.sample_count, 1);
    tar_index_free(&index);
    struct timespec later[2] = {{.tv_sec = time(NULL) + 100}, {.tv_sec = time(NULL) + 100}};
    assert_int_equal(utimensat(AT_FDCWD, path, later, 0), 0);
    assert_ok(tar_index_open(path, false, &index));
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
                         "v1.2 1\njpg 512 5 a.jpg\rjpg 512 5 a.jpg\n"};
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
    assert_ok(tar_index_open(in_folder(folder, "b.tar"), false, &index));
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
        assert_ok(tar_index_scan(path, &index));
        assert_true(index.table.sample_count <= 4);
        for (size_t m = 0; m < index.table.member_count; m++)
            assert_true(index.table.members[m].offset + index.table.members[m].size <= (int64_t)cut);
        tar_index_free(&index);
    }
    /* Inside the second sample's bytes: the first is whole, the second is dropped, and the index says why. */
    const char *at = memmem(tar.data, tar.size, "33", 2);
    write_file(path, tar.data, (size_t)(at - tar.data) + 1);
    assert_ok(tar_index_open(path, true, &index));
    assert_true(index.broken);
    assert_non_null(strstr(index.trouble, "runcated"));
    assert_int_equal(index.table.sample_count, 1);
    tar_index_free(&index);
    assert_false(file_exists(in_folder(folder, "c.tar.idx"))); /* else the next run would not say so */

    write_file(path, "this is no tar at all, whatever its name says.......", 50);
    assert_ok(tar_index_scan(path, &index));
    assert_true(index.broken);
    assert_int_equal(index.table.sample_count, 0);
    tar_index_free(&index);

    write_file(path, "", 0);
    assert_ok(tar_index_scan(path, &index));
    assert_false(index.broken);
    assert_int_equal(index.table.sample_count, 0);
    tar_index_free(&index);

    assert_int_equal(tar_index_open(in_folder(folder, "absent.tar"), true, &index), ERR_IO);
    check_message("absent.tar");
    assert_int_equal(tar_index_open(folder, true, &index), ERR_IO);
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
    assert_ok(tar_index_open(in_folder(folder, "d.tar"), true, &index));
    assert_int_equal(index.table.sample_count, 1);
    assert_int_equal(tar_index_format(&index, &text), ERR_UNSUPPORTED);
    tar_index_free(&index);
    assert_false(file_exists(in_folder(folder, "d.tar.idx")));
    strbuf_free(&tar);
    strbuf_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),  cmocka_unit_test(test_scan_and_file),   cmocka_unit_test(test_bad_index_files),
        cmocka_unit_test(test_damage), cmocka_unit_test(test_blanks_in_names),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
