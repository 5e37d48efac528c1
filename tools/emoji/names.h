/* Names of emoji in many languages, read from the Unicode CLDR's annotation files (package unicode-cldr-core).
 *
 * CLDR/common/annotations/LOCALE.xml and annotationsDerived/LOCALE.xml hold lines such as
 *     <annotation cp="🐢" type="tts">turtle</annotation>
 * where cp is the emoji without the variation selector U+FE0F. The names are those with type="tts"; the others are
 * search keywords. Files of regions (de_CH) hold only what differs from their language. */
#ifndef EMOJI_NAMES_H
#define EMOJI_NAMES_H

#include <stddef.h>

#include "base/arena.h"
#include "base/status.h"

typedef struct EmojiName {
    int locale; /* index into NameTable.locales */
    const char *text;
} EmojiName;

typedef struct Emoji {
    const char *text; /* UTF-8, without U+FE0F */
    EmojiName *names; /* at most one per locale, in the table's order of locales */
    size_t name_count, name_capacity;
} Emoji;

typedef struct NameTable {
    Arena *arena;
    const char **locales;
    size_t *locale_names; /* how many names each locale has */
    size_t locale_count;
    Emoji *emoji; /* in order of first appearance */
    size_t emoji_count, emoji_capacity;
    size_t *slots; /* open addressing: 1 + index into emoji, 0 for empty */
    size_t slot_count;
} NameTable;

/* Reads the names in the given locales ("en", "zh_Hant"), in that order; `count` 0: every locale there is, by name.
 * `folder` is CLDR's `common`. A locale without a file is ERR_USAGE. */
Status names_load(const char *folder, const char *const *locales, size_t count, NameTable **out);
void names_free(NameTable *table);

/* NULL when no chosen locale names it. `text` without U+FE0F. */
const Emoji *names_find(const NameTable *table, const char *text);
/* The name in one locale, or NULL. */
const char *names_of(const Emoji *emoji, int locale);

/* Copies `text` without U+FE0F into `out`; false when it does not fit. */
bool names_strip_selector(const char *text, char *out, size_t capacity);
/* Copies `text` without skin tones (U+1F3FB..1F3FF) and U+FE0F; *toned tells whether one was there. */
bool names_base(const char *text, char *out, size_t capacity, bool *toned);

#endif
