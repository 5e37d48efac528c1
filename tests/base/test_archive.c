/* Archives: members in order, positions that can be returned to, and every way a tar file can be broken. */
#include "check.h"

#include <archive.h>
#include <archive_entry.h>
#include <unistd.h>

#include "base/archive.h"
#include "base/arena.h"
#include "base/file.h"
#include "temp_dir.h"

/* --- making tar files by hand --- */

static StrBuf tar;

static void put_bytes(const void *data, size_t size)
{
    static const char zeros[512];
    assert_ok(strbuf_append(&tar, data, size));
    assert_ok(strbuf_append(&tar, zeros, (512 - size % 512) % 512));
}

/* A ustar header; `size` may lie about what follows. */
static void put_header(const char *name, char type, unsigned long long size)
{
    unsigned char header[512] = {0};
    unsigned sum = 0;
    snprintf((char *)header, 100, "%s", name);
    memcpy(header + 100, "0000644", 8);
    memcpy(header + 108, "0000000", 8);
    memcpy(header + 116, "0000000", 8);
    if (size < 1ull << 33)
        snprintf((char *)header + 124, 12, "%011llo", size);
    else { /* base 256, as GNU writes large sizes */
        header[124] = 0x80;
        for (int i = 0; i < 8; i++) header[135 - i] = (unsigned char)(size >> (8 * i));
    }
    memcpy(header + 136, "00000000000", 12);
    header[156] = (unsigned char)type;
    if (type == '1' || type == '2') memcpy(header + 157, "target", 7);
    memcpy(header + 257, "ustar\00000", 8);
    memset(header + 148, ' ', 8);
    for (int i = 0; i < 512; i++) sum += header[i];
    snprintf((char *)header + 148, 8, "%06o", sum);
    assert_ok(strbuf_append(&tar, header, sizeof header));
}

static void put_member(const char *name, const char *text)
{
    put_header(name, '0', strlen(text));
    put_bytes(text, strlen(text));
}

static void put_end(void)
{
    static const char zeros[1024];
    assert_ok(strbuf_append(&tar, zeros, sizeof zeros));
}

static const char *save(const char *name)
{
    temp_write(name, tar.data ? tar.data : "", tar.size);
    strbuf_free(&tar);
    return temp_path(name);
}

/* --- making them with libarchive --- */

static const char *write_with(const char *file, int format, int filter, int count, const char *pattern, size_t big)
{
    struct archive *writer = archive_write_new();
    archive_write_set_format(writer, format);
    if (filter) assert_int_equal(archive_write_add_filter(writer, filter), ARCHIVE_OK);
    assert_int_equal(archive_write_open_filename(writer, temp_path(file)), ARCHIVE_OK);
    char *text = malloc(big + 64);
    for (int i = 0; i < count; i++) {
        char name[600];
        snprintf(name, sizeof name, pattern, i);
        size_t size = (size_t)snprintf(text, 64, "text %d", i);
        if (i % 3 == 1) { /* some large enough to be skipped by seeking */
            memset(text + size, 'x', big);
            size += big;
        }
        struct archive_entry *entry = archive_entry_new();
        archive_entry_set_pathname_utf8(entry, name);
        archive_entry_copy_pathname(entry, name);
        archive_entry_set_size(entry, (la_int64_t)size);
        archive_entry_set_filetype(entry, AE_IFREG);
        archive_entry_set_perm(entry, 0644);
        assert_int_equal(archive_write_header(writer, entry), ARCHIVE_OK);
        assert_int_equal(archive_write_data(writer, text, size), size);
        archive_entry_free(entry);
    }
    free(text);
    assert_int_equal(archive_write_close(writer), ARCHIVE_OK);
    archive_write_free(writer);
    return temp_path(file);
}

/* --- reading --- */

static void expect_member(Archive *archive, const char *expected_name, const char *expected_text)
{
    const char *name;
    int64_t size;
    char text[256] = {0};
    assert_ok(archive_next(archive, &name, &size));
    assert_string_equal(name, expected_name);
    if (!expected_text) return;
    assert_int_equal(size, strlen(expected_text));
    assert_ok(archive_read(archive, text));
    assert_string_equal(text, expected_text);
}

static void expect_end(Archive *archive)
{
    const char *name;
    int64_t size;
    assert_int_equal(archive_next(archive, &name, &size), STATUS_END);
    assert_int_equal(archive_next(archive, &name, &size), STATUS_END);
    archive_close(archive);
}

