/*
 * vocoder.h - spoken answers through the vocoder's network: whose frames come next, how many at a
 * time, and where the reference's cuts fall.
 *
 * A session's first frames are decoded at once, a few at a time, so that sound begins soon; later
 * chunks grow, so that the weights are read less often. Sessions take turns. Neither changes a bit
 * of the samples.
 *
 * Exact: the reference decodes CUT_FRAMES frames at a time with CUT_CONTEXT_FRAMES before them for
 * context, and loses look-ahead samples at each cut; so at every multiple of CUT_FRAMES the stream
 * begins anew with the context, whose samples are left out. Otherwise (seamless) one stream runs
 * on, and nothing is lost or doubled. Up to CUT_FRAMES frames both are the same.
 */
#ifndef FLOTILLA_WORKER_SPEECH_VOCODER_H
#define FLOTILLA_WORKER_SPEECH_VOCODER_H

#include "worker/speech/code2wav.h"

typedef struct vocoder vocoder;

typedef struct vocoder_sound { /* what one chunk has become */
    uint64_t session;
    int64_t first_sample;
    const float *samples; /* [n_samples]; may be none */
    int32_t n_samples;
    const int32_t
        *codes; /* [n_frames][n_quantizers] that went in, those for context again left out */
    int32_t n_frames;
    bool last; /* of the session, which is forgotten */
} vocoder_sound;

flo_code vocoder_open(vocoder **out, code2wav *net, const code2wav_config *c, flo_err *err);
void vocoder_close(vocoder *v);

/* The next frames of a session, codes [n][n_quantizers], n >= 0, copied; an unknown session begins
 * with them. first must be the number of frames that came before. FLO_FAIL: more than SPEAKERS_MAX
 * sessions, a gap, a code out of range. watch (NULL: none) is kept for the session. */
flo_code vocoder_push(vocoder *v, uint64_t session, int64_t first, const int32_t *codes, int32_t n,
                      bool exact, bool last, const code2wav_watch *watch, flo_err *err);

/* Drops what waits; a last sound without samples follows. Unknown sessions are passed by. */
void vocoder_cancel(vocoder *v, uint64_t session);

/* True while there is something to compute or to tell. */
bool vocoder_busy(const vocoder *v);

/* Computes a slice. True when *out has a chunk's sound, good until the next call. */
bool vocoder_advance(vocoder *v, vocoder_sound *out);

#endif
