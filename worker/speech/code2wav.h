/*
 * code2wav.h - the vocoder's network: frames of codes in, samples out, with its state kept between
 * calls.
 *
 * Everything in it looks back only, but for one step of look-ahead in each transposed convolution:
 * after n frames of a stream exactly the first 1920 n - 555 samples (at the published rates) are
 * final, and equal bit for bit however the frames were cut into calls. A stream's state is the keys
 * and values of the last sliding_window - 1 frames and the last inputs of each convolution.
 * Source: Qwen3OmniMoeCode2Wav*; shared specification, section 5.
 */
#ifndef FLOTILLA_WORKER_SPEECH_CODE2WAV_H
#define FLOTILLA_WORKER_SPEECH_CODE2WAV_H

#include "common/error.h"
#include "common/layout.h"
#include "common/model_config.h"
#include "common/speech_cost.h" /* code2wav_rate, code2wav_samples */
#include "worker/encoders/encoder_weights.h"
#include "worker/thread_pool.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct code2wav code2wav;

/* What modules make, for comparison: rows [n][columns] of module `name` ("embed", "transformer",
 * "upsample.0.conv", "upsample.0.block", ..., "decoder.0", ..., the reference's names), the first
 * of them being the stream's row `first` of that module. */
typedef struct code2wav_watch {
    void (*rows)(void *arg, const char *name, int64_t first, int32_t n, int32_t columns,
                 const float *data);
    void *arg;
} code2wav_watch;

/* Takes memory for weights, SPEAKERS_MAX streams and the work of one call. */
flo_code code2wav_open(code2wav **out, const code2wav_config *c, thread_pool *pool, flo_err *err);
flo_code code2wav_load(code2wav *v, const weights_source *source, const load_watch *watch,
                       flo_err *err);
void code2wav_close(code2wav *v); /* NULL is allowed */

/* Forgets a stream's state: its next frame is the first. */
void code2wav_reset(code2wav *v, int32_t stream);

/* Begins the next n frames of a stream, 1 to VOCODER_FRAMES_MAX: codes [n][n_quantizers], in range,
 * copied. watch may be NULL. Not while others are under way. */
void code2wav_begin(code2wav *v, int32_t stream, const int32_t *codes, int32_t n,
                    const code2wav_watch *watch);

/* Computes a slice (a few 10 ms on a small machine). True when the frames are done: *samples
 * [*n_samples] are the stream's next final samples, good until the next call. */
bool code2wav_advance(code2wav *v, const float **samples, int32_t *n_samples);

#endif
