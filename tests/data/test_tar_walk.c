/* The walk over a tar's headers: the same members as libarchive finds in what it has written itself, and hostile
 * archives, whose cost is counted in reads and allocations. */
#include "tars.h"

#include <archive.h>
#include <archive_entry.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/archive.h"

static TarWalk *start(TarMemory *memory)
{
    TarWalk *walk;
    TarWalkSource source = tar_memory(memory);
    assert_ok(tar_walk_create(&source, &walk));
    return walk;
}

/* The members, "name:size name:size", and how the walk ended. */
static Status list_members(const StrBuf *tar, char *out, size_t capacity)
{
    TarMemory memory = {.data = tar->data, .size = (int64_t)tar->size};
    TarWalk *walk = start(&memory);
    const char *name;
    int64_t offset, size;
    Status status;
    size_t n = 0;
    out[0] = 0;
    while ((status = tar_walk_next(walk, &name, &offset, &size)) == STATUS_OK) {
        assert_true(offset >= 512 && size >= 0 && offset + size <= memory.size);
        n += (size_t)snprintf(out + n, capacity - n, "%s%s:%d", n ? " " : "", name, (int)size);
        assert_true(n < capacity);
    }
    tar_walk_free(walk);
    /* whatever it holds: its headers are read once, with their neighbours */
    assert_true(memory.bytes_read <= 16 * (memory.size + 4096));
    return status;
}

static void expect_members(const StrBuf *tar, Status end, const char *expected)
{
    static char found[1 << 16];
    assert_int_equal(list_members(tar, found, sizeof found), end);
    assert_string_equal(found, expected);
}

/* ---- against libarchive ---- */

static la_ssize_t on_write(struct archive *writer, void *context, const void *data, size_t size)
{
    (void)writer;
    assert_ok(strbuf_append(context, data, size));
    return (la_ssize_t)size;
}

static void write_entry(struct archive *writer, const char *name, unsigned type, const char *text)
{
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname_utf8(entry, name);
    archive_entry_set_filetype(entry, type);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, type == AE_IFREG ? (la_int64_t)strlen(text) : 0);
    if (type == AE_IFLNK) archive_entry_set_symlink(entry, "elsewhere");
    int code = archive_write_header(writer, entry);
    if (code == ARCHIVE_OK && type == AE_IFREG) archive_write_data(writer, text, strlen(text));
    archive_entry_free(entry); /* a format that cannot hold the name leaves the member out */
}

static void write_archive(int (*set_format)(struct archive *), StrBuf *tar)
{
    char deep[240], longest[400];
    memset(deep, 'd', sizeof deep);
    for (int i = 40; i < 239; i += 40) deep[i] = '/';
    memcpy(deep + 230, "a.b.jpg", 8);
    memset(longest, 'n', sizeof longest);
    memcpy(longest + 390, ".txt", 5);
    struct archive *writer = archive_write_new();
    assert_int_equal(set_format(writer), ARCHIVE_OK);
    archive_write_open(writer, tar, NULL, on_write, NULL);
    write_entry(writer, "one.jpg", AE_IFREG, "1234567");
    write_entry(writer, "folder", AE_IFDIR, NULL);
    write_entry(writer, "link.jpg", AE_IFLNK, NULL);
    write_entry(writer, "folder/empty.txt", AE_IFREG, "");
    write_entry(writer, "pipe.jpg", AE_IFIFO, NULL);
    write_entry(writer, deep, AE_IFREG, "deep");
    write_entry(writer, longest, AE_IFREG, "long");
    write_entry(writer, "\xd0\xba\xd0\xbb\xd1\x8e\xd1\x87.json", AE_IFREG, "{}");
    write_entry(writer, "../../etc/passwd.txt", AE_IFREG, "path tricks are names");
    archive_write_free(writer);
}

