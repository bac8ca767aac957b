/*
 * mel.h - log-mel features of a sound (the specification's sections 5.1 to 5.3).
 */
#ifndef FLOTILLA_COORDINATOR_MEDIA_MEL_H
#define FLOTILLA_COORDINATOR_MEDIA_MEL_H

#include "common/error.h"

#include <stdint.h>

/* Frames that count of a sound of n samples which is prepared together with others, the longest of
 * them of longest samples (n itself where it is alone): floor for the longest, ceiling for others.
 */
int64_t mel_frames(int64_t n, int64_t longest, int32_t hop);

/* out [n_bins][mel_frames(n, longest, hop)], f32, written. samples [n], mono, 16 kHz. They are
 * taken as if zeros followed them up to longest; the maximum that sets the floor is that of all
 * longest / hop frames. n_fft (even) and hop as preprocessor_read gives them. threads: how many may
 * be used; the result does not depend on it. FLO_USAGE: too short for a frame (n_fft / 2 of the
 * samples are reflected at each end). FLO_FAIL: out of memory. Source: WhisperFeatureExtractor,
 * feature_extraction_whisper.py. */
flo_code mel_features(float *out, int32_t n_bins, const float *samples, int64_t n, int64_t longest,
                      int32_t n_fft, int32_t hop, int32_t threads, flo_err *err);

/* The reference's [n_mel_frames -> tokens] for a chunk of 2 * n_window frames (5.3). */
int64_t mel_tokens(int64_t n_frames, int32_t chunk_frames);

#endif
