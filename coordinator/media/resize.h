/*
 * resize.h - pictures to the sizes that the vision encoder takes: the reference's rule and its
 * 8-bit antialiased bicubic kernel (the specification's sections 6.1 step 2 and 6.2).
 */
#ifndef FLOTILLA_COORDINATOR_MEDIA_RESIZE_H
#define FLOTILLA_COORDINATOR_MEDIA_RESIZE_H

#include "common/error.h"
#include "coordinator/media/picture.h"

#include <stdint.h>

/* Size for a picture of width x height: multiples of factor, area from pixels_min to pixels_max
 * (inclusive). FLO_USAGE: an aspect ratio over 200, or no pixels. All in f64, halves to even. */
flo_code resize_target(int32_t *to_width, int32_t *to_height, int32_t width, int32_t height,
                       int32_t factor, int64_t pixels_min, int64_t pixels_max, flo_err *err);

/* A plan for one pair of sizes: weights in 16-bit fixed point, made once and used for many frames.
 */
typedef struct resizer resizer;
flo_code resizer_new(resizer **out, int32_t width, int32_t height, int32_t to_width,
                     int32_t to_height, flo_err *err);
void resizer_free(resizer *r);

/* out [to_height][to_width][3] from in, rows of in_stride bytes each ([height][width][3] within
 * them). Horizontal, then vertical, the intermediate rounded and clamped to 8 bits; a pass whose
 * size does not change is left out. Cannot fail. One call at a time for each resizer. */
void resizer_run(resizer *r, uint8_t *out, const uint8_t *in, size_t in_stride);

#endif
