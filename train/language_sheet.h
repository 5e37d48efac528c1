/* The sheet of one subject in many languages: a row of pictures a language, a column a seed, and at each row's end the
 * mean of the row. Above a row stand its language and its caption, where the font has the caption's script; above a
 * column its seed. */
#ifndef TRAIN_LANGUAGE_SHEET_H
#define TRAIN_LANGUAGE_SHEET_H

#include "train/language_grid.h"
#include "train/picture_grid.h"

typedef struct LanguageSheet {
    const LanguageSubject *subject;
    const ConfigInts *seeds;
    const uint8_t *pictures; /* (rows, seeds, height, width, 3) */
    const uint8_t *means;    /* (rows, height, width, 3) */
    int32_t width, height;
    bool labels;
} LanguageSheet;

/* ERR_LIMIT where it would have more than 32768 pixels a side. Pictures under 64 pixels are enlarged by a whole factor.
 */
Status language_sheet_draw(const LanguageSheet *sheet, PictureGrid *out);
/* Several sheets below each other. */
Status language_sheets_stack(const PictureGrid *sheets, size_t count, PictureGrid *out);

/* The mean of `count` pictures of `pixels` x 3 bytes, one behind the other, in linear light: sRGB values are decoded
 * (IEC 61966-2-1), averaged, encoded and rounded. What is bright in half of the pictures is half as bright, not darker.
 */
void picture_mean(const uint8_t *pictures, size_t count, size_t pixels, uint8_t *out);

#endif
