/* Numbers as config writes them, and the nearest word to a mistyped one. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/config_tree.h"

#define MAX_WORD 64

/* [+-]digits, and nothing else. */
static bool parse_digits(const char *text, size_t length, int64_t *out)
{
    char digits[24];
    size_t sign = length > 0 && (text[0] == '-' || text[0] == '+');
    if (length <= sign || length >= sizeof digits || strspn(text + sign, "0123456789") < length - sign) return false;
    memcpy(digits, text, length);
    digits[length] = '\0';
    errno = 0;
    long long value = strtoll(digits, NULL, 10);
    *out = value;
    return errno == 0;
}

bool config_parse_int(const char *text, int64_t *out)
{
    static const struct {
        const char *suffix;
        int64_t factor;
    } SUFFIXES[] = {{"Ki", INT64_C(1) << 10}, {"Mi", INT64_C(1) << 20}, {"Gi", INT64_C(1) << 30}, {"k", 1000},
                    {"M", 1000000},           {"G", 1000000000}};
    size_t length = strlen(text);
    if (parse_digits(text, length, out)) return true;
    for (size_t i = 0; i < sizeof SUFFIXES / sizeof SUFFIXES[0]; i++) {
        size_t suffix = strlen(SUFFIXES[i].suffix);
        if (length > suffix && strcmp(text + length - suffix, SUFFIXES[i].suffix) == 0)
            return parse_digits(text, length - suffix, out) && !__builtin_mul_overflow(*out, SUFFIXES[i].factor, out);
    }
    /* 1e6 is how many people write a million. */
    double value;
    if (!strpbrk(text, "eE") || !config_parse_float(text, &value)) return false;
    if (!(fabs(value) <= 0x1p53) || value != floor(value)) return false;
    *out = (int64_t)value;
    return true;
}

bool config_parse_float(const char *text, double *out)
{
    /* Decimal notation only: strtod alone would also take hexadecimal, "nan", "inf" and leading blanks. */
    size_t length = strlen(text);
    if (length == 0 || length > MAX_WORD || strspn(text, "+-.0123456789eE") != length) return false;
    char *end;
    double value = strtod(text, &end);
    if (end != text + length || !isfinite(value)) return false;
    *out = value;
    return true;
}

/* Insertions, deletions, exchanges, and swaps of neighbours that turn a into b (optimal string alignment). */
static size_t edit_distance(const char *a, const char *b)
{
    size_t rows[3][MAX_WORD + 1];
    size_t la = strlen(a), lb = strlen(b);
    if (la > MAX_WORD || lb > MAX_WORD) return MAX_WORD;
    size_t *before = rows[0], *last = rows[1], *now = rows[2];
    for (size_t j = 0; j <= lb; j++) last[j] = before[j] = j;
    for (size_t i = 1; i <= la; i++) {
        now[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            size_t best = last[j - 1] + (tolower((unsigned char)a[i - 1]) != tolower((unsigned char)b[j - 1]));
            if (last[j] + 1 < best) best = last[j] + 1;
            if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
        size_t *free_row = before;
        before = last;
        last = now;
        now = free_row;
    }
    return last[lb];
}

const char *config_nearest(const char *word, const char *const *words, size_t count)
{
    const char *nearest = NULL;
    size_t best = strlen(word) / 3 + 2; /* beyond this it would be a guess */
    for (size_t i = 0; i < count; i++) {
        size_t distance = edit_distance(word, words[i]);
        if (distance < best && distance < strlen(words[i])) {
            best = distance;
            nearest = words[i];
        }
    }
    if (nearest) return nearest;
    /* A part of the word, as "batch" of "global_batch". */
    for (size_t i = 0; i < count && strlen(word) >= 3; i++) {
        if (strstr(words[i], word) || (strlen(words[i]) >= 3 && strstr(word, words[i]))) return words[i];
    }
    return NULL;
}
