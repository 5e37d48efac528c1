/* Arenas, checked allocation, byte strings, and hashes. */
#include "check.h"

#include "base/arena.h"
#include "base/bf16.h"
#include "base/hash.h"
#include "temp_dir.h"

static bool all_zero(const void *memory, size_t size)
{
    const char *bytes = memory;
    for (size_t i = 0; i < size; i++) {
        if (bytes[i]) return false;
    }
    return true;
}

static void test_arena(void **state)
{
    Arena *arena;
    assert_ok(arena_create(&arena));
    char *blocks[500];
    size_t sizes[500];
    for (size_t i = 0; i < 500; i++) {
        sizes[i] = i % 50 == 49 ? i * 1000 : i % 97;
        blocks[i] = arena_alloc(arena, sizes[i]);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % 16, 0);
        assert_true(all_zero(blocks[i], sizes[i]));
        memset(blocks[i], (int)(i % 255) + 1, sizes[i]);
    }
    for (size_t i = 0; i < 500; i++) {
        for (size_t k = 0; k < sizes[i]; k++) assert_int_equal((unsigned char)blocks[i][k], i % 255 + 1);
    }
    assert_null(arena_alloc_array(arena, SIZE_MAX / 2, 3));
    assert_null(arena_alloc(arena, SIZE_MAX));
    assert_null(arena_alloc(arena, SIZE_MAX - 40));
    assert_string_equal(arena_printf(arena, "%s-%d", arena_strdup(arena, "shard"), 7), "shard-7");
    arena_free(arena);
    arena_free(NULL);
}

static void test_heap(void **state)
{
    int64_t before = mem_allocation_count();
    int *items = NULL;
    size_t capacity = 0;
    for (size_t i = 0; i < 1000; i++) {
        assert_ok(mem_grow(&items, &capacity, i + 1, sizeof *items));
        items[i] = (int)i;
    }
    for (size_t i = 0; i < 1000; i++) assert_int_equal(items[i], i);
    int64_t grown = mem_allocation_count() - before;
    assert_true(grown > 0 && grown < 12);
    assert_fails(mem_grow(&items, &capacity, SIZE_MAX / 2, sizeof *items), ERR_MEMORY, "out of memory");
    assert_int_equal(items[999], 999);
    free(items);
    assert_null(mem_alloc_array(SIZE_MAX / 4, 8));
    void *zeroed = mem_alloc_array(10, 10);
    assert_true(all_zero(zeroed, 100));
    free(zeroed);
    size_t out;
    assert_false(mem_mul_size(SIZE_MAX, 2, &out));
    assert_false(mem_add_size(SIZE_MAX, 1, &out));
    assert_true(mem_mul_size(6, 7, &out) && out == 42);
}

static void test_aligned(void **state)
{
    static const size_t SIZES[] = {0, 1, 63, 64, 100000, (4 << 20) - 1, 4 << 20, (4 << 20) + 4097, 11 << 20};
    for (size_t i = 0; i < sizeof SIZES / sizeof SIZES[0]; i++) {
        int64_t before = mem_allocation_count();
        char *block = mem_alloc_aligned(SIZES[i]);
        assert_non_null(block);
        assert_int_equal(mem_allocation_count(), before + 1);
        assert_int_equal((uintptr_t)block % 64, 0);
        assert_true(all_zero(block, SIZES[i]));
        memset(block, 0xff, SIZES[i]);
        mem_free_aligned(block);
    }
    assert_null(mem_alloc_aligned(SIZE_MAX));
    assert_null(mem_alloc_aligned((size_t)1 << 62));
    mem_free_aligned(NULL);
}

static void test_strbuf(void **state)
{
    StrBuf buf = {0};
    for (int i = 0; i < 1000; i++) assert_ok(strbuf_printf(&buf, "%d,", i));
    assert_int_equal(buf.size, strlen(buf.data));
    assert_memory_equal(buf.data, "0,1,2,3,", 8);
    assert_string_equal(buf.data + buf.size - 4, "999,");
    char *long_text = malloc(5001);
    memset(long_text, 'y', 5000);
    long_text[5000] = '\0';
    size_t before = buf.size;
    assert_ok(strbuf_printf(&buf, "%s", long_text));
    assert_string_equal(buf.data + before, long_text);
    assert_ok(strbuf_append(&buf, "a\0b", 3));
    assert_memory_equal(buf.data + buf.size - 3, "a\0b", 4);
    strbuf_free(&buf);
    assert_null(buf.data);
    assert_ok(strbuf_append(&buf, NULL, 0));
    assert_string_equal(buf.data, "");
    /* After one failure nothing is appended: a text never has a gap. */
    assert_int_equal(strbuf_append(&buf, long_text, SIZE_MAX), ERR_MEMORY);
    assert_int_equal(strbuf_append(&buf, "x", 1), ERR_MEMORY);
    assert_int_equal(strbuf_printf(&buf, "x"), ERR_MEMORY);
    assert_string_equal(buf.data, "");
    strbuf_free(&buf);
    assert_ok(strbuf_append(&buf, "x", 1));
    strbuf_free(&buf);
    free(long_text);
}

static void test_hash(void **state)
{
    /* The empty input's hash is published with XXH3's specification. */
    char text[33];
    hash_format(hash_memory("", 0), text);
    assert_string_equal(text, "99aa06d3014798d86001c324468d497f");
    assert_true(hash_string64("") == UINT64_C(0x2d06800538d394c2));
    size_t size = 3000001;
    char *data = malloc(size);
    for (size_t i = 0; i < size; i++) data[i] = (char)(i * 31 + i / 255);
    temp_write("hashed", data, size);
    Hash128 hash, whole = hash_memory(data, size);
    int64_t told;
    assert_ok(hash_file(temp_path("hashed"), &hash, &told));
    assert_int_equal(told, size);
    assert_true(hash.low == whole.low && hash.high == whole.high);
    assert_fails(hash_file(temp_path("absent"), &hash, &told), ERR_IO, "absent");
    free(data);
}

static void test_bf16(void **state)
{
    assert_int_equal(bf16_from_f32(1.0f), 0x3f80);
    assert_int_equal(bf16_from_f32(1.00390625f), 0x3f80); /* halfway: to even */
    assert_int_equal(bf16_from_f32(1.01171875f), 0x3f82);
    assert_int_equal(bf16_from_f32(3.4e38f), 0x7f80);
    Bf16 nan = bf16_from_f32(__builtin_nanf("1"));
    assert_true((nan & 0x7fff) > 0x7f80);
    for (uint32_t b = 0; b < 0x7f80; b++) assert_int_equal(bf16_from_f32(bf16_to_f32((Bf16)b)), b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arena),  cmocka_unit_test(test_heap), cmocka_unit_test(test_aligned),
        cmocka_unit_test(test_strbuf), cmocka_unit_test(test_hash), cmocka_unit_test(test_bf16),
    };
    return cmocka_run_group_tests(tests, temp_dir_setup, temp_dir_teardown);
}
