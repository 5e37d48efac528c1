/* Precomputed files: what is written comes back, in each storage type, with padding rows and without; numbers that are
 * not finite, damaged files and files of other data are refused; the loader reads them. */
#include "shards.h"

#include <fcntl.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bf16.h"
#include "base/file.h"
#include "base/half.h"
#include "base/hdf5_file.h"
#include "base/log.h"
#include "data/loader.h"
#include "data/precomputed.h"

enum { TOKENS = 5, WIDTH1 = 3, WIDTH2 = 2, POOLED = 4, SIDE = 2, MOMENTS = 3, VALUES = SIDE * SIDE * MOMENTS };

static char folder[512];

static int set_up(void **state)
{
    (void)state;
    log_configure(LOG_ERROR, 0, 1);
    make_folder(folder);
    make_shards(folder, "a", 2, 10);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    remove_folder(folder);
    return 0;
}

static PrecomputedSpec make_spec(PrecomputedType type, bool valid)
{
    return (PrecomputedSpec){.wanted = {true, true},
                             .path = "",
                             .type = type,
                             .resolution = 8,
                             .side = SIDE,
                             .moments = MOMENTS,
                             .tokens = TOKENS,
                             .width1 = WIDTH1,
                             .pooled = POOLED,
                             .width2 = WIDTH2,
                             .valid_rows = valid};
}

/* Arrays of one caption, told apart by `seed`; `used` rows are its tokens. Encoder 1's padding rows are alike. */
typedef struct Text {
    int32_t tokens1[TOKENS], mask1[TOKENS], tokens2[TOKENS], mask2[TOKENS];
    float states1[TOKENS * WIDTH1], pooled1[POOLED], states2[TOKENS * WIDTH2];
} Text;

static PrecomputedText pointers(Text *t)
{
    return (PrecomputedText){t->tokens1, t->mask1, t->tokens2, t->mask2, t->states1, t->pooled1, t->states2};
}

static void fill_text(Text *t, int seed, int used)
{
    for (int i = 0; i < TOKENS; i++) {
        t->tokens1[i] = seed * 100 + i;
        t->tokens2[i] = seed * 100 + 50 + i;
        t->mask1[i] = t->mask2[i] = i < used;
        for (int c = 0; c < WIDTH1; c++)
            t->states1[i * WIDTH1 + c] = (float)seed + 0.37f * (float)c + (i < used ? 0.1f * (float)i : 9);
        for (int c = 0; c < WIDTH2; c++) t->states2[i * WIDTH2 + c] = (float)seed - 0.21f * (float)(i * 2 + c);
    }
    for (int c = 0; c < POOLED; c++) t->pooled1[c] = (float)(seed * c) / 7;
}

static float stored(PrecomputedType type, float value)
{
    if (type == PRECOMPUTED_F16) return half_to_f32(half_from_f32(value));
    if (type == PRECOMPUTED_BF16) return bf16_to_f32(bf16_from_f32(value));
    return value;
}

static void expect_text(const Text *got, const Text *wanted, PrecomputedType type, bool valid)
{
    assert_memory_equal(got->tokens1, wanted->tokens1, sizeof got->tokens1);
    assert_memory_equal(got->mask1, wanted->mask1, sizeof got->mask1);
    assert_memory_equal(got->tokens2, wanted->tokens2, sizeof got->tokens2);
    assert_memory_equal(got->mask2, wanted->mask2, sizeof got->mask2);
    for (int i = 0; i < TOKENS; i++) {
        bool hidden = valid && !wanted->mask1[i];
        for (int c = 0; c < WIDTH1; c++)
            assert_true(got->states1[i * WIDTH1 + c] == (hidden ? 0 : stored(type, wanted->states1[i * WIDTH1 + c])));
        for (int c = 0; c < WIDTH2; c++)
            assert_true(got->states2[i * WIDTH2 + c] == (hidden ? 0 : stored(type, wanted->states2[i * WIDTH2 + c])));
    }
    for (int c = 0; c < POOLED; c++) assert_true(got->pooled1[c] == stored(type, wanted->pooled1[c]));
}

static void fill_moments(float *moments, int seed)
{
    for (int v = 0; v < VALUES; v++) moments[v] = (float)((seed * VALUES + v) * 7919 % 1000) / 333;
}

