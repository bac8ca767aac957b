/*
 * video.c - a video file or a folder of pictures, whichever it is.
 */
#include "coordinator/media/video.h"

#include "common/check.h"
#include "coordinator/media/video_folder.h"
#include "coordinator/media/video_stream.h"

#include <stdlib.h>

struct video {
    video_facts facts;
    video_stream *stream; /* one of the two */
    video_folder *folder;
};

flo_code video_open(video **out, const media_source *s, double recorded_fps, uint64_t pixels_max,
                    flo_err *err)
{
    video *v = calloc(1, sizeof *v);
    if (v == NULL) {
        return flo_fail(err, FLO_FAIL, "%s: not enough memory", s->name);
    }
    flo_code code;
    if (s->folder[0] != '\0') {
        v->facts.fps = recorded_fps;
        code = video_folder_open(&v->folder, &v->facts, s, pixels_max, err);
    } else {
        code = video_stream_open(&v->stream, &v->facts, s, pixels_max, err);
    }
    if (code != FLO_OK) {
        free(v);
        return code;
    }
    *out = v;
    return FLO_OK;
}

void video_close(video *v)
{
    if (v != NULL) {
        video_stream_close(v->stream);
        video_folder_close(v->folder);
        free(v);
    }
}

const video_facts *video_facts_of(const video *v)
{
    return &v->facts;
}

flo_code video_read(video *v, uint8_t *out, const int64_t *indices, int32_t n, int32_t to_width,
                    int32_t to_height, int32_t threads, const volatile bool *cancel, flo_err *err)
{
    for (int32_t i = 0; i < n; i++) {
        CHECK(indices[i] >= (i == 0 ? 0 : indices[i - 1]) && indices[i] < v->facts.n_frames);
    }
    if (v->folder != NULL) {
        return video_folder_read(v->folder, out, indices, n, to_width, to_height, cancel, err);
    }
    return video_stream_read(v->stream, out, indices, n, to_width, to_height, threads, cancel, err);
}
