/* Files that were made to do harm, or are broken: refused with a message that says what is wrong, and nothing in them
 * is executed. */
#include "check.h"
#include "model/pickle.h"
#include "model/pytorch_file.h"
#include "temp_dir.h"
#include "zip_maker.h"

/* ---- pickles ---- */

typedef struct Bytes {
    uint8_t at[4096];
    size_t size;
} Bytes;

static void put(Bytes *out, const char *text, size_t size)
{
    assert_true(out->size + size <= sizeof out->at);
    memcpy(out->at + out->size, text, size);
    out->size += size;
}
#define PUT(out, literal) put((out), (literal), sizeof(literal) - 1)

static void put_text(Bytes *out, const char *text) /* BINUNICODE */
{
    size_t size = strlen(text);
    const char head[] = {'X', (char)size, (char)(size >> 8), 0, 0};
    put(out, head, sizeof head);
    put(out, text, size);
}

/* A file of torch.save around a pickle. */
static Status open_zip_of(const Bytes *pickle, PytorchFile **out, ZipMaker *zip)
{
    static const float storage[4] = {1, 2, 3, 4};
    zip_add(zip, "archive/data.pkl", pickle->at, pickle->size);
    zip_add(zip, "archive/data/0", storage, sizeof storage);
    zip_finish(zip, false, 0);
    return pytorch_file_open_memory("evil.pt", (const uint8_t *)zip->file.data, zip->file.size, out);
}

static void expect_pickle(const Bytes *pickle, Status want, const char *words)
{
    PytorchFile *file = NULL;
    ZipMaker zip = {0};
    FAILS(open_zip_of(pickle, &file, &zip), want, words);
    zip_free(&zip);
}

/* GLOBAL, argument, REDUCE: what runs a command where Python loads it. */
static void put_call(Bytes *out, const char *module, const char *name, const char *argument)
{
    PUT(out, "c");
    put(out, module, strlen(module));
    PUT(out, "\n");
    put(out, name, strlen(name));
    PUT(out, "\n");
    put_text(out, argument);
    PUT(out, "\x85R");
}

/* {"w": tensor (2,2) with the given class of storage, shape and so on}. */
static void put_tensor(Bytes *out, const char *storage, const char *numbers, size_t size)
{
    PUT(out, "ctorch._utils\n_rebuild_tensor_v2\n((");
    put_text(out, "storage");
    PUT(out, "ctorch\n");
    put(out, storage, strlen(storage));
    PUT(out, "\n");
    put_text(out, "0");
    put_text(out, "cpu");
    PUT(out, "K\x04tQ"); /* 4 elements */
    put(out, numbers, size);
    PUT(out, "\x89}tR");
}

static void test_nothing_is_executed(void **state)
{
    TempDir dir = {0};
    char command[512];
    static const char *const calls[][2] = {
        {"os", "system"},
        {"posix", "system"},
        {"builtins", "eval"},
        {"__builtin__", "exec"},
        {"subprocess", "Popen"},
        {"builtins", "__import__"},
        {"os.path", "join"},
        {"runpy", "run_path"},
        {"importlib", "import_module"},
        {"torch.hub", "load"},
        {"pickle", "loads"},
        {"builtins", "open"},
        {"torch", "os"},
        {"pydoc", "pipepager"},
        {"torch.serialization", "os.system"},
        {"collections", "OrderedDict.__init__.__globals__"},
    };
    assert_int_equal(temp_dir_create(&dir), 0);
    snprintf(command, sizeof command, "touch %s/marker", dir.path);
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        Bytes pickle = {0};
        char name[96];
        snprintf(name, sizeof name, "%s.%s", calls[i][0], calls[i][1]);
        PUT(&pickle, "\x80\x02}");
        put_text(&pickle, "w");
        put_tensor(&pickle, "FloatStorage", "K\x00K\x02\x85K\x01\x85", 8);
        PUT(&pickle, "s");
        put_text(&pickle, "x");
        put_call(&pickle, calls[i][0], calls[i][1], command);
        PUT(&pickle, "s.");
        expect_pickle(&pickle, ERR_FORMAT, name);
        assert_non_null(strstr(status_message(), "Nothing of it was executed"));
    }
    /* In protocol 4 the name comes from the stack. */
    Bytes pickle = {0};
    PUT(&pickle, "\x80\x04");
    put_text(&pickle, "posix");
    put_text(&pickle, "system");
    PUT(&pickle, "\x93");
    put_text(&pickle, command);
    PUT(&pickle, "\x85R.");
    expect_pickle(&pickle, ERR_FORMAT, "posix.system");
    snprintf(command, sizeof command, "%s/marker", dir.path);
    assert_false(file_exists(command));
    temp_dir_remove(&dir);
}