/* Three samples, of which the middle one was passed over; captions 2, 0, 1. */
static void write_file_of(const char *path, PrecomputedKind kind, const PrecomputedSpec *spec,
                          const PrecomputedFacts *facts)
{
    PrecomputedWriter *writer;
    TarIndex index;
    Text text;
    float moments[VALUES];
    static const int used[] = {2, 5, 1, 2};
    index_shard(in_folder(folder, "a-000.tar"), &index);
    assert_ok(precomputed_writer_create(path, kind, spec, facts, in_folder(folder, "a-000.tar"), &index, &writer));
    tar_index_free(&index);
    for (int s = 0; s < 3; s++) {
        char key[20];
        snprintf(key, sizeof key, "key%d", s);
        assert_ok(precomputed_writer_add_sample(writer, s == 1 ? SAMPLE_BAD_PNG : SAMPLE_ACCEPTED, key));
        if (s == 1) continue;
        for (int c = 0; kind == PRECOMPUTED_TEXT && c < (s == 0 ? 2 : 1); c++) {
            fill_text(&text, s + c, used[s == 0 ? c : 2]);
            PrecomputedText row = pointers(&text);
            assert_ok(precomputed_writer_add_caption(writer, c ? "" : "en",
                                                     s   ? "last"
                                                     : c ? "второй"
                                                         : "first",
                                                     strlen(s   ? "last"
                                                            : c ? "второй"
                                                                : "first")));
            assert_ok(precomputed_writer_add_text(writer, key, &row));
        }
        fill_moments(moments, s);
        if (kind == PRECOMPUTED_LATENTS) assert_ok(precomputed_writer_add_moments(writer, key, moments));
    }
    fill_text(&text, 9, used[3]);
    PrecomputedText row = pointers(&text);
    if (kind == PRECOMPUTED_TEXT) assert_ok(precomputed_writer_add_text(writer, "empty", &row));
    assert_ok(precomputed_writer_finish(writer));
}

typedef struct Listed {
    StrBuf text;
} Listed;

static Status list_caption(void *context, const char *language, size_t language_size, const char *text, size_t size)
{
    Listed *listed = context;
    return strbuf_printf(&listed->text, "%.*s:%.*s;", (int)language_size, language, (int)size, text);
}

static void test_round_trip(void **state)
{
    (void)state;
    for (int round = 0; round < 6; round++) {
        PrecomputedSpec spec = make_spec((PrecomputedType)(round / 2), round % 2);
        PrecomputedFacts none = {0};
        PrecomputedFile *file;
        PrecomputedScratch scratch = {0};
        SampleReason reason;
        StrBuf key = {0};
        const char *path = in_folder(folder, "trip.h5");
        write_file_of(path, PRECOMPUTED_TEXT, &spec, &none);
        assert_ok(precomputed_open(path, PRECOMPUTED_TEXT, &spec, &none, &file));
        assert_string_equal(precomputed_shard(file), "a-000.tar");
        assert_int_equal(precomputed_samples(file), 3);
        assert_int_equal(precomputed_rows(file), 3);
        for (int s = 0; s < 3; s++) assert_ok(precomputed_read_sample(file, s, &reason, &key));
        assert_string_equal(key.data, "key0key1key2");
        assert_ok(precomputed_read_sample(file, 1, &reason, &key));
        assert_int_equal(reason, SAMPLE_BAD_PNG);
        assert_int_equal(precomputed_read_sample(file, 3, &reason, &key), ERR_FORMAT);
        Listed listed = {0};
        int64_t first;
        static const char *const captions[] = {"en:first;:второй;", "", "en:last;"};
        static const int firsts[] = {0, 2, 2};
        for (int s = 0; s < 3; s++) {
            listed.text.size = 0;
            assert_ok(strbuf_append(&listed.text, "", 0));
            assert_ok(precomputed_read_captions(file, &scratch, s, list_caption, &listed, &first));
            assert_int_equal(first, firsts[s]);
            assert_string_equal(listed.text.data, captions[s]);
        }
        static const int seeds[] = {0, 1, 2, 9}, used[] = {2, 5, 1, 2};
        for (int c = 0; c < 4; c++) {
            Text wanted, got;
            memset(&got, 0xff, sizeof got);
            PrecomputedText row = pointers(&got);
            fill_text(&wanted, seeds[c], used[c]);
            assert_ok(precomputed_read_text(file, &scratch, c == 3 ? -1 : c, &row));
            expect_text(&got, &wanted, spec.type, spec.valid_rows);
        }
        precomputed_close(file);

        H5File *h5;
        H5Type type;
        int ndim;
        int64_t dims[H5_MAX_DIMS];
        assert_ok(h5_open(path, &h5));
        assert_ok(h5_shape(h5, "captions/states1", &type, &ndim, dims));
        assert_int_equal(dims[0], spec.valid_rows ? 2 + 5 + 1 + 2 : 3 + 5 + 2 + 3); /* equal rows at the end once */
        assert_ok(h5_shape(h5, "captions/states2", &type, &ndim, dims));
        assert_int_equal(dims[0], spec.valid_rows ? 2 + 5 + 1 + 2 : 20);
        assert_ok(h5_close(h5));

        write_file_of(path, PRECOMPUTED_LATENTS, &spec, &none);
        assert_ok(precomputed_open(path, PRECOMPUTED_LATENTS, &spec, &none, &file));
        for (int s = 0; s < 3; s += 2) {
            float wanted[VALUES], got[VALUES];
            fill_moments(wanted, s);
            assert_ok(precomputed_read_moments(file, &scratch, s, got));
            for (int v = 0; v < VALUES; v++) assert_true(got[v] == stored(spec.type, wanted[v]));
        }
        float unused[VALUES];
        assert_int_equal(precomputed_read_moments(file, &scratch, 1, unused), ERR_FORMAT);
        precomputed_close(file);
        precomputed_scratch_free(&scratch);
        strbuf_free(&key);
        strbuf_free(&listed.text);
    }
}

