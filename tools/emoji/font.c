#include "emoji/font.h"

#include <hb-ot.h>
#include <hb.h>
#include <stdlib.h>

#include "base/arena.h"

struct EmojiFont {
    hb_blob_t *file;
    hb_face_t *face;
    hb_font_t *font;
    hb_buffer_t *buffer;
    hb_blob_t *png; /* of the last call */
};

Status font_open(const char *path, EmojiFont **out)
{
    Status status = STATUS_OK;
    EmojiFont *font = mem_alloc_array(1, sizeof *font);
    if (!font) FAIL(ERR_MEMORY, "%s: no memory to open it", path);
    font->file = hb_blob_create_from_file_or_fail(path);
    if (!font->file) FAIL(ERR_IO, "%s: cannot read it; install the package fonts-noto-color-emoji", path);
    font->face = hb_face_create(font->file, 0);
    if (hb_face_get_glyph_count(font->face) == 0) FAIL(ERR_FORMAT, "%s: not a font", path);
    if (!hb_ot_color_has_png(font->face)) {
        FAIL(ERR_UNSUPPORTED,
             "%s: this font holds no PNG pictures (tables CBDT or sbix); give a bitmap build of Noto Color Emoji with "
             "--font",
             path);
    }
    font->font = hb_font_create(font->face);
    font->buffer = hb_buffer_create();
    if (!hb_buffer_allocation_successful(font->buffer)) FAIL(ERR_MEMORY, "%s: no memory to shape text", path);
    *out = font;
    return STATUS_OK;
fail:
    font_close(font);
    return status;
}

void font_close(EmojiFont *font)
{
    if (!font) return;
    hb_blob_destroy(font->png);
    if (font->buffer) hb_buffer_destroy(font->buffer);
    if (font->font) hb_font_destroy(font->font);
    if (font->face) hb_face_destroy(font->face);
    hb_blob_destroy(font->file);
    free(font);
}

Status font_png(EmojiFont *font, const char *text, const uint8_t **png, size_t *size)
{
    Status status = STATUS_OK;
    *png = NULL;
    *size = 0;
    hb_buffer_reset(font->buffer);
    hb_buffer_add_utf8(font->buffer, text, -1, 0, -1);
    hb_buffer_guess_segment_properties(font->buffer);
    hb_shape(font->font, font->buffer, NULL, 0);
    if (!hb_buffer_allocation_successful(font->buffer)) FAIL(ERR_MEMORY, "'%s': no memory to shape it", text);
    unsigned count = 0;
    const hb_glyph_info_t *glyphs = hb_buffer_get_glyph_infos(font->buffer, &count);
    if (count != 1 || glyphs[0].codepoint == 0) return STATUS_OK; /* a sequence the font does not join, or no glyph */
    hb_blob_destroy(font->png);
    font->png = hb_ot_color_glyph_reference_png(font->font, glyphs[0].codepoint);
    unsigned length = 0;
    const char *data = hb_blob_get_data(font->png, &length);
    if (length) {
        *png = (const uint8_t *)data;
        *size = length;
    }
    return STATUS_OK;
fail:
    return status;
}
