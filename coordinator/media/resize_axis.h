/*
 * resize_axis.h - the weights of one axis of a resize: which pixels make a new one, and how much of
 * each, in 16-bit fixed point.
 */
#ifndef FLOTILLA_COORDINATOR_MEDIA_RESIZE_AXIS_H
#define FLOTILLA_COORDINATOR_MEDIA_RESIZE_AXIS_H

#include <stdbool.h>
#include <stdint.h>

enum { RESIZE_TAPS_STEP = 4 }; /* taps come in multiples of it, filled up with zeros */

typedef struct resize_axis {
    int32_t n_in, n_out;
    int32_t n_taps;   /* weights of each new pixel, a multiple of RESIZE_TAPS_STEP */
    int32_t shift;    /* weights are w * 2^shift, and so is a sum of pixel * weight */
    int32_t *first;   /* [n_out] first pixel of the window; rises or stays */
    int32_t *count;   /* [n_out] pixels in it, 1..n_taps */
    int16_t *weights; /* [n_out][n_taps], 0 from count on */
} resize_axis;

/* The antialiased bicubic kernel (a = -0.5) in the fixed point of the reference's 8-bit resize: the
 * specification's section 6.2, which is torch's compute_index_ranges_int16_weights. Sizes >= 1.
 * False: no memory; nothing is held then. */
bool resize_axis_init(resize_axis *a, int32_t n_in, int32_t n_out);
void resize_axis_free(resize_axis *a);

#endif
