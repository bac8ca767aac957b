/*
 * video_stream.h - frames of a video file, by their number in the order in which they are shown.
 *
 * Opening reads all packets once, without decoding: how many frames there are, when each is shown,
 * and where decoding can begin. So a frame is known by its time, whatever the decoder leaves out,
 * and what is between two frames that are wanted is skipped where that cannot change them: whole
 * groups of pictures, and frames that no other frame refers to.
 */
#ifndef FLOTILLA_COORDINATOR_MEDIA_VIDEO_STREAM_H
#define FLOTILLA_COORDINATOR_MEDIA_VIDEO_STREAM_H

#include "coordinator/media/video.h"

typedef struct video_stream video_stream;

/* As video_open, for a source with bytes. */
flo_code video_stream_open(video_stream **out, video_facts *facts, const media_source *s,
                           uint64_t pixels_max, flo_err *err);
void video_stream_close(video_stream *v); /* NULL is allowed */

/* As video_read. */
flo_code video_stream_read(video_stream *v, uint8_t *out, const int64_t *indices, int32_t n,
                           int32_t to_width, int32_t to_height, int32_t threads,
                           const volatile bool *cancel, flo_err *err);

#endif
