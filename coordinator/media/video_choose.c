/*
 * video_choose.c - which frames of a video the model sees (the specification's section 6.4).
 *
 * The reference makes the indices with torch.arange in f32, and what is cut down to an integer
 * there depends on every rounding: 1201 of 4000 random videos get other frames by exact fractions.
 * So the roundings are made as it makes them on x86 and ARM: sixteen indices at a time while there
 * are that many, in two vectors of eight that start from a rounded value; the rest one by one.
 */
#include "coordinator/media/video.h"

#include <inttypes.h>
#include <math.h>

enum { FRAMES_MIN = 4, FRAMES_TAKEN_MAX = 768, TEMPORAL_PATCH = 2, VECTOR = 8 };

/* An even number of frames, from 4 to 768 where there are as many. */
static int64_t frames_wanted(int64_t total, double recorded_fps, double fps)
{
    int64_t most = total < FRAMES_TAKEN_MAX ? total : FRAMES_TAKEN_MAX;
    double n = (double)total / recorded_fps * fps;
    most = most / TEMPORAL_PATCH * TEMPORAL_PATCH;
    n = fmax(n, FRAMES_MIN);
    n = fmin(n, (double)most);
    return (int64_t)(n / TEMPORAL_PATCH) * TEMPORAL_PATCH;
}

/* Element i of n of torch.arange(0, total, step).int(). */
static int64_t arange_element(int64_t i, int64_t n, double step)
{
    if (i >= n / (2 * VECTOR) * (2 * VECTOR)) {
        return (int64_t)(float)(step * (double)i);
    }
    float base = (float)(step * (double)(i / VECTOR * VECTOR));
    return (int64_t)(float)((double)base + (double)(i % VECTOR) * step);
}

static int32_t every_frame(int64_t *indices, int32_t frames_max, int64_t total)
{
    for (int64_t i = 0; i < total && i < frames_max; i++) {
        indices[i] = i;
    }
    return (int32_t)(total < INT32_MAX ? total : INT32_MAX);
}

static int32_t some_frames(int64_t *indices, int32_t frames_max, int64_t total, int64_t wanted)
{
    double step = (double)total / (double)wanted;
    int64_t n = (int64_t)ceil((double)total / step); /* sometimes one more than wanted */
    int32_t n_chosen = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t index = arange_element(i, n, step);
        if (index >= total) {
            break; /* the one more, rounded up past the end: the reference fails there */
        }
        if (n_chosen < frames_max) {
            indices[n_chosen] = index;
        }
        n_chosen++;
    }
    return n_chosen;
}

flo_code video_choose(int64_t *indices, int32_t *n, int32_t frames_max, const video_facts *facts,
                      const video_sampling *sampling, flo_err *err)
{
    if (sampling->all_frames) {
        *n = every_frame(indices, frames_max, facts->n_frames);
        return FLO_OK;
    }
    if (!(facts->fps > 0) || !isfinite(facts->fps)) {
        return flo_fail(err, FLO_USAGE,
                        "how many frames a second it was recorded at is not known; say it "
                        "(--recorded-fps) or take all frames (--video-all-frames)");
    }
    if (!(sampling->fps > 0) || !isfinite(sampling->fps)) {
        return flo_fail(err, FLO_USAGE, "%g frames a second cannot be taken", sampling->fps);
    }
    int64_t wanted = frames_wanted(facts->n_frames, facts->fps, sampling->fps);
    if (wanted == 0) {
        return flo_fail(err, FLO_USAGE,
                        "frames are taken in pairs and it has %" PRId64
                        "; take all frames (--video-all-frames)",
                        facts->n_frames);
    }
    *n = some_frames(indices, frames_max, facts->n_frames, wanted);
    return FLO_OK;
}
