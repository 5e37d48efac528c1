/* A self-contained HTML page: style and script inside, nothing is fetched, and it opens from a file. What comes from
 * files of a run goes through page_text alone, which leaves nothing that a browser would take for markup. */
#ifndef TRAIN_PAGE_H
#define TRAIN_PAGE_H

#include "base/arena.h"
#include "base/status.h"

/* The first failure stays; later calls go on harmlessly. Free `out` with strbuf_free. */
typedef struct Page {
    StrBuf out;
    Status status;
} Page;

void page_markup(Page *page, const char *markup); /* as it is: ours */
/* Numbers and texts of our own into markup. */
void page_printf(Page *page, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Escaped for text and for quoted attributes; bytes that are no UTF-8 and control characters become U+FFFD. */
void page_text(Page *page, const char *text);
void page_text_part(Page *page, const char *text, size_t size);

void page_begin(Page *page, const char *title);
void page_end(Page *page);

/* A table's row: a name, and a text. */
void page_row(Page *page, const char *name, const char *value);

#endif
