/*
 * audio_encoder.h - log-mel features into rows for the thinker (the specification's 5.4 to 5.9).
 *
 * Attention never leaves a window of n_window_infer / (2 n_window) chunks, so a sound is computed
 * some whole windows at a time, from the convolutions to the last projection: memory does not grow
 * with its length. A job is worked off in slices, so that the worker can serve steps in between.
 * The order of every sum follows from the model's shapes: neither the slicing, nor the windows that
 * share a job, nor the number of threads change a bit.
 */
#ifndef FLOTILLA_WORKER_ENCODERS_AUDIO_ENCODER_H
#define FLOTILLA_WORKER_ENCODERS_AUDIO_ENCODER_H

#include "common/error.h"
#include "common/model_config.h"
#include "worker/encoders/encoder_weights.h"
#include "worker/thread_pool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Some whole windows of one sound (the last may be short). */
typedef struct audio_job {
    const float *features; /* [n_mel_bins][n_frames] */
    int32_t n_frames;      /* at most AUDIO_JOB_WINDOWS windows */
    int32_t canvas;        /* frames of the longest chunk of the request: all are padded to it */
    float *out;            /* [audio_job_tokens][output_dim], written */
} audio_job;

/* (AUDIO_JOB_WINDOWS stands in common/layout.h: the coordinator cuts sounds by it.) */

int32_t audio_job_tokens(const audio_config *a, int32_t n_frames);

/* Bytes that computing a largest job needs beside features and out. */
size_t audio_job_bytes(const audio_config *a);

typedef struct audio_work audio_work; /* a job under way, in the caller's memory */

/* memory [audio_job_bytes], 64-byte aligned, stays the caller's. *job is copied; its buffers must
 * stay. CHECKs what the worker has checked: n_frames in range, canvas from the longest chunk to
 * 2 n_window. */
audio_work *audio_work_begin(void *memory, const audio_config *a, const audio_weights *w,
                             const audio_job *job);

/* Computes a slice (a few 10 ms on a small machine) with the pool; true when the job is done. */
bool audio_work_advance(audio_work *work, thread_pool *pool);

/* Done so far, from 0 to 1. */
double audio_work_share(const audio_work *work);

#endif
