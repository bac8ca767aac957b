/*
 * frame_scaler.h - a decoded frame of a video into RGB of the size that the vision encoder takes.
 *
 * Colours by the matrix and the range that the frame names (BT.709 for HD, BT.601 below where it
 * names none), alpha laid over white, turned upright, then resized by resize.h. The conversion
 * itself is swscale's.
 */
#ifndef FLOTILLA_COORDINATOR_MEDIA_FRAME_SCALER_H
#define FLOTILLA_COORDINATOR_MEDIA_FRAME_SCALER_H

#include "common/error.h"

#include <libavutil/frame.h>
#include <stdbool.h>
#include <stdint.h>

/* How a recorded picture becomes upright: rows and columns change places, then each may be
 * reversed. All false: it is. */
typedef struct frame_turn {
    bool transpose, flip_x, flip_y;
} frame_turn;

/* From the display matrix of a container (9 numbers, FFmpeg's layout; NULL: none), to the nearest
 * right angle. */
frame_turn frame_turn_from_matrix(const int32_t *matrix);

typedef struct frame_scaler frame_scaler;

/* For frames that become to_width x to_height. FLO_FAIL: out of memory. */
flo_code frame_scaler_new(frame_scaler **out, frame_turn turn, int32_t to_width, int32_t to_height,
                          uint64_t pixels_max, flo_err *err);
void frame_scaler_free(frame_scaler *s); /* NULL is allowed */

/* out [to_height][to_width][3]. The frame's size and format may differ from those of the one
 * before. FLO_USAGE: more than pixels_max pixels, a format that swscale does not know. */
flo_code frame_scaler_run(frame_scaler *s, uint8_t *out, const AVFrame *frame, flo_err *err);

#endif
