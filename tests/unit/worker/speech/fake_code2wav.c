/*
 * fake_code2wav.c - see fake_code2wav.h.
 */
#include "fake_code2wav.h"

#include "common/check.h"

#include <stdlib.h>
#include <string.h>

struct code2wav {
    code2wav_config config;
    int64_t n_frames[SPEAKERS_MAX]; /* since the stream's reset */
    bool is_reset[SPEAKERS_MAX];
    int32_t last_frame[SPEAKERS_MAX]; /* its base value: the samples that waited for the next one */
    bool under_way;
    int32_t stream, n, slices_left;
    int32_t values[VOCODER_FRAMES_MAX]; /* base value of each frame */
    float samples[(VOCODER_FRAMES_MAX + 1) * FAKE_RATE];
    fake_diary diary;
};

code2wav *fake_open(const code2wav_config *c)
{
    code2wav *v = calloc(1, sizeof *v);
    CHECK(v != NULL);
    v->config = *c;
    return v;
}

const fake_diary *fake_diary_of(const code2wav *v)
{
    return &v->diary;
}

void code2wav_close(code2wav *v)
{
    free(v);
}

void code2wav_reset(code2wav *v, int32_t stream)
{
    CHECK(!v->under_way);
    v->n_frames[stream] = 0;
    v->is_reset[stream] = true;
}

void code2wav_begin(code2wav *v, int32_t stream, const int32_t *codes, int32_t n,
                    const code2wav_watch *watch)
{
    CHECK(!v->under_way && n >= 1 && n <= VOCODER_FRAMES_MAX && v->diary.n < FAKE_DIARY_MAX);
    v->diary.chunks[v->diary.n++] = (fake_chunk){.stream = stream,
                                                 .n_frames = n,
                                                 .is_first = v->is_reset[stream],
                                                 .watched = watch != NULL ? watch->arg : NULL};
    v->is_reset[stream] = false;
    v->under_way = true;
    v->stream = stream;
    v->n = n;
    v->slices_left = FAKE_SLICES;
    for (int32_t i = 0; i < n; i++) {
        const int32_t *frame = codes + i * v->config.n_quantizers;
        v->values[i] = FAKE_RATE * frame[0] + FAKE_SPEAKER * frame[1];
    }
}

/* Sample t of the stream, of which the frames of this call begin with frame `first`. */
static float sample(const code2wav *v, int64_t t, int64_t first)
{
    int64_t frame = t / FAKE_RATE;
    int32_t value = frame < first ? v->last_frame[v->stream] : v->values[frame - first];
    return (float)(value + (int32_t)(t % FAKE_RATE));
}

bool code2wav_advance(code2wav *v, const float **samples, int32_t *n_samples)
{
    CHECK(v->under_way);
    if (--v->slices_left > 0) {
        return false;
    }
    int64_t first = v->n_frames[v->stream], end = first + v->n;
    int64_t from = first > 0 ? FAKE_RATE * first - FAKE_AHEAD : 0;
    int64_t to = FAKE_RATE * end - FAKE_AHEAD;
    for (int64_t t = from; t < to; t++) {
        v->samples[t - from] = sample(v, t, first);
    }
    v->n_frames[v->stream] = end;
    v->last_frame[v->stream] = v->values[v->n - 1];
    v->under_way = false;
    *samples = v->samples;
    *n_samples = (int32_t)(to - from);
    return true;
}
