/* Which of a sample's captions are used: data.caption_language and data.sources[].language.
 *
 *     random          any of them, drawn for each sample and epoch
 *     first           the first one
 *     ru              Russian, else the sample is passed over
 *     ru, en, random  Russian; else English; else any. The last word may be first, too
 *
 * Language codes are compared without regard to case, in whole: "zh" is not "zh-TW". Where several captions are left,
 * one of them is drawn when the batch is made; with `first` at the end of the list, the first one is taken instead. */
#ifndef DATA_CAPTION_CHOICE_H
#define DATA_CAPTION_CHOICE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/status.h"

#define CAPTION_CHOICE_MAX 32 /* codes */
#define CAPTION_CODE_MAX 35   /* bytes */

typedef enum CaptionEnd { CAPTION_END_NONE, CAPTION_END_RANDOM, CAPTION_END_FIRST } CaptionEnd;

typedef struct CaptionChoice {
    char codes[CAPTION_CHOICE_MAX][CAPTION_CODE_MAX + 1];
    int count;
    CaptionEnd end; /* what becomes of a sample that has none of them */
} CaptionChoice;

/* ERR_CONFIG says what is wrong. */
Status caption_choice_parse(const char *text, CaptionChoice *out);
/* "ru, en, random": the same choice has the same text. */
Status caption_choice_format(const CaptionChoice *choice, StrBuf *out);
/* The place of a language in the list, the least being the best; choice->count when only the last word lets it
 * through; -1 when nothing does. */
int caption_choice_rank(const CaptionChoice *choice, const char *language, size_t size);

/* The language of a caption's member by its suffix ("en.txt", "pt-br.txt"): bytes of the code, which is two letters and
 * perhaps subtags after - or _; 0 when the suffix is another one. */
size_t caption_member_language(const char *suffix);

#endif