/* Names that are merely unknown are inert, and so is all that is made of them; the tensors beside them are read. */
static void test_unknown_is_inert(void **state)
{
    Bytes pickle = {0};
    PytorchFile *file = NULL;
    ZipMaker zip = {0};
    PUT(&pickle, "\x80\x02}(");
    put_text(&pickle, "callback");
    put_call(&pickle, "some.where", "Thing", "x");
    put_call(&pickle, "builtins", "getattr", "y");
    PUT(&pickle, "\x85R}"); /* Thing("x")(getattr("y")), and a state for it */
    put_text(&pickle, "k");
    PUT(&pickle, "K\x01sb");
    put_text(&pickle, "w");
    put_tensor(&pickle, "FloatStorage", "K\x00K\x02\x85K\x01\x85", 8);
    PUT(&pickle, "u.");
    OK(open_zip_of(&pickle, &file, &zip));
    assert_int_equal(pytorch_file_count(file), 1);
    assert_string_equal(pytorch_file_get(file, 0)->name, "w");
    float values[2];
    weight_tensor_to_f32(pytorch_file_get(file, 0), 0, 2, values);
    assert_true(values[0] == 1 && values[1] == 2);
    pytorch_file_close(file);
    zip_free(&zip);
}

static void test_broken_pickles(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
        Status status;
        const char *words;
    } cases[] = {
#define CASE(literal, status, words) {literal, sizeof(literal) - 1, status, words}
        CASE("\x80\x02}", ERR_FORMAT, "ends too early"),
        CASE("\x80\x02X\xff\xff\xff\xff", ERR_FORMAT, "ends too early"),
        CASE("\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\xff", ERR_FORMAT, "ends too early"),
        CASE("\x80\x02\x8b\xff\xff\xff\x7f", ERR_FORMAT, "ends too early"), /* a number of 2 GB */
        CASE("\x80\x09N.", ERR_UNSUPPORTED, "protocol 9"),
        CASE("\x80\x02.", ERR_FORMAT, "stack"),
        CASE("\x80\x02R.", ERR_FORMAT, "stack"),
        CASE("\x80\x02(K\x01u.", ERR_FORMAT, "stack"),
        CASE("\x80\x02}(K\x01u.", ERR_FORMAT, "key without a value"),
        CASE("\x80\x02K\x01K\x01"
             "a.",
             ERR_FORMAT, "no list"),
        CASE("\x80\x02K\x01)R.", ERR_FORMAT, "no function"),
        CASE("\x80\x02h\x07.", ERR_FORMAT, "memo"),
        CASE("\x80\x02Nr\xff\xff\xff\xff.", ERR_LIMIT, "memo"),
        CASE("\x80\x02t.", ERR_FORMAT, "no mark"),
        CASE("\x80\x02S'text'\n.", ERR_FORMAT, "opcode 0x53"),
        CASE("\x80\x02(ios\nsystem\n.", ERR_FORMAT, "opcode 0x69"),
        CASE("\x80\x02\x82\x01.", ERR_FORMAT, "opcode 0x82"),
        CASE("\x80\x02K\x01Q.", ERR_FORMAT, "no storage"),
        CASE("\x80\x02"
             "ctorch",
             ERR_FORMAT, "ends too early"),
#undef CASE
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Pickle *pickle = NULL;
        size_t used;
        FAILS(pickle_read("evil.pkl", (const uint8_t *)cases[i].bytes, cases[i].size, &used, &pickle), cases[i].status,
              cases[i].words);
    }
}

