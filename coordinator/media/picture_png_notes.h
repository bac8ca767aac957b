/*
 * picture_png_notes.h - what the chunks beside a PNG's pixels say of its orientation.
 */
#ifndef FLOTILLA_COORDINATOR_MEDIA_PICTURE_PNG_NOTES_H
#define FLOTILLA_COORDINATOR_MEDIA_PICTURE_PNG_NOTES_H

#include "common/error.h"

#include <stddef.h>
#include <stdint.h>

/* From eXIf, else from a text of the name "Raw profile type exif" (in hexadecimal, as ImageMagick
 * writes it), else from the XMP packet; 0 where none says. Chunks before and after the pixels
 * count. FLO_USAGE: a compressed note that unpacks to more than it may. Bytes after damage are not
 * looked at: the pixels' reader refuses what matters. */
flo_code png_notes_orientation(int32_t *orientation, const uint8_t *bytes, size_t n_bytes,
                               flo_err *err);

#endif
