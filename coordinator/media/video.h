/*
 * video.h - a stored video, or a folder of numbered pictures, into the frames that the model sees.
 *
 * Opening finds size, number of frames and rate, and decodes nothing; so a prompt that would not
 * fit is refused before any work. Which frames are taken is the reference's rule (the
 * specification's section 6.4); frames between them are decoded only where the codec needs them
 * and never converted. A rotation that the file asks for is applied.
 */
#ifndef FLOTILLA_COORDINATOR_MEDIA_VIDEO_H
#define FLOTILLA_COORDINATOR_MEDIA_VIDEO_H

#include "common/error.h"
#include "coordinator/media/source.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct video video;

typedef struct video_facts {
    int32_t width, height; /* as seen, after rotation */
    int64_t n_frames;
    double fps; /* as recorded; of a folder: what was said, else 0 */
} video_facts;

/* recorded_fps: of a folder, 0 where nobody said. FLO_USAGE: no video, damaged, no frames, a frame
 * of more than pixels_max pixels, pictures of a folder that are not all of one size. s must stay
 * open while v is used. */
flo_code video_open(video **v, const media_source *s, double recorded_fps, uint64_t pixels_max,
                    flo_err *err);
void video_close(video *v);
const video_facts *video_facts_of(const video *v);

typedef struct video_sampling {
    bool all_frames; /* take them as they are */
    double fps;      /* frames wanted per second; > 0 */
} video_sampling;

/* Indices of the frames that the rule takes, their number in *n; only the first frames_max of them
 * are written. FLO_USAGE where the rule has no answer (more frames wanted than there are; a folder
 * whose rate nobody said). The reference's: min 4, max 768 frames, even number; see the
 * specification. */
flo_code video_choose(int64_t *indices, int32_t *n, int32_t frames_max, const video_facts *facts,
                      const video_sampling *sampling, flo_err *err);

/* Decodes the chosen frames (rising indices), each resized to to_width x to_height by the kernel of
 * resize.h into out [n][to_height][to_width][3]. threads: how many may be used. FLO_USAGE: damaged
 * before the last of them. FLO_INTERRUPTED where *cancel was set. */
flo_code video_read(video *v, uint8_t *out, const int64_t *indices, int32_t n, int32_t to_width,
                    int32_t to_height, int32_t threads, const volatile bool *cancel, flo_err *err);

#endif