/* Every list holds the one before ten times: 10^40 items when unfolded. */
static void test_memo_bomb(void **state)
{
    Bytes pickle = {0};
    PUT(&pickle, "\x80\x02]q\x00");
    for (int level = 1; level < 20; level++) {
        PUT(&pickle, "](");
        for (int i = 0; i < 10; i++) {
            const char get[] = {'h', (char)(level - 1)};
            put(&pickle, get, sizeof get);
        }
        const char store[] = {'e', 'q', (char)level};
        put(&pickle, store, sizeof store);
    }
    PUT(&pickle, ".");
    expect_pickle(&pickle, ERR_LIMIT, "unfold");
}

static void test_deep_and_circular(void **state)
{
    Bytes circular = {0}, deep = {0};
    PUT(&circular, "\x80\x02]q\x00h\x00"
                   "a."); /* a list that holds itself */
    expect_pickle(&circular, ERR_LIMIT, "contain themselves");
    PUT(&deep, "\x80\x02");
    for (int i = 0; i < 200; i++) PUT(&deep, "]");
    for (int i = 0; i < 199; i++) PUT(&deep, "a");
    PUT(&deep, ".");
    expect_pickle(&deep, ERR_LIMIT, "deep");
}

/* Copies of one long list would take memory that the pickle does not pay for. */
static void test_growth_is_bounded(void **state)
{
    StrBuf pickle = {0};
    Pickle *read = NULL;
    size_t used;
    OK(strbuf_append(&pickle, "\x80\x02](", 4));
    for (int i = 0; i < 20000; i++) OK(strbuf_append(&pickle, "]NaNa", 5));
    OK(strbuf_append(&pickle,
                     "e\x85q\x00"
                     "0ccollections\nOrderedDict\nq\x01"
                     "0",
                     32));
    for (int i = 0; i < 20000; i++) OK(strbuf_append(&pickle, "h\x01h\x00R0", 6));
    OK(strbuf_append(&pickle, "N.", 2));
    FAILS(pickle_read("evil.pkl", (const uint8_t *)pickle.data, pickle.size, &used, &read), ERR_LIMIT, "items");
    strbuf_free(&pickle);
}

/* ---- tensors ---- */

static void expect_tensor(const char *storage, const char *numbers, size_t size, const char *words)
{
    Bytes pickle = {0};
    PUT(&pickle, "\x80\x02}");
    put_text(&pickle, "w");
    put_tensor(&pickle, storage, numbers, size);
    PUT(&pickle, "s.");
    expect_pickle(&pickle, ERR_FORMAT, words);
}
#define TENSOR(storage, numbers, words) expect_tensor((storage), (numbers), sizeof(numbers) - 1, (words))

static void test_tensors_stay_inside(void **state)
{
    TENSOR("FloatStorage", "K\x00K\x05\x85K\x01\x85", "beyond its storage"); /* 5 of 4 */
    TENSOR("FloatStorage", "K\x03K\x02\x85K\x01\x85", "beyond its storage"); /* from 3 on */
    TENSOR("FloatStorage", "K\x00K\x02\x85K\x04\x85", "beyond its storage"); /* every fourth */
    TENSOR("FloatStorage", "J\xff\xff\xff\xffK\x02\x85K\x01\x85", "no offset");
    TENSOR("FloatStorage", "K\x00J\xfe\xff\xff\xff\x85K\x01\x85", "no offset");
    TENSOR("FloatStorage", "K\x00K\x02\x85J\xff\xff\xff\xff\x85", "no offset"); /* backwards */
    TENSOR("FloatStorage", "K\x00K\x02\x85K\x01K\x01\x86", "no offset");        /* more strides than sizes */
    TENSOR("FloatStorage",
           "K\x00(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01t(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01t",
           "at most 8");
    /* 2^62 x 2^62 with strides that overflow to something small */
    TENSOR("FloatStorage",
           "K\x00\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x40\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x40\x86K\x04K\x04\x86",
           "beyond its storage");
    /* expanded (stride 0) to 2^62 values */
    TENSOR("FloatStorage", "K\x00\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x40\x85K\x00\x85", "impossible shape");
    TENSOR("DoubleStorage", "K\x00K\x04\x85K\x01\x85", "is it complete"); /* 4 x 8 bytes of 16 */
    TENSOR("ComplexFloatStorage", "K\x00K\x02\x85K\x01\x85", "no tensors");
}

/* ---- zip files ---- */

static const float FOUR[4] = {1, 2, 3, 4};

