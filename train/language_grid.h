/* The file of `vasily sample --grid`: what is drawn in which languages and from which noises.
 *
 *   seeds: [0, 1, 2, 3]
 *   subjects:
 *     - title: a cat
 *       prompts:
 *         en: a cat
 *         ru: кот
 */
#ifndef TRAIN_LANGUAGE_GRID_H
#define TRAIN_LANGUAGE_GRID_H

#include "base/config.h"

typedef struct LanguageSubject {
    char *title;
    ConfigPairs prompts; /* language -> caption, in the order of the rows */
} LanguageSubject;

typedef struct LanguageGrid {
    ConfigInts seeds;    /* the columns */
    ConfigList subjects; /* of LanguageSubject */
} LanguageGrid;

/* Reads and checks the file; with `text` not NULL, that text under the name `path`. Errors name file, line and key.
 * Keep the Config as long as *out is used. */
Status language_grid_load(const char *path, const char *text, LanguageGrid *out, Config **config);
static inline const LanguageSubject *language_grid_subject(const LanguageGrid *grid, size_t i)
{
    return (const LanguageSubject *)grid->subjects.items + i;
}
int64_t language_grid_pictures(const LanguageGrid *grid); /* without the mean ones */
/* The file's text again, with one of the subjects, or (NULL) all. */
Status language_grid_dump(const LanguageGrid *grid, const LanguageSubject *subject, StrBuf *out);

#endif