static void expect_refused(const PrecomputedSpec *spec, const char *key, float value, const char *words)
{
    PrecomputedWriter *writer;
    PrecomputedFacts none = {0};
    TarIndex index;
    float moments[VALUES];
    const char *path = in_folder(folder, "refused.h5");
    fill_moments(moments, 1);
    moments[7] = value;
    index_shard(in_folder(folder, "a-000.tar"), &index);
    assert_ok(precomputed_writer_create(path, PRECOMPUTED_LATENTS, spec, &none, "a-000.tar", &index, &writer));
    tar_index_free(&index);
    assert_ok(precomputed_writer_add_sample(writer, SAMPLE_ACCEPTED, key));
    assert_int_equal(precomputed_writer_add_moments(writer, key, moments), ERR_NUMERIC);
    check_message(key);
    check_message(words);
    precomputed_writer_abort(writer);
    char **names;
    size_t count;
    assert_ok(file_list(folder, &names, &count));
    for (size_t i = 0; i < count; i++)
        if (strstr(names[i], "refused")) fail_msg("%s is left", names[i]);
    file_free_list(names, count);
}

/* Unfinished files of a writer go when the next one begins; what somebody else has put beside them stays. */
static void test_leftovers(void **state)
{
    (void)state;
    static const char *const own[] = {"left.h5.tmp-4711", "left.h5.tmp-a1B2c3"};
    static const char *const others[] = {"left.h5.tmp-notes", "left.h5.tmp-", "left.h5.tmp-4711.old", "left.h5.txt"};
    PrecomputedSpec spec = make_spec(PRECOMPUTED_F32, false);
    PrecomputedFacts none = {0};
    PrecomputedWriter *writer;
    TarIndex index;
    for (size_t i = 0; i < 2; i++) assert_ok(file_write_atomic(in_folder(folder, own[i]), "x", 1));
    for (size_t i = 0; i < 4; i++) assert_ok(file_write_atomic(in_folder(folder, others[i]), "x", 1));
    index_shard(in_folder(folder, "a-000.tar"), &index);
    assert_ok(precomputed_writer_create(in_folder(folder, "left.h5"), PRECOMPUTED_LATENTS, &spec, &none, "a-000.tar",
                                        &index, &writer));
    tar_index_free(&index);
    precomputed_writer_abort(writer);
    for (size_t i = 0; i < 2; i++) assert_false(file_exists(in_folder(folder, own[i])));
    for (size_t i = 0; i < 4; i++) {
        assert_true(file_exists(in_folder(folder, others[i])));
        assert_ok(file_remove_tree(in_folder(folder, others[i])));
    }
}

