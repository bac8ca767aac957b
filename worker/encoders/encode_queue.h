/*
 * encode_queue.h - the jobs of one encoder: those that wait, and up to two that share its memory.
 *
 * Jobs are begun in the order in which they were announced, as soon as there is memory: one lies at
 * each end of the region, so two fit wherever their sum does. Those that are begun and have their
 * input are computed in turn, a slice at a time. Knows no messages. One thread.
 */
#ifndef FLOTILLA_WORKER_ENCODERS_ENCODE_QUEUE_H
#define FLOTILLA_WORKER_ENCODERS_ENCODE_QUEUE_H

#include "common/error.h"
#include "common/model_config.h"
#include "worker/encoders/audio_encoder.h"
#include "worker/encoders/vision_encoder.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ENCODE_WAITING_MAX = 64 }; /* announced and not begun */

typedef struct encode_order { /* what is announced of a job */
    uint64_t id;
    int32_t n_frames;       /* sound: mel frames; sight: pictures */
    int32_t canvas;         /* sound */
    int32_t grid_h, grid_w; /* sight, in patches */
    float levels[3][256];   /* sight */
} encode_order;

typedef struct encode_job { /* begun */
    encode_order order;
    bool used;
    unsigned char *input; /* [input_bytes] */
    uint64_t input_bytes, input_here;
    float *out; /* [1 + n_deep][n_rows][columns] */
    int32_t n_rows, n_rows_told;
    uint64_t memory_bytes;
    audio_work *audio;
    vision_work *vision;
    bool done;
    int64_t told_ms; /* when its progress was last said */
} encode_job;

typedef struct encode_queue {
    const audio_config *audio; /* one of the two encoders; NULL: the other */
    const audio_weights *audio_weights;
    const vision_config *vision;
    const vision_weights *vision_weights;
    unsigned char *region;
    uint64_t region_bytes;
    encode_job jobs[2];    /* at the region's low and high end */
    int32_t next;          /* whose turn it is */
    encode_order *waiting; /* [ENCODE_WAITING_MAX] a ring; owned */
    int32_t first_waiting, n_waiting;
} encode_queue;

/* Region: plan_audio_region_bytes or plan_vision_region_bytes, 64-byte aligned, the caller's. */
flo_code encode_queue_open(encode_queue *q, unsigned char *region, uint64_t region_bytes,
                           flo_err *err);
void encode_queue_close(encode_queue *q);

/* FLO_FAIL: numbers that this encoder does not take, or too many jobs. */
flo_code encode_queue_announce(encode_queue *q, const encode_order *order, flo_err *err);

/* Begins the next job if its memory is free; NULL: not now, or none waits. */
encode_job *encode_queue_begin(encode_queue *q);

/* A begun job; NULL: none of that id. */
encode_job *encode_queue_find(encode_queue *q, uint64_t id);

/* Forgets a job, begun or not. False: there is none of that id. */
bool encode_queue_drop(encode_queue *q, uint64_t id);

/* Where the next n_bytes of a job's input belong; NULL where they do not fit in order. They count
 * as there at once: fill them in before the next slice. */
unsigned char *encode_job_input(encode_job *j, uint64_t first_byte, uint64_t n_bytes);

/* Computes a slice of a job that has its input; NULL where there is none. */
encode_job *encode_queue_slice(encode_queue *q, thread_pool *pool);

double encode_job_share(const encode_job *j);

/* Deep-stack sets of a result. */
int32_t encode_queue_deep(const encode_queue *q);

#endif