static void test_as_libarchive(void **state)
{
    (void)state;
    int (*const formats[])(struct archive *) = {archive_write_set_format_v7tar, archive_write_set_format_ustar,
                                                archive_write_set_format_gnutar, archive_write_set_format_pax,
                                                archive_write_set_format_pax_restricted};
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        StrBuf tar = {0};
        Archive *archive;
        const char *name, *expected;
        int64_t offset, size, expected_size;
        int members = 0;
        write_archive(formats[i], &tar);
        char folder[512];
        make_folder(folder);
        write_file(in_folder(folder, "a.tar"), tar.data, tar.size);
        assert_ok(archive_open(in_folder(folder, "a.tar"), 0, &archive));
        TarMemory memory = {.data = tar.data, .size = (int64_t)tar.size};
        TarWalk *walk = start(&memory);
        while (archive_next(archive, &expected, &expected_size) == STATUS_OK) {
            char bytes[64] = "";
            assert_ok(tar_walk_next(walk, &name, &offset, &size));
            assert_string_equal(name, expected);
            assert_int_equal(size, expected_size);
            assert_ok(archive_read(archive, bytes));
            assert_memory_equal(tar.data + offset, bytes, (size_t)size);
            members++;
        }
        assert_int_equal(tar_walk_next(walk, &name, &offset, &size), STATUS_END);
        assert_true(members >= 4);
        tar_walk_free(walk);
        archive_close(archive);
        remove_folder(folder);
        strbuf_free(&tar);
    }
}

/* ---- one thing each ---- */

static void test_kinds(void **state)
{
    (void)state;
    StrBuf tar = {0}, pax = {0};
    const char types[] = "1234567VMDN\0";
    for (size_t i = 0; i < sizeof types - 1; i++) { /* of a link and the like nothing follows, whatever its size says */
        char expected[64], after[16];
        bool bytes = types[i] < '1' || types[i] > '6', file = types[i] == '7' || types[i] == 0;
        snprintf(after, sizeof after, "after%d.txt", (int)i);
        tar.size = 0;
        tar_put(&tar, &(TarHeader){.name = "k.jpg", .type = types[i], .size = 5}, "12345", bytes ? 5 : 0);
        tar_put_text(&tar, &(TarHeader){.name = after, .type = '0'}, "a");
        snprintf(expected, sizeof expected, "%s%s:1", file ? "k.jpg:5 " : "", after); /* 7: contiguous; NUL: old */
        expect_members(&tar, STATUS_END, expected);
    }
    tar.size = 0;
    tar_put_text(&tar, &(TarHeader){.name = "n.txt", .prefix = "p/q", .type = '0'}, "x");
    tar_put_text(&tar, &(TarHeader){.name = "n.txt", .prefix = "0123", .type = '0', .magic = MAGIC_GNU}, "x");
    tar_put_text(&tar, &(TarHeader){.name = "n.txt", .type = '0', .magic = MAGIC_V7}, "xyz");
    tar_put_text(&tar, &(TarHeader){.name = "b.txt", .type = '0', .base256 = true}, "four");
    tar_put_text(&tar, &(TarHeader){.name = "folder.old/", .type = 0, .magic = MAGIC_V7}, "");
    expect_members(&tar, STATUS_END, "p/q/n.txt:1 n.txt:1 n.txt:3 b.txt:4");
    tar.size = 0;
    pax_record(&pax, "comment", "nobody reads it");
    pax_record(&pax, "path", "from/pax.jpg");
    pax_record(&pax, "size", "6");
    tar_put_text(&tar, &(TarHeader){.name = "h", .type = 'x'}, pax.data);
    tar_put(&tar, &(TarHeader){.name = "short", .type = '0'}, "sixsix", 6);
    tar_put_text(&tar, &(TarHeader){.name = "g", .type = 'g'}, pax.data); /* for all that follow: not read */
    tar_put_text(&tar, &(TarHeader){.name = "././@LongLink", .type = 'L', .magic = MAGIC_GNU}, "gnu/long.txt");
    tar_put_text(&tar, &(TarHeader){.name = "short", .type = '0', .magic = MAGIC_GNU}, "l");
    tar_put_text(&tar, &(TarHeader){.name = "own.txt", .type = '0'}, "o");
    tar_end(&tar);
    tar_put_text(&tar, &(TarHeader){.name = "behind-the-end.txt", .type = '0'}, "no reader sees it");
    expect_members(&tar, STATUS_END, "from/pax.jpg:6 gnu/long.txt:1 own.txt:1");
    strbuf_free(&tar);
    strbuf_free(&pax);
}