static void test_not_finite(void **state)
{
    (void)state;
    for (int type = 0; type < 3; type++) {
        PrecomputedSpec spec = make_spec((PrecomputedType)type, false);
        expect_refused(&spec, "picture-17", NAN, "are the weights");
        expect_refused(&spec, "picture-18", -INFINITY, "are the weights");
    }
    PrecomputedSpec spec = make_spec(PRECOMPUTED_F16, false);
    expect_refused(&spec, "picture-19", 65520, "frozen.dtype: bf16");
    spec.type = PRECOMPUTED_BF16;
    expect_refused(&spec, "picture-20", FLT_MAX, "frozen.dtype: f32");
}

static void test_facts(void **state)
{
    (void)state;
    PrecomputedSpec spec = make_spec(PRECOMPUTED_F32, true);
    PrecomputedFacts none = {0}, data = {0};
    PrecomputedFile *file;
    const char *path = in_folder(folder, "facts.h5");
    assert_ok(precomputed_facts_add(&spec.facts[PRECOMPUTED_TEXT], "model.text_encoder1", "weights %d", 1));
    assert_ok(precomputed_facts_add(&data, "data.filter", "side %d", 8));
    write_file_of(path, PRECOMPUTED_TEXT, &spec, &data);
    assert_ok(precomputed_open(path, PRECOMPUTED_TEXT, &spec, &data, &file));
    precomputed_close(file);
    spec.facts[PRECOMPUTED_TEXT].items[0].value[8] = '2';
    assert_int_equal(precomputed_open(path, PRECOMPUTED_TEXT, &spec, &data, &file), ERR_MISMATCH);
    check_message("facts.h5: was made with model.text_encoder1 = weights 1; this run has weights 2");
    check_message("anew with `vasily precompute CONFIG`");
    strcpy(spec.stage, "large");
    assert_int_equal(precomputed_open(path, PRECOMPUTED_TEXT, &spec, &data, &file), ERR_MISMATCH);
    check_message("anew with `vasily precompute CONFIG --stage large`");
    spec.stage[0] = 0;
    spec.facts[PRECOMPUTED_TEXT].items[0].value[8] = '1';
    assert_ok(precomputed_facts_add(&data, "data.new", "x"));
    assert_int_equal(precomputed_open(path, PRECOMPUTED_TEXT, &spec, &data, &file), ERR_MISMATCH);
    check_message("does not say data.new");
    spec.valid_rows = false;
    assert_int_equal(precomputed_open(path, PRECOMPUTED_TEXT, &spec, &none, &file), ERR_MISMATCH);
    check_message("model.text_rows = valid");
    spec.valid_rows = true;
    spec.type = PRECOMPUTED_BF16;
    assert_int_equal(precomputed_open(path, PRECOMPUTED_TEXT, &spec, &none, &file), ERR_MISMATCH);
    check_message("frozen.dtype = f32; this run has bf16");
    spec.type = PRECOMPUTED_F32;
    spec.width2++;
    assert_int_equal(precomputed_open(path, PRECOMPUTED_TEXT, &spec, &none, &file), ERR_FORMAT);
    check_message("captions/states2");
    assert_int_equal(precomputed_open(path, PRECOMPUTED_LATENTS, &spec, &none, &file), ERR_FORMAT);
    assert_int_equal(precomputed_open(in_folder(folder, "none.h5"), PRECOMPUTED_TEXT, &spec, &none, &file), ERR_IO);
    precomputed_facts_free(&data);
    precomputed_spec_free(&spec);
}

