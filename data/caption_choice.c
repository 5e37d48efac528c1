#include "data/caption_choice.h"

#include <string.h>
#include <strings.h>

#include "base/config.h"
#include "base/json.h"

static const char *const end_words[] = {
    [CAPTION_END_NONE] = "", [CAPTION_END_RANDOM] = "random", [CAPTION_END_FIRST] = "first"};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static Status add_word(CaptionChoice *choice, const char *word, size_t size)
{
    Status status = STATUS_OK;
    char *code = choice->codes[choice->count];
    if (size == 0)
        FAIL(ERR_CONFIG, "an empty word; write random, first, or language codes in order of preference, as in "
                         "\"ru, en, random\"");
    if (choice->end != CAPTION_END_NONE)
        FAIL(ERR_CONFIG, "%s must be the last word: after it no language is looked for", end_words[choice->end]);
    if (size > CAPTION_CODE_MAX)
        FAIL(ERR_CONFIG, "a language code of %zu bytes, at most %d are possible", size, CAPTION_CODE_MAX);
    if (!utf8_valid(word, size) || utf8_has_controls(word, size) || memchr(word, ' ', size))
        FAIL(ERR_CONFIG, "\"%.*s\" is no language code; codes stand between commas, as in \"ru, en, random\"",
             (int)size, word);
    for (int end = CAPTION_END_RANDOM; end <= CAPTION_END_FIRST; end++) {
        if (size != strlen(end_words[end]) || memcmp(word, end_words[end], size) != 0) continue;
        choice->end = (CaptionEnd)end;
        return STATUS_OK;
    }
    if (choice->count == CAPTION_CHOICE_MAX) FAIL(ERR_CONFIG, "more than %d language codes", CAPTION_CHOICE_MAX);
    memcpy(code, word, size);
    code[size] = 0;
    /* No code is so long without a subtag: a mistyped word would pass over every sample. */
    const char *near = size >= 5 && !strpbrk(code, "-_") ? config_nearest(code, end_words + 1, 2) : NULL;
    if (near) FAIL(ERR_CONFIG, "\"%s\" is no language code; did you mean %s?", code, near);
    choice->count++;
fail:
    return status;
}

Status caption_choice_parse(const char *text, CaptionChoice *out)
{
    Status status = STATUS_OK;
    *out = (CaptionChoice){0};
    for (;;) {
        size_t size = strcspn(text, ","), blanks = strspn(text, " \t");
        if (blanks > size) blanks = size;
        const char *word = text + blanks, *end = text + size;
        while (end > word && is_blank(end[-1])) end--;
        TRY(add_word(out, word, (size_t)(end - word)));
        if (!text[size]) break;
        text += size + 1;
    }
fail:
    return status;
}

Status caption_choice_format(const CaptionChoice *choice, StrBuf *out)
{
    Status status = STATUS_OK;
    for (int i = 0; i < choice->count; i++) TRY(strbuf_printf(out, "%s%s", i ? ", " : "", choice->codes[i]));
    if (choice->end != CAPTION_END_NONE)
        TRY(strbuf_printf(out, "%s%s", choice->count ? ", " : "", end_words[choice->end]));
fail:
    return status;
}

int caption_choice_rank(const CaptionChoice *choice, const char *language, size_t size)
{
    for (int i = 0; i < choice->count; i++)
        if (strlen(choice->codes[i]) == size && strncasecmp(choice->codes[i], language, size) == 0) return i;
    return choice->end == CAPTION_END_NONE ? -1 : choice->count;
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_letter_or_digit(char c)
{
    return is_letter(c) || (c >= '0' && c <= '9');
}

size_t caption_member_language(const char *suffix)
{
    size_t size = strlen(suffix), at = 2;
    if (size < 6 || size > CAPTION_CODE_MAX + 4 || strcasecmp(suffix + size - 4, ".txt") != 0) return 0;
    size -= 4;
    if (!is_letter(suffix[0]) || !is_letter(suffix[1])) return 0;
    while (at < size) {
        size_t first = at + 1;
        if (suffix[at] != '-' && suffix[at] != '_') return 0;
        for (at = first; at < size && is_letter_or_digit(suffix[at]); at++) continue;
        if (at == first) return 0;
    }
    return size;
}
