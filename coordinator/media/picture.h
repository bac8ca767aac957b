/*
 * picture.h - a stored picture into 8-bit RGB.
 *
 * JPEG (libjpeg-turbo), PNG (libpng), WebP (libwebp) and the first frame of a GIF. What a file is,
 * is read from its first bytes, never from its name. The orientation tag (EXIF of JPEG, PNG and
 * WebP) is honoured and alpha is laid over white, as the loaders in front of the reference do; grey
 * and palette become RGB, 16 bits become 8 as those loaders do it. Size is checked before anything
 * is decoded, so a small file cannot ask for much memory.
 */
#ifndef FLOTILLA_COORDINATOR_MEDIA_PICTURE_H
#define FLOTILLA_COORDINATOR_MEDIA_PICTURE_H

#include "common/error.h"

#include <stddef.h>
#include <stdint.h>

#define MEDIA_PIXELS_MAX_DEFAULT ((uint64_t)67108864) /* --max-media-pixels */

typedef struct picture {
    int32_t width, height;
    uint8_t *rgb; /* [height][width][3], owned (malloc) */
} picture;

/* name leads every sentence. FLO_USAGE: not a picture, damaged or cut short (a file whose pixels
 * are incomplete is refused, never shown grey), more than pixels_max pixels. */
flo_code picture_decode(picture *p, const uint8_t *bytes, size_t n_bytes, const char *name,
                        uint64_t pixels_max, flo_err *err);

/* Width and height (after orientation) from the headers alone. */
flo_code picture_size(int32_t *width, int32_t *height, const uint8_t *bytes, size_t n_bytes,
                      const char *name, flo_err *err);

void picture_free(picture *p);

#endif
