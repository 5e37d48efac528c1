/* The picture that sampling starts from (--init, --mask, --place): read, fitted to the size that is drawn, and widened
 * to what sizes are rounded up to. */
#ifndef TRAIN_INIT_PICTURE_H
#define TRAIN_INIT_PICTURE_H

#include "base/hash.h"
#include "data/picture.h"

typedef struct InitPictureOptions {
    const char *picture, *mask;        /* paths; mask NULL: none */
    int64_t width, height;             /* of what is drawn */
    int64_t drawn_width, drawn_height; /* what that is rounded up to */
    bool placed;                       /* the picture stands at (x,y) of the canvas as it is, the rest is to be drawn */
    int64_t x, y;                      /* may be negative: then a part of it is seen */
    bool stretched;                    /* to the whole size, as the public code does; else cut to its proportions */
    int64_t max_pixels;                /* of the files */
} InitPictureOptions;

typedef struct InitPicture {
    float *pixels; /* (drawn_height, drawn_width, 3) in [-1,1]; beyond the picture its edge is repeated */
    float *mask;   /* (drawn_height, drawn_width), 1 = keep; NULL without mask and place */
    uint8_t *rgb;  /* (height, width, 3): the canvas as bytes */
    int64_t width, height, drawn_width, drawn_height;
    Hash128 picture_hash, mask_hash; /* XXH3-128 of the files */
} InitPicture;

/* PNG, JPEG or WebP. The mask is as large as the picture's file; what is white (128 and above, the mean of the three
 * colours) is kept. ERR_USAGE: it has another size, or the place leaves nothing to see. */
Status init_picture_load(const InitPictureOptions *options, InitPicture *out);
/* Pixels of the picture (not of what it is widened by) that the mask wants painted, and how many of them lie in latents
 * that are kept all the same: keep (h, w), 1 = keep, as sampler_latent_mask makes it of the mask. */
void init_picture_missed(const InitPicture *picture, const float *keep, int64_t h, int64_t w, int64_t *painted,
                         int64_t *missed);
void init_picture_free(InitPicture *picture); /* zeroed is fine */
/* Puts the known pixels back into a drawn picture (height, width, 3). */
void init_picture_paste(const InitPicture *picture, uint8_t *rgb);

#endif