static void test_plain(void **state)
{
    put_member("a.txt", "first");
    put_header("folder/", '5', 0);
    put_header("link", '2', 0);
    put_header("hard", '1', 0);
    put_header("device", '3', 0);
    put_header("fifo", '6', 0);
    put_member("empty", "");
    put_member("../../etc/passwd", "a name is not a path");
    put_end();
    Archive *archive;
    assert_ok(archive_open(save("plain.tar"), 0, &archive));
    assert_false(archive_is_compressed(archive));
    expect_member(archive, "a.txt", "first");
    expect_member(archive, "empty", "");
    expect_member(archive, "../../etc/passwd", "a name is not a path");
    expect_end(archive);
    archive_close(NULL);
}

/* Every member again, by opening at its position; also reading none of the data on the way. */
static void check_positions(const char *path, int count, const char *pattern)
{
    int64_t *positions = calloc((size_t)count, sizeof *positions);
    Archive *archive;
    const char *name;
    int64_t size;
    char expected[600];
    char *data = malloc(1 << 20);
    for (int pass = 0; pass < 2; pass++) {
        assert_ok(archive_open(path, 0, &archive));
        for (int i = 0; i < count; i++) {
            assert_ok(archive_next(archive, &name, &size));
            snprintf(expected, sizeof expected, pattern, i);
            assert_string_equal(name, expected);
            if (pass == 0)
                positions[i] = archive_position(archive);
            else {
                assert_int_equal(positions[i], archive_position(archive));
                assert_true(size < 1 << 20);
                assert_ok(archive_read(archive, data));
                char start[32];
                int length = snprintf(start, sizeof start, "text %d", i);
                assert_memory_equal(data, start, length);
                for (int64_t k = length; k < size; k++) assert_int_equal(data[k], 'x');
            }
        }
        expect_end(archive);
    }
    for (int i = count - 1; i >= 0; i--) {
        assert_true(i == 0 ? positions[i] == 0 : positions[i] > positions[i - 1]);
        assert_ok(archive_open(path, positions[i], &archive));
        for (int k = i; k < count && k < i + 2; k++) {
            assert_ok(archive_next(archive, &name, &size));
            snprintf(expected, sizeof expected, pattern, k);
            assert_string_equal(name, expected);
            assert_int_equal(archive_position(archive), positions[k]);
        }
        archive_close(archive);
    }
    free(positions);
    free(data);
}

#define LONG "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"

static void test_positions(void **state)
{
    check_positions(write_with("u.tar", ARCHIVE_FORMAT_TAR_USTAR, 0, 12, "s%03d.png", 700000), 12, "s%03d.png");
    /* Names that need headers of their own before the header. */
    check_positions(write_with("p.tar", ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE, 0, 9, LONG LONG "/%d.png", 600000), 9,
                    LONG LONG "/%d.png");
    check_positions(write_with("g.tar", ARCHIVE_FORMAT_TAR_GNUTAR, 0, 9, LONG LONG "/%d.png", 300000), 9,
                    LONG LONG "/%d.png");
    check_positions(write_with("n.tar", ARCHIVE_FORMAT_TAR_USTAR, 0, 3, "\xd0\x9f\xd1\x80\xd0\xb8-%d.txt", 10), 3,
                    "\xd0\x9f\xd1\x80\xd0\xb8-%d.txt");
}

/* pax names are UTF-8 and come out so whatever the locale is, composed. */
static void test_pax_names(void **state)
{
    static const char *const NAMES[] = {"\xd0\xba\xd0\xbe\xd1\x82.png", "e\xcc\x81.png", "\xc3\xa9.png",
                                        "\xf0\x9f\x98\x80.txt"};
    for (size_t i = 0; i < 4; i++) {
        char record[200];
        int length = snprintf(record, sizeof record, "%zu path=%s\n", strlen(NAMES[i]) + 9, NAMES[i]);
        assert_int_equal(length, strlen(NAMES[i]) + 9);
        put_header("PaxHeader", 'x', (unsigned)length);
        put_bytes(record, (size_t)length);
        put_member("short", "x");
    }
    put_end();
    Archive *archive;
    assert_ok(archive_open(save("names.tar"), 0, &archive));
    for (size_t i = 0; i < 4; i++) {
        expect_member(archive, NAMES[i == 1 ? 2 : i], "x");
        assert_int_equal(archive_position(archive), i * 2048);
    }
    expect_end(archive);
}

