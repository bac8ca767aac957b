/*
 * vision_encoder.h - a picture, or one temporal patch of a video, into rows for the thinker and
 * deep-stack features (the specification's 6.5 to 6.9).
 *
 * Every patch sees every other patch of the same job: keys and values of a block are made for all of
 * them, then queries go some rows at a time through attention, projection and MLP, block by block
 * of keys (online softmax), so nothing of size patches x patches is ever held. Memory for P patches:
 * rows, keys and values, P * 3 * hidden floats, and slabs. A job is worked off in slices. The order
 * of every sum follows from the model's shapes and the picture's, not from slices or threads.
 */
#ifndef FLOTILLA_WORKER_ENCODERS_VISION_ENCODER_H
#define FLOTILLA_WORKER_ENCODERS_VISION_ENCODER_H

#include "common/error.h"
#include "common/model_config.h"
#include "common/patches.h"
#include "worker/encoders/encoder_weights.h"
#include "worker/thread_pool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct vision_job {
    patch_source source; /* borrowed until the job is done */
    float *out;          /* [1 + n_deepstack][tokens][out_hidden]: merged rows, then each deep-stack
                            set; tokens = grid_h * grid_w / merge^2 */
} vision_job;

/* Bytes that computing a job of n_patches needs beside frames and out. */
size_t vision_job_bytes(const vision_config *v, int64_t n_patches);

typedef struct vision_work vision_work; /* a job under way, in the caller's memory */

/* memory [vision_job_bytes], 64-byte aligned, stays the caller's. *job is copied. */
vision_work *vision_work_begin(void *memory, const vision_config *v, const vision_weights *w,
                               const vision_job *job);
bool vision_work_advance(vision_work *work, thread_pool *pool);
double vision_work_share(const vision_work *work);

#endif
