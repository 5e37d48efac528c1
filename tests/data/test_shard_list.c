/* Brace expansion, globs, list files. */
#include "shards.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/shard_list.h"

static void expect(const char *pattern, const char *joined)
{
    ShardList list = {0};
    char text[4096] = "";
    assert_ok(shard_list_expand(pattern, &list));
    for (size_t i = 0; i < list.count; i++) {
        if (i) strcat(text, " ");
        strcat(text, list.paths[i]);
    }
    assert_string_equal(text, joined);
    shard_list_free(&list);
}

static void test_braces(void **state)
{
    (void)state;
    expect("a.tar", "a.tar");
    expect("{0..3}", "0 1 2 3");
    expect("x{008..011}.tar", "x008.tar x009.tar x010.tar x011.tar");
    expect("{3..1}", "3 2 1");
    expect("{9..10}", "9 10");
    expect("{00..1}", "00 01");
    expect("{a,bb,}.tar", "a.tar bb.tar .tar");
    expect("{a,b}-{1..2}", "a-1 a-2 b-1 b-2");
    expect("{x{1..2},y}z", "x1z x2z yz");
    expect("{{a,b},c}", "a b c");
    expect("{a}", "{a}");
    expect("{a}{1..2}", "{a}1 {a}2");
    expect("{1..}", "{1..}");
    expect("{..2}", "{..2}");
    expect("{1..2", "{1..2");
    expect("a}b{", "a}b{");
    expect("", "");
}

static void test_bounds(void **state)
{
    (void)state;
    ShardList list = {0};
    assert_int_equal(shard_list_expand("{0..99999999}", &list), ERR_LIMIT);
    assert_int_equal(shard_list_expand("{0..9999}{0..9999}", &list), ERR_LIMIT);
    check_message("range too long");
    shard_list_free(&list);
    assert_int_equal(shard_list_expand("{0..999999999999999999999999}", &list), STATUS_OK); /* no number: as written */
    assert_int_equal(list.count, 1);
    shard_list_free(&list);
    char *deep = malloc(5000);
    memset(deep, '{', 4999);
    deep[4999] = 0;
    assert_int_equal(shard_list_expand(deep, &list), ERR_LIMIT);
    strcpy(deep, "");
    for (int i = 0; i < 100; i++) strcat(deep, "{a,}");
    assert_int_equal(shard_list_expand(deep, &list), ERR_LIMIT);
    shard_list_free(&list);
    free(deep);
}

static void test_globs(void **state)
{
    (void)state;
    char folder[512];
    ShardList list = {0};
    make_folder(folder);
    const char *names[] = {"b.tar",  "a.tar",        "a.tar.idx", "c{1}.tar",       "[x].tar",
                           "a.sums", "a_stats.json", "a.parquet", "b.tar.idx.tmp-7"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) write_file(in_folder(folder, names[i]), "x", 1);

    assert_ok(shard_list_add(in_folder(folder, "*"), &list)); /* sorted by bytes, indexes left out */
    assert_int_equal(list.count, 4);
    assert_string_equal(list.paths[0], in_folder(folder, "[x].tar"));
    assert_string_equal(list.paths[1], in_folder(folder, "a.tar"));
    assert_string_equal(list.paths[2], in_folder(folder, "b.tar"));
    assert_string_equal(list.paths[3], in_folder(folder, "c{1}.tar"));
    shard_list_free(&list);

    assert_ok(shard_list_add(in_folder(folder, "[x].tar"), &list)); /* a file of that very name */
    assert_ok(shard_list_add(in_folder(folder, "{b,a}*.tar"), &list));
    assert_int_equal(list.count, 3);
    assert_string_equal(list.paths[1], in_folder(folder, "b.tar"));
    shard_list_free(&list);

    assert_int_equal(shard_list_add(in_folder(folder, "nothing*"), &list), ERR_IO);
    check_message("no file matches");
    assert_int_equal(shard_list_add(in_folder(folder, "no-such-folder/*.tar"), &list), ERR_IO);
    check_message("no file matches");
    assert_ok(shard_list_add(in_folder(folder, "absent.tar"), &list)); /* found out when it is opened */
    shard_list_free(&list);
    remove_folder(folder);
}

