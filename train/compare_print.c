/* A comparison for a terminal: columns under the runs' names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/compare.h"

enum { COLUMN_MAX = 36, NAME_MAX_WIDTH = 44 };

/* Columns of a terminal, one for each character. */
static size_t width_of(const char *text)
{
    size_t width = 0;
    for (; *text; text++) width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

/* At most `most` columns, the end cut off, then spaces up to `width`; nothing that a terminal would obey. */
static Status put(StrBuf *out, const char *text, size_t width, size_t most, bool right)
{
    Status status = STATUS_OK;
    char *copy = strdup(text);
    size_t used = 0, end = 0;
    if (!copy) FAIL(ERR_MEMORY, "out of memory");
    text_blunt_controls(copy);
    for (char *c = copy; *c; c++)
        if (*c == '\n' || *c == '\t') *c = ' ';
    const bool cut = width_of(copy) > most;
    while (copy[end]) {
        if (((unsigned char)copy[end] & 0xc0) != 0x80 && ++used > (cut ? most - 3 : most)) break;
        end++;
    }
    copy[end] = '\0';
    const size_t shown = width_of(copy) + (cut ? 3 : 0);
    const int fill = width > shown ? (int)(width - shown) : 0;
    TRY(strbuf_printf(out, "%*s%s%s%*s", right ? fill : 0, "", copy, cut ? "..." : "", right ? 0 : fill, ""));
fail:
    free(copy);
    return status;
}

static size_t cell_width(const char *text, size_t most)
{
    const size_t width = width_of(text);
    return width < most ? width : most;
}

static void widen(size_t *width, const char *text, size_t most)
{
    if (cell_width(text, most) > *width) *width = cell_width(text, most);
}

static const char *value_of(const CompareKey *key, int run)
{
    return key->values[run] ? key->values[run] : "-";
}

Status comparison_print(const Comparison *c, StrBuf *out)
{
    Status status = STATUS_OK;
    size_t first = 0, widths[COMPARE_RUNS_MAX] = {0};
    for (int r = 0; r < c->row_count; r++) widen(&first, c->rows[r].name, NAME_MAX_WIDTH);
    for (size_t i = 0; i < c->key_count; i++) widen(&first, c->keys[i].key, NAME_MAX_WIDTH);
    for (int k = 0; k < c->count; k++) {
        widen(&widths[k], c->labels[k], COLUMN_MAX);
        for (int r = 0; r < c->row_count; r++) widen(&widths[k], c->rows[r].values[k], COLUMN_MAX);
        for (size_t i = 0; i < c->key_count; i++) widen(&widths[k], value_of(&c->keys[i], k), COLUMN_MAX);
        widths[k] += 2; /* for the star, and a space */
    }
    TRY(put(out, "", first, NAME_MAX_WIDTH, false));
    for (int k = 0; k < c->count; k++) {
        TRY(put(out, c->labels[k], widths[k] + 1, COLUMN_MAX, true));
        TRY(strbuf_append(out, " ", 1));
    }
    TRY(strbuf_append(out, "\n", 1));
    for (int r = 0; r < c->row_count; r++) {
        TRY(put(out, c->rows[r].name, first, NAME_MAX_WIDTH, false));
        for (int k = 0; k < c->count; k++) {
            TRY(put(out, c->rows[r].values[k], widths[k] + 1, COLUMN_MAX, true));
            TRY(strbuf_append(out, c->rows[r].best == k ? "*" : " ", 1));
        }
        TRY(strbuf_append(out, "\n", 1));
    }
    if (c->count > 1)
        TRY(strbuf_printf(out, "\n%s\n", c->key_count > 0 ? "configs differ in" : "the configs are equal"));
    for (size_t i = 0; i < c->key_count; i++) {
        TRY(put(out, c->keys[i].key, first, NAME_MAX_WIDTH, false));
        for (int k = 0; k < c->count; k++) {
            TRY(put(out, value_of(&c->keys[i], k), widths[k] + 1, COLUMN_MAX, true));
            TRY(strbuf_append(out, " ", 1));
        }
        TRY(strbuf_append(out, "\n", 1));
    }
fail:
    return status;
}