/* {"w": 4 floats} in an archive that `lie` spoils. */
static void expect_zip(void (*lie)(ZipMaker *zip, int entry), bool zip64, int shift, Status want, const char *words)
{
    Bytes pickle = {0};
    PytorchFile *file = NULL;
    ZipMaker zip = {0};
    PUT(&pickle, "\x80\x02}");
    put_text(&pickle, "w");
    put_tensor(&pickle, "FloatStorage", "K\x00K\x04\x85K\x01\x85", 8);
    PUT(&pickle, "s.");
    if (lie) lie(&zip, 0);
    zip_add(&zip, "archive/data.pkl", pickle.at, pickle.size);
    if (lie) lie(&zip, 1);
    zip_add(&zip, "archive/data/0", FOUR, sizeof FOUR);
    if (lie) lie(&zip, 2);
    zip_finish(&zip, zip64, shift);
    Status status = pytorch_file_open_memory("evil.pt", (const uint8_t *)zip.file.data, zip.file.size, &file);
    if (want) {
        FAILS(status, want, words);
    } else {
        OK(status);
        assert_memory_equal(pytorch_file_get(file, 0)->data, FOUR, sizeof FOUR);
        pytorch_file_close(file);
    }
    zip_free(&zip);
}

static void use_zip64(ZipMaker *zip, int entry)
{
    zip->zip64 = true;
}
static void compress(ZipMaker *zip, int entry)
{
    if (entry == 1) zip->method = 8;
}
static void encrypt(ZipMaker *zip, int entry)
{
    if (entry == 1) zip->flags = 1;
}
static void rename_locally(ZipMaker *zip, int entry)
{
    if (entry == 1) zip->other_name = "archive/data/1";
}
static void overlap(ZipMaker *zip, int entry)
{
    if (entry == 2) zip_add(zip, "archive/data/0", FOUR, sizeof FOUR);
}
static void share_bytes(ZipMaker *zip, int entry) /* one local header, two names in the directory */
{
    if (entry != 2) return;
    const size_t size = zip->file.size;
    zip->place_shift = -(long)(30 + strlen("archive/data/0") + sizeof FOUR);
    zip_add(zip, "archive/data/0", FOUR, sizeof FOUR);
    zip->file.size = size;
}
static void outside(ZipMaker *zip, int entry)
{
    if (entry == 1) zip->place_shift = 1 << 20;
}
static void longer(ZipMaker *zip, int entry)
{
    if (entry == 1) zip->size_shift = 4;
}
static void longer64(ZipMaker *zip, int entry)
{
    zip->zip64 = true;
    if (entry == 1) zip->size_shift = 1l << 40;
}
static void negative64(ZipMaker *zip, int entry)
{
    zip->zip64 = true;
    if (entry == 1) zip->size_shift = -20;
}
static void big_endian(ZipMaker *zip, int entry)
{
    if (entry == 2) zip_add(zip, "archive/byteorder", "big", 3);
}
static void second_pickle(ZipMaker *zip, int entry)
{
    if (entry == 2) zip_add(zip, "other/data.pkl", "\x80\x02N.", 4);
}
static void script(ZipMaker *zip, int entry)
{
    if (entry == 2) zip_add(zip, "archive/constants.pkl", "\x80\x02).", 4);
}

static void test_zips(void **state)
{
    expect_zip(NULL, false, 0, STATUS_OK, "");
    expect_zip(NULL, true, 0, STATUS_OK, "");
    expect_zip(use_zip64, true, 0, STATUS_OK, "");
    expect_zip(compress, false, 0, ERR_UNSUPPORTED, "archive/data/0 is compressed");
    expect_zip(encrypt, false, 0, ERR_UNSUPPORTED, "archive/data/0 is encrypted");
    expect_zip(rename_locally, false, 0, ERR_FORMAT, "contradict each other");
    expect_zip(overlap, false, 0, ERR_FORMAT, "is there twice");
    expect_zip(share_bytes, false, 0, ERR_FORMAT, "overlap");
    expect_zip(outside, false, 0, ERR_FORMAT, "outside the file");
    expect_zip(longer, false, 0, ERR_FORMAT, "has two sizes");
    expect_zip(longer64, true, 0, ERR_FORMAT, "claims");
    expect_zip(negative64, true, 0, ERR_FORMAT, "claims");
    expect_zip(NULL, true, 1, ERR_FORMAT, "two directory records");
    expect_zip(big_endian, false, 0, ERR_UNSUPPORTED, "big");
    expect_zip(second_pickle, false, 0, ERR_FORMAT, "two data.pkl");
    expect_zip(script, false, 0, ERR_UNSUPPORTED, "TorchScript");
}