static void test_mistakes(void **state)
{
    (void)state;
    char folder[512];
    ShardList list = {0};
    static const struct {
        const char *pattern, *message;
    } bad[] = {
        {"x{0..3.tar", "a { is not closed"},
        {"{a,b}/{0..3.tar", "a { is not closed"},
        {"x{00000..0000x}.tar", "{00000..0000x} is no range of numbers"},
        {"x{1..}.tar", "{1..} is no range"},
        {"x{y,{a..b}}.tar", "{a..b} is no range"},
        {"x{0..999999999999999999999999}.tar", "is no range"},
        {"http://user:secret@h/{0..x}.tar", "http://h/{0..x}.tar: {0..x} is no range"},
        {"http://h/*.tar", "a web server cannot be asked which files match"},
        {"https://h/{0..1}/[ab].tar?x=1", "a web server cannot be asked which files match"},
        {"htp://h/a.tar", "htp:// is not known"},
        {"HTTP://h/a.tar", "HTTP:// is not known"},
        {"s3://bucket/{0..9}.tar", "s3:// is not known"},
        {"file:///a.tar", "file:// is not known"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(shard_list_add(bad[i].pattern, &list), ERR_CONFIG);
        check_message(bad[i].message);
        assert_null(strstr(status_message(), "secret"));
        assert_int_equal(shard_list_parse(bad[i].pattern, strlen(bad[i].pattern), "", &list), ERR_FORMAT);
        if (bad[i].pattern[0] != '{') check_message(bad[i].message); /* else it is read as JSON */
        assert_int_equal(list.count, 0);
    }
    static const char *const good[] = {"{a}.tar",          "a..b/{x..,y}.tar",       "pipe:sed 's/{//' x{a..b",
                                       "a}.tar",           "http://[::1]/a.tar?x=*", "a:/b.tar",
                                       "/a//b{{1..2}}.tar"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) assert_ok(shard_list_check(good[i], good[i]));
    make_folder(folder); /* what is there has its name */
    write_file(in_folder(folder, "x{0..3.tar"), "x", 1);
    assert_ok(shard_list_add(in_folder(folder, "x{0..3.tar"), &list));
    assert_ok(shard_list_parse("x{0..3.tar\t7", 12, folder, &list));
    assert_int_equal(list.count, 2);
    shard_list_free(&list);
    remove_folder(folder);
}

static void test_elsewhere(void **state)
{
    (void)state;
    ShardList list = {0};
    assert_ok(shard_list_add("https://host/p/{00..02}.tar?x=*", &list));
    assert_ok(shard_list_add("pipe:cat [ab]* {1..2} | grep -v '{}'", &list));
    assert_int_equal(list.count, 5);
    assert_string_equal(list.paths[2], "https://host/p/02.tar?x=*");
    assert_string_equal(list.paths[4], "pipe:cat [ab]* 2 | grep -v '{}'");
    assert_int_equal(shard_list_note(&list, 4).samples, -1);
    shard_list_free(&list);
}

/* What is wrong with a list or a pattern is said without the secrets in it. */
static void test_secrets(void **state)
{
    (void)state;
    ShardList list = {0};
    char text[5000];
    static const char *const lines[] = {"https://me:SECRET@h/{0..99}.tar?token=SECRET\t5",
                                        "https://me:SECRET@h/a.tar?token=SECRET\tx", "pipe:curl -u SECRET h\tx",
                                        "list:https://me:SECRET@h/list.txt"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        assert_true(shard_list_parse(lines[i], strlen(lines[i]), "", &list) != STATUS_OK);
        assert_null(strstr(status_message(), "SECRET"));
    }
    assert_int_equal(shard_list_add("list:https://me:SECRET@h/list.txt", &list), ERR_UNSUPPORTED);
    assert_null(strstr(status_message(), "SECRET"));
    assert_int_equal(shard_list_add("https://me:SECRET@h/{0..99999999}.tar", &list), ERR_LIMIT);
    assert_null(strstr(status_message(), "SECRET"));
    check_message("https://h/{0..99999999}.tar");
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    memcpy(text, "https://me:SECRET@h/", 20);
    assert_int_equal(shard_list_add(text, &list), ERR_LIMIT);
    assert_null(strstr(status_message(), "SECRET"));
    shard_list_free(&list);
}

static void check_shard(const ShardList *list, size_t i, const char *path, int64_t samples, int64_t bytes)
{
    assert_true(i < list->count);
    assert_string_equal(list->paths[i], path);
    assert_int_equal(shard_list_note(list, i).samples, samples);
    assert_int_equal(shard_list_note(list, i).bytes, bytes);
}

static void test_list_files(void **state)
{
    (void)state;
    char folder[512], pattern[600];
    ShardList list = {0};
    make_folder(folder);
    assert_int_equal(mkdir(in_folder(folder, "[odd]"), 0755), 0);
    write_file(in_folder(folder, "[odd]/g1.tar"), "x", 1);
    write_file(in_folder(folder, "[odd]/g2.tar"), "x", 1);
    write_file(in_folder(folder, "[odd]/{1,2}.tar"), "x", 1);
    const char *text = "\xef\xbb\xbf# a comment\r\n\r\na.tar\t10\t1000\r\n/abs/b.tar\n \t\nhttp://h/{0..1}.tar\n"
                       "c d.tar\t5\ne.tar\t\t77\ng*.tar\n{1,2}.tar\t3\n{8..9}.tar";
    write_file(in_folder(folder, "[odd]/list.txt"), text, strlen(text));
    snprintf(pattern, sizeof pattern, "list:%s/[odd]/list.txt", folder);
    assert_ok(shard_list_add("first.tar", &list));
    assert_ok(shard_list_add(pattern, &list));
    assert_ok(shard_list_add("last.tar", &list));
    check_shard(&list, 0, "first.tar", -1, -1);
    check_shard(&list, 1, in_folder(folder, "[odd]/a.tar"), 10, 1000);
    check_shard(&list, 2, "/abs/b.tar", -1, -1);
    check_shard(&list, 3, "http://h/0.tar", -1, -1);
    check_shard(&list, 4, "http://h/1.tar", -1, -1);
    check_shard(&list, 5, in_folder(folder, "[odd]/c d.tar"), 5, -1);
    check_shard(&list, 6, in_folder(folder, "[odd]/e.tar"), -1, 77);
    check_shard(&list, 7, in_folder(folder, "[odd]/g1.tar"), -1, -1); /* the folder's own brackets are no wildcards */
    check_shard(&list, 8, in_folder(folder, "[odd]/g2.tar"), -1, -1);
    check_shard(&list, 9, in_folder(folder, "[odd]/{1,2}.tar"), 3, -1); /* a file of that very name */
    check_shard(&list, 10, in_folder(folder, "[odd]/8.tar"), -1, -1);
    check_shard(&list, 11, in_folder(folder, "[odd]/9.tar"), -1, -1);
    check_shard(&list, 12, "last.tar", -1, -1);
    assert_int_equal(list.count, 13);
    shard_list_free(&list);

    const char *json =
        "{\"wids_version\": 1, \"shardlist\": [{\"url\": \"a/{0..1}.tar\", \"nsamples\": 3, \"filesize\": "
        "4.0, \"md5sum\": \"\"}, {\"url\": \"http://h/b.tar\"}, {\"url\": \"/c.tar\", \"nsamples\": null}]}";
    write_file(in_folder(folder, "index.json"), json, strlen(json));
    snprintf(pattern, sizeof pattern, "list:%s/index.json", folder);
    assert_ok(shard_list_add(pattern, &list));
    check_shard(&list, 0, in_folder(folder, "a/{0..1}.tar"), 3, 4);
    check_shard(&list, 1, "http://h/b.tar", -1, -1);
    check_shard(&list, 2, "/c.tar", -1, -1);
    shard_list_free(&list);
    write_file(in_folder(folder, "empty.txt"), "# nothing\n", 10);
    snprintf(pattern, sizeof pattern, "list:%s/empty.txt", folder);
    assert_int_equal(shard_list_add(pattern, &list), ERR_FORMAT);
    check_message("names no shard");
    assert_int_equal(shard_list_add("list:http://h/list.txt", &list), ERR_UNSUPPORTED);
    assert_int_equal(shard_list_add("list:/no/such/list", &list), ERR_IO);
    shard_list_free(&list);
    remove_folder(folder);
}

static void test_bad_lists(void **state)
{
    (void)state;
    struct {
        const char *text, *message;
        Status status;
    } bad[] = {
        {"a.tar\nb.tar\tmany\n", "line 2: behind the path", ERR_FORMAT},
        {"a.tar\t1\t2\t3\n", "line 1: behind the path", ERR_FORMAT},
        {"a.tar\t-1\n", "line 1: behind the path", ERR_FORMAT},
        {"a.tar\t9999999999999999999\n", "line 1: behind the path", ERR_FORMAT},
        {"a.tar\nb.tar 9987 341268480\n", "line 2: b.tar 9987 341268480: a number behind a blank; separate",
         ERR_FORMAT},
        {"http://h/b.tar  9987\n", "by a tab", ERR_FORMAT},
        {"a.tar\nhtp://h/{0..1}.tar\n", "line 2: htp://h/{0..1}.tar: htp:// is not known", ERR_FORMAT},
        {"{\"shardlist\": [{\"url\": \"gs://b/a.tar\"}]}", "entry 0 of \"shardlist\": gs://b/a.tar: gs:// is not known",
         ERR_FORMAT},
        {"\n\n\t5\n", "line 3: no path", ERR_FORMAT},
        {"list:b\n", "may not name another", ERR_FORMAT},
        {"a\x01.tar\n", "control character", ERR_FORMAT},
        {"x{0..2}.tar\t5\n", "stands for 3 shards", ERR_FORMAT},
        {"*/../*/../*.tar\n", "wildcards with ..", ERR_FORMAT},
        {"no-such-file-here*.tar\n", "no file matches", ERR_IO},
        {"x{0..9999999}\n", "line 1: ", ERR_LIMIT},
        {"{\"shardlist\": 5}", "no \"shardlist\"", ERR_FORMAT},
        {"{\"shardlist\": {\"url\": \"a\"}}", "no \"shardlist\"", ERR_FORMAT},
        {"{\"shardlist\": [{\"url\": 5}]}", "entry 0", ERR_FORMAT},
        {"{\"shardlist\": [{\"url\": \"a\"}, 7]}", "entry 1", ERR_FORMAT},
        {"{\"shardlist\": [{\"url\": \"a\", \"nsamples\": -1}]}", "no count", ERR_FORMAT},
        {"{\"shardlist\": [{\"url\": \"a\", \"nsamples\": 1.5}]}", "no count", ERR_FORMAT},
        {"{\"shardlist\": [{\"url\": \"list:a\"}]}", "may not name another", ERR_FORMAT},
        {"{\"shardlist\": [{\"url\": \"a\\u0000b\"}]}", "control character", ERR_FORMAT},
        {"{a,b}.tar\n", "may begin with #", ERR_FORMAT},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ShardList list = {0};
        assert_int_equal(shard_list_parse(bad[i].text, strlen(bad[i].text), "", &list), bad[i].status);
        check_message(bad[i].message);
        shard_list_free(&list);
    }
}

static void test_format(void **state)
{
    (void)state;
    StrBuf text = {0};
    ShardList list = {0};
    assert_ok(shard_list_format("/a b/c.tar", (ShardNote){10, 20}, &text));
    assert_ok(shard_list_format("http://h/?*[", (ShardNote){-1, 20}, &text));
    assert_ok(shard_list_format("/d", (ShardNote){-1, -1}, &text));
    assert_string_equal(text.data, "/a b/c.tar\t10\t20\nhttp://h/?*[\t\t20\n/d\n");
    assert_ok(shard_list_parse(text.data, text.size, "", &list));
    check_shard(&list, 0, "/a b/c.tar", 10, 20);
    check_shard(&list, 1, "http://h/?*[", -1, 20);
    check_shard(&list, 2, "/d", -1, -1);
    const char *bad[] = {"",           "#a",     "a\nb", "a\tb", "list:x", "a*", "{1,2}", "http://h/{1,2}",
                         "http://h/*", "s3://x", "a 5"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(shard_list_format(bad[i], (ShardNote){-1, -1}, &text), ERR_UNSUPPORTED);
    shard_list_free(&list);
    strbuf_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_braces),    cmocka_unit_test(test_bounds),     cmocka_unit_test(test_globs),
        cmocka_unit_test(test_elsewhere), cmocka_unit_test(test_list_files), cmocka_unit_test(test_bad_lists),
        cmocka_unit_test(test_format),    cmocka_unit_test(test_mistakes),   cmocka_unit_test(test_secrets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
