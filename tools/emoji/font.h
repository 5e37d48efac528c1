/* Pictures of emoji, taken from a colour font whose glyphs are PNGs (Noto Color Emoji: tables CBDT and CBLC). */
#ifndef EMOJI_FONT_H
#define EMOJI_FONT_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct EmojiFont EmojiFont;

/* ERR_UNSUPPORTED when the font has no PNG glyphs (newer builds may hold vector pictures). */
Status font_open(const char *path, EmojiFont **out);
void font_close(EmojiFont *font);

/* The PNG of the one glyph that `text` is shaped into; *png is NULL when the font has none for it. The bytes stay
 * valid until the next call or font_close. */
Status font_png(EmojiFont *font, const char *text, const uint8_t **png, size_t *size);

#endif