/* Everything that a file can be asked for: whatever its bytes, an error at worst. */
static Status read_all_of(const char *path, const PrecomputedSpec *spec)
{
    Status status = STATUS_OK;
    PrecomputedFacts none = {0};
    PrecomputedFile *file = NULL;
    PrecomputedScratch scratch = {0};
    Listed listed = {0};
    StrBuf key = {0};
    Text text;
    PrecomputedText row = pointers(&text);
    SampleReason reason;
    int64_t first;
    TRY(precomputed_open(path, PRECOMPUTED_TEXT, spec, &none, &file));
    for (int64_t s = 0; s < precomputed_samples(file) && s < 100; s++) {
        TRY(precomputed_read_sample(file, s, &reason, &key));
        TRY(precomputed_read_captions(file, &scratch, s, list_caption, &listed, &first));
    }
    for (int64_t c = -1; c < precomputed_rows(file) && c < 100; c++)
        TRY(precomputed_read_text(file, &scratch, c, &row));
fail:
    precomputed_close(file);
    precomputed_scratch_free(&scratch);
    strbuf_free(&listed.text);
    strbuf_free(&key);
    return status;
}

static void test_damaged(void **state)
{
    (void)state;
    PrecomputedSpec spec = make_spec(PRECOMPUTED_F16, false);
    PrecomputedFacts none = {0};
    StrBuf whole = {0};
    const char *good = in_folder(folder, "good.h5"), *bad = in_folder(folder, "bad.h5");
    write_file_of(good, PRECOMPUTED_TEXT, &spec, &none);
    assert_ok(read_all_of(good, &spec));
    read_file(good, &whole);
    int refused = 0;
    for (size_t size = 0; size < whole.size; size += whole.size / 23) { /* cut anywhere */
        write_file(bad, whole.data, size);
        assert_int_not_equal(read_all_of(bad, &spec), STATUS_OK);
    }
    /* Numbers that are places and sizes in the reader's eyes. HDF5's own have checksums, and it loses memory over them.
     */
    static const struct {
        const char *name;
        H5Type type;
        int ndim;
        int64_t dims[2];
        size_t bytes;
    } arrays[] = {{"samples/reason", H5_U8, 1, {3}, 3},     {"samples/key_at", H5_I64, 1, {4}, 32},
                  {"samples/caption", H5_I64, 1, {4}, 32},  {"captions/at", H5_I64, 2, {3, 4}, 96},
                  {"captions/length1", H5_I32, 1, {4}, 16}, {"captions/row1", H5_I64, 1, {5}, 40},
                  {"captions/row2", H5_I64, 1, {5}, 40}};
    unsigned random = 1;
    for (size_t a = 0; a < sizeof arrays / sizeof arrays[0]; a++) {
        H5File *h5;
        int64_t dims[2] = {arrays[a].dims[0], arrays[a].dims[1]}, offset;
        assert_ok(h5_open(good, &h5));
        assert_ok(h5_locate(h5, arrays[a].name, arrays[a].type, arrays[a].ndim, dims, &offset));
        assert_ok(h5_close(h5));
        for (int i = 0; i < 40; i++) {
            random = random * 1664525u + 1013904223u;
            size_t at = (size_t)offset + (random >> 8) % arrays[a].bytes;
            char kept = whole.data[at];
            whole.data[at] = (char)(random >> 20 | 1);
            write_file(bad, whole.data, whole.size);
            refused += read_all_of(bad, &spec) != STATUS_OK;
            whole.data[at] = kept;
        }
    }
    assert_in_range(refused, 100, 280);
    strbuf_free(&whole);
}

/* Precomputed files of real shards, with numbers that tell sample and caption. */
static void precompute_shard(const PrecomputedSpec *spec, const DataConfig *data, const char *shard)
{
    char path[PATH_MAX];
    TarIndex index;
    PrecomputedFacts facts = {0};
    PrecomputedWriter *writers[2];
    Text text;
    PrecomputedText row = pointers(&text);
    float moments[VALUES];
    assert_ok(precomputed_facts_of_data(data, data_config_source(data, 0), 8, &facts));
    index_shard(shard, &index);
    for (int kind = 0; kind < 2; kind++) {
        assert_ok(precomputed_path(spec, (PrecomputedKind)kind, "a", shard, path));
        assert_ok(precomputed_writer_create(path, (PrecomputedKind)kind, spec, &facts, shard, &index, &writers[kind]));
    }
    for (size_t s = 0; s < index.table.sample_count; s++) {
        const char *key = sample_key(&index.table, &index.table.samples[s]);
        int number = atoi(key + 1) * 1000 + atoi(key + 5);
        bool accepted = s % 4 != 1;
        for (int kind = 0; kind < 2; kind++)
            assert_ok(precomputed_writer_add_sample(writers[kind], accepted ? SAMPLE_ACCEPTED : SAMPLE_WATERMARK, key));
        if (!accepted) continue;
        for (int v = 0; v < VALUES; v++) moments[v] = (float)(number + v);
        assert_ok(precomputed_writer_add_moments(writers[0], key, moments));
        for (int c = 0; c < 3; c++) {
            char caption[30];
            snprintf(caption, sizeof caption, "%s caption %d", key, c);
            fill_text(&text, number * 3 + c, 3);
            assert_ok(precomputed_writer_add_caption(writers[1], c ? "de" : "en", caption, strlen(caption)));
            assert_ok(precomputed_writer_add_text(writers[1], key, &row));
        }
    }
    fill_text(&text, -1, 2);
    assert_ok(precomputed_writer_add_text(writers[1], "empty", &row));
    for (int kind = 0; kind < 2; kind++) assert_ok(precomputed_writer_finish(writers[kind]));
    tar_index_free(&index);
    precomputed_facts_free(&facts);
}

