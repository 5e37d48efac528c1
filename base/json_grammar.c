#include "base/json_grammar.h"

#include <stdbool.h>
#include <string.h>

#define STACK 64

typedef struct Scan {
    const char *text;
    size_t size, at;
    bool zero; /* the last string held \u0000 */
} Scan;

static void skip_space(Scan *s)
{
    while (s->at < s->size && strchr(" \t\r\n", s->text[s->at]) && s->text[s->at]) s->at++;
}

static char peek(const Scan *s)
{
    return s->at < s->size ? s->text[s->at] : 0;
}

static Status wrong(const Scan *s, const char *expected)
{
    if (s->at >= s->size)
        return status_fail(ERR_FORMAT, __FILE__, __LINE__, "JSON ends in the middle, after %zu bytes", s->size);
    return status_fail(ERR_FORMAT, __FILE__, __LINE__, "JSON is wrong at byte %zu: %s", s->at, expected);
}

static bool accept_word(Scan *s, const char *word)
{
    size_t length = strlen(word);
    if (s->size - s->at < length || memcmp(s->text + s->at, word, length) != 0) return false;
    s->at += length;
    return true;
}

static size_t skip_digits(Scan *s)
{
    size_t from = s->at;
    while (peek(s) >= '0' && peek(s) <= '9') s->at++;
    return s->at - from;
}

static Status check_number(Scan *s)
{
    if (peek(s) == '-') s->at++;
    if (accept_word(s, "Infinity")) return STATUS_OK;
    bool zero = peek(s) == '0';
    size_t digits = skip_digits(s);
    if (digits == 0 || (zero && digits > 1)) return wrong(s, "a number was expected");
    if (peek(s) == '.') {
        s->at++;
        if (!skip_digits(s)) return wrong(s, "a digit was expected after the point");
    }
    if (peek(s) == 'e' || peek(s) == 'E') {
        s->at++;
        if (peek(s) == '+' || peek(s) == '-') s->at++;
        if (!skip_digits(s)) return wrong(s, "a digit was expected in the exponent");
    }
    return STATUS_OK;
}

static Status check_string(Scan *s)
{
    s->zero = false;
    if (peek(s) != '"') return wrong(s, "a string in double quotes was expected");
    for (s->at++; s->at < s->size && s->text[s->at] != '"'; s->at++) {
        if ((unsigned char)s->text[s->at] < 0x20) return wrong(s, "a control character in a string");
        if (s->text[s->at] != '\\') continue;
        s->at++;
        char c = peek(s);
        if (!c || !strchr("\"\\/bfnrtu", c)) return wrong(s, "no such escape in a string");
        if (c != 'u') continue;
        for (int i = 0; i < 4; i++) {
            s->at++;
            if (!peek(s) || !strchr("0123456789abcdefABCDEF", peek(s)))
                return wrong(s, "four hex digits were expected after \\u");
        }
        if (memcmp(s->text + s->at - 3, "0000", 4) == 0) s->zero = true;
    }
    if (s->at >= s->size) return wrong(s, "");
    s->at++;
    return STATUS_OK;
}

static Status check_scalar(Scan *s)
{
    char c = peek(s);
    if (c == '"') return check_string(s);
    if (c == '-' || (c >= '0' && c <= '9')) return check_number(s);
    static const char *const words[] = {"true", "false", "null", "NaN", "Infinity"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (accept_word(s, words[i])) return STATUS_OK;
    }
    return wrong(s, "a value was expected");
}

/* Up to the value of a member: "key" : */
static Status check_key(Scan *s, size_t *members)
{
    Status status = STATUS_OK;
    skip_space(s);
    TRY(check_string(s));
    if (s->zero) return wrong(s, "a key holds \\u0000"); /* the rest of it would be lost */
    skip_space(s);
    if (peek(s) != ':') return wrong(s, "a colon was expected");
    s->at++;
    ++*members;
fail:
    return status;
}

Status json_check_grammar(const char *text, size_t size, int max_depth, size_t *members)
{
    Status status = STATUS_OK;
    Scan scan = {.text = text, .size = size}, *s = &scan;
    char open[STACK]; /* the closing mark of every list and object that is open */
    int depth = 0;
    *members = 0;
    if (max_depth > STACK) max_depth = STACK;
    for (;;) { /* one turn a value */
        skip_space(s);
        char c = peek(s);
        if (c == '[' || c == '{') {
            if (depth >= max_depth) FAIL(ERR_LIMIT, "JSON nested more than %d deep", max_depth);
            open[depth++] = c == '[' ? ']' : '}';
            s->at++;
            skip_space(s);
            if (peek(s) != open[depth - 1]) {
                if (c == '{') TRY(check_key(s, members));
                continue;
            }
        } else {
            TRY(check_scalar(s));
            skip_space(s);
        }
        while (depth > 0 && peek(s) == open[depth - 1]) {
            depth--;
            s->at++;
            skip_space(s);
        }
        if (depth == 0) break;
        if (peek(s) != ',') TRY(wrong(s, "a comma or the closing bracket was expected"));
        s->at++;
        if (open[depth - 1] == '}') TRY(check_key(s, members));
    }
    if (s->at < s->size) FAIL(ERR_FORMAT, "JSON is followed by other text at byte %zu", s->at);
fail:
    return status;
}
