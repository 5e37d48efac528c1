/* Which captions a sample gets: the choice's own rules, and captions of every spelling through the reader of shards. */
#include "shards.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/caption_choice.h"
#include "data/shard_reader.h"

/* ---- the choice ---- */

static void check_choice(const char *text, const char *formatted)
{
    CaptionChoice choice;
    StrBuf out = {0};
    assert_ok(caption_choice_parse(text, &choice));
    assert_ok(caption_choice_format(&choice, &out));
    assert_string_equal(out.data, formatted);
    strbuf_free(&out);
}

static void check_choice_error(const char *text, const char *words)
{
    CaptionChoice choice;
    if (caption_choice_parse(text, &choice) != ERR_CONFIG) fail_msg("%s was taken", text);
    check_message(words);
}

static void test_choice(void **state)
{
    (void)state;
    CaptionChoice choice;
    StrBuf many = {0};
    check_choice("random", "random");
    check_choice("first", "first");
    check_choice("fr", "fr");
    check_choice(" ru,en ,\trandom", "ru, en, random");
    check_choice("pt-BR, zh_Hant, first", "pt-BR, zh_Hant, first");
    check_choice("russian", "russian");
    check_choice_error("", "an empty word");
    check_choice_error("ru,", "an empty word");
    check_choice_error("ru,,en", "an empty word");
    check_choice_error("random, ru", "random must be the last word");
    check_choice_error("ru, first, random", "first must be the last word");
    check_choice_error("rnadom", "did you mean random?");
    check_choice_error("ru, frist", "did you mean first?");
    check_choice_error("ru en", "codes stand between commas");
    check_choice_error("r\x01u", "codes stand between commas");
    check_choice_error("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "36 bytes, at most 35");
    for (int i = 0; i < 33; i++) assert_ok(strbuf_printf(&many, "%sa%c", i ? "," : "", 'a' + i % 26));
    check_choice_error(many.data, "more than 32");
    strbuf_free(&many);
    assert_ok(caption_choice_parse("ru, pt-BR, random", &choice));
    assert_int_equal(caption_choice_rank(&choice, "ru", 2), 0);
    assert_int_equal(caption_choice_rank(&choice, "PT-br", 5), 1);
    assert_int_equal(caption_choice_rank(&choice, "pt", 2), 2);
    assert_ok(caption_choice_parse("ru, en", &choice));
    assert_int_equal(caption_choice_rank(&choice, "ruen", 2), 0);
    assert_int_equal(caption_choice_rank(&choice, "rus", 3), -1);
    assert_int_equal(caption_choice_rank(&choice, "", 0), -1);
}

static void test_members(void **state)
{
    (void)state;
    static const struct {
        const char *suffix;
        size_t size;
    } cases[] = {{"en.txt", 2},    {"pt-br.txt", 5}, {"zh_hant.txt", 7}, {"zh-hant-tw.txt", 10}, {"txt", 0},
                 {".txt", 0},      {"e.txt", 0},     {"ocr.txt", 0},     {"en.json", 0},         {"en-.txt", 0},
                 {"en--a.txt", 0}, {"e1.txt", 0},    {"en.txt.gz", 0},   {"en us.txt", 0},       {"en-us", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (caption_member_language(cases[i].suffix) != cases[i].size) fail_msg("%s", cases[i].suffix);
}

/* ---- samples ---- */

/* {key, members...}: "suffix|text", NULL at the end. \357\273\277 is the byte order mark that some editors put before
 * UTF-8, and no part of a caption. */
static const char *const samples[][6] = {
    {"object", "json|{\"captions\": {\"en\": \"cat\", \"ru\": \"\xd0\xba\xd0\xbe\xd1\x82\", \"de\": \" \"}}"},
    {"lists", "json|{\"captions\": {\"en\": [\"cat\", \" tom \", 5, \"\"], \"ru\": [], \"fr\": \"chat\"}}"},
    {"list", "json|{\"captions\": [\"one\", \"two\"], \"LANGUAGE\": \"en\"}"},
    {"unknown", "json|{\"captions\": [\"one\", \"two\"]}"},
    {"single", "json|\357\273\277{\"caption\": \"chat\", \"LANGUAGE\": \"fr\"}"},
    {"plain", "txt|\357\273\277a dog\n"},
    {"members", "ru.txt|\xd0\xbf\xd1\x91\xd1\x81\n", "en.txt|\357\273\277dog", "txt|other", "fr.txt| \n"},
    {"mixed", "json|{\"captions\": {\"xx\": 3}, \"caption\": \"hound\"}", "txt|dog"},
    {"none", "json|{\"captions\": {\"en\": \" \"}}"},
    {"upper", "json|{\"captions\": {\"EN\": \"up\"}}"},
    {"nul", "json|{\"captions\": {\"en\": \"a\\u0000b\"}}"},
};
enum { SAMPLES = sizeof samples / sizeof samples[0] };

static void make_samples(const char *folder)
{
    StrBuf tar = {0}, png = {0};
    char name[100];
    make_png(&png, 8, 8, 1);
    for (int s = 0; s < SAMPLES; s++) {
        for (int i = 1; i < 6 && samples[s][i]; i++) {
            const char *bar = strchr(samples[s][i], '|');
            snprintf(name, sizeof name, "%s.%.*s", samples[s][0], (int)(bar - samples[s][i]), samples[s][i]);
            tar_text(&tar, name, bar + 1);
        }
        snprintf(name, sizeof name, "%s.png", samples[s][0]);
        tar_member(&tar, name, png.data, png.size);
    }
    tar_end(&tar);
    write_file(in_folder(folder, "a.tar"), tar.data, tar.size);
    strbuf_free(&tar);
    strbuf_free(&png);
}

/* "key: en=cat|ru=kot", a line a sample, or its reason in place of captions. */
static void read_samples(const char *folder, const char *source, const char *choice, StrBuf *out)
{
    DataConfig data;
    ShardStore *store;
    ShardReader *reader;
    const Candidate *c;
    BadSamples bad = {0};
    Status status;
    Config *config = parse_data_config(&data,
                                       "sources:\n  - {name: a, shards: [\"%s/a.tar\"], %s}\ncaption_language: \"%s\"\n"
                                       "filter: {min_side: 0}\ndecode_threads: 2\nwrite_index: false\n",
                                       folder, source, choice);
    assert_ok(data_config_check(config, "data", &data));
    assert_ok(shard_store_open(&(ShardStoreOptions){.config = &data, .threads = 1, .windows = 4}, &bad, &store));
    assert_ok(shard_reader_open(&data, store, 8, false, &reader));
    shard_reader_begin(reader, 0, 0, SAMPLES);
    while ((status = shard_reader_next(reader, &c)) == STATUS_OK) {
        assert_ok(strbuf_printf(out, "%s: %s", c->key.data, c->reason ? sample_reason_name(c->reason) : ""));
        for (size_t i = 0; i < c->caption_count && !c->reason; i++)
            assert_ok(strbuf_printf(out, "%s%s=%s", i ? "|" : "", c->text.data + c->captions[i].language,
                                    c->text.data + c->captions[i].text));
        assert_ok(strbuf_printf(out, "\n"));
    }
    assert_int_equal(status, STATUS_END);
    shard_reader_close(reader);
    shard_store_close(store);
    config_free(config);
}

static void check_samples(const char *folder, const char *source, const char *choice, const char *wanted)
{
    StrBuf out = {0};
    read_samples(folder, source, choice, &out);
    if (!out.data || strcmp(out.data, wanted) != 0)
        fail_msg("%s with %s:\n%s\nnot\n%s", source, choice, out.data ? out.data : "", wanted);
    strbuf_free(&out);
}

#define RU_CAT "\xd0\xba\xd0\xbe\xd1\x82"
#define RU_DOG "\xd0\xbf\xd1\x91\xd1\x81"

static void test_samples(void **state)
{
    (void)state;
    char folder[512];
    make_folder(folder);
    make_samples(folder);
    check_samples(folder, "weight: 1", "random",
                  "object: en=cat|ru=" RU_CAT "\nlists: en=cat|en=tom|fr=chat\nlist: en=one|en=two\n"
                  "unknown: =one|=two\nsingle: fr=chat\nplain: =a dog\nmembers: ru=" RU_DOG "|en=dog\n"
                  "mixed: =hound\nnone: no_caption\nupper: EN=up\nnul: bad_utf8\n");
    check_samples(folder, "weight: 1", "first",
                  "object: en=cat\nlists: en=cat\nlist: en=one\nunknown: =one\nsingle: fr=chat\nplain: =a dog\n"
                  "members: ru=" RU_DOG "\nmixed: =hound\nnone: no_caption\nupper: EN=up\nnul: bad_utf8\n");
    check_samples(folder, "weight: 1", "ru",
                  "object: ru=" RU_CAT "\nlists: language\nlist: language\nunknown: =one|=two\nsingle: language\n"
                  "plain: =a dog\nmembers: ru=" RU_DOG "\nmixed: =hound\nnone: no_caption\nupper: language\n"
                  "nul: language\n");
    check_samples(folder, "weight: 1", "fr, en",
                  "object: en=cat\nlists: fr=chat\nlist: en=one|en=two\nunknown: =one|=two\nsingle: fr=chat\n"
                  "plain: =a dog\nmembers: en=dog\nmixed: =hound\nnone: no_caption\nupper: EN=up\nnul: bad_utf8\n");
    /* the source's own choice goes before the common one */
    check_samples(folder, "language: \"de, ru, random\"", "en",
                  "object: ru=" RU_CAT "\nlists: en=cat|en=tom|fr=chat\nlist: en=one|en=two\nunknown: =one|=two\n"
                  "single: fr=chat\nplain: =a dog\nmembers: ru=" RU_DOG
                  "\nmixed: =hound\nnone: no_caption\nupper: EN=up\n"
                  "nul: bad_utf8\n");
    check_samples(folder, "language: \"en, first\"", "ru",
                  "object: en=cat\nlists: en=cat\nlist: en=one\nunknown: =one\nsingle: fr=chat\nplain: =a dog\n"
                  "members: en=dog\nmixed: =hound\nnone: no_caption\nupper: EN=up\nnul: bad_utf8\n");
    check_samples(
        folder, "caption: txt", "en, random",
        "object: no_caption\nlists: no_caption\nlist: no_caption\nunknown: no_caption\nsingle: no_caption\n"
        "plain: =a dog\nmembers: en=dog\nmixed: =dog\nnone: no_caption\nupper: no_caption\nnul: no_caption\n");
    check_samples(folder, "caption: json", "de",
                  "object: language\nlists: language\nlist: language\nunknown: =one|=two\nsingle: language\n"
                  "plain: no_caption\nmembers: no_caption\nmixed: =hound\nnone: no_caption\nupper: language\n"
                  "nul: language\n");
    /* expressions: caption_length of .json and .txt, in characters without the blanks around */
    check_samples(folder, "where: [\"not has caption_length or caption_length >= 5\"]", "random",
                  "object: en=cat|ru=" RU_CAT "\nlists: en=cat|en=tom|fr=chat\nlist: en=one|en=two\n"
                  "unknown: =one|=two\nsingle: filtered\nplain: =a dog\nmembers: ru=" RU_DOG "|en=dog\n"
                  "mixed: =hound\nnone: no_caption\nupper: EN=up\nnul: bad_utf8\n");
    check_samples(folder, "caption: txt, where: [\"caption_length < 5\"]", "random",
                  "object: no_caption\nlists: no_caption\nlist: no_caption\nunknown: no_caption\nsingle: no_caption\n"
                  "plain: filtered\nmembers: filtered\nmixed: =dog\nnone: no_caption\nupper: no_caption\n"
                  "nul: no_caption\n");
    remove_folder(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_choice), cmocka_unit_test(test_members),
                                       cmocka_unit_test(test_samples)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
