#include "emoji/names.h"

#include <expat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"

#define FILE_LIMIT (64u << 20)
#define NAME_LIMIT 1024
#define LOCALE_LIMIT 1024

static bool copy_without(const char *text, char *out, size_t capacity, bool drop_tones, bool *toned)
{
    size_t used = 0;
    for (const char *p = text; *p;) {
        if (strncmp(p, "\xef\xb8\x8f", 3) == 0) { /* U+FE0F */
            p += 3;
        } else if (drop_tones && strncmp(p, "\xf0\x9f\x8f", 3) == 0 && (unsigned char)p[3] >= 0xbb &&
                   (unsigned char)p[3] <= 0xbf) { /* U+1F3FB .. U+1F3FF */
            *toned = true;
            p += 4;
        } else {
            if (used + 1 >= capacity) return false;
            out[used++] = *p++;
        }
    }
    out[used] = 0;
    return true;
}

bool names_strip_selector(const char *text, char *out, size_t capacity)
{
    return copy_without(text, out, capacity, false, NULL);
}

bool names_base(const char *text, char *out, size_t capacity, bool *toned)
{
    *toned = false;
    return copy_without(text, out, capacity, true, toned);
}

/* The slot that holds `text`, or the empty one where it belongs. */
static size_t find_slot(const NameTable *table, const char *text)
{
    size_t mask = table->slot_count - 1, slot = (size_t)hash_string64(text) & mask;
    while (table->slots[slot] && strcmp(table->emoji[table->slots[slot] - 1].text, text) != 0) slot = (slot + 1) & mask;
    return slot;
}

const Emoji *names_find(const NameTable *table, const char *text)
{
    if (!table->slot_count) return NULL;
    size_t found = table->slots[find_slot(table, text)];
    return found ? &table->emoji[found - 1] : NULL;
}

const char *names_of(const Emoji *emoji, int locale)
{
    for (size_t i = 0; i < emoji->name_count; i++) {
        if (emoji->names[i].locale == locale) return emoji->names[i].text;
    }
    return NULL;
}

static Status grow_slots(NameTable *table)
{
    Status status = STATUS_OK;
    if (table->emoji_count * 2 < table->slot_count) return STATUS_OK;
    size_t count = table->slot_count ? table->slot_count * 2 : 4096;
    size_t *slots = mem_alloc_array(count, sizeof *slots);
    if (!slots) FAIL(ERR_MEMORY, "no memory for the table of emoji names");
    free(table->slots);
    table->slots = slots;
    table->slot_count = count;
    for (size_t i = 0; i < table->emoji_count; i++) table->slots[find_slot(table, table->emoji[i].text)] = i + 1;
    return STATUS_OK;
fail:
    return status;
}

static Status add_name(NameTable *table, int locale, const char *text, const char *name)
{
    Status status = STATUS_OK;
    TRY(grow_slots(table));
    size_t slot = find_slot(table, text);
    if (!table->slots[slot]) {
        TRY(mem_grow(&table->emoji, &table->emoji_capacity, table->emoji_count + 1, sizeof *table->emoji));
        char *copy = arena_strdup(table->arena, text);
        if (!copy) FAIL(ERR_MEMORY, "no memory for the name of an emoji");
        table->emoji[table->emoji_count++] = (Emoji){.text = copy};
        table->slots[slot] = table->emoji_count;
    }
    Emoji *emoji = &table->emoji[table->slots[slot] - 1];
    char *copy = arena_strdup(table->arena, name);
    if (!copy) FAIL(ERR_MEMORY, "no memory for the name of an emoji");
    if (emoji->name_count && emoji->names[emoji->name_count - 1].locale == locale) {
        emoji->names[emoji->name_count - 1].text = copy; /* annotationsDerived comes second and wins */
        return STATUS_OK;
    }
    TRY(mem_grow(&emoji->names, &emoji->name_capacity, emoji->name_count + 1, sizeof *emoji->names));
    emoji->names[emoji->name_count++] = (EmojiName){.locale = locale, .text = copy};
    table->locale_names[locale]++;
    return STATUS_OK;
fail:
    return status;
}