static void test_sparse(void **state)
{
    (void)state;
    StrBuf tar = {0}, pax = {0};
    uint8_t map[512] = {0};
    map[504] = 1;
    tar_put(&tar, &(TarHeader){.name = "s.jpg", .type = 'S', .size = 3, .magic = MAGIC_GNU, .map_more = true}, map,
            512);
    map[504] = 0;
    assert_ok(strbuf_append(&tar, map, 512));
    assert_ok(strbuf_append(&tar, map, 512)); /* the three bytes */
    tar_put_text(&tar, &(TarHeader){.name = "a.txt", .type = '0'}, "a");
    pax_record(&pax, "GNU.sparse.major", "1");
    pax_record(&pax, "GNU.sparse.name", "t.jpg");
    tar_put_text(&tar, &(TarHeader){.name = "h", .type = 'x'}, pax.data);
    tar_put_text(&tar, &(TarHeader){.name = "GNUSparseFile.0/t.jpg", .type = '0'}, "1\n0\n1\n");
    tar_put_text(&tar, &(TarHeader){.name = "b.txt", .type = '0'}, "b");
    expect_members(&tar, STATUS_END, "a.txt:1 b.txt:1");
    strbuf_free(&tar);
    strbuf_free(&pax);
}

static void expect_broken(const TarHeader *header, const char *data, Status expected, const char *why)
{
    StrBuf tar = {0};
    tar_put_text(&tar, &(TarHeader){.name = "before.txt", .type = '0'}, "b");
    if (header->size)
        tar_put(&tar, header, data, strlen(data));
    else
        tar_put_text(&tar, header, data);
    tar_put_text(&tar, &(TarHeader){.name = "behind.txt", .type = '0'}, "b");
    expect_members(&tar, expected, "before.txt:1");
    check_message(why);
    strbuf_free(&tar);
}

static void test_broken(void **state)
{
    (void)state;
    StrBuf name = {0};
    expect_broken(&(TarHeader){.name = "a.jpg", .type = '0', .size = -1, .base256 = true}, "x", ERR_FORMAT,
                  "impossible size");
    expect_broken(&(TarHeader){.name = "a.jpg", .type = '0', .size = INT64_MAX, .base256 = true}, "x", ERR_FORMAT,
                  "impossible size");
    expect_broken(&(TarHeader){.name = "a.jpg", .type = '0', .size = (int64_t)1 << 61, .base256 = true}, "x",
                  ERR_FORMAT, "truncated inside a.jpg");
    expect_broken(&(TarHeader){.name = "a.jpg", .type = '0', .size = 1 << 30}, "x", ERR_FORMAT, "truncated inside");
    expect_broken(&(TarHeader){.name = "h", .type = 'x', .size = 1 << 30}, "x", ERR_FORMAT, "truncated inside");
    expect_broken(&(TarHeader){.name = "h", .type = 'x'}, "11 path=abc", ERR_FORMAT, "damaged pax");
    expect_broken(&(TarHeader){.name = "h", .type = 'x'}, "99999999 path=abc\n", ERR_FORMAT, "damaged pax");
    expect_broken(&(TarHeader){.name = "h", .type = 'x'}, "0 path=abc\n", ERR_FORMAT, "damaged pax");
    expect_broken(&(TarHeader){.name = "h", .type = 'x'}, "9 pathabc\n", ERR_FORMAT, "damaged pax");
    expect_broken(&(TarHeader){.name = "h", .type = 'x'}, "32 size=99999999999999999999999\n", ERR_FORMAT, "pax");
    expect_broken(&(TarHeader){.name = "h", .type = 'x'}, "11 size=-5\n", ERR_FORMAT, "no number");
    for (int i = 0; i < 5000; i++) assert_ok(strbuf_append(&name, "n", 1));
    expect_broken(&(TarHeader){.name = "h", .type = 'L', .magic = MAGIC_GNU}, name.data, ERR_LIMIT, "name");
    strbuf_free(&name);
    StrBuf tar = {0};
    tar_put_text(&tar, &(TarHeader){.name = "a.txt", .type = '0'}, "a");
    tar_put_text(&tar, &(TarHeader){.name = "b.txt", .type = '0'}, "b");
    tar.data[1024 + 3] ^= 1; /* the checksum no longer holds */
    expect_members(&tar, ERR_FORMAT, "a.txt:1");
    check_message("not a tar header at byte 1024");
    tar.size = 1024 + 100;
    expect_members(&tar, ERR_FORMAT, "a.txt:1");
    tar.size = 1024;
    expect_members(&tar, STATUS_END, "a.txt:1");
    tar.size = 512 + 1; /* its bytes are all there, but no writer leaves out padding: something was lost */
    expect_members(&tar, ERR_FORMAT, "a.txt:1");
    strbuf_free(&tar);
}