static void test_compressed(void **state)
{
    static const int FILTERS[] = {ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_ZSTD};
    for (int f = 0; f < 2; f++) {
        const char *path = write_with("c.tar", ARCHIVE_FORMAT_TAR_USTAR, FILTERS[f], 7, "m%d", 500000);
        Archive *archive;
        const char *name;
        int64_t size;
        assert_ok(archive_open(path, 0, &archive));
        assert_true(archive_is_compressed(archive));
        for (int i = 0; i < 7; i++) {
            char expected[8];
            snprintf(expected, sizeof expected, "m%d", i);
            assert_ok(archive_next(archive, &name, &size));
            assert_string_equal(name, expected);
        }
        expect_end(archive);
        assert_fails(archive_open(path, 1, &archive), ERR_FORMAT, "c.tar: is compressed");
        assert_null(archive);
        /* Cut short. */
        assert_int_equal(truncate(path, 200), 0);
        Status status = archive_open(path, 0, &archive);
        while (status == STATUS_OK) status = archive_next(archive, &name, &size);
        assert_int_equal(status, ERR_FORMAT);
        archive_close(archive);
    }
    /* Other compressions are not tar to us. */
    const char *path = write_with("c.tar.bz2", ARCHIVE_FORMAT_TAR_USTAR, ARCHIVE_FILTER_BZIP2, 2, "m%d", 5);
    Archive *archive = NULL;
    const char *name;
    int64_t size;
    Status status = archive_open(path, 0, &archive);
    if (status == STATUS_OK) status = archive_next(archive, &name, &size);
    assert_int_equal(status, ERR_FORMAT);
    assert_non_null(strstr(status_message(), "not a tar file"));
    archive_close(archive);
}

static Status first_failure(const char *path, int *members)
{
    Archive *archive = NULL;
    const char *name;
    int64_t size;
    *members = 0;
    Status status = archive_open(path, 0, &archive);
    while (status == STATUS_OK) {
        status = archive_next(archive, &name, &size);
        if (status == STATUS_OK && size < 1 << 20) {
            char *data = malloc((size_t)size + 1);
            status = archive_read(archive, data);
            free(data);
        }
        if (status == STATUS_OK) ++*members;
    }
    archive_close(archive);
    return status;
}

static void test_ends(void **state)
{
    int members;
    assert_int_equal(first_failure(save("empty.tar"), &members), STATUS_END);
    put_end();
    assert_int_equal(first_failure(save("zeros.tar"), &members), STATUS_END);
    assert_int_equal(members, 0);
    put_member("a", "x"); /* no blocks of zeros: many writers leave them out */
    assert_int_equal(first_failure(save("open.tar"), &members), STATUS_END);
    assert_int_equal(members, 1);
    put_member("a", "x");
    put_end();
    put_member("b", "x"); /* after the end: not read */
    assert_int_equal(first_failure(save("after.tar"), &members), STATUS_END);
    assert_int_equal(members, 1);
}

static void test_not_tar(void **state)
{
    int members;
    static const char TEXT[] = "This is a text, and not a tar file at all, whatever its name says.\n";
    temp_write("text.tar", TEXT, strlen(TEXT));
    assert_int_equal(first_failure(temp_path("text.tar"), &members), ERR_FORMAT);
    assert_non_null(strstr(status_message(), "text.tar: not a tar file (plain, gzip or zstd)"));
    char junk[5000];
    for (size_t i = 0; i < sizeof junk; i++) junk[i] = (char)(i * i * 31 + 7);
    temp_write("junk.tar", junk, sizeof junk);
    assert_int_equal(first_failure(temp_path("junk.tar"), &members), ERR_FORMAT);
    Archive *archive;
    assert_fails(archive_open(temp_path("gone.tar"), 0, &archive), ERR_IO, "gone.tar: cannot open");
    assert_fails(archive_open(temp_path("."), 0, &archive), ERR_IO, "is a folder");
    put_member("a", "x");
    const char *path = save("small.tar");
    assert_fails(archive_open(path, 5000, &archive), ERR_FORMAT, "has no byte 5000");
    assert_fails(archive_open(path, -1, &archive), ERR_FORMAT, "has no byte -1");
    /* A position that is no header's. */
    const char *name;
    int64_t size;
    Status status = archive_open(path, 512, &archive);
    if (status == STATUS_OK) status = archive_next(archive, &name, &size);
    assert_int_equal(status, ERR_FORMAT);
    assert_non_null(strstr(status_message(), "not a tar file"));
    archive_close(archive);
}

