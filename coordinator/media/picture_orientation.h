/*
 * picture_orientation.h - which way up a picture is: the tag in its notes, and pixels turned by it.
 */
#ifndef FLOTILLA_COORDINATOR_MEDIA_PICTURE_ORIENTATION_H
#define FLOTILLA_COORDINATOR_MEDIA_PICTURE_ORIENTATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The orientation tag's value in EXIF data (a TIFF header, with or without "Exif\0\0" before it),
 * in the first part of an XMP packet that names it; 0 where there is none. Values are not checked.
 */
int32_t orientation_from_exif(const uint8_t *exif, size_t n_bytes);
int32_t orientation_from_xmp(const uint8_t *xmp, size_t n_bytes);

/* Whether width and height change places. */
bool orientation_swaps(int32_t orientation);

/* out: the picture [height][width][3], turned. 1 and unknown values copy. */
void orientation_apply(uint8_t *out, const uint8_t *rgb, int32_t width, int32_t height,
                       int32_t orientation);

#endif
