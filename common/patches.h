/*
 * patches.h - patches of resized pictures in the order in which the vision encoder takes them (the
 * specification's section 6.3).
 *
 * Rows come in blocks of merge x merge patches: block row, block column, row in block, column in
 * block. A row is [channel][time][y][x].
 */
#ifndef FLOTILLA_COMMON_PATCHES_H
#define FLOTILLA_COMMON_PATCHES_H

#include "common/model_config.h"

#include <stdint.h>

typedef struct patch_source {    /* one temporal patch: one picture, or some frames of a video */
    const uint8_t *frames;       /* [n_frames][patch grid_h][patch grid_w][3] */
    int32_t n_frames;            /* 1..temporal_patch_size; the last one is repeated */
    int32_t grid_h, grid_w;      /* in patches, multiples of the merge size */
    const float (*levels)[256];  /* [3][256]: what a byte of each channel becomes */
} patch_source;

/* Row and column in the full grid of patch p. */
void patch_place(int32_t *row, int32_t *column, int32_t p, int32_t grid_w, int32_t merge);

/* out [n][in_channels * temporal_patch_size * patch^2] for patches [first, first + n). */
void patches_fill(float *out, const patch_source *s, const vision_config *v, int32_t first,
                  int32_t n);

#endif