/* Cut at every 64th byte: whole members come out, and a cut inside a member is an error, read or passed over. */
static void test_truncated(void **state)
{
    StrBuf whole = {0};
    put_member("a", "one");
    put_header("b", '0', 3000);
    char data[3000];
    memset(data, 'b', sizeof data);
    put_bytes(data, sizeof data);
    assert_ok(strbuf_append(&whole, tar.data, tar.size));
    strbuf_free(&tar);
    for (size_t cut = 64; cut < 1024 + 512 + 3000; cut += 64) {
        temp_write("cut.tar", whole.data, cut);
        int members;
        Status status = first_failure(temp_path("cut.tar"), &members);
        assert_int_equal(status, cut == 1024 ? STATUS_END : ERR_FORMAT);
        assert_int_equal(members, cut > 512 ? 1 : 0);
        Archive *archive;
        const char *name;
        int64_t size;
        status = archive_open(temp_path("cut.tar"), 0, &archive);
        while (status == STATUS_OK) status = archive_next(archive, &name, &size);
        assert_int_equal(status, cut == 1024 ? STATUS_END : ERR_FORMAT);
        archive_close(archive);
    }
    strbuf_free(&whole);
    /* Passed over by seeking. */
    put_header("large", '0', 5000000);
    char *part = calloc(1, 1000000);
    put_bytes(part, 1000000);
    free(part);
    const char *path = save("large.tar");
    Archive *archive;
    const char *name;
    int64_t size;
    assert_ok(archive_open(path, 0, &archive));
    assert_ok(archive_next(archive, &name, &size));
    assert_fails(archive_next(archive, &name, &size), ERR_FORMAT, "large.tar: the tar file is truncated");
    archive_close(archive);
}

static void test_hostile(void **state)
{
    int members;
    /* A size that no file has: told, not believed. */
    Archive *archive;
    const char *name;
    int64_t size;
    put_header("huge", '0', 1ull << 60);
    put_end();
    const char *path = save("huge.tar");
    Status status = archive_open(path, 0, &archive);
    if (status == STATUS_OK) status = archive_next(archive, &name, &size);
    if (status == STATUS_OK) {
        assert_true(size == INT64_C(1) << 60);
        status = archive_next(archive, &name, &size);
    }
    assert_int_equal(status, ERR_FORMAT);
    archive_close(archive);
    put_header("negative", '0', 1ull << 63);
    put_end();
    assert_int_equal(first_failure(save("negative.tar"), &members), ERR_FORMAT);

    /* pax headers that claim more than they may. */
    put_header("pax", 'x', 1ull << 40);
    put_end();
    assert_int_equal(first_failure(save("pax.tar"), &members), ERR_FORMAT);
    put_header("longname", 'L', 1ull << 40);
    put_end();
    assert_int_equal(first_failure(save("longname.tar"), &members), ERR_FORMAT);

    /* A name of 5000 bytes. */
    char record[5100];
    memset(record, 'n', sizeof record);
    memcpy(record, "5011 path=", 10);
    record[5010] = '\n';
    put_header("pax", 'x', 5011);
    put_bytes(record, 5011);
    put_member("short", "x");
    put_end();
    assert_int_equal(first_failure(save("name.tar"), &members), ERR_LIMIT);
    assert_non_null(strstr(status_message(), "name of 5000 bytes"));

    /* A damaged header between good ones. */
    put_member("a", "x");
    put_member("b", "x");
    put_member("c", "x");
    put_end();
    tar.data[1024 + 3] ^= 1;
    assert_int_equal(first_failure(save("flipped.tar"), &members), ERR_FORMAT);
    assert_int_equal(members, 1);

    /* A sparse file of pax is passed over. */
    static const char SPARSE[] = "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n30 GNU.sparse.name=sparse.png\n"
                                 "31 GNU.sparse.realsize=1000000\n";
    put_header("pax", 'x', strlen(SPARSE));
    put_bytes(SPARSE, strlen(SPARSE));
    put_header("GNUSparseFile/x", '0', 512 + 3);
    char map[515] = "1\n999997\n3\n";
    memcpy(map + 512, "abc", 3);
    put_bytes(map, sizeof map);
    put_member("after", "x");
    put_end();
    assert_ok(archive_open(save("sparse.tar"), 0, &archive));
    expect_member(archive, "after", "x");
    expect_end(archive);
}

typedef struct Bytes {
    const char *data;
    int64_t size, fails_at; /* the offset from which on reading fails */
    int64_t taken;
} Bytes;