/* ---- hostile: what it costs ---- */

/* Block 0 is a sparse file's header, all others a map that never ends. */
static void endless_map(int64_t block, uint8_t out[512])
{
    memset(out, 0, 512);
    out[504] = 1;
    if (block == 0) tar_header(&(TarHeader){.name = "a.jpg", .type = 'S', .magic = MAGIC_GNU, .map_more = true}, out);
}

/* Pax headers that precede nothing, for ever. */
static void endless_extensions(int64_t block, uint8_t out[512])
{
    static const char record[] = "14 path=a.jpg\n";
    memset(out, 0, 512);
    if (block % 2 == 0)
        tar_header(&(TarHeader){.name = "h", .type = 'x', .size = sizeof record - 1}, out);
    else
        memcpy(out, record, sizeof record - 1);
}

static void huge_extension(int64_t block, uint8_t out[512])
{
    memset(out, 'x', 512);
    if (block == 0) tar_header(&(TarHeader){.name = "h", .type = 'x', .size = (int64_t)4 << 30}, out);
}

static void large_extension(int64_t block, uint8_t out[512])
{
    memset(out, 'x', 512);
    if (block == 0) tar_header(&(TarHeader){.name = "h", .type = 'L', .size = (1 << 20) + 1, .magic = MAGIC_GNU}, out);
}

static void zeros(int64_t block, uint8_t out[512])
{
    (void)block;
    memset(out, 0, 512);
}

static void members_of_nothing(int64_t block, uint8_t out[512])
{
    (void)block;
    tar_header(&(TarHeader){.name = "e", .type = '0'}, out);
}

static void expect_cheap(void (*make)(int64_t, uint8_t *), int64_t size, Status expected, int64_t most_bytes)
{
    TarMemory memory = {.make = make, .size = size};
    int64_t before = mem_thread_allocation_count(), offset, bytes;
    const char *name;
    TarWalk *walk = start(&memory);
    Status status = STATUS_OK;
    while (status == STATUS_OK) status = tar_walk_next(walk, &name, &offset, &bytes);
    assert_int_equal(status, expected);
    assert_true(memory.bytes_read <= most_bytes);
    assert_true(mem_thread_allocation_count() - before <= 2); /* the walk, and one buffer of 1 MiB */
    tar_walk_free(walk);
}

static void test_hostile(void **state)
{
    (void)state;
    expect_cheap(zeros, (int64_t)1 << 50, STATUS_END, 4096);
    expect_cheap(endless_map, (int64_t)1 << 50, ERR_FORMAT, (int64_t)600 << 20);
    expect_cheap(endless_extensions, (int64_t)1 << 50, ERR_FORMAT, 1 << 20);
    expect_cheap(large_extension, (int64_t)1 << 50, ERR_FORMAT, 4096);
    expect_cheap(huge_extension, (int64_t)1 << 50, ERR_FORMAT, 4096);
    expect_cheap(members_of_nothing, (int64_t)64 << 20, STATUS_END, (int64_t)64 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_libarchive), cmocka_unit_test(test_kinds),   cmocka_unit_test(test_sparse),
        cmocka_unit_test(test_broken),        cmocka_unit_test(test_hostile),
    };
    (void)setlocale(LC_CTYPE, "C.UTF-8"); /* libarchive's writer of GNU names crashes without */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
