/* CRC-32C and base64 against the examples of their standards. */
#include "check.h"

#include "base/arena.h"
#include "base/base64.h"
#include "base/crc32c.h"

static void test_crc32c(void **state)
{
    /* RFC 3720, B.4 */
    uint8_t bytes[48];
    (void)state;
    memset(bytes, 0, 32);
    assert_int_equal(crc32c(bytes, 32), 0x8a9136aa);
    memset(bytes, 0xff, 32);
    assert_int_equal(crc32c(bytes, 32), 0x62a8ab43);
    for (int i = 0; i < 32; i++) bytes[i] = (uint8_t)i;
    assert_int_equal(crc32c(bytes, 32), 0x46dd794e);
    for (int i = 0; i < 32; i++) bytes[i] = (uint8_t)(31 - i);
    assert_int_equal(crc32c(bytes, 32), 0x113fdb5c);
    assert_int_equal(crc32c("123456789", 9), 0xe3069283); /* the check value of the catalogue of parametrised CRCs */
    assert_int_equal(crc32c("", 0), 0);
}

static void test_base64(void **state)
{
    /* RFC 4648, 10 */
    static const char *const cases[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};
    StrBuf out = {0};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        out.size = 0;
        assert_ok(strbuf_append(&out, "", 0));
        assert_ok(base64_append(&out, cases[i][0], strlen(cases[i][0])));
        assert_int_equal(out.size, strlen(cases[i][1]));
        assert_memory_equal(out.data ? out.data : "", cases[i][1], out.size);
    }
    /* Longer than a piece, and with all letters. */
    uint8_t bytes[3000];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(i * 7);
    out.size = 0;
    assert_ok(base64_append(&out, bytes, sizeof bytes));
    assert_int_equal(out.size, 4000);
    for (size_t i = 0; i < sizeof bytes; i += 3) {
        StrBuf one = {0};
        assert_ok(base64_append(&one, bytes + i, 3));
        assert_memory_equal(one.data, out.data + i / 3 * 4, 4);
        strbuf_free(&one);
    }
    strbuf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_crc32c), cmocka_unit_test(test_base64)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