/* What the XML callbacks share: the annotation being read. */
typedef struct Reader {
    NameTable *table;
    int locale;
    bool inside; /* of an annotation that is a name */
    char emoji[128];
    char name[NAME_LIMIT];
    size_t size;
    bool too_long;
    Status status;
} Reader;

static void on_start(void *user, const XML_Char *element, const XML_Char **attributes)
{
    Reader *reader = user;
    reader->inside = false;
    if (strcmp(element, "annotation") != 0) return;
    bool is_name = false;
    reader->emoji[0] = 0;
    for (size_t i = 0; attributes[i]; i += 2) {
        if (strcmp(attributes[i], "cp") == 0) {
            if (!names_strip_selector(attributes[i + 1], reader->emoji, sizeof reader->emoji)) reader->emoji[0] = 0;
        } else if (strcmp(attributes[i], "type") == 0) {
            is_name = strcmp(attributes[i + 1], "tts") == 0;
        }
    }
    reader->inside = is_name && reader->emoji[0];
    reader->size = 0;
    reader->too_long = false;
}

static void on_text(void *user, const XML_Char *text, int length)
{
    Reader *reader = user;
    if (!reader->inside) return;
    for (int i = 0; i < length; i++) {
        char c = text[i];
        bool space = c == ' ' || c == '\t' || c == '\n' || c == '\r';
        if (space && (reader->size == 0 || reader->name[reader->size - 1] == ' ')) continue;
        if (reader->size + 1 >= sizeof reader->name) {
            reader->too_long = true;
            return;
        }
        reader->name[reader->size++] = space ? ' ' : c;
    }
}

static void on_end(void *user, const XML_Char *element)
{
    Reader *reader = user;
    (void)element;
    if (!reader->inside) return;
    reader->inside = false;
    while (reader->size && reader->name[reader->size - 1] == ' ') reader->size--;
    reader->name[reader->size] = 0;
    /* Three upward arrows: "as the parent locale", which for a name of an emoji tells nothing. */
    if (reader->too_long || !reader->size || strncmp(reader->name, "\xe2\x86\x91\xe2\x86\x91", 6) == 0) return;
    if (reader->status == STATUS_OK) {
        reader->status = add_name(reader->table, reader->locale, reader->emoji, reader->name);
    }
}

static Status read_file(NameTable *table, const char *path, int locale)
{
    Status status = STATUS_OK;
    char *data = NULL;
    size_t size = 0;
    Reader *reader = mem_alloc_array(1, sizeof *reader);
    XML_Parser parser = XML_ParserCreate("UTF-8");
    if (!reader || !parser) FAIL(ERR_MEMORY, "%s: no memory to parse it", path);
    reader->table = table;
    reader->locale = locale;
    TRY(file_read(path, FILE_LIMIT, &data, &size));
    XML_SetUserData(parser, reader);
    XML_SetElementHandler(parser, on_start, on_end);
    XML_SetCharacterDataHandler(parser, on_text);
    if (XML_Parse(parser, data, (int)size, 1) == XML_STATUS_ERROR) {
        FAIL(ERR_FORMAT, "%s: %s; reinstall the package unicode-cldr-core", path,
             XML_ErrorString(XML_GetErrorCode(parser)));
    }
    TRY(reader->status);
fail:
    if (parser) XML_ParserFree(parser);
    free(reader);
    free(data);
    return status;
}

