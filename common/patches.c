/*
 * patches.c - patches in merge-block order, each byte through a table of what it becomes.
 *
 * A table of 256 floats a channel has the reference's subtraction and division in it once and for
 * all, so a value costs one load here. Time slots that show the same frame are copied.
 */
#include "common/patches.h"

#include "common/check.h"

#include <string.h>

enum { CHANNELS = 3 };

void patch_place(int32_t *row, int32_t *column, int32_t p, int32_t grid_w, int32_t merge)
{
    int32_t in_block = p % (merge * merge);
    int32_t block = p / (merge * merge);
    int32_t blocks_w = grid_w / merge;
    *row = block / blocks_w * merge + in_block / merge;
    *column = block % blocks_w * merge + in_block % merge;
}

/* One channel of one patch of one frame: out [side][side] from pixels row_bytes apart. */
static void fill_plane(float *out, const uint8_t *in, size_t row_bytes, int32_t side,
                       const float *levels)
{
    for (int32_t y = 0; y < side; y++, in += row_bytes, out += side) {
        for (int32_t x = 0; x < side; x++) {
            out[x] = levels[in[CHANNELS * x]];
        }
    }
}

static void fill_patch(float *out, const patch_source *s, const vision_config *v, int32_t row,
                       int32_t column)
{
    size_t side = (size_t)v->patch_size;
    size_t row_bytes = (size_t)s->grid_w * side * CHANNELS;
    size_t frame_bytes = (size_t)s->grid_h * side * row_bytes;
    const uint8_t *corner =
        s->frames + (size_t)row * side * row_bytes + (size_t)column * side * CHANNELS;

    for (int32_t c = 0; c < CHANNELS; c++) {
        for (int32_t t = 0; t < v->temporal_patch_size; t++, out += side * side) {
            if (t < s->n_frames) {
                fill_plane(out, corner + (size_t)t * frame_bytes + c, row_bytes, v->patch_size,
                           s->levels[c]);
            } else {
                memcpy(out, out - side * side, side * side * sizeof *out);
            }
        }
    }
}

void patches_fill(float *out, const patch_source *s, const vision_config *v, int32_t first,
                  int32_t n)
{
    CHECK(v->in_channels == CHANNELS);
    CHECK(s->n_frames >= 1 && s->n_frames <= v->temporal_patch_size);
    DCHECK(first >= 0 && n >= 0 && first + n <= s->grid_h * s->grid_w);
    size_t patch_floats =
        (size_t)(CHANNELS * v->temporal_patch_size) * (size_t)v->patch_size * (size_t)v->patch_size;
    for (int32_t p = first; p < first + n; p++, out += patch_floats) {
        int32_t row, column;
        patch_place(&row, &column, p, s->grid_w, v->spatial_merge_size);
        fill_patch(out, s, v, row, column);
    }
}
