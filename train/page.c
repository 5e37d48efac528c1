#include "train/page.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "train/page_files.h"

static void append(Page *page, const char *text, size_t size)
{
    if (!page->status) page->status = strbuf_append(&page->out, text, size);
}

void page_markup(Page *page, const char *markup)
{
    append(page, markup, strlen(markup));
}

void page_printf(Page *page, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    const int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (size > 0) append(page, text, (size_t)size < sizeof text ? (size_t)size : sizeof text - 1);
}

/* The bytes of the character at `s`; 0: no valid UTF-8. */
static size_t character(const char *s, size_t size)
{
    for (size_t n = 1; n <= 4 && n <= size; n++)
        if (utf8_valid(s, n)) return n;
    return 0;
}

static const char *entity(char c)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return NULL;
    }
}

void page_text_part(Page *page, const char *text, size_t size)
{
    size_t plain = 0;
    for (size_t i = 0; i < size;) {
        const size_t length = character(text + i, size - i);
        const bool control = length > 0 && utf8_has_controls(text + i, length) && text[i] != '\n' && text[i] != '\t';
        const char *instead = length == 0 || control ? "\xef\xbf\xbd" : entity(text[i]);
        const size_t step = length > 0 ? length : 1;
        if (instead) {
            append(page, text + plain, i - plain);
            page_markup(page, instead);
            plain = i + step;
        }
        i += step;
    }
    append(page, text + plain, size - plain);
}

void page_text(Page *page, const char *text)
{
    page_text_part(page, text, strlen(text));
}

/* The policy forbids the page to fetch anything, whatever is in it. */
void page_begin(Page *page, const char *title)
{
    page_markup(page, "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
                      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; "
                      "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
                      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                      "<meta name=\"color-scheme\" content=\"light dark\">\n<title>");
    page_text(page, title);
    page_markup(page, "</title>\n<style>\n");
    page_markup(page, page_css);
    page_markup(page, "</style>\n<main>\n");
}

void page_end(Page *page)
{
    page_markup(page, "</main>\n<script>\n");
    page_markup(page, page_js);
    page_markup(page, "</script>\n</html>\n");
}

void page_row(Page *page, const char *name, const char *value)
{
    page_markup(page, "<tr><th>");
    page_text(page, name);
    page_markup(page, "</th><td>");
    page_text(page, value);
    page_markup(page, "</td></tr>\n");
}
