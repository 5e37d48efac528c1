/* The font of labels in pictures: our own, 5x7 with descenders. ASCII; the letters of Latin-1, of Latin
 * Extended-A and of Vietnamese; Greek with one accent; Cyrillic of U+0400 to U+045F and of some Turkic languages;
 * common punctuation. All as one character each: accents that are characters of their own (NFD) it does not have. Other
 * scripts want another technique, and who draws labels asks picture_font_has before. */
#ifndef TRAIN_PICTURE_FONT_H
#define TRAIN_PICTURE_FONT_H

#include <stdbool.h>
#include <stdint.h>

enum {
    PICTURE_FONT_HEIGHT = 8, /* pixels of a line, descenders included */
    PICTURE_FONT_ABOVE = 2,  /* that accents of large letters take above it */
    PICTURE_FONT_PITCH = 6   /* from one character to the next */
};

/* Pixels to draw on: `width` x 3 bytes a row. Borrowed. */
typedef struct PictureCanvas {
    uint8_t *rgb;
    int32_t width;
} PictureCanvas;

/* Whether the font has every character of UTF-8 text. */
bool picture_font_has(const char *text);
int32_t picture_font_length(const char *text); /* characters */
/* Draws text in dark ink, each pixel as `scale` x `scale`, from (left, top) on; what does not fit into `width` pixels
 * is cut, and ends in three dots. Characters that the font has not are boxes. There must be PICTURE_FONT_ABOVE x scale
 * pixels above `top`. */
void picture_font_draw(PictureCanvas *canvas, const char *text, int32_t left, int32_t top, int32_t width,
                       int32_t scale);

#endif
