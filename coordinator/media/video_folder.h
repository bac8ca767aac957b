/*
 * video_folder.h - numbered pictures in a folder as the frames of a video.
 *
 * Frames come in the order of the names' bytes (0002.png before 0010.png, but 10.png before 2.png).
 * Names that begin with a dot are left out; whatever else is there must be a picture.
 */
#ifndef FLOTILLA_COORDINATOR_MEDIA_VIDEO_FOLDER_H
#define FLOTILLA_COORDINATOR_MEDIA_VIDEO_FOLDER_H

#include "coordinator/media/video.h"

typedef struct video_folder video_folder;

/* As video_open, for a source that is a folder; facts->fps is left to the caller. */
flo_code video_folder_open(video_folder **out, video_facts *facts, const media_source *s,
                           uint64_t pixels_max, flo_err *err);
void video_folder_close(video_folder *v); /* NULL is allowed */

/* As video_read. */
flo_code video_folder_read(video_folder *v, uint8_t *out, const int64_t *indices, int32_t n,
                           int32_t to_width, int32_t to_height, const volatile bool *cancel,
                           flo_err *err);

#endif
