/* A file of precomputed text whose arrays of places and sizes hold anything: reading every row of it ends well or with
 * an error. The input is a list of patches: array, byte in it, new byte. HDF5's own numbers have checksums. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hdf5_file.h"
#include "base/log.h"
#include "data/precomputed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TOKENS = 4, SAMPLES = 5, CAPTIONS = 8 };

static const struct {
    const char *name;
    H5Type type;
    int ndim;
    int64_t dims[2];
    int64_t bytes;
} arrays[] = {{"samples/reason", H5_U8, 1, {SAMPLES, 0}, SAMPLES},
              {"samples/key_at", H5_I64, 1, {SAMPLES + 1, 0}, 8 * (SAMPLES + 1)},
              {"samples/caption", H5_I64, 1, {SAMPLES + 1, 0}, 8 * (SAMPLES + 1)},
              {"captions/at", H5_I64, 2, {CAPTIONS, 4}, 32 * CAPTIONS},
              {"captions/length1", H5_I32, 1, {CAPTIONS + 1, 0}, 4 * (CAPTIONS + 1)},
              {"captions/length2", H5_I32, 1, {CAPTIONS + 1, 0}, 4 * (CAPTIONS + 1)},
              {"captions/row1", H5_I64, 1, {CAPTIONS + 2, 0}, 8 * (CAPTIONS + 2)},
              {"captions/row2", H5_I64, 1, {CAPTIONS + 2, 0}, 8 * (CAPTIONS + 2)}};
enum { ARRAYS = sizeof arrays / sizeof arrays[0] };

static PrecomputedSpec spec = {.wanted = {false, true},
                               .path = "",
                               .type = PRECOMPUTED_F16,
                               .resolution = 8,
                               .tokens = TOKENS,
                               .width1 = 3,
                               .pooled = 2,
                               .width2 = 5};
static char path[64];
static int64_t places[ARRAYS];
static bool made;

static void must(Status status)
{
    if (status == STATUS_OK) return;
    fprintf(stderr, "%s\n", status_message());
    abort();
}

static void remove_file(void)
{
    (void)unlink(path);
}

static void make_file(void)
{
    static PrecomputedFacts none;
    static TarIndex index;
    PrecomputedWriter *writer;
    H5File *h5;
    int32_t tokens[TOKENS] = {1, 2, 3, 4}, mask[TOKENS] = {1, 1};
    float states[TOKENS * 5] = {1, 2, 3}, pooled[2] = {0};
    PrecomputedText text = {tokens, mask, tokens, mask, states, pooled, states};
    log_configure(LOG_ERROR, 0, 1);
    snprintf(path, sizeof path, "/tmp/fuzz-precomputed-%ld.h5", (long)getpid());
    must(precomputed_writer_create(path, PRECOMPUTED_TEXT, &spec, &none, "x.tar", &index, &writer));
    for (int s = 0; s < SAMPLES; s++) {
        must(precomputed_writer_add_sample(writer, s == 2 ? SAMPLE_SMALL : SAMPLE_ACCEPTED, "a/key"));
        for (int c = 0; s != 2 && c < 2; c++) {
            must(precomputed_writer_add_caption(writer, "en", "a caption", 9));
            must(precomputed_writer_add_text(writer, "a/key", &text));
        }
    }
    must(precomputed_writer_add_text(writer, "", &text));
    must(precomputed_writer_finish(writer));
    must(h5_open(path, &h5));
    for (int a = 0; a < ARRAYS; a++) {
        int64_t dims[2] = {arrays[a].dims[0], arrays[a].dims[1]};
        must(h5_locate(h5, arrays[a].name, arrays[a].type, arrays[a].ndim, dims, &places[a]));
    }
    must(h5_close(h5));
    atexit(remove_file);
}

static Status ignore_caption(void *context, const char *language, size_t language_size, const char *text, size_t size)
{
    (void)context;
    unsigned sum = 0; /* so that the bytes are looked at */
    for (size_t i = 0; i < language_size; i++) sum += (unsigned char)language[i];
    for (size_t i = 0; i < size; i++) sum += (unsigned char)text[i];
    return sum == UINT32_MAX ? STATUS_END : STATUS_OK;
}

static void read_all(void)
{
    PrecomputedFacts none = {0};
    PrecomputedFile *file;
    PrecomputedScratch scratch = {0};
    StrBuf key = {0};
    SampleReason reason;
    int32_t tokens1[TOKENS], mask1[TOKENS], tokens2[TOKENS], mask2[TOKENS];
    float states1[TOKENS * 3], pooled[2], states2[TOKENS * 5];
    PrecomputedText text = {tokens1, mask1, tokens2, mask2, states1, pooled, states2};
    int64_t first;
    if (precomputed_open(path, PRECOMPUTED_TEXT, &spec, &none, &file) != STATUS_OK) return;
    for (int64_t s = -1; s <= SAMPLES; s++) {
        key.size = 0;
        (void)precomputed_read_sample(file, s, &reason, &key);
        (void)precomputed_read_captions(file, &scratch, s, ignore_caption, NULL, &first);
    }
    for (int64_t c = -1; c <= CAPTIONS + 1; c++) (void)precomputed_read_text(file, &scratch, c, &text);
    precomputed_close(file);
    precomputed_scratch_free(&scratch);
    strbuf_free(&key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t kept[64];
    int64_t where[64];
    size_t count = size / 3 < 64 ? size / 3 : 64;
    if (!made) {
        make_file();
        made = true;
    }
    FILE *file = fopen(path, "r+b");
    if (!file) abort();
    int fd = fileno(file);
    for (size_t i = 0; i < count; i++) {
        int a = data[3 * i] % ARRAYS;
        where[i] = places[a] + data[3 * i + 1] % arrays[a].bytes;
        if (pread(fd, &kept[i], 1, where[i]) != 1 || pwrite(fd, &data[3 * i + 2], 1, where[i]) != 1) abort();
    }
    read_all();
    for (size_t i = count; i-- > 0;)
        if (pwrite(fd, &kept[i], 1, where[i]) != 1) abort();
    fclose(file);
    return 0;
}
