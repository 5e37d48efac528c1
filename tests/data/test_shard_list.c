/* Brace expansion and globs. */
#include "shards.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
    const char *names[] = {"b.tar", "a.tar", "a.tar.idx", "c{1}.tar", "[x].tar"};
    for (size_t i = 0; i < 5; i++) write_file(in_folder(folder, names[i]), "x", 1);

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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_braces), cmocka_unit_test(test_bounds),
                                       cmocka_unit_test(test_globs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
