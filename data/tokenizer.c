#include "data/tokenizer.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/json.h"
#include "data/tokenizer_sentencepiece.h"

#define SPECIAL_MAX 5

/* A special token that captions may spell out. */
typedef struct Special {
    const char *text;
    int32_t id;
} Special;

struct Tokenizer {
    SpmModel *model;
    int max_tokens, vocabulary;
    int32_t bos, pad, eos, unk; /* as given out; bos -1: none */
    int32_t model_unk, shift;
    bool bytes;
    Special specials[SPECIAL_MAX];
    int special_count;
};

static void add_special(Tokenizer *t, const char *text, int32_t id)
{
    t->specials[t->special_count++] = (Special){text, id};
}

Status tokenizer_open(const char *path, TokenizerStyle style, int max_tokens, Tokenizer **out)
{
    Status status = STATUS_OK;
    Tokenizer *t = NULL;
    char message[512] = "";
    int bos, pad, eos, unk;
    *out = NULL;
    if (max_tokens < 3) FAIL(ERR_CONFIG, "%d tokens a caption; at least 3 are needed", max_tokens);
    t = mem_alloc_array(1, sizeof *t);
    if (!t) FAIL(ERR_MEMORY, "out of memory for a tokenizer");
    t->model = spm_open(path, message, sizeof message);
    if (!t->model)
        FAIL(ERR_IO, "%s: not a readable SentencePiece model (%s); check the path in data.tokenizer1/2", path, message);
    t->max_tokens = max_tokens;
    spm_special_ids(t->model, &bos, &pad, &eos, &unk);
    int size = spm_size(t->model);
    t->model_unk = unk;
    t->bytes = style == TOKENIZER_MT5_BYTES;
    if (style == TOKENIZER_XLMR) {
        bool laid_out = bos == 0 && pad == 1 && eos == 2 && unk == 3;
        t->bos = 0;
        t->pad = 1;
        t->eos = 2;
        t->unk = 3;
        t->shift = laid_out ? 0 : 1;
        t->vocabulary = laid_out ? size : size + 2; /* the shift, and <mask> last */
    } else {
        t->bos = -1;
        t->pad = pad >= 0 ? pad : 0;
        t->eos = eos >= 0 ? eos : 1;
        t->unk = unk;
        t->shift = 0;
        t->vocabulary = size;
    }
    if (t->bos >= 0) add_special(t, "<s>", t->bos);
    add_special(t, "<pad>", t->pad);
    add_special(t, "</s>", t->eos);
    if (t->unk >= 0) add_special(t, "<unk>", t->unk);
    if (t->shift) add_special(t, "<mask>", t->vocabulary - 1);
    *out = t;
    return STATUS_OK;
fail:
    tokenizer_free(t);
    return status;
}

void tokenizer_free(Tokenizer *t)
{
    if (!t) return;
    if (t->model) spm_free(t->model);
    free(t);
}

int tokenizer_max_tokens(const Tokenizer *t)
{
    return t->max_tokens;
}

int tokenizer_vocabulary(const Tokenizer *t)
{
    return t->vocabulary;
}

/* The special token that begins here, or NULL. */
static const Special *special_at(const Tokenizer *t, const char *text, size_t size)
{
    for (int i = 0; i < t->special_count; i++) {
        size_t length = strlen(t->specials[i].text);
        if (length <= size && memcmp(text, t->specials[i].text, length) == 0) return &t->specials[i];
    }
    return NULL;
}

/* Bytes before the next special token, which is set, or `size` with NULL. */
static size_t next_special(const Tokenizer *t, const char *text, size_t size, const Special **special)
{
    *special = NULL;
    for (size_t at = 0; at < size; at++) {
        const char *found = memchr(text + at, '<', size - at);
        if (!found) return size;
        at = (size_t)(found - text);
        *special = special_at(t, found, size - at);
        if (*special) return at;
    }
    return size;
}

/* Pieces of text without special tokens: up to `room` ids; returns how many, or -1. */
static int encode_part(const Tokenizer *t, const char *text, size_t size, int32_t *ids, int room)
{
    int count = spm_encode(t->model, text, size, t->bytes, ids, room);
    for (int i = 0; i < count; i++) ids[i] = ids[i] == t->model_unk ? t->unk : ids[i] + t->shift;
    return count;
}

Status tokenizer_encode(const Tokenizer *t, const char *text, size_t size, int32_t *ids, int32_t *mask)
{
    Status status = STATUS_OK;
    if (!utf8_valid(text, size)) FAIL(ERR_FORMAT, "a caption is not valid UTF-8, or holds a NUL");
    int used = 0, end = t->max_tokens - 1;
    if (t->bos >= 0) ids[used++] = t->bos;
    while (size > 0 && used < end) {
        const Special *special;
        size_t part = next_special(t, text, size, &special);
        int count = part > 0 ? encode_part(t, text, part, ids + used, end - used) : 0;
        if (count < 0) FAIL(ERR_FORMAT, "SentencePiece cannot encode a caption of %zu bytes", size);
        used += count;
        if (special && used < end) ids[used++] = special->id;
        if (special) part += strlen(special->text);
        text += part;
        size -= part;
    }
    ids[used++] = t->eos;
    for (int i = 0; i < t->max_tokens; i++) {
        if (i >= used) ids[i] = t->pad;
        mask[i] = i < used;
    }
fail:
    return status;
}