static void test_loader(void **state)
{
    (void)state;
    char apart[512];
    DataConfig data;
    PrecomputedSpec spec = make_spec(PRECOMPUTED_F32, false);
    int dropped = 0, captions[3] = {0};
    make_folder(apart);
    make_shards(apart, "a", 2, 10);
    Config *config = parse_data_config(&data,
                                       "sources: [{name: a, shards: ['%s/a-*.tar']}]\nlanes: 4\ntext_dropout: 0.3\n"
                                       "filter: {min_side: 0}\ndecode_threads: 3\n",
                                       apart);
    LoaderOptions options = {.seed = 5, .resolution = 8, .global_batch = 8, .world = 1, .precomputed = &spec};
    Loader *loader;
    assert_int_equal(loader_open(&data, &options, &loader), ERR_IO);
    check_message("a-000.latents-8.h5 does not exist: no precomputed latents of");
    for (int s = 0; s < 2; s++) {
        precompute_shard(&spec, &data, in_folder(apart, s ? "a-001.tar" : "a-000.tar"));
        assert_int_equal(unlink(in_folder(apart, s ? "a-001.tar" : "a-000.tar")), 0);
    }
    assert_ok(loader_open(&data, &options, &loader));
    assert_int_equal(loader_source_samples(loader, 0), 20);
    for (int step = 0; step < 20; step++) {
        const Batch *b;
        assert_ok(loader_next(loader, &b));
        assert_null(b->pixels);
        for (int k = 0; k < b->count; k++) {
            int number = atoi(b->keys[k] + 1) * 1000 + atoi(b->keys[k] + 5);
            int c = b->captions[k][strlen(b->captions[k]) - 1] - '0';
            assert_int_not_equal(number % 1000 % 4, 1);
            assert_memory_equal(b->captions[k], b->keys[k], strlen(b->keys[k]));
            assert_string_equal(b->languages[k], c ? "de" : "en");
            for (int v = 0; v < VALUES; v++) assert_true(b->moments[k * VALUES + v] == (float)(number + v));
            Text wanted, got;
            fill_text(&wanted, b->dropped[k] ? -1 : number * 3 + c, b->dropped[k] ? 2 : 3);
            memcpy(got.tokens1, b->tokens1 + k * TOKENS, sizeof got.tokens1);
            memcpy(got.mask1, b->mask1 + k * TOKENS, sizeof got.mask1);
            memcpy(got.tokens2, b->tokens2 + k * TOKENS, sizeof got.tokens2);
            memcpy(got.mask2, b->mask2 + k * TOKENS, sizeof got.mask2);
            memcpy(got.states1, b->states1 + (size_t)k * TOKENS * WIDTH1, sizeof got.states1);
            memcpy(got.pooled1, b->pooled1 + (size_t)k * POOLED, sizeof got.pooled1);
            memcpy(got.states2, b->states2 + (size_t)k * TOKENS * WIDTH2, sizeof got.states2);
            expect_text(&got, &wanted, PRECOMPUTED_F32, false);
            dropped += b->dropped[k];
            captions[c]++;
        }
        loader_release(loader, b);
    }
    LoaderStats stats;
    loader_stats(loader, &stats);
    assert_true(stats.bad.counts[SAMPLE_WATERMARK] > 20);
    assert_in_range(dropped, 25, 75); /* 48 of 160 expected */
    for (int c = 0; c < 3; c++) assert_in_range(captions[c], 30, 80);
    loader_close(loader);
    assert_true(loader_memory(&data, &options) > 3 * 8 * 4 * (VALUES + TOKENS * (WIDTH1 + WIDTH2)));

    data.filter.watermark_max = 0.25;
    assert_int_equal(loader_open(&data, &options, &loader), ERR_MISMATCH);
    check_message("data.filter = watermark_max 0.5");
    data.filter.watermark_max = 0.5;
    assert_int_equal(truncate(in_folder(apart, "a-001.text.h5"), 3000), 0);
    assert_int_equal(loader_open(&data, &options, &loader), ERR_FORMAT);
    check_message("a-001.text.h5");
    config_free(config);
    remove_folder(apart);
}