/* Every beginning of a good file is refused, wherever it is cut. */
static void cut_everywhere(const char *name)
{
    char path[512], *bytes = NULL;
    size_t size;
    snprintf(path, sizeof path, TEST_SOURCE_DIR "/model/weights/%s.pt", name);
    OK(file_read(path, 1 << 20, &bytes, &size));
    for (size_t cut = 0; cut < size; cut++) {
        PytorchFile *file = NULL;
        uint8_t *part = mem_alloc_array(cut + 1, 1); /* exact, so that the sanitizer sees what is read behind it */
        memcpy(part, bytes, cut);
        Status status = pytorch_file_open_memory("cut.pt", part, cut, &file);
        if (status == STATUS_OK) fail_msg("%s cut to %zu of %zu bytes is read", name, cut, size);
        free(part);
    }
    free(bytes);
}

static void test_truncated(void **state)
{
    cut_everywhere("plain");
    cut_everywhere("legacy_views");
}

/* Storages of torch before 0.4 may be views of one another: ('storage', class, key, location, size, (key, first,
 * size)).
 */
static void test_legacy_storage_views(void **state)
{
    Bytes file = {0};
    PytorchFile *opened = NULL;
    float values[2];
    PUT(&file, "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}");
    put_text(&file, "little_endian");
    PUT(&file, "\x88s.\x80\x02}");
    put_text(&file, "w");
    PUT(&file, "ctorch._utils\n_rebuild_tensor\n((");
    put_text(&file, "storage");
    PUT(&file, "ctorch\nFloatStorage\n");
    put_text(&file, "0");
    put_text(&file, "cpu");
    PUT(&file, "K\x04");
    put_text(&file, "view");
    size_t first = file.size + 1;
    PUT(&file, "K\x01K\x03\x87tQK\x01K\x02\x85K\x01\x85tRs."); /* view of 1..3, tensor of its 1..2 */
    PUT(&file, "\x80\x02]");
    put_text(&file, "0");
    PUT(&file, "a.\x04\0\0\0\0\0\0\0");
    put(&file, (const char *)FOUR, sizeof FOUR);
    OK(pytorch_file_open_memory("old.pt", file.at, file.size, &opened));
    assert_true(pytorch_file_is_legacy(opened));
    weight_tensor_to_f32(pytorch_file_get(opened, 0), 0, 2, values);
    assert_true(values[0] == FOUR[2] && values[1] == FOUR[3]);
    pytorch_file_close(opened);
    file.at[first] = 2; /* a view of 2..4 */
    FAILS(pytorch_file_open_memory("old.pt", file.at, file.size, &opened), ERR_FORMAT, "beyond its storage");
}

static void test_legacy_big_endian(void **state)
{
    char *bytes = NULL;
    size_t size;
    PytorchFile *file = NULL;
    OK(file_read(TEST_SOURCE_DIR "/model/weights/legacy_plain.pt", 1 << 20, &bytes, &size));
    char *flag = memmem(bytes, size, "little_endian", 13);
    assert_non_null(flag);
    flag = memchr(flag, 0x88, 32); /* NEWTRUE */
    assert_non_null(flag);
    *flag = (char)0x89;
    FAILS(pytorch_file_open_memory("big.pt", (const uint8_t *)bytes, size, &file), ERR_UNSUPPORTED, "big-endian");
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_executed),
        cmocka_unit_test(test_unknown_is_inert),
        cmocka_unit_test(test_broken_pickles),
        cmocka_unit_test(test_memo_bomb),
        cmocka_unit_test(test_deep_and_circular),
        cmocka_unit_test(test_growth_is_bounded),
        cmocka_unit_test(test_tensors_stay_inside),
        cmocka_unit_test(test_zips),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_legacy_big_endian),
        cmocka_unit_test(test_legacy_storage_views),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
