/*
 * picture_formats.h - what each format gives to picture.c: facts from the headers, then pixels as
 * they are stored, before orientation.
 *
 * Sentences name the format but not the picture, which the caller puts in front. Bytes are hostile;
 * the caller has held the facts against its limit before it asks for pixels.
 */
#ifndef FLOTILLA_COORDINATOR_MEDIA_PICTURE_FORMATS_H
#define FLOTILLA_COORDINATOR_MEDIA_PICTURE_FORMATS_H

#include "common/error.h"

#include <stddef.h>
#include <stdint.h>

typedef struct picture_facts {
    int64_t width, height; /* as stored; may be 0 */
    int32_t orientation;   /* EXIF's 1..8; anything else counts as 1 */
} picture_facts;

/* FLO_USAGE: damaged, cut short, or a kind of the format that is not read. Decodes no pixel. */
typedef flo_code picture_facts_fn(picture_facts *f, const uint8_t *bytes, size_t n_bytes,
                                  flo_err *err);

/* rgb [height][width][3], alpha laid over white. FLO_USAGE likewise; FLO_FAIL: no memory. */
typedef flo_code picture_pixels_fn(uint8_t *rgb, const picture_facts *f, const uint8_t *bytes,
                                   size_t n_bytes, flo_err *err);

picture_facts_fn jpeg_facts, png_facts, webp_facts, gif_facts;
picture_pixels_fn jpeg_pixels, png_pixels, webp_pixels, gif_pixels;

/* value of a colour over white, as Pillow's alpha_composite has it in integers: seven extra bits,
 * and division by 255 as (t + t / 256) / 256. */
static inline uint8_t over_white(uint32_t value, uint32_t alpha)
{
    if (alpha == 0) {
        return 255;
    }
    uint32_t t = value * alpha * 128 + 255 * (255 - alpha) * 128 + (0x80 << 7);
    return (uint8_t)((((t >> 8) + t) >> 8) >> 7);
}

#endif