/* Every locale that has a file in common/annotations, except root. */
static Status list_locales(NameTable *table, const char *folder)
{
    Status status = STATUS_OK;
    char **files = NULL;
    size_t count = 0;
    char dir[4096];
    TRY(path_join(dir, sizeof dir, folder, "annotations"));
    TRY(file_list(dir, &files, &count));
    table->locales = arena_alloc_array(table->arena, count + 1, sizeof *table->locales);
    if (!table->locales) FAIL(ERR_MEMORY, "no memory for the names of the locales");
    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(files[i]);
        if (length < 5 || strcmp(files[i] + length - 4, ".xml") != 0 || strcmp(files[i], "root.xml") == 0) continue;
        char *name = arena_strdup(table->arena, files[i]);
        if (!name) FAIL(ERR_MEMORY, "no memory for the names of the locales");
        name[length - 4] = 0;
        table->locales[table->locale_count++] = name;
    }
    if (!table->locale_count) FAIL(ERR_IO, "%s: no annotation files; install the package unicode-cldr-core", dir);
fail:
    file_free_list(files, count);
    return status;
}

static Status check_locales(NameTable *table, const char *folder, const char *const *locales, size_t count)
{
    Status status = STATUS_OK;
    if (count > LOCALE_LIMIT) FAIL(ERR_USAGE, "%zu languages; at most %d", count, LOCALE_LIMIT);
    table->locales = arena_alloc_array(table->arena, count, sizeof *table->locales);
    if (!table->locales) FAIL(ERR_MEMORY, "no memory for the names of the locales");
    for (size_t i = 0; i < count; i++) {
        char path[4096];
        for (size_t k = 0; k < i; k++) {
            if (strcmp(locales[i], locales[k]) == 0) FAIL(ERR_USAGE, "language '%s' is listed twice", locales[i]);
        }
        if (strspn(locales[i], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") !=
                strlen(locales[i]) ||
            snprintf(path, sizeof path, "%s/annotations/%s.xml", folder, locales[i]) >= (int)sizeof path ||
            !file_exists(path)) {
            FAIL(ERR_USAGE, "language '%s': no such file in %s/annotations; its files name the languages there are",
                 locales[i], folder);
        }
        table->locales[i] = arena_strdup(table->arena, locales[i]);
        if (!table->locales[i]) FAIL(ERR_MEMORY, "no memory for the names of the locales");
    }
    table->locale_count = count;
fail:
    return status;
}

Status names_load(const char *folder, const char *const *locales, size_t count, NameTable **out)
{
    static const char *const parts[] = {"annotations", "annotationsDerived"};
    Status status = STATUS_OK;
    NameTable *table = mem_alloc_array(1, sizeof *table);
    if (!table) FAIL(ERR_MEMORY, "no memory for the table of emoji names");
    TRY(arena_create(&table->arena));
    if (!file_is_dir(folder)) FAIL(ERR_IO, "%s: no such folder; install the package unicode-cldr-core", folder);
    TRY(count ? check_locales(table, folder, locales, count) : list_locales(table, folder));
    table->locale_names = arena_alloc_array(table->arena, table->locale_count, sizeof *table->locale_names);
    if (!table->locale_names) FAIL(ERR_MEMORY, "no memory for the table of emoji names");
    for (size_t i = 0; i < table->locale_count; i++) {
        for (size_t part = 0; part < 2; part++) {
            char path[4096];
            if (snprintf(path, sizeof path, "%s/%s/%s.xml", folder, parts[part], table->locales[i]) >=
                (int)sizeof path) {
                FAIL(ERR_LIMIT, "%s: the path is too long", folder);
            }
            if (part == 1 && !file_exists(path)) continue; /* not every locale has derived names */
            TRY(read_file(table, path, (int)i));
        }
    }
    if (!table->emoji_count) FAIL(ERR_FORMAT, "%s: no names in the chosen languages", folder);
    *out = table;
    return STATUS_OK;
fail:
    names_free(table);
    return status;
}

void names_free(NameTable *table)
{
    if (!table) return;
    for (size_t i = 0; i < table->emoji_count; i++) free(table->emoji[i].names);
    free(table->emoji);
    free(table->slots);
    arena_free(table->arena);
    free(table);
}