static Status read_bytes(void *context, void *out, int64_t size, int64_t offset)
{
    Bytes *bytes = context;
    assert_true(size > 0 && offset >= 0 && size <= bytes->size - offset);
    if (offset + size > bytes->fails_at) return status_fail(ERR_IO, __FILE__, __LINE__, "the wire is cut");
    memcpy(out, bytes->data + offset, (size_t)size);
    bytes->taken += size;
    return STATUS_OK;
}

/* Members by callbacks; what is passed over is not asked for, and a failure of the callback comes through as it is. */
static void test_reader(void **state)
{
    Archive *archive;
    const char *name;
    int64_t size;
    put_header("large", '0', 3000000);
    char *large = calloc(1, 3000000);
    put_bytes(large, 3000000);
    put_member("a", "text");
    put_end();
    Bytes bytes = {tar.data, (int64_t)tar.size, INT64_MAX, 0};
    ArchiveSource source = {read_bytes, &bytes, "by callbacks", bytes.size};
    assert_ok(archive_open_reader(&source, 0, &archive));
    assert_false(archive_is_compressed(archive));
    assert_ok(archive_next(archive, &name, &size));
    assert_int_equal(size, 3000000);
    expect_member(archive, "a", "text");
    int64_t position = archive_position(archive);
    expect_end(archive);
    assert_true(bytes.taken < 1000000);
    assert_ok(archive_open_reader(&source, position, &archive));
    expect_member(archive, "a", "text");
    expect_end(archive);
    assert_fails(archive_open_reader(&source, bytes.size + 1, &archive), ERR_FORMAT, "by callbacks: has no byte");
    bytes.fails_at = 1000000;
    assert_ok(archive_open_reader(&source, 0, &archive));
    assert_ok(archive_next(archive, &name, &size));
    assert_fails(archive_read(archive, large), ERR_IO, "the wire is cut");
    archive_close(archive);
    free(large);
}

/* The plain bytes of a compressed file, all that precede a break, and a break that is told. */
static void test_stream(void **state)
{
    static const int FILTERS[] = {ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_ZSTD};
    char *plain, *packed;
    size_t plain_size, packed_size;
    assert_ok(
        file_read(write_with("s.tar", ARCHIVE_FORMAT_TAR_USTAR, 0, 5, "m%d", 300000), 1 << 24, &plain, &plain_size));
    for (int f = 0; f < 2; f++) {
        const char *path = write_with("s.tar.x", ARCHIVE_FORMAT_TAR_USTAR, FILTERS[f], 5, "m%d", 300000);
        assert_ok(file_read(path, 1 << 24, &packed, &packed_size));
        for (int cut = 0; cut < 2; cut++) {
            Bytes bytes = {packed, (int64_t)packed_size - (cut ? 20 : 0), INT64_MAX, 0};
            ArchiveSource source = {read_bytes, &bytes, "stream", bytes.size};
            Archive *archive = NULL;
            const void *block;
            size_t size, done = 0;
            assert_true(archive_is_compressed_magic((const uint8_t *)packed, packed_size));
            assert_ok(archive_open_stream(&source, &archive));
            Status status;
            while ((status = archive_next_block(archive, &block, &size)) == STATUS_OK) {
                assert_true(done + size <= plain_size);
                assert_memory_equal(plain + done, block, size);
                done += size;
            }
            assert_int_equal(status, cut ? ERR_FORMAT : STATUS_END);
            if (!cut) assert_int_equal(done, plain_size);
            archive_close(archive);
        }
        free(packed);
    }
    free(plain);
}

static void test_read_once(void **state)
{
    put_member("a", "x");
    put_end();
    Archive *archive;
    char data[4];
    assert_ok(archive_open(save("once.tar"), 0, &archive));
    assert_fails(archive_read(archive, data), ERR_INTERNAL, "once");
    expect_member(archive, "a", "x");
    assert_fails(archive_read(archive, data), ERR_INTERNAL, "once");
    archive_close(archive);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),      cmocka_unit_test(test_positions), cmocka_unit_test(test_pax_names),
        cmocka_unit_test(test_compressed), cmocka_unit_test(test_ends),      cmocka_unit_test(test_not_tar),
        cmocka_unit_test(test_truncated),  cmocka_unit_test(test_hostile),   cmocka_unit_test(test_read_once),
        cmocka_unit_test(test_reader),     cmocka_unit_test(test_stream),
    };
    return cmocka_run_group_tests(tests, temp_dir_setup, temp_dir_teardown);
}