static void test_paths(void **state)
{
    (void)state;
    PrecomputedSpec spec = make_spec(PRECOMPUTED_F32, false);
    char path[PATH_MAX];
    static const struct {
        const char *folder, *source, *shard, *wanted;
    } cases[] = {{"", "s", "x/y.1/shard-000.tar", "x/y.1/shard-000.text.h5"},
                 {"", "s", "shard.tar.gz", "shard.text.h5"},
                 {"", "s", "a/shard.tgz", "a/shard.text.h5"},
                 {"", "s", "a/shard.v2", "a/shard.v2.text.h5"},
                 {"out", "web set/1", "/data/a.b.tar.zst", "out/web_set_1/a.b.text.h5"},
                 {"out", "..", "/data/.tar", "out/_./.tar.text.h5"},
                 {"out", "s", "http://u:SECRET@h/p/x.tar?sig=SECRET/y", "out/s/x.text.h5"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        spec.path = cases[i].folder;
        assert_ok(precomputed_path(&spec, PRECOMPUTED_TEXT, cases[i].source, cases[i].shard, path));
        assert_string_equal(path, cases[i].wanted);
    }
    spec.path = "";
    assert_ok(precomputed_path(&spec, PRECOMPUTED_LATENTS, "s", "a.tar", path));
    assert_string_equal(path, "a.latents-8.h5");
    assert_int_equal(precomputed_path(&spec, PRECOMPUTED_LATENTS, "s", "http://u:SECRET@h/x.tar", path), ERR_CONFIG);
    check_message(
        "http://h/x.tar: precomputed files of a shard that is not a file here need a folder; set frozen.path");
    assert_int_equal(precomputed_path(&spec, PRECOMPUTED_LATENTS, "s", "pipe:cat x.tar", path), ERR_CONFIG);
}

/* For a run that reads no shard: lists and URLs are what they are, with and without a folder of the files. */
static void test_lists(void **state)
{
    (void)state;
    PrecomputedSpec spec = make_spec(PRECOMPUTED_F32, false);
    ShardList list = {0};
    char pattern[600];
    static const char text[] = "gone-0.tar\t3\ngone-{1..2}.tar\nhttp://h/a.tar?x=[1]\n";
    write_file(in_folder(folder, "list.txt"), text, sizeof text - 1);
    snprintf(pattern, sizeof pattern, "list:%s/list.txt", folder);
    for (int i = 0; i < 2; i++) {
        spec.path = i ? "elsewhere" : "";
        assert_ok(precomputed_list_shards(&spec, "s", pattern, &list));
        assert_ok(precomputed_list_shards(&spec, "s", "http://h/{0..1}.tar?x=[1]", &list));
        assert_int_equal(list.count, 6);
        assert_string_equal(list.paths[0], in_folder(folder, "gone-0.tar"));
        assert_int_equal(shard_list_note(&list, 0).samples, 3);
        assert_string_equal(list.paths[2], in_folder(folder, "gone-2.tar"));
        assert_string_equal(list.paths[5], "http://h/1.tar?x=[1]");
        shard_list_free(&list);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_leftovers), cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_facts),      cmocka_unit_test(test_damaged),   cmocka_unit_test(test_loader),
        cmocka_unit_test(test_paths),      cmocka_unit_test(test_lists),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
